"""Own data: named by path, or by a YAML file of data sets, with every fault of it in one message."""

from pathlib import Path

import pytest

from tests.support.transfer.layouts import SIZE, coco_content, make_coco, make_voc, voc_object
from transfer.data import catalog
from transfer.data.own import ChosenData, choose_data, read_data_file
from transfer.errors import TransferError

BUILT_IN = ("voc_2007_trainval",), ("voc_2007_test",)


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A VOC folder `cells` with the lists train and test, and the YAML file of it."""
    folder = make_voc(tmp_path / "cells", {"a": SIZE + voc_object(), "b": SIZE + voc_object()}, "train")
    make_voc(folder, {"c": SIZE + voc_object()}, "test")
    (tmp_path / "cells.yaml").write_text(
        "my_cells: {train: cells/ImageSets/Main/train.txt, test: cells/ImageSets/Main/test.txt}\n"
    )
    return folder


def test_data_by_path_are_loaded_under_their_own_name(cells: Path) -> None:
    lists = cells / "ImageSets/Main"
    chosen = choose_data(None, [str(lists / "train.txt")], [str(lists / "test.txt")], *BUILT_IN)
    assert (chosen.train, chosen.test) == (("cells_train",), ("cells_test",))
    dataset = catalog.load_dataset(chosen.train, None, files=chosen.files)
    assert (dataset.names, dataset.class_names) == (("cells_train",), ("cat",))
    assert [record["image_id"] for record in dataset.records] == ["a", "b"]


def test_the_only_set_of_a_yaml_file_is_the_data(cells: Path) -> None:
    chosen = choose_data(cells.parent / "cells.yaml", [], [], *BUILT_IN)
    assert (chosen.train, chosen.test) == (("my_cells_train",), ("my_cells_test",))
    assert chosen.files["my_cells_test"].image_list == cells / "ImageSets/Main/test.txt"


def test_options_stand_over_the_names_of_the_configuration(cells: Path) -> None:
    file = cells.parent / "cells.yaml"
    configured = ("my_cells_train",), ("voc_2007_test",)
    assert choose_data(file, [], [], *configured).test == ("voc_2007_test",)
    assert choose_data(file, [], ["my_cells_test"], *configured).test == ("my_cells_test",)
    assert choose_data(None, [], [], *BUILT_IN) == ChosenData(*BUILT_IN)


def test_paths_of_a_yaml_file_are_relative_to_it(tmp_path: Path, cells: Path) -> None:
    path = make_coco(tmp_path / "fruit", coco_content())
    file = tmp_path / "sets.yaml"
    file.write_text(
        "v: {format: voc, images: cells/JPEGImages, annotations: cells/Annotations, "
        "train: cells/ImageSets/Main/train.txt}\n"
        f"fruit: {{images: fruit/train2017, annotations: {path}}}\n"
        "both: {images: fruit/train2017, train: fruit/annotations/instances_train2017.json}\n"
    )
    found = read_data_file(file)
    assert list(found) == ["v_train", "fruit", "both_train"]
    assert found["v_train"].image_list == cells / "ImageSets/Main/train.txt"
    assert found["fruit"].images == found["both_train"].images == tmp_path / "fruit/train2017"


def test_every_fault_of_a_yaml_file_is_in_one_message(tmp_path: Path, cells: Path) -> None:
    file = tmp_path / "sets.yaml"
    file.write_text(
        "coco_2017_val: {annotations: cells/Annotations}\n"
        "a: {trian: cells, annotations: cells/Annotations}\n"
        "b: {train: {image: x, annotations: cells/Annotations}}\n"
        "c: {format: yolo, train: cells/ImageSets/Main/train.txt}\n"
        "d: {format: coco, annotations: cells/Annotations}\n"
        "e: {test: nowhere}\n"
        "f: 3\n"
        "g h: cells/ImageSets/Main/train.txt\n"
    )
    with pytest.raises(TransferError) as caught:
        read_data_file(file)
    for fault in (
        "8 faults",
        "coco_2017_val: is a built-in name",
        "a: no such key: trian; there are format, images,",
        "b_train: no such key: image; there are",
        "c_train: format yolo is not read; voc, coco,",
        f"d: format coco, but {cells}/Annotations is in VOC layout",
        f"e_test: {tmp_path}/nowhere: no such file or folder",
        "f: a path or",
        "'g h': a name is made of letters",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.json", "{}", "a YAML file of data sets is expected; --train and --test take data"),
        (
            "data.yaml",
            "train: images/train\nnames: [cat]\n",
            "a YOLO data set's file; python tools/",
        ),
        ("a.yaml", "a: {train: x}\na: {train: y}\n", "twice"),
        ("a.yaml", "", r"NAME: \{train: PATH, test: PATH\} is expected"),
        ("none.yaml", None, "No such file"),
    ],
)
def test_what_is_no_file_of_data_sets_is_one_message(tmp_path: Path, name: str, content: str | None, what: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(TransferError, match=what):
        read_data_file(tmp_path / name)


def test_testing_on_the_training_data_is_refused(cells: Path) -> None:
    path = str(cells / "ImageSets/Main/train.txt")
    with pytest.raises(TransferError, match="cells_train: these are the images trained on"):
        choose_data(None, [path], [path], *BUILT_IN)


def test_names_that_collide_are_refused(tmp_path: Path) -> None:
    for place in ("x", "y"):
        make_voc(tmp_path / place / "cells", {"a": SIZE + voc_object()}, "train")
    words = [str(tmp_path / place / "cells/ImageSets/Main/train.txt") for place in ("x", "y")]
    with pytest.raises(TransferError, match=r"its name would be cells_train, as that of .*x/cells"):
        choose_data(None, words[:1], words[1:], *BUILT_IN)
    make_voc(tmp_path / "voc_2007_test", {"a": SIZE + voc_object()})
    with pytest.raises(TransferError, match="voc_2007_test is a built-in name; a YAML file for --data gives another"):
        choose_data(None, [str(tmp_path / "voc_2007_test")], [], *BUILT_IN)


def test_unknown_names_come_with_the_near_ones(cells: Path) -> None:
    with pytest.raises(TransferError, match=r"--train my_cels_train: no such file or folder.*\(near: my_cells_train"):
        choose_data(cells.parent / "cells.yaml", ["my_cels_train"], [], *BUILT_IN)
