"""Identities of the detector's parts: boxes, anchors, matching, sampling, pooling, masks, names."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from pretrain.runtime.sync_batchnorm import SyncBatchNorm2d
from tests.support import small_models
from transfer.engines.torchvision.build import build_model
from transfer.engines.torchvision.modeling import box_ops as box_code
from transfer.engines.torchvision.modeling.anchor_generator import AnchorGenerator
from transfer.engines.torchvision.modeling.backbone.norm import FrozenBatchNorm2d, freeze, norm_factory
from transfer.engines.torchvision.modeling.backbone.resnet import Backbone, make_resnet
from transfer.engines.torchvision.modeling.matcher import IGNORE, match, subsample
from transfer.engines.torchvision.modeling.meta_arch import GeneralizedRCNN
from transfer.engines.torchvision.modeling.roi_heads.box_head import BoxPredictor, BoxSettings
from transfer.engines.torchvision.modeling.roi_heads.mask_head import BitMasks, PolygonMasks, paste, rasterise
from transfer.engines.torchvision.modeling.roi_heads.pooler import Pooler
from transfer.engines.torchvision.modeling.sampling import SamplingSettings, Truth, sample_regions
from transfer.weights.renaming import detectron2_name

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
coordinate = st.floats(0, 500, width=32)
length = st.floats(1, 400, width=32)
box = st.tuples(coordinate, coordinate, length, length).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


@settings(deadline=None)
@given(st.lists(st.tuples(box, box), min_size=1, max_size=5))
def test_decode_inverts_encode(pairs: list[tuple[list[float], list[float]]]) -> None:
    source, target = torch.tensor([p[0] for p in pairs]), torch.tensor([p[1] for p in pairs])
    decoded = box_code.decode(box_code.encode(source, target, WEIGHTS), source, WEIGHTS)
    close = (target[:, 2:] - target[:, :2]) / (source[:, 2:] - source[:, :2]) < 62  # beyond, the code is clamped
    kept = close.all(dim=1)
    torch.testing.assert_close(decoded[kept], target[kept], rtol=1e-4, atol=5e-2)


def test_a_code_of_zeros_is_the_box_itself_for_every_class() -> None:
    boxes = torch.tensor([[1.0, 2.0, 11.0, 32.0]])
    assert torch.equal(box_code.decode(torch.zeros(1, 12), boxes, WEIGHTS), boxes.repeat(1, 3))


@settings(deadline=None)
@given(st.lists(box, min_size=1, max_size=6))
def test_clipped_boxes_lie_in_the_image(found: list[list[float]]) -> None:
    clipped = box_code.clip(torch.tensor(found) - 50, (100, 150))
    assert (clipped >= 0).all()
    assert (clipped[:, 0::2] <= 150).all()
    assert (clipped[:, 1::2] <= 100).all()


def test_anchors_stand_on_every_cell_size_major() -> None:
    (anchors,) = AnchorGenerator([[32, 64]], [[0.5, 1.0, 2.0]], [16])([torch.zeros(1, 8, 3, 4)])
    grid = anchors.view(3, 4, 6, 4)
    centres = (grid[..., :2] + grid[..., 2:]) / 2
    assert torch.allclose(centres[2, 3], torch.tensor([48.0, 32.0]))  # x: column 3, y: row 2, corner offset 0
    sides = grid[0, 0, :, 2:] - grid[0, 0, :, :2]
    torch.testing.assert_close(sides.prod(dim=1), torch.tensor([32.0, 32, 32, 64, 64, 64]) ** 2)
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 1, 2, 0.5, 1, 2]))


def test_match_groups_by_overlap_and_keeps_the_best_of_each_object() -> None:
    quality = torch.tensor([[0.1, 0.35, 0.8, 0.0], [0.2, 0.3, 0.1, 0.0]])
    index, labels = match(quality, [0.3, 0.7], [0, IGNORE, 1])
    assert index.tolist()[:3] == [1, 0, 0]
    assert labels.tolist() == [0, IGNORE, 1, 0]
    assert match(quality, [0.3, 0.7], [0, IGNORE, 1], keep_best=True)[1].tolist() == [0, 1, 1, 0]
    assert match(torch.zeros(0, 3), [0.5], [0, 1])[1].tolist() == [0, 0, 0]


@settings(deadline=None)
@given(st.lists(st.integers(-1, 3), max_size=60), st.integers(1, 40), st.floats(0, 1))
def test_subsample_draws_each_box_once_within_its_share(labels: list[int], count: int, fraction: float) -> None:
    known = torch.tensor(labels, dtype=torch.int64)
    positive, negative = subsample(known, count, fraction, background=3)
    assert len(positive) == min(int(count * fraction), int(((known >= 0) & (known < 3)).sum()))
    assert len(negative) == min(count - len(positive), int((known == 3).sum()))
    drawn = torch.cat((positive, negative)).tolist()
    assert len(set(drawn)) == len(drawn)
    assert ((known[positive] >= 0) & (known[positive] < 3)).all()
    assert (known[negative] == 3).all()


def sampling(append: bool = True) -> SamplingSettings:
    return SamplingSettings(5, 100, 0.25, [0.5], [0, 1], append)


def test_true_boxes_are_proposals_too_and_each_region_knows_its_object() -> None:
    truth = Truth(torch.tensor([[0.0, 0, 10, 10], [50, 50, 90, 90]]), torch.tensor([4, 2]))
    regions = sample_regions(torch.tensor([[1.0, 0, 10, 10], [20, 20, 30, 30]]), truth, sampling())
    by_box = {
        tuple(place): (label, number)
        for place, label, number in zip(
            regions.boxes.tolist(), regions.classes.tolist(), regions.objects.tolist(), strict=True
        )
    }
    assert by_box[(1.0, 0, 10, 10)] == (4, 0)
    assert by_box[(0.0, 0, 10, 10)] == (4, 0)
    assert by_box[(50.0, 50, 90, 90)] == (2, 1)
    assert by_box[(20.0, 20, 30, 30)][0] == 5
    assert len(sample_regions(torch.zeros(0, 4), truth, sampling(append=False)).boxes) == 0


def test_an_image_without_objects_is_all_background() -> None:
    empty = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    regions = sample_regions(torch.rand(7, 4).cumsum(dim=1), empty, sampling())
    assert regions.classes.tolist() == [5] * 7


def test_regions_go_to_the_level_of_their_size() -> None:
    strides = {f"p{level}": 2**level for level in range(2, 6)}
    features = {name: torch.full((1, 1, 512 // s, 512 // s), float(s)) for name, s in strides.items()}
    sides = torch.tensor([8.0, 111, 112, 223, 224, 447, 448, 500])
    boxes = torch.stack((torch.zeros(8), torch.zeros(8), sides, sides), dim=1)
    pooled = Pooler(list(strides), strides, 2, 0, True)(features, [boxes])
    assert pooled.mean(dim=(1, 2, 3)).tolist() == [4, 4, 8, 8, 16, 16, 32, 32]


def test_pooling_a_ramp_reads_the_centres_of_the_cells() -> None:
    ramp = torch.arange(32.0).expand(1, 1, 32, 32) + 0.5  # value = x at the centre of each pixel, in pixels
    pooled = Pooler(["p"], {"p": 1}, 4, 2, True)({"p": ramp}, [torch.tensor([[4.0, 4.0, 20.0, 20.0]])])
    torch.testing.assert_close(pooled[0, 0, 0], torch.tensor([6.0, 10.0, 14.0, 18.0]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(4, 30), st.integers(4, 30))
def test_a_full_mask_pastes_its_box(left: int, top: int, width: int, height: int) -> None:
    place = torch.tensor([[left, top, left + width, top + height]], dtype=torch.float32)
    pasted = paste(torch.ones(1, 28, 28), place, (40, 40))[0]
    wanted = torch.zeros(40, 40, dtype=torch.bool)
    wanted[top : top + height, left : left + width] = True
    assert torch.equal(pasted, wanted)


def test_a_pasted_mask_holds_what_is_at_least_half_sure() -> None:
    mask = torch.linspace(0.0, 1.0, 28).expand(1, 28, 28)  # rises from left to right
    pasted = paste(mask, torch.tensor([[4.0, 4.0, 32.0, 32.0]]), (40, 40))[0]
    assert torch.equal(pasted.any(dim=0).nonzero().flatten(), torch.arange(18, 32))


def test_polygon_and_bitmap_targets_agree() -> None:
    outline = np.array([10.0, 10, 50, 12, 48, 44, 14, 50])
    index, boxes = torch.tensor([0, 0]), torch.tensor([[8.0, 8, 52, 52], [20, 20, 40, 40]])
    drawn = PolygonMasks([[outline]]).crop(index, boxes, 28)
    cut = BitMasks(torch.from_numpy(rasterise([outline], 64, 64))[None]).crop(index, boxes, 28)
    assert drawn[1].all()
    assert cut[1].all()
    assert (drawn[0] == cut[0]).float().mean() > 0.95
    assert PolygonMasks([]).crop(index[:0], boxes[:0], 28).shape == (0, 28, 28)


@pytest.mark.parametrize(("depth", "make"), [(18, resnet18), (50, resnet50)])
def test_the_backbone_computes_what_torchvisions_resnet_does(depth: int, make: type) -> None:
    source = make(weights=None).eval()
    state = {detectron2_name(k): v for k, v in source.state_dict().items() if not k.startswith("fc.")}
    backbone = Backbone(make_resnet(depth, norm_factory("SyncBN")), ["res2", "res5"]).eval()
    assert backbone.state_dict().keys() == state.keys()
    backbone.load_state_dict(state)
    image = torch.randn(1, 3, 64, 64)
    x = source.maxpool(source.relu(source.bn1(source.conv1(image))))
    wanted = {"res2": source.layer1(x)}
    wanted["res5"] = source.layer4(source.layer3(source.layer2(wanted["res2"])))
    with torch.no_grad():
        for name, feature in backbone(image).items():
            torch.testing.assert_close(feature, wanted[name], rtol=1e-5, atol=1e-5)


def test_stride_in_1x1_moves_the_stride() -> None:
    moved, plain = (make_resnet(50, nn.BatchNorm2d, stride_in_1x1=flag) for flag in (True, False))
    for layer in ("layer2", "layer3", "layer4"):
        a, b = getattr(moved, layer)[0], getattr(plain, layer)[0]
        assert (a.conv1.stride, a.conv2.stride) == ((2, 2), (1, 1))
        assert (b.conv1.stride, b.conv2.stride) == ((1, 1), (2, 2))


@pytest.mark.parametrize(("freeze_at", "trained"), [(0, 5), (1, 4), (2, 3), (5, 0)])
def test_freeze_at_fixes_stem_and_stages(freeze_at: int, trained: int) -> None:
    backbone = Backbone(make_resnet(18, norm_factory("BN")), ["res5"], freeze_at)
    parts = {name.split(".")[0] for name, v in backbone.state_dict(keep_vars=True).items() if v.requires_grad}
    assert len(parts) == trained
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone.train()(torch.randn(2, 3, 64, 64))
    changed = {k.split(".")[0] for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == parts  # frozen norms do not gather statistics


def test_a_frozen_norm_is_batch_norm_in_eval_mode() -> None:
    norm = nn.BatchNorm2d(4).eval()
    for value in norm.state_dict().values():
        value.copy_(torch.rand(value.shape) + 0.5)
    holder = nn.Sequential(nn.BatchNorm2d(4))
    freeze(holder)
    assert isinstance(holder[0], FrozenBatchNorm2d)
    holder[0].load_state_dict(norm.state_dict())
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(holder(x), norm(x))
    torch.testing.assert_close(holder(x.requires_grad_()), norm(x))


def norms(model: GeneralizedRCNN) -> dict[str, set[type]]:
    found: dict[str, set[type]] = {"bottom_up": set(), "fpn": set(), "heads": set()}
    for name, module in model.named_modules():
        if "BatchNorm" in type(module).__name__:
            part = "bottom_up" if "bottom_up" in name else "fpn" if "fpn_" in name else "heads"
            found[part].add(type(module))
    return found


def test_norms_are_where_the_configuration_puts_them() -> None:
    synced = build_model(small_models.config(small_models.FPN, small_models.MASKS))
    assert norms(synced) == {"bottom_up": {SyncBatchNorm2d}, "fpn": {SyncBatchNorm2d}, "heads": set()}
    mixed = build_model(small_models.config(small_models.FPN, {"MODEL.RESNETS.NORM": "FrozenBN", "MODEL.FPN.NORM": ""}))
    assert norms(mixed) == {"bottom_up": {FrozenBatchNorm2d}, "fpn": set(), "heads": set()}


def detect(logits: Tensor, deltas: Tensor, boxes: Tensor, **changes: float) -> list[tuple[int, float]]:
    values = {"score_threshold": 0.05, "nms_threshold": 0.5, "max_detections": 100} | changes
    predictor = BoxPredictor(4, BoxSettings(2, False, list(WEIGHTS), 0.0, 1.0, **values))  # type: ignore[arg-type]
    (found,) = predictor.detect(logits, deltas, [boxes], [(100, 100)])
    return list(zip(found.classes.tolist(), found.scores.tolist(), strict=True))


def test_detection_thresholds_suppresses_within_a_class_and_sorts() -> None:
    boxes = torch.tensor([[0.0, 0, 50, 50], [1, 0, 50, 50], [60, 60, 90, 90]])
    logits = torch.tensor([[5.0, 3.0, 0.0], [6.0, 0.0, 0.0], [0.0, 0.5, 9.0]])
    found = detect(logits, torch.zeros(3, 8), boxes)
    assert [c for c, _ in found] == [0, 1]  # the second box beats the first in class 0; class 1 keeps its own
    assert found[0][1] > found[1][1] > 0.05
    assert len(detect(logits, torch.zeros(3, 8), boxes, max_detections=1)) == 1
    assert len(detect(logits, torch.zeros(3, 8), boxes, nms_threshold=0.999)) == 3
