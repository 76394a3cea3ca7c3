"""Kills at chosen moments of a save, a validation, a removal or a start: the run resumes as if there had been none."""

import multiprocessing
import os
import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from pretrain import output_folder, train
from pretrain.checkpoints import saver
from pretrain.evaluation.knn import KnnMonitor
from pretrain.runtime import files, metrics_file
from tests.support.pretrain.narrow import narrow_resnet18
from tests.support.pretrain.trainings import assert_same_run, settings
from tests.support.tiers import slow_but

# Where the kill comes: before (-) or after (+) that call, of which the text is in its first words, for the n-th time.
MOMENTS = {
    "before config.yaml": (files, "save_text", "-config.yaml", 1),
    "before env.json": (files, "save_text", "-env.json", 1),
    "before the index": (os, "replace", f"-{output_folder.INDEX}/ends.npy", 1),
    "before its first metrics": (files, "save_text", "+metrics.json", 1),
    "before a checkpoint": (saver, "write_checkpoint", "-checkpoint_0000", 1),
    "within a checkpoint": (os, "fsync", "-", 12),
    "before a checkpoint has its name": (os, "replace", "-checkpoint_0001.pth.tar", 1),
    "between a checkpoint and its manifest": (files, "save_text", "-checkpoint_0000.pth.tar.json", 1),
    "between the last and its manifest": (files, "save_text", "-checkpoint_0001.pth.tar.json", 1),
    "between a manifest and last_checkpoint": (files, "save_text", "-last_checkpoint", 2),
    "before last_checkpoint names the last": (os, "replace", "-last_checkpoint'", 4),
    "before old ones are removed": (saver, "remove_old", "-", 3),
    "while an old one is removed": (pathlib.Path, "unlink", "+step_00000001.pth.tar'", 1),
    "between a save and its validation": (KnnMonitor, "evaluate", "-", 1),
    "after a validation, before its row": (KnnMonitor, "evaluate", "+", 2),
    "after the row of a validation": (metrics_file.MetricsFile, "write", "+knn_top1", 1),
}
EVERYDAY = ("between a checkpoint and its manifest", "while an old one is removed", "between a save and its validation")


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """Runs of this module are those of a narrow network."""
    with narrow_resnet18():
        yield


WORDS = ["checkpoint_steps", "1", "checkpoint_keep", "2", "knn.k", "3"]


@pytest.fixture(scope="module")
def labelled(pictures: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("labelled")
    for number, path in enumerate(sorted(pictures.iterdir())):
        (folder / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.open(path).save(folder / "ab"[number % 2] / path.name)
    return folder


@pytest.fixture(scope="module")
def undisturbed(pictures: pathlib.Path, labelled: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    train.run(settings(pictures, folder, *WORDS, "knn.root", str(labelled)))
    return folder


@narrow_resnet18()
def killed(name: str, pictures: pathlib.Path, labelled: pathlib.Path, folder: pathlib.Path) -> None:
    """For a process of its own: a run that is killed at the moment of that name."""
    place, function, at, time = MOMENTS[name]
    real, count = getattr(place, function), []

    def deadly(*arguments: Any, **options: Any) -> Any:
        here = at[1:] in repr(arguments)
        count.extend([1] if here else [])
        if here and len(count) == time and at[0] == "-":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if here and len(count) == time:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, function, deadly)
    train.run(settings(pictures, folder, *WORDS, "knn.root", str(labelled)), resume=None)


@pytest.mark.parametrize("name", slow_but(EVERYDAY, MOMENTS))
def test_a_run_killed_at_this_moment_resumes_bit_by_bit(
    name: str, undisturbed: pathlib.Path, pictures: pathlib.Path, labelled: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "run"
    process = multiprocessing.get_context("forkserver").Process(target=killed, args=(name, pictures, labelled, folder))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()
    assert train.run(settings(pictures, folder, *WORDS, "knn.root", str(labelled)), resume=None)
    assert_same_run(folder, undisturbed)
    assert (folder / files.LAST).read_text() == (undisturbed / files.LAST).read_text()
    assert not list(folder.glob(".*"))  # nothing half-written, no lock
