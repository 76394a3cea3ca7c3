"""Settings: every fault at once, one grammar for files and command line, the published numbers in the shipped files."""

import dataclasses
import pathlib
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pretrain.config import config_io, schema
from pretrain.config.schema import ConfigError

CONFIGS = pathlib.Path(__file__).resolve().parents[3] / "configs" / "pretrain"
ROOT = ["data.root", "images"]


NAMES = st.text(min_size=1).filter(lambda name: not name.startswith("~"))  # which is a home folder


def faults_of(*overrides: str, file: pathlib.Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config_io.load(file, list(overrides))
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return caught.value.faults


def written(path: pathlib.Path, text: str) -> pathlib.Path:
    path.write_text(text)
    return path


def test_kernels_that_contradict_other_settings_are_refused() -> None:
    both = faults_of(*ROOT, "optim.cuda_graph", "true", "optim.compile", "true", "optim.accumulate", "2")
    assert "cannot record what optim.compile compiles" in both[0]
    assert "optim.accumulate 2 cannot add them up" in both[1]
    for name in ("compile", "cuda_graph"):
        (synced,) = faults_of(*ROOT, f"optim.{name}", "true", "model.bn_sync_ranks", "0")
        assert synced.startswith(f"optim.{name}: does not go with SyncBN")


def test_the_defaults_are_the_published_v2() -> None:
    loaded = config_io.load(None, ROOT)
    assert loaded == schema.Config(data=schema.Data(root="images"))
    assert dataclasses.asdict(loaded) == dataclasses.asdict(
        config_io.load(CONFIGS / "moco_v2_r50_200ep.yaml", ROOT)
    ) | {
        "output_dir": "output/pretrain",
        "checkpoint_steps": 0,
        "milestone_period": 0,
        "log_period": 10,
    }


def test_v1_and_v2_carry_the_published_numbers() -> None:
    """published.md, hyper-parameters."""
    v1 = config_io.load(CONFIGS / "moco_v1_r50_200ep.yaml", ROOT)
    v2 = config_io.load(CONFIGS / "moco_v2_r50_200ep.yaml", ROOT)
    for published in (v1, v2):
        optim = published.optim
        assert (optim.lr, optim.sgd_momentum, optim.weight_decay) == (0.03, 0.9, 1e-4)
        assert (optim.batch_size, optim.epochs) == (256, 200)
        model = published.model
        assert (model.arch, model.dim, model.queue_size, model.momentum) == ("resnet50", 128, 65536, 0.999)
        assert (model.bn_shuffle, model.bn_groups, model.bn_sync_ranks) == (True, 1, 1)
        assert (published.data.image_size, published.data.crop_scale) == (224, (0.2, 1.0))
    assert (v1.optim.schedule, v1.optim.milestones, v1.optim.gamma) == ("step", (120, 160), 0.1)
    assert (v1.model.head, v1.model.temperature, v1.data.augmentation) == ("fc", 0.07, "v1")
    assert (v2.model.head, v2.model.temperature, v2.data.augmentation) == ("mlp", 0.2, "v2")
    assert v2.optim.schedule == "cosine"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_file_loads_and_opens_with_its_command(path: pathlib.Path) -> None:
    config_io.load(path, ROOT)
    head = path.read_text().split("\n\n")[0]
    assert head.startswith("# ")
    assert f"configs/pretrain/{path.name}" in head


def test_a_word_may_stand_for_a_number(tmp_path: pathlib.Path) -> None:
    file = written(tmp_path / "x.yaml", "data:\n  root: images\n")
    assert config_io.load(file, []).data.workers == "auto"
    assert config_io.load(file, ["data.workers", "3"]).data.workers == 3
    for value in ("many", "-1"):
        (fault,) = faults_of("data.workers", value, *ROOT, file=file)
        assert fault.startswith(f"data.workers: {value} is out of range, it must be auto or >= 0")


def test_all_faults_come_at_once(tmp_path: pathlib.Path) -> None:
    file = written(tmp_path / "x.yaml", "optim:\n  lr: fast\n  epoch: 3\nmodle:\n  dim: 4\nseed: -1\n")
    faults = faults_of("data.workers", "1.5", "model.momentum", "2", "optim.schedule", "poly", "device", file=file)
    starts = [
        "data.root: not set",
        "data.workers: '1.5' is not a whole number (int) or a word (str)",
        "device: no value",
        "model.momentum: 2.0 is out of range, it must be >= 0 and <= 1",
        "modle.dim: no such setting; nearest: model.dim",
        "optim.epoch: no such setting; nearest: optim.epochs",
        "optim.lr: 'fast' is not a number (float)",
        "optim.schedule: poly is out of range, it must be one of step, cosine",
        "seed: -1 is out of range",
    ]
    assert len(faults) == len(starts)
    for fault, start in zip(sorted(faults), starts, strict=True):
        assert fault.startswith(start)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lr", "optim.lr"),
        ("optim.learning_rate", "optim.lr"),
        ("learning_rate", "optim.lr"),
        ("optim.base_lr", "optim.lr"),
        ("optim.wd", "optim.weight_decay"),
        ("moco_k", "model.queue_size"),
        ("moco-t", "model.temperature"),
        ("num_workers", "data.workers"),
        ("OUTPUT_DIR", "output_dir"),
        ("model.queue", "model.queue_size"),
        ("data.rot", "data.root"),
    ],
)
def test_an_unknown_key_names_its_neighbours(typed: str, meant: str) -> None:
    (fault,) = faults_of(*ROOT, typed, "1")
    assert fault.startswith(f"{typed}: no such setting; nearest: ")
    assert fault.split("nearest: ")[1].split(", ")[0] == meant


@pytest.mark.parametrize("key", sorted(schema.FIELDS))
@given(name=st.text(st.characters(codec="ascii", categories=("Ll", "Nd")), min_size=1, max_size=8))
@settings(max_examples=5)
def test_a_key_with_more_behind_it_is_unknown(key: str, name: str) -> None:
    assume(name not in ("yaml", "yml"))  # it would be taken for a configuration
    (fault,) = faults_of(*ROOT, f"{key}.{name}", "1")
    assert fault.startswith(f"{key}.{name}: no such setting")


@given(st.floats(1e-6, 10), st.integers(1, 10**6), st.booleans(), st.integers(0, 2**32 - 1), NAMES)
def test_values_go_round_through_yaml_and_the_command_line(
    tmp_path_factory: pytest.TempPathFactory, lr: float, queue_size: int, shuffle: bool, seed: int, root: str
) -> None:
    given = {
        "optim.lr": lr,
        "model.queue_size": queue_size,
        "model.bn_shuffle": shuffle,
        "seed": seed,
        "data.root": root,
    }
    loaded = config_io.load(None, [str(part) for pair in given.items() for part in pair])
    found = config_io.flat(loaded)
    assert {key: found[key] for key in given} == given
    file = written(tmp_path_factory.mktemp("yaml") / "x.yaml", config_io.to_yaml(loaded))
    assert config_io.load(file) == loaded


ANYTHING = st.one_of(
    st.integers(-5, 5), st.floats(), st.text(max_size=5), st.booleans(), st.none(), st.lists(st.integers())
)


@given(st.sampled_from(sorted(schema.FIELDS)), ANYTHING)
def test_any_value_in_a_file_is_taken_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    section, _, name = key.rpartition(".")
    content = yaml.safe_dump({section: {name: value}} if section else {name: value})
    file = written(tmp_path_factory.getbasetemp() / "any.yaml", content)
    message = ""
    try:
        found = config_io.load(file, [] if key == "data.root" else ROOT)
    except ConfigError as error:
        message = str(error)
    if message:
        assert key in message  # first, or beside the other key that it does not go with
    else:
        assert type(config_io.flat(found)[key]) in (type(schema.FIELDS[key].default), list) or key == "data.workers"


def test_types_are_those_of_the_schema() -> None:
    given = {"data.root": "2012", "optim.lr": "1", "optim.milestones": "1,2", "model.bn_shuffle": "false"}
    loaded = config_io.load(None, [part for pair in given.items() for part in pair])
    assert loaded.data.root == "2012"  # a folder may be called so
    assert isinstance(loaded.optim.lr, float)
    assert loaded.optim.milestones == (1, 2)
    assert loaded.model.bn_shuffle is False
    assert config_io.load(None, [*ROOT, "optim.lr", "1e-3"]).optim.lr == 1e-3
    wrong = {"model.bn_shuffle": "1", "seed": "True", "data.crop_scale": "[.2]", "optim.milestones": "9"}
    for key, value in wrong.items():
        assert len(faults_of(*ROOT, key, value)) == 1


def test_what_belongs_together_is_checked_together() -> None:
    for overrides, named in [
        (("data.crop_scale", "[1, .2]"), "data.crop_scale"),
        (("optim.milestones", "[160, 120]"), "optim.milestones"),
        (("model.bn_groups", "2", "model.bn_sync_ranks", "0"), "model.bn_sync_ranks"),
        (("optim.batch_size", "10", "model.bn_groups", "4"), "model.bn_groups"),
        (("optim.lr", "0"), "> 0"),
        (("model", "resnet50"), "is a section"),
    ]:
        (fault,) = faults_of(*ROOT, *overrides)
        assert named in fault


def test_base_files_and_overrides_stack(tmp_path: pathlib.Path) -> None:
    written(tmp_path / "base.yaml", "optim: {lr: 0.5, epochs: 7}\nmodel:\n")
    file = written(tmp_path / "x.yaml", "_BASE_: base.yaml\noptim: {lr: 1e-3}\n")
    loaded = config_io.load(file, [*ROOT, "optim.epochs", "9", "optim.epochs", "11"])
    assert (loaded.optim.lr, loaded.optim.epochs) == (1e-3, 11)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("optim: [", "not valid YAML"),
        ("optim: {lr: 0.1}\noptim: {epochs: 3}", "the key 'optim' is given twice"),
        ("optim:\n  lr: 0.1\n  epochs: 3\n  lr: 0.2", "the key 'lr' is given twice"),
        ("x: !!python/object/apply:os.system ['echo unsafe']", "not valid YAML"),
        ("- a\n- b", "must hold mappings"),
        ("", "must hold mappings"),
        ("just text", "must hold mappings"),
        ("_BASE_: missing.yaml", "missing.yaml, which is not there"),
        ("_BASE_: x.yaml", "leads back to itself"),
        ("_BASE_: 3", "must hold mappings"),
        ("_BASE_: bytes.yaml", "cannot be read"),
    ],
)
def test_a_bad_file_is_named(text: str, reason: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    file = written(tmp_path / "x.yaml", text)
    (fault,) = faults_of(*ROOT, file=file)
    assert fault.startswith(str(file))
    assert reason in fault


def test_a_missing_file_is_named(tmp_path: pathlib.Path) -> None:
    assert faults_of(file=tmp_path / "no.yaml") == (f"{tmp_path}/no.yaml: no such config file",)


def test_help_lists_every_setting() -> None:
    lines = config_io.describe().splitlines()
    assert [line.split()[0] for line in lines] == list(schema.FIELDS)


def test_a_tilde_in_a_path_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    file = written(tmp_path / "a.yaml", "data: {root: ~/images}\nknn: {root: ~/labelled}\noutput_dir: ~/run\n")
    loaded = config_io.load(file)
    assert (loaded.data.root, loaded.knn.root, loaded.output_dir) == (
        "/home/me/images",
        "/home/me/labelled",
        "/home/me/run",
    )
    assert config_io.load(file, ["output_dir", "~/other"]).output_dir == "/home/me/other"
    assert faults_of("data.root", "~no-such-user/x", "output_dir", "~no-such-user/y")[0].startswith(
        "data.root: ~no-such-user/x: ~no-such-user is the home folder of no user here"
    )
