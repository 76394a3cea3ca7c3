"""The sampled proposals of an image, and their objects."""

import torch

from transfer.engines.torchvision.modeling.layers.sampling import GroundTruth, SamplingSettings, sample_proposals


def sampling(append: bool = True) -> SamplingSettings:
    return SamplingSettings(5, 100, 0.25, [0.5], [0, 1], append)


def test_true_boxes_are_proposals_and_objects_are_known() -> None:
    truth = GroundTruth(torch.tensor([[0.0, 0, 10, 10], [50, 50, 90, 90]]), torch.tensor([4, 2]))
    regions = sample_proposals(torch.tensor([[1.0, 0, 10, 10], [20, 20, 30, 30]]), truth, sampling())
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
    assert len(sample_proposals(torch.zeros(0, 4), truth, sampling(append=False)).boxes) == 0


def test_an_image_without_objects_is_all_background() -> None:
    empty = GroundTruth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    regions = sample_proposals(torch.rand(7, 4).cumsum(dim=1), empty, sampling())
    assert regions.classes.tolist() == [5] * 7
