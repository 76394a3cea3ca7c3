"""The legacy DensePose recipe is the recorded one: its settings, its tensors, and what it predicts."""

import json
from typing import Any

import pytest
import torch
import yaml

from tests.recipes.test_recipes import RECIPES, resolve, settings
from tests.support.transfer.semantic_models import TASKS, reference
from transfer.engines import load_engine
from transfer.errors import TransferError

NAME = "densepose_r50_fpn_s1x_legacy"
RECIPE = RECIPES / "coco_densepose_r50_fpn_s1x_legacy.yaml"
# What differs from the recorded configuration: the machine, and what was cut for the recording.
APART = {
    "MODEL.DEVICE", "MODEL.RPN.POST_NMS_TOPK_TEST", "TEST.DETECTIONS_PER_IMAGE", "TEST.PRECISE_BN.ENABLED",
}  # fmt: skip
# Settings of parts that this recipe does not use, or of DensePose's other projects.
ELSEWHERE = ("BOOTSTRAP", "DENSEPOSE_EVALUATION", "MODEL.HRNET", "TEST.AUG.ROTATION_ANGLES")


def recorded(kind: str) -> Any:
    path = TASKS / kind
    if not path.is_file():
        pytest.skip(f"no recordings of Detectron2: {path} is not there")
    return yaml.safe_load(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text())


@pytest.mark.data
def test_every_setting_of_densepose_is_the_recorded_one() -> None:
    theirs = settings(recorded(f"tensors/{NAME}.config.yaml"))
    ours = settings(yaml.safe_load(resolve(RECIPE).dump()))
    assert ours.keys() - theirs.keys() == set()
    assert [key for key in theirs.keys() - ours.keys() if not key.startswith(ELSEWHERE)] == []
    assert {key for key in ours if ours[key] != theirs[key]} - {"MODEL.ROI_MASK_HEAD.NUM_CONV"} == APART


def test_torchvision_refuses_densepose_by_name() -> None:
    with pytest.raises(TransferError, match=r"MODEL\.DENSEPOSE_ON.*--engine detectron2 has it"):
        load_engine("torchvision").load_config(RECIPE, [])


@pytest.mark.data
@pytest.mark.detectron2
@pytest.mark.slow
def test_maps_of_the_body_are_the_recorded_ones() -> None:
    pytest.importorskip("densepose", reason="Detectron2's project DensePose is not on the path", exc_type=ImportError)
    from densepose.converters import ToChartResultConverter
    from densepose.structures import quantize_densepose_chart_result

    from transfer.engines.detectron2.densepose import maps_of_body

    outputs, weights, engine = recorded(f"vectors/{NAME}.json"), reference(), load_engine("detectron2")
    cut = ["MODEL.DEVICE", "cpu", "MODEL.RPN.POST_NMS_TOPK_TEST", "60", "TEST.DETECTIONS_PER_IMAGE", "12"]
    model = engine.build_model(engine.load_config(RECIPE, cut)).eval()
    made = {name: torch.as_tensor(weights.tensor(name, tuple(own.shape))) for name, own in model.state_dict().items()}
    model.load_state_dict({name: made[name].reshape(own.shape) for name, own in model.state_dict().items()})
    inputs = []
    for seed, (height, width) in enumerate(outputs["images"]):
        image = torch.as_tensor(weights.image(height, width, seed).transpose(2, 0, 1).copy())  # (3, H, W)
        sides = {"height": int(height * outputs["output_scale"]), "width": int(width * outputs["output_scale"])}
        inputs.append({"image": image, **sides})
    with torch.no_grad():
        predicted = [output["instances"] for output in model(inputs)]
    for found, wanted in zip(predicted, outputs["detections"], strict=True):
        maps = maps_of_body(found)
        assert len(found) == len(maps) == wanted["n"]
        torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor(wanted["boxes"]), rtol=0, atol=1e-3)
        torch.testing.assert_close(found.scores, torch.tensor(wanted["scores"]), rtol=0, atol=1e-5)
        for index, (iuv, recording) in enumerate(zip(maps, wanted["charts"], strict=False)):
            chart = ToChartResultConverter.convert(found.pred_densepose[index], found.pred_boxes[index])
            assert torch.equal(iuv, quantize_densepose_chart_result(chart).labels_uv_uint8)
            assert list(iuv.shape[1:]) == recording["size"]
            apart = torch.bincount(iuv[0].flatten().long(), minlength=25) - torch.tensor(recording["pixels_of_part"])
            assert apart.abs().sum() <= 4  # pixels on the border of two parts
            sums = [recording["u_sum"], recording["v_sum"]]
            assert chart.uv.sum(dim=(1, 2)).tolist() == pytest.approx(sums, abs=0.05)
