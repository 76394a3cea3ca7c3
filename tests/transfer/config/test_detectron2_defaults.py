"""Detectron2's configuration vocabulary: defaults, _BASE_, overrides, and every fault in one message."""

from pathlib import Path

import pytest
import yaml

from tests.support.transfer import small_models
from tests.support.transfer.small_models import FIXTURES
from transfer.config import detectron2_defaults
from transfer.engines import torchvision as engine
from transfer.errors import TransferError

DUMPS = sorted((FIXTURES / "tensors").glob("*.config.yaml"))


def merged(file: Path | None = None, *overrides: str) -> detectron2_defaults.CfgNode:
    cfg = detectron2_defaults.get_cfg()
    detectron2_defaults.merge(cfg, file, overrides)
    return cfg


def refusal(file: Path | None = None, *overrides: str) -> str:
    with pytest.raises(TransferError) as error:
        engine.load_config(file, overrides)
    return str(error.value)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("dump", DUMPS, ids=lambda path: path.stem)
def test_a_full_dump_of_detectron2_comes_back_whole(dump: Path) -> None:
    assert yaml.safe_load(engine.load_config(dump, []).dump()) == yaml.safe_load(dump.read_text())


def test_base_files_are_overlaid_in_order(tmp_path: Path) -> None:
    write(tmp_path / "base" / "first.yaml", "SOLVER:\n  BASE_LR: 0.5\n  STEPS: (1, 2)\nSEED: 3\n")
    write(tmp_path / "base" / "second.yaml", "_BASE_: first.yaml\nSOLVER: {BASE_LR: 0.25}\n")
    cfg = merged(write(tmp_path / "top.yaml", "_BASE_: base/second.yaml\nSOLVER: {MAX_ITER: 7}\n"), "SEED", "4")
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER, cfg.SEED) == (0.25, [1, 2], 7, 4)
    several = merged(write(tmp_path / "list.yaml", "_BASE_: [base/second.yaml, base/first.yaml]\n"))
    assert several.SOLVER.BASE_LR == 0.5


def test_values_are_read_as_detectron2_reads_them() -> None:
    cfg = merged(
        None,
        *("SOLVER.STEPS", "(10, 20)", "INPUT.MIN_SIZE_TRAIN", "[5]", "SOLVER.BASE_LR", "1", "OUTPUT_DIR", "a/b"),
        *("DATASETS.TRAIN", "('voc_2007_trainval',)", "SOLVER.WEIGHT_DECAY_BIAS", "0", "SOLVER.GAMMA", "1e-3"),
        *("MODEL.ANCHOR_GENERATOR.SIZES", "[[1.5], [2]]", "MODEL.MASK_ON", "True"),
    )
    assert cfg.SOLVER.STEPS == [10, 20]
    assert cfg.INPUT.MIN_SIZE_TRAIN == [5]
    assert cfg.DATASETS.TRAIN == ["voc_2007_trainval"]
    assert type(cfg.SOLVER.BASE_LR) is float  # an int where a float is meant
    assert cfg.SOLVER.WEIGHT_DECAY_BIAS == 0.0
    assert cfg.SOLVER.GAMMA == 1e-3
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[1.5], [2]]
    assert cfg.MODEL.MASK_ON is True
    assert cfg.OUTPUT_DIR == "a/b"


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    file = write(tmp_path / "bad.yaml", "SOLVER: {BASE_LRR: 0.1, MAX_ITER: 1.5}\nMODEL: {RESNETS: 50}\n")
    message = refusal(file, "SOLVER.IMS_PER_BATCH", "two", "max_iter", "5", "MODEL.MASK_ON", "1", "SEED")
    for part in (
        str(file),
        "unknown key SOLVER.BASE_LRR (nearest: SOLVER.BASE_LR",
        "SOLVER.MAX_ITER: 1.5 is a number, an integer is expected",
        "MODEL.RESNETS: a section",
        "SOLVER.IMS_PER_BATCH: 'two' is a string, an integer is expected",
        "unknown key max_iter (nearest: SOLVER.MAX_ITER",
        "MODEL.MASK_ON: 1 is an integer, True or False is expected",
        "'SEED' is left without a partner",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INPUT.MIN_SIZE_TRAIN", "600"),
        ("INPUT.MIN_SIZE_TRAIN", "('a',)"),
        ("DATASETS.TRAIN", "voc_2007_trainval"),
        ("SOLVER.WEIGHT_DECAY_BIAS", "no"),
        ("SOLVER.BASE_LR", "True"),
        ("SOLVER.BASE_LR", "None"),
    ],
)
def test_a_wrong_type_names_key_and_value(key: str, value: str) -> None:
    message = refusal(None, key, value)
    assert key in message
    assert value.strip("(),'") in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("SEED: !!python/object/apply:os.getpid []\n", "python"),
        ("SEED: [1\n", "line 2"),
        ("SOLVER: {MAX_ITER: 1}\nSOLVER: {BASE_LR: 0.1}\n", "the key 'SOLVER' is given twice"),
        ("- SEED\n", "list"),
        ("VERSION: 1\n", "VERSION"),
        ("_BASE_: bad.yaml\n", "_BASE_"),
        ("_BASE_: nowhere.yaml\n", "nowhere.yaml"),
    ],
)
def test_a_bad_file_is_one_message(text: str, named: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "bad.yaml", text))
    assert named in message
    assert str(tmp_path) in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "none.yaml") in refusal(tmp_path / "none.yaml")


def test_what_the_engine_cannot_do_is_refused_by_name() -> None:
    message = refusal(
        None,
        *small_models.overrides(small_models.FPN),
        *("MODEL.META_ARCHITECTURE", "PanopticFPN", "INPUT.CROP.ENABLED", "True", "MODEL.RESNETS.NORM", "GN"),
        *("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "giou", "TEST.AUG.ENABLED", "True", "SOLVER.MAX_ITER", "0"),
    )
    for key in ("META_ARCHITECTURE", "CROP.ENABLED", "RESNETS.NORM", "LOSS_TYPE", "AUG.ENABLED", "SOLVER.MAX_ITER"):
        assert key in message
    assert "--engine detectron2" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.RESNETS.DEPTH", "50"),  # RES2_OUT_CHANNELS is still 64
        ("MODEL.ROI_HEADS.NAME", "Res5ROIHeads"),
        ("MODEL.FPN.IN_FEATURES", "['res2', 'res4']"),
        ("MODEL.RPN.IN_FEATURES", "['p7']"),
        ("MODEL.ROI_HEADS.IN_FEATURES", "['res4']"),
        ("MODEL.RESNETS.OUT_FEATURES", "['res3', 'res4', 'res5']"),
        ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"),
        ("MODEL.PIXEL_STD", "[1.0, 0.0, 1.0]"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(key: str, value: str) -> None:
    message = refusal(None, *small_models.overrides(small_models.FPN), key, value)
    assert key.split(".")[-1] in message


@pytest.mark.parametrize(
    ("model", "key", "value", "words"),
    [
        (small_models.RETINANET, "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "go together"),
        (small_models.FPN, "MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone", "go together"),
        (small_models.RETINANET, "MODEL.MASK_ON", "True", "boxes only"),
        (small_models.RETINANET, "MODEL.RETINANET.IN_FEATURES", "['p2','p3']", "the backbone makes"),
        (small_models.RETINANET, "MODEL.RETINANET.NORM", "GN", "only the default"),
        (small_models.RETINANET, "MODEL.FPN.IN_FEATURES", "['res3','res4']", "p6 from res5"),
        (small_models.C5, "MODEL.RESNETS.RES5_DILATION", "1", "dilation 2"),
        (small_models.C5, "MODEL.RESNETS.OUT_FEATURES", "['res4','res5']", "needs ['res5']"),
        (small_models.C5, "MODEL.ROI_HEADS.IN_FEATURES", "['res4']", "the backbone makes"),
        (small_models.C4, "MODEL.RESNETS.RES5_DILATION", "2", "without dilation"),
        (small_models.FPN, "MODEL.RESNETS.RES5_DILATION", "2", "cannot be dilated"),
        (small_models.C4, "MODEL.KEYPOINT_ON", "True", "no keypoint branch"),
        (small_models.KEYPOINTS, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", "5", "not one of 17"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(model: dict[str, object], key: str, value: str, words: str) -> None:
    message = refusal(None, *small_models.overrides(model), key, value)
    assert words in message
    assert key in message or key.split(".")[-1] in message


def test_c4_needs_a_bottleneck_resnet() -> None:
    overrides = small_models.overrides(
        small_models.C4, {"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64}
    )
    assert "50 or more" in refusal(None, *overrides)


@pytest.mark.detectron2
def test_defaults_are_detectron2s() -> None:
    theirs = pytest.importorskip("detectron2.config", reason="Detectron2 is not installed")
    assert yaml.safe_load(detectron2_defaults.get_cfg().dump()) == yaml.safe_load(theirs.get_cfg().dump())


def test_a_tilde_in_a_path_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    file = write(tmp_path / "a.yaml", "OUTPUT_DIR: ~/run\nMODEL: {WEIGHTS: ~/w.pth}\n")
    cfg = merged(file)
    assert (cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS) == ("/home/me/run", "/home/me/w.pth")
    assert merged(file, "OUTPUT_DIR", "~/other", "MODEL.WEIGHTS", "").OUTPUT_DIR == "/home/me/other"
