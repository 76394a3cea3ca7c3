"""Packed records are the records, and processes of one machine hold their bytes once between them."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from pretrain.runtime import distributed, spawn
from transfer.data import catalog
from transfer.data.shared.packed_records import PackedRecords, take_records

COUNT = 2000


def made_records() -> list[dict[str, Any]]:
    """Records of some 10 kB each, as dicts."""
    polygon = [number / 7 for number in range(200)]
    return [
        {"file_name": f"{i}.jpg", "annotations": [{"segmentation": [[i + v for v in polygon]]} for _ in range(5)]}
        for i in range(COUNT)
    ]


def private_megabytes() -> float:
    """The memory that this process shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1000


def read_all(records: PackedRecords) -> list[tuple[int, int, float]]:
    """Return of each rank the identity of the memory, a checksum, and its growth while it reads all records, in MB."""
    identity = os.fstat(records.memory.file).st_ino
    distributed.barrier()
    before = private_megabytes()
    total = sum(int(record["file_name"].removesuffix(".jpg")) for record in records)
    distributed.barrier()  # pages that only one rank has read would still count as its own
    grown = private_megabytes() - before
    distributed.barrier()
    return distributed.all_gather_object((identity, total, grown))


def test_packed_records_are_the_records(scenes: Path) -> None:
    for name in ("coco_2017_train", "voc_2007_trainval"):
        records = list(catalog.load_dataset([name], scenes).records)
        packed = PackedRecords.of(iter(records))
        assert list(packed) == records
        assert [packed[i] for i in range(-len(packed), 0)] == records
        assert (list(packed[1::2]), list(packed[1:].take([1, 0]))) == (records[1::2], [records[2], records[1]])
        assert list(take_records(packed, [2, 0])) == take_records(records, [2, 0]) == [records[2], records[0]]
    assert list(PackedRecords.of([])) == []


def test_a_record_that_is_changed_stays_as_it_was() -> None:
    packed = PackedRecords.of([{"annotations": [1]}])
    packed[0]["annotations"].append(2)
    assert packed[0] == {"annotations": [1]}


def test_a_pickle_holds_the_records_themselves() -> None:
    packed = PackedRecords.of(made_records()[:3])
    copied = pickle.loads(pickle.dumps(packed[1:]))  # noqa: S301 (our own)
    assert list(copied) == made_records()[1:3]


def test_two_ranks_hold_the_bytes_once() -> None:
    packed = PackedRecords.of(made_records())
    assert packed.memory.size > 9e6
    found = spawn.run_on_ranks(read_all, 2, packed)
    assert [identity for identity, _, _ in found] == [os.fstat(packed.memory.file).st_ino] * 2
    assert [total for _, total, _ in found] == [sum(range(COUNT))] * 2
    assert all(grown < 3 for _, _, grown in found), found


class Names(torch.utils.data.Dataset[Any]):
    """The file name of each record, and the identity of the memory that it is read from."""

    def __init__(self, records: PackedRecords) -> None:
        self.records = records

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self.records[index]["file_name"], os.fstat(self.records.memory.file).st_ino

    def __len__(self) -> int:
        return len(self.records)


def test_loader_workers_hold_the_bytes_once() -> None:
    packed = PackedRecords.of(made_records()[:8])
    own = os.fstat(packed.memory.file).st_ino
    for method in ("fork", "forkserver"):
        loader: Any = torch.utils.data.DataLoader(
            Names(packed), batch_size=None, num_workers=1, multiprocessing_context=method
        )
        assert [tuple(item) for item in loader] == [(f"{i}.jpg", own) for i in range(8)]


def test_the_memory_goes_with_its_last_user() -> None:
    packed = PackedRecords.of(made_records()[:2])
    part, link = packed[1:], Path(f"/proc/self/fd/{packed.memory.file}")
    del packed
    assert part[0]["file_name"] == "1.jpg"
    assert "moco-transfer records" in os.readlink(link)
    del part
    assert not link.exists() or "moco-transfer records" not in os.readlink(link)
