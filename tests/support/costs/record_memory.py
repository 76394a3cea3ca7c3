"""The cost of a large data set's records in memory, as dicts and packed, in a rank and in a loader worker.

python -m tests.support.costs.record_memory coco|lvis|cityscapes [SHARE]

The annotations are made up, of the number and length of the real ones; SHARE takes a part of the images.
"""

import gc
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer.data.shared.packed_records import PackedRecords

# Images and objects of the training data; numbers of a polygon, which make JSON files of the length of the real ones.
SIZES = {"coco": (118_287, 860_001, 56), "lvis": (100_170, 1_270_141, 100), "cityscapes": (2_975, 52_139, 100)}


def made_records(name: str, share: float) -> Iterator[dict[str, Any]]:
    """Yield records like those of a data set in COCO layout."""
    images, objects, numbers = SIZES[name]
    rng = np.random.default_rng(0)
    for image_id, count in enumerate(rng.poisson(objects / images, int(images * share)).tolist()):
        yield {
            "file_name": f"/data/{name}/train2017/{image_id:012d}.jpg",
            "image_id": image_id,
            "height": 480,
            "width": 640,
            "annotations": [
                {
                    "iscrowd": 0,
                    "bbox": rng.uniform(0, 480, 4).round(2).tolist(),
                    "category_id": index,
                    "bbox_mode": 0,
                    "segmentation": [rng.uniform(0, 480, numbers).round(2).tolist()],
                }
                for index in range(count)
            ],
        }


def private_megabytes() -> float:
    """The memory that this process shares with no other, without the packed records, which all have mapped."""
    found, counted = 0, True
    for line in Path("/proc/self/smaps").read_text().splitlines():
        field, _, rest = line.partition(" ")
        if not field.endswith(":"):  # the first line of a mapping
            counted = "moco-transfer records" not in rest
        elif counted and field in ("Private_Clean:", "Private_Dirty:"):
            found += int(rest.split()[0])
    return found / 1000


def read_all(records: Sequence[dict[str, Any]], answer: Any) -> None:
    """Send by how many MB this process, a fork, grows while it makes arrays of all polygons, as a loader does."""
    before = private_megabytes()
    for record in records:
        for item in record["annotations"]:
            np.asarray(item["segmentation"][0])
    answer.send(private_megabytes() - before)


def growth_of_a_worker(records: Sequence[dict[str, Any]]) -> float:
    """By how many MB a loader worker grows in an epoch."""
    fork = multiprocessing.get_context("fork")
    answer, send = fork.Pipe(duplex=False)
    worker = fork.Process(target=read_all, args=(records, send))
    worker.start()
    grown = answer.recv()
    worker.join()
    return grown


def main() -> None:
    name, share = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    gc.disable()
    before = private_megabytes()
    packed = PackedRecords.of(made_records(name, share))
    print(f"{name}: {len(packed)} images, packed {packed.memory.size / 1e6:.0f} MB, once a machine")
    print(f"  each rank beside it: {private_megabytes() - before:.0f} MB")
    print(f"  each worker in an epoch: {growth_of_a_worker(packed):.0f} MB", flush=True)
    del packed
    before = private_megabytes()
    records = list(made_records(name, share))
    print(f"  as dicts, each rank: {private_megabytes() - before:.0f} MB")
    print(f"  as dicts, each worker in an epoch: {growth_of_a_worker(records):.0f} MB")


if __name__ == "__main__":
    main()
