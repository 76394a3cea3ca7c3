"""Weighted nearest neighbours: equal to two plain loops, in chunks and on ranks, ties included."""

import math
import os
import pathlib
import shutil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pretrain.evaluation import features, knn
from pretrain.models.encoders import build_encoder
from pretrain.runtime import distributed, spawn
from pretrain.runtime.errors import PretrainError
from tests.support.pretrain.coloured_images import paint

CPU = torch.device("cpu")


def loops(
    queries: Tensor, bank: Tensor, labels: list[int], classes: int, k: int, temperature: float, leave_one_out: bool
) -> list[list[int]]:
    """The rule, written as it is said: a loop over the queries, in it one over the bank."""
    answers = []
    for i, query in enumerate(queries.tolist()):
        similar = []
        for j, row in enumerate(bank.tolist()):
            product = sum(a * b for a, b in zip(query, row, strict=True))
            cosine = product / (math.hypot(*query) * math.hypot(*row))
            if not (leave_one_out and i == j):
                similar.append((-cosine, j))
        score = [0.0] * classes
        for negative_cosine, j in sorted(similar)[:k]:  # of equal ones the first in the bank
            score[labels[j]] += math.exp(-negative_cosine / temperature)
        answers.append(sorted(range(classes), key=lambda c: (-score[c], c))[:5])  # of equal ones the first class
    return answers


def quarters(rows: int, seed: int) -> Tensor:
    """Features (rows, 8) of length 1 whose products are exact in float32, so that many of them are equal: +-1/2 x 4."""
    generator = torch.Generator().manual_seed(seed)
    where = torch.rand(rows, 8, generator=generator).argsort(dim=1)[:, :4]
    signs = torch.randint(0, 2, (rows, 4), generator=generator) - 0.5
    return torch.zeros(rows, 8).scatter_(1, where, signs)


@settings(max_examples=60)
@given(st.data())
def test_predictions_are_those_of_two_plain_loops_ties_included(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 40))
    k = data.draw(st.integers(1, n - 1))
    classes = data.draw(st.integers(1, 9))
    leave_one_out = data.draw(st.booleans())
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    bank = quarters(n, data.draw(st.integers(0, 1000)))
    queries = bank if leave_one_out else quarters(data.draw(st.integers(1, 12)), 1001)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "QUERIES", data.draw(st.integers(1, 15)))
        patch.setattr(knn, "BANK", data.draw(st.integers(1, 50)))
        found = knn.predict_classes(queries, bank, torch.tensor(labels), classes, k, 0.07, leave_one_out)
    assert found.tolist() == loops(queries, bank, labels, classes, k, 0.07, leave_one_out)


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_random_features_get_the_labels_of_two_plain_loops(leave_one_out: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(200, 16, generator=generator) * 3  # of any length: only directions count
    labels = torch.randint(0, 10, (200,), generator=generator)
    queries = bank if leave_one_out else torch.randn(50, 16, generator=generator)
    found = knn.predict_classes(queries, bank, labels, 10, 20, 0.07, leave_one_out)
    assert found.tolist() == loops(queries, bank, labels.tolist(), 10, 20, 0.07, leave_one_out)


def test_the_vote_is_weighted_and_not_a_count() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8]])
    labels = torch.tensor([0, 1, 1])
    query = torch.tensor([[1.0, 0.0]])
    assert knn.predict_classes(query, bank, labels, 2, 3, 0.07).tolist() == [[0, 1]]  # e^14.3 against 2 e^8.6
    assert knn.predict_classes(query, bank, labels, 2, 3, 10.0).tolist() == [[1, 0]]


def test_nearest_gives_cosines_and_leaves_the_query_out() -> None:
    rows = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.5, 0.5]])
    similarity, nearby = knn.nearest_rows(rows[[2, 0]], rows, 2, itself=torch.tensor([2, 0]))
    assert nearby.tolist() == [[0, 1], [2, 1]]
    torch.testing.assert_close(similarity, torch.tensor([[0.5**0.5, 0.5**0.5], [0.5**0.5, 0.0]]))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("coloured")
    paint(root / "train", 5)
    paint(root / "val", 3, seed=1)
    return root


@pytest.fixture(scope="module")
def encoder() -> nn.Module:
    torch.manual_seed(3)
    return build_encoder("resnet18", 16, "mlp")


def test_train_votes_on_val_where_there_are_both(folders: pathlib.Path, encoder: nn.Module) -> None:
    encoder.train()
    monitor = knn.KnnMonitor(str(folders), size=32, k=4, batch_size=4)
    found = monitor.evaluate(encoder, CPU)
    bank, queries = (
        features.extract_features(encoder, part.images, CPU, 32) for part in (monitor.bank, monitor.queries)
    )
    best = loops(queries, bank, monitor.bank.labels.tolist(), 3, 4, 0.07, False)
    right = sum(answer[0] == label for answer, label in zip(best, monitor.queries.labels.tolist(), strict=True))
    assert found == {"knn_top1": right / 9, "knn_top5": 1.0, "knn_k": 4, "knn_protocol": "train/val"}
    assert right >= 5  # of 9: colours survive even a random network
    assert encoder.training


def test_one_tree_is_judged_by_leaving_one_out(folders: pathlib.Path, encoder: nn.Module) -> None:
    monitor = knn.KnnMonitor(str(folders / "train"), size=32)
    found = monitor.evaluate(encoder, CPU)
    assert (found["knn_k"], found["knn_protocol"]) == (14, "leave-one-out")  # 200 asked for, 14 others there
    rows = features.extract_features(encoder, monitor.bank.images, CPU, 32)
    best = loops(rows, rows, monitor.bank.labels.tolist(), 3, 14, 0.07, True)
    right = sum(answer[0] == label for answer, label in zip(best, monitor.bank.labels.tolist(), strict=True))
    assert found["knn_top1"] == right / 15


@pytest.fixture
def copies(folders: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(folders, tmp_path / "labelled"))


def cut_short(path: pathlib.Path) -> None:
    """Leave the header, which is good, and not all pixels."""
    path.write_bytes(path.read_bytes()[:-400])


@pytest.mark.parametrize("late", [False, True], ids=["header", "pixels"])
def test_broken_images_are_left_out_with_a_word(
    late: bool, copies: pathlib.Path, encoder: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    """The numbers are those of the set without them."""
    broken = [sorted(copies.glob("train/*/*"))[2], sorted(copies.glob("val/*/*"))[4]]
    for path in broken:
        cut_short(path) if late else path.write_bytes(b"")
    monitor = knn.KnnMonitor(str(copies), size=32, k=4, max_broken=0.1)
    found = [monitor.evaluate(encoder, CPU) for _ in range(2)]
    for path in broken:
        path.unlink()
    alone = knn.KnnMonitor(str(copies), size=32, k=4).evaluate(encoder, CPU)
    assert found == [alone | {"knn_left_out": 2}] * 2
    (words,) = [record.getMessage() for record in caplog.records] if late else monitor.notices
    assert f"knn.root: 2 broken images are left out of the validation: {broken[0]}, {broken[1]}" in words


def test_too_many_broken_images_are_refused_at_once(copies: pathlib.Path) -> None:
    first, second = sorted(copies.glob("*/*/*"))[:2]
    first.write_bytes(b"")
    second.unlink()
    second.symlink_to("nowhere")
    with pytest.raises(PretrainError, match=r"^knn.root: 2 of 24 images cannot be read, more than .* Mend or") as said:
        knn.KnnMonitor(str(copies), max_broken=0.05)
    assert f"{first}: not an image of a known format" in str(said.value)
    assert f"{second}: No such file or directory" in str(said.value)


def test_a_set_that_breaks_as_a_whole_is_an_error(copies: pathlib.Path, encoder: nn.Module) -> None:
    monitor = knn.KnnMonitor(str(copies / "train"), size=32)
    for path in copies.glob("train/*/*"):
        path.write_bytes(b"")
    with pytest.raises(PretrainError, match=r"^knn.root: 15 images cannot be read, too few are left to validate"):
        monitor.evaluate(encoder, CPU)


def on_each_rank(folders: pathlib.Path, encoder: nn.Module, bank: Tensor, labels: Tensor) -> dict[str, Any]:
    own = features.share_of_rank(len(bank))
    found = [
        *(knn.KnnMonitor(str(root), size=32, k=4).evaluate(encoder, CPU) for root in (folders, folders / "train")),
        *(
            knn.predict_classes(bank, bank[own.start : own.stop], labels, 4, 9, 0.07, loo).tolist()
            for loo in (False, True)
        ),
    ]
    try:
        knn.KnnMonitor(str(folders / "nowhere"))
    except PretrainError as error:
        found.append(str(error))
    return {"found": distributed.all_gather_object(found)}


def test_two_ranks_find_what_one_process_finds(folders: pathlib.Path, encoder: nn.Module) -> None:
    bank, labels = quarters(33, 5), torch.arange(33) % 4  # ties across the border of the two shares
    alone = on_each_rank(folders, encoder, bank, labels)["found"][0]
    assert alone[2] == loops(bank, bank, labels.tolist(), 4, 9, 0.07, False)
    assert alone[4] == f"knn.root: {folders}/nowhere: no such folder"
    assert spawn.run_on_ranks(on_each_rank, 2, folders, encoder, bank, labels)["found"] == [alone, alone]


def test_odd_names_are_no_broken_images(tmp_path: pathlib.Path) -> None:
    paint(tmp_path, 3)
    for number, image in enumerate(sorted(tmp_path.glob("*/*"))):
        image.rename(image.with_name(os.fsdecode(b"\xff\n" + bytes([number + 97]) + b" .png")))
    monitor = knn.KnnMonitor(str(tmp_path), size=32)
    assert (len(monitor.bank.images), monitor.left_out) == (9, 0)
