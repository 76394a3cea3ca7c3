"""Faults of data, storage and disk between two steps: what is won is saved, a resumed run is as if undisturbed."""

import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from pretrain import train, trainer
from pretrain.checkpoints import saver
from pretrain.runtime import distributed, files, spawn
from pretrain.runtime.errors import PretrainError, StorageError, UserError
from tests.support.pretrain.narrow import narrow_resnet18
from tests.support.pretrain.trainings import assert_same_run, before_step, metrics, settings


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """Runs of this module are those of a narrow network."""
    with narrow_resnet18():
        yield


@pytest.fixture(scope="module")
def undisturbed(pictures: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of an uninterrupted run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    train.run(settings(pictures, folder))
    return folder


@pytest.fixture
def images(pictures: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(pictures, tmp_path / "images"))


def empty_image(images: pathlib.Path) -> Callable[[], None]:
    """Empty an image. Returns what repairs it."""
    content = (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(b"")
    return lambda: (images / "3.png").write_bytes(content) and None


def lose_storage(images: pathlib.Path) -> Callable[[], None]:
    """Take away the whole folder. Returns what brings it back."""
    images.rename(images.with_name("gone"))
    return lambda: images.with_name("gone").rename(images) and None


def empty_mount(images: pathlib.Path) -> Callable[[], None]:
    """Leave an empty folder, as a mount that is lost does. Returns what brings the images back."""
    repair = lose_storage(images)
    images.mkdir()
    return lambda: images.rmdir() or repair()


@pytest.mark.parametrize(
    ("breaks", "error", "words"),
    [
        (empty_image, PretrainError, "data.max_broken: 1 of 9 images cannot be read"),
        (lose_storage, StorageError, r"the storage does not answer; 32 others"),
        (empty_mount, StorageError, r"the storage does not answer; 32 others"),
    ],
)
def test_a_stop_for_the_datas_sake_loses_nothing(
    breaks: Callable[[pathlib.Path], Callable[[], None]],
    error: type[UserError],
    words: str,
    undisturbed: pathlib.Path,
    images: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    folder, repairs = tmp_path / "run", []
    before_step(monkeypatch, 3, lambda: repairs.append(breaks(images)))
    with pytest.raises(error, match=words) as stopped:
        train.run(settings(images, folder, "checkpoint_period", "2"))
    monkeypatch.undo()
    assert type(stopped.value) is error
    assert "The run is saved after step 3 of 4: once this is repaired, the same command with --resume" in str(
        stopped.value
    )
    assert saver.manifests(folder)[-1].step == 3
    repairs[0]()
    assert train.run(settings(images, folder), resume=True)
    assert_same_run(folder, undisturbed)


def test_a_short_outage_is_waited_for(
    undisturbed: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = []

    def interrupt() -> None:
        timers.append(threading.Timer(0.8, lose_storage(images)))
        timers[0].start()

    before_step(monkeypatch, 3, interrupt)
    assert train.run(settings(images, tmp_path / "run"))
    assert_same_run(tmp_path / "run", undisturbed)
    assert "trying again for up to 30 s" in (tmp_path / "run" / "log.txt").read_text()


def test_an_outage_before_any_step_needs_a_person(
    images: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started again by itself, the run would stop at the same step for ever."""
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    build = trainer.build_model
    monkeypatch.setattr(trainer, "build_model", lambda *a, **k: lose_storage(images) and build(*a, **k))
    with pytest.raises(PretrainError, match="the storage does not answer"):
        train.run(settings(images, tmp_path / "run"))
    assert not saver.manifests(tmp_path / "run")


@narrow_resnet18()
def on_two_ranks(images: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """Rank 1 alone loses the storage: it has a folder of its own."""
    own = images.with_name(f"images_{distributed.rank()}")
    words = settings(own, folder, "model.bn_groups", "1", "checkpoint_period", "2")
    train.run(settings(own, folder.with_name("whole"), "model.bn_groups", "1", "checkpoint_period", "2"))
    repairs: list[Callable[[], None]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "PATIENCE", 0.3)
        if distributed.rank() == 1:
            before_step(patch, 3, lambda: repairs.append(lose_storage(own)))
        try:
            train.run(words)
        except StorageError as error:
            said = str(error)
    for repair in repairs:
        repair()
    train.run(words, resume=True)
    return distributed.all_gather_object(said)


def test_all_ranks_save_where_one_loses_its_storage(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for rank in range(2):
        shutil.copytree(pictures, tmp_path / f"images_{rank}")
    said = spawn.run_on_ranks(on_two_ranks, 2, tmp_path / "images", tmp_path / "run")
    assert said[0] == said[1]
    assert "The run is saved after step 3 of 4" in said[0]
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def labelled(pictures: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Nine images of two classes."""
    for number, path in enumerate(sorted(pictures.iterdir())):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.open(path).save(folder / "ab"[number % 2] / path.name)
    return folder


def test_a_fault_in_a_validation_costs_no_checkpoint(
    pictures: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch is saved first; the validation is done, once, when the run is resumed."""
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    classes = labelled(pictures, tmp_path / "classes")
    knn = ("knn.root", str(classes), "knn.k", "3")
    train.run(settings(pictures, tmp_path / "whole", *knn))
    repairs: list[Callable[[], None]] = []
    before_step(monkeypatch, 2, lambda: repairs.append(lose_storage(classes)))
    with pytest.raises(StorageError, match="The run is saved after step 2 of 4"):
        train.run(settings(pictures, tmp_path / "run", *knn))
    monkeypatch.undo()
    assert [manifest.file for manifest in saver.manifests(tmp_path / "run")] == ["checkpoint_0000.pth.tar"]
    repairs[0]()
    for _ in range(2):  # a finished run has nothing left to do
        assert train.run(settings(pictures, tmp_path / "run", *knn), resume=True)
        assert_same_run(tmp_path / "run", tmp_path / "whole")
        assert sum("knn_top1" in row for row in metrics(tmp_path / "run")) == 2
