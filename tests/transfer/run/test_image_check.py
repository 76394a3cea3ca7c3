"""transfer/run/image_check.py: no test image is found to be faulty only after the training."""

from pathlib import Path

import pytest

from pretrain.runtime import distributed, spawn
from pretrain.runtime.signals import Stopped, StopRequest
from tests.support.transfer import small_models
from transfer.errors import TransferError
from transfer.run.image_check import check_test_images

LIMITS = {"INPUT.MIN_SIZE_TEST": 64, "INPUT.MAX_SIZE_TEST": 32}


def messages(folder: Path, workers: int) -> list[str]:
    data = small_models.dataset(folder / f"images_{distributed.rank()}")
    narrow = small_models.dataset(folder / f"narrow_{distributed.rank()}", count=1, size=(40, 3000)).records[0]
    Path(data.records[1]["file_name"]).write_bytes(b"no image")
    data.records[4]["width"] = 7
    data.records.append(narrow)
    try:
        settings = {**LIMITS, "DATALOADER.NUM_WORKERS": workers}
        check_test_images(data, small_models.config(small_models.FPN, settings), StopRequest())
    except TransferError as error:
        return distributed.all_gather_object(str(error))
    return []


@pytest.mark.parametrize("workers", [0, 1])
def test_every_rank_lists_the_faults_of_all(workers: int, tmp_path: Path) -> None:
    first, second = spawn.run_on_ranks(messages, 2, tmp_path, workers)
    assert first == second
    for words in ("3 faults", "0_1.png: not an image", "its annotation says 7 x", "too narrow", "nothing was trained"):
        assert words in first
    assert "remove its line from the image list" in first.splitlines()[-1]


def test_good_images_pass_and_a_signal_is_obeyed(tmp_path: Path) -> None:
    data, config, stop = small_models.dataset(tmp_path), small_models.config(small_models.FPN), StopRequest()
    check_test_images(data, config, stop)
    stop.name = "SIGTERM"
    with pytest.raises(Stopped):
        check_test_images(data, config, stop)
