"""The initial weights of a run: exactly one source, read whole, or one message that says what is wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.transfer.pretrained import moco, resnet, saved
from transfer import results
from transfer.config import detectron2_defaults as vocabulary
from transfer.config import resolve
from transfer.conversion import convert, equivalence
from transfer.engines import torchvision as engine
from transfer.errors import TransferError
from transfer.run import init_check
from transfer.run.init import InitialWeights, choose_init
from transfer.run.options import RunOptions
from transfer.run.plan import plan_run
from transfer.weights import backbone_file
from transfer.weights.architecture import Architecture
from transfer.weights.backbone_file import Backbone
from transfer.weights.detector_file import read_detector
from transfer.weights.renaming import detectron2_name

CONFIGS = Path(__file__).parents[3] / "configs/transfer"
R18_FPN, R50_FPN, R50_C4 = (
    CONFIGS / "voc_r18_fpn_cpu.yaml",
    CONFIGS / "coco_r50_fpn_1x.yaml",
    CONFIGS / "voc_r50_c4_24k.yaml",
)


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torchvision ResNet-18 file."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet(), path)
    return path


@pytest.fixture(scope="module")
def backbone(resnet18: Path) -> Path:
    """The same, converted."""
    path = resnet18.with_name("backbone.pth")
    backbone_file.write_backbone(convert.convert(resnet18), path)
    return path


def config(*overrides: str):
    return engine.load_config(R18_FPN, list(overrides))


def initial(*overrides: str, file=None, resume=False, **options) -> InitialWeights:
    return choose_init(config(*overrides), RunOptions(R18_FPN, overrides, supervised_weights=file, **options), resume)


def test_a_run_needs_initial_weights() -> None:
    with pytest.raises(TransferError, match=r"no initial weights are given: --init random"):
        initial()


def test_init_and_weights_exclude_each_other(backbone: Path) -> None:
    with pytest.raises(TransferError, match="both are initial weights, give one"):
        initial("MODEL.WEIGHTS", str(backbone), init="random")


def test_a_backbone_given_as_weights_is_a_backbone(backbone: Path) -> None:
    by_flag, by_key = initial(init=str(backbone)), initial("MODEL.WEIGHTS", str(backbone))
    assert by_flag.init == by_key.init
    assert by_key.init.kind == "file"
    assert by_key.path is None


def test_a_backbone_fills_the_backbone_and_nothing_else(backbone: Path) -> None:
    model = engine.model_state(config())
    placed = initial(init=str(backbone)).tensors(model)
    assert set(placed) == {name for name in model if name.startswith("backbone.bottom_up.")}


def test_our_supervised_start_is_the_reports_baseline(tmp_path: Path) -> None:
    """Given as its checkpoint or converted, and never where it is MoCo's."""
    content = moco(resnet()) | {"moco_transfer": {"config": {"model.mechanism": "supervised"}}}
    checkpoint, converted = saved(tmp_path, content), tmp_path / "converted.pth"
    backbone_file.write_backbone(convert.convert(checkpoint, engine="torchvision"), converted)
    for given in (initial(init="supervised", file=checkpoint), initial(init=str(converted))):
        assert (given.init.kind, given.init.label) == ("supervised", "supervised")
    for name in ("moco", "end_to_end"):
        content["moco_transfer"]["config"]["model.mechanism"] = name
        with pytest.raises(TransferError, match=r"--supervised-weights .*was trained by .*, without labels"):
            initial(init="supervised", file=saved(tmp_path, content))


def test_supervised_takes_a_torchvision_file(resnet18: Path, backbone: Path) -> None:
    supervised, file = initial(init="supervised", file=resnet18), initial(init=str(backbone))
    assert (supervised.init.kind, supervised.init.label) == ("supervised", "supervised")
    for name, tensor in file.backbone.state.items():
        assert torch.equal(tensor, supervised.backbone.state[name]), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"init": "supervised"}, "--supervised-weights FILE .* or --download"),
        ({"init": "random", "file": Path("x.pth")}, "belong to --init supervised"),
        ({"init": "moco.pth"}, "moco.pth: no such file"),
        ({"init": "random", "eval_only": True}, "--eval-only scores a whole detector"),
        ({"eval_only": True}, "name the detector to score"),
        ({"resume": True}, "give --init"),
    ],
)
def test_contradictions_are_refused(arguments: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=message):
        initial("OUTPUT_DIR", str(tmp_path), **arguments)


def test_a_backbone_is_no_detector(backbone: Path) -> None:
    with pytest.raises(TransferError, match="needs a whole detector"):
        initial("MODEL.WEIGHTS", str(backbone), eval_only=True)


def described_backbone(architecture: Architecture, **metadata: object) -> Backbone:
    """A converted file of an architecture; its tensors have only names and shapes."""
    says = {**convert.INPUT, "label": "MoCo", **metadata}
    state = {detectron2_name(name): torch.empty(shape, device="meta") for name, shape in architecture.shapes().items()}
    return Backbone(architecture.name, state, says, "0" * 64)


PIXELS = [
    ("INPUT.FORMAT", "BGR", "INPUT.FORMAT is BGR, the backbone needs RGB"),
    ("MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]", "MODEL.PIXEL_STD is [1.0, 1.0, 1.0], the backbone needs [58.395, 57.12"),
    ("MODEL.PIXEL_MEAN", "[103.53, 116.28, 123.675]", "the backbone needs [123.675, 116.28, 103.53]"),
    ("MODEL.RESNETS.STRIDE_IN_1X1", "True", "MODEL.RESNETS.STRIDE_IN_1X1 is True, the backbone needs False"),
]


@pytest.mark.parametrize(("key", "value", "message"), PIXELS)
def test_other_pixels_than_the_backbones_are_refused(backbone: Path, key: str, value: str, message: str) -> None:
    settings = config(key, value)
    with pytest.raises(TransferError) as error:
        initial(init=str(backbone)).check(settings, engine.model_state(settings))
    assert message in str(error.value)
    assert str(backbone) in str(error.value)


@pytest.mark.parametrize(
    ("file", "architecture", "overrides", "message"),
    [
        (R50_FPN, Architecture(101), [], "MODEL.RESNETS.DEPTH is 50, the backbone needs 101"),
        (R50_C4, Architecture(101), [], "MODEL.RESNETS.DEPTH is 50, the backbone needs 101"),
        (R18_FPN, Architecture(50), [], "MODEL.RESNETS.RES2_OUT_CHANNELS is 64, the backbone needs 256"),
        (
            R50_C4,
            Architecture(18),
            [],
            "a C4 head of bottleneck blocks, which resnet18 does not have",
        ),
        (R50_FPN, Architecture(50, 1, 128), [], "MODEL.RESNETS.WIDTH_PER_GROUP is 64, the backbone needs 128"),
        (R50_FPN, Architecture(50, 32, 4), [], "MODEL.RESNETS.NUM_GROUPS is 1, the backbone needs 32"),
        (R50_FPN, Architecture(50), ["MODEL.RESNETS.NORM", "GN"], "MODEL.RESNETS.NORM is 'GN'"),
        (R50_FPN, Architecture(50), ["MODEL.RESNETS.NORM", ""], "drops the statistics of its batch norms"),
    ],
)
def test_a_config_for_another_network_is_refused(
    file: Path, architecture: Architecture, overrides: list[str], message: str
) -> None:
    settings = vocabulary.get_cfg()
    vocabulary.merge(settings, file, overrides)
    with pytest.raises(TransferError) as error:
        init_check.check_init(settings, described_backbone(architecture), "moco.pth")
    assert message in str(error.value)
    assert "the config contradicts the backbone moco.pth" in str(error.value)


@pytest.mark.parametrize(("key", "value"), [("INPUT.FORMAT", "BGR"), ("MODEL.RESNETS.STRIDE_IN_1X1", "True")])
@pytest.mark.parametrize("way", ["--init", "MODEL.WEIGHTS"])
def test_a_run_stops_at_a_contradiction_before_it_writes(
    backbone: Path, scenes: Path, tmp_path: Path, way: str, key: str, value: str
) -> None:
    words = [key, value, "OUTPUT_DIR", str(tmp_path / "out")]
    words += ["MODEL.WEIGHTS", str(backbone)] if way == "MODEL.WEIGHTS" else []
    init = str(backbone) if way == "--init" else None
    with pytest.raises(TransferError, match=f"{key} is {value}"):
        plan_run(
            RunOptions(
                CONFIGS / "coco_r18_fpn_cpu.yaml", tuple(words), engine="torchvision", dataset_root=scenes, init=init
            )
        )
    assert list(tmp_path.iterdir()) == []


def test_a_retinanet_of_basic_blocks_has_no_c4_head() -> None:
    # Nothing reads its ROI_HEADS.NAME, which in plain Detectron2's files stays at the default, Res5ROIHeads.
    settings = vocabulary.get_cfg()
    small = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
    plain = ["MODEL.ROI_HEADS.NAME", vocabulary.get_cfg().MODEL.ROI_HEADS.NAME]
    vocabulary.merge(settings, CONFIGS / "coco_r50_retinanet_1x.yaml", small + plain)
    assert settings.MODEL.ROI_HEADS.NAME == "Res5ROIHeads"
    init_check.check_init(settings, described_backbone(Architecture(18)), None)


def test_every_contradiction_comes_in_one_message() -> None:
    keys = {key: value for key, value, _ in PIXELS}
    settings = vocabulary.get_cfg()
    vocabulary.merge(settings, R50_FPN, [word for pair in keys.items() for word in pair])
    with pytest.raises(TransferError) as error:
        init_check.check_init(settings, described_backbone(Architecture(101, 32, 8)), None)
    assert all(key in str(error.value) for key in (*keys, "DEPTH", "NUM_GROUPS", "WIDTH_PER_GROUP"))


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*_r*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_takes_the_backbone_it_is_made_for(file: Path) -> None:
    settings = vocabulary.get_cfg()
    vocabulary.merge(settings, file, [])
    init_check.check_init(settings, described_backbone(Architecture(settings.MODEL.RESNETS.DEPTH)), None)


@pytest.fixture(scope="module")
def resnet50() -> InitialWeights:
    state = {detectron2_name(name): tensor for name, tensor in resnet("resnet50").items() if not name.startswith("fc.")}
    backbone = Backbone("resnet50", state, dict(convert.INPUT), "0" * 64)
    return InitialWeights(results.Init("file", "MoCo", "moco.pth"), backbone)


RECIPES = ("voc_r50_c4_24k", "voc_r50_c5_24k", "coco_r50_fpn_1x", "coco_r50_retinanet_1x", "coco_r50_keypoint_1x")


@pytest.mark.parametrize("recipe", RECIPES)
def test_features_agree_in_the_detector_to_train(recipe: str, resnet50: InitialWeights) -> None:
    resnet50.check_features(engine, engine.load_config(CONFIGS / f"{recipe}.yaml", []))


@pytest.mark.parametrize("recipe", RECIPES[:2])
def test_the_repeated_check_sees_another_stride(recipe: str, resnet50: InitialWeights) -> None:
    settings = engine.load_config(CONFIGS / f"{recipe}.yaml", ["MODEL.RESNETS.STRIDE_IN_1X1", "True"])
    with pytest.raises(TransferError, match=r"moco\.pth: the features of res\d in the backbone that the config builds"):
        resnet50.check_features(engine, settings)


@pytest.mark.detectron2
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_check_in_detectron2s_detectors_sees_a_stride(recipe: str, resnet50: InitialWeights) -> None:
    real = pytest.importorskip(
        "transfer.engines.detectron2", reason="Detectron2 is not installed", exc_type=ImportError
    )
    settings = real.load_config(CONFIGS / f"{recipe}.yaml", [])
    resnet50.check_features(real, settings)
    settings = resolve.with_settings(settings, {"MODEL.RESNETS.STRIDE_IN_1X1": True})
    with pytest.raises(TransferError, match="differ from the source's"):
        resnet50.check_features(real, settings)


def test_the_repeated_check_reaches_a_c4_heads_res5(resnet50: InitialWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    whole = equivalence._difference
    monkeypatch.setattr(equivalence, "_difference", lambda *words: seen.extend(words[1]) or whole(*words))
    resnet50.check_features(engine, engine.load_config(R50_C4, []))
    assert seen == ["res4", "res5"]


def test_random_weights_need_no_check(tmp_path: Path) -> None:
    InitialWeights(results.Init("random", "random")).check_features(engine, None)


def test_supervised_weights_are_of_the_configs_architecture() -> None:
    wide = config(
        "MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.RES2_OUT_CHANNELS", "256", "MODEL.RESNETS.NUM_GROUPS", "3"
    )
    with pytest.raises(TransferError, match="torchvision has no weights of resnext50_3x64d"):
        choose_init(wide, RunOptions(R18_FPN, init="supervised", download=True), resume=False)


def test_a_detector_must_fit_name_by_name(tmp_path: Path) -> None:
    model = {"a": torch.zeros(2), "b": torch.zeros(3)}
    torch.save({"model": {"a": torch.ones(4), "c": torch.ones(1)}}, tmp_path / "w.pth")
    with pytest.raises(TransferError) as caught:
        read_detector(tmp_path / "w.pth", model)
    for fault in ("missing: b", "unknown: c", "wrong shape: a is (2,) in the model, (4,) in the file"):
        assert fault in str(caught.value)


@pytest.mark.parametrize("content", [[1], {"model": [1]}, {"a": "b"}, {"model": {"a": 1}}])
def test_a_detector_is_a_dictionary_of_tensors(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(TransferError, match=r"w\.pth: a dictionary of tensors"):
        read_detector(tmp_path / "w.pth", {})


def test_a_detector_of_numpy_arrays_is_read_as_tensors(tmp_path: Path) -> None:
    torch.save({"model": {"a": np.ones((2, 3), "float32"), "n": np.array(1)}}, tmp_path / "w.pth")
    state = read_detector(tmp_path / "w.pth", {"a": torch.zeros(2, 3), "n": torch.tensor(0)})
    assert torch.equal(state["a"], torch.ones(2, 3))
    assert state["n"].dtype == torch.int64
