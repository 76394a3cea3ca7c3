"""result.json comes back as it was written, and a wrong one is refused with the file and the field named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer import results
from transfer.errors import TransferError
from transfer.results import Device, Engine, Init, Result, Task


def a_result(**changes: Any) -> Result:
    result = Result(
        engine=Engine("torchvision", {"torch": "2.10.0", "torchvision": "0.25.0"}),
        task=Task("voc", ("voc_2007_trainval",), ("voc_2007_test",), "configs/x.yaml", "ab" * 32, ("cat", "dog"), 9, 3),
        init=Init("file", "MoCo", "backbone.pth", "cd" * 32, "resnet18", {"epoch": 3, "pixel_mean": [123.675, 1.0]}),
        seed=1,
        iterations=40,
        eval_only=False,
        metrics={"bbox": {"AP": 12.25, "AP50": 30.0, "APs": None}},
        voc_metrics={"11-point": {"AP50": 31.5}},
        per_class={"bbox": {"cat": 12.0, "dog": 12.5}},
        device=Device("cpu", "a processor", 2, 1),
        seconds={"train": 1.5, "evaluate": 0.25},
        command=("python", "tools/finetune.py", "--seed", "a b;$(c)"),
        created="2026-01-02T03:04:05+00:00",
        git=None,
    )
    return dataclasses.replace(result, **changes)


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    results.write_result(path, a_result())
    assert results.read_result(path) == a_result()
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]  # no temporary file stays


def test_an_existing_result_is_kept_unless_the_caller_says_so(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    results.write_result(path, a_result(seed=1))
    with pytest.raises(TransferError, match="exists"):
        results.write_result(path, a_result(seed=2))
    assert results.read_result(path).seed == 1
    results.write_result(path, a_result(seed=2), overwrite=True)
    assert results.read_result(path).seed == 2


def test_nan_is_written_as_null_so_that_the_file_is_json(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    results.write_result(path, a_result(metrics={"bbox": {"AP": 1.0, "APs": float("nan")}}))
    assert results.read_result(path).metrics["bbox"] == {"AP": 1.0, "APs": None}
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize("value", ["12", float("inf"), True])
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises((TransferError, ValueError)):
        results.write_result(tmp_path / "result.json", a_result(metrics={"bbox": {"AP": value}}))
    assert list(tmp_path.iterdir()) == []


def _set(content: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        content = content[parent]
    content[last] = value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", "0"),
        ("seed", True),
        ("eval_only", 0),
        ("engine.name", 3),
        ("engine.versions.torch", None),
        ("task.kind", 3),
        ("task.kind", ["voc"]),
        ("task.class_names", "cat"),
        ("init.kind", "moco"),
        ("init.metadata", []),
        ("metrics.bbox", 12.0),
        ("metrics.bbox.AP", "12"),
        ("metrics.bbox.AP", 10**400),
        ("device", None),
        ("seconds.train", {}),
        ("comand", ["python"]),
    ],
)
def test_a_wrong_field_is_refused_by_name(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "result.json"
    results.write_result(path, a_result())
    content = json.loads(path.read_text())
    _set(content, field, value)
    path.write_text(json.dumps(content))
    with pytest.raises(TransferError) as caught:
        results.read_result(path)
    assert str(path) in str(caught.value)
    assert field in str(caught.value)


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    results.write_result(path, a_result())
    content = json.loads(path.read_text())
    del content["seed"], content["task"]["test_images"]
    content["iterations"] = "many"
    path.write_text(json.dumps(content))
    with pytest.raises(TransferError) as caught:
        results.read_result(path)
    for fault in ("seed: missing", "task.test_images: missing", "iterations: is 'many'"):
        assert fault in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"schema": 2}', "[" * 100_000, b"\xff\xfe"])
def test_a_file_that_is_no_result_is_one_message(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TransferError, match=str(path)):
        results.read_result(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"nowhere\.json"):
        results.read_result(tmp_path / "nowhere.json")


settings = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(a=st.dictionaries(st.text(), settings), b=st.dictionaries(st.text(), settings))
def test_the_config_hash_ignores_what_trials_vary(a: dict[str, Any], b: dict[str, Any]) -> None:
    base = {"SOLVER": a, "MODEL": {"WEIGHTS": "", "DEVICE": "cpu", "MASK_ON": True}, "SEED": 0, "OUTPUT_DIR": "x"}
    trial = {"OUTPUT_DIR": "y", "SEED": 7, "MODEL": {"WEIGHTS": "w", "DEVICE": "cuda", "MASK_ON": True}, "SOLVER": a}
    assert results.config_hash(base) == results.config_hash(trial)
    other = {**base, "SOLVER": b}
    if json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True):
        assert results.config_hash(base) == results.config_hash(other)


def test_the_hash_of_a_configuration_sees_every_other_key() -> None:
    base = {"MODEL": {"MASK_ON": True, "WEIGHTS": ""}, "SOLVER": {"BASE_LR": 0.02}, "INPUT": {"MIN_SIZE_TRAIN": (8, 9)}}
    hashes = {
        results.config_hash(base),
        results.config_hash({**base, "MODEL": {"MASK_ON": False}}),
        results.config_hash({**base, "SOLVER": {"BASE_LR": 0.01}}),
        results.config_hash({**base, "INPUT": {"MIN_SIZE_TRAIN": (8,)}}),
    }
    assert len(hashes) == 4
