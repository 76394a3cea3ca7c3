"""Faults in semantic segmentation: the head, its crops and labels, the padding of a test."""

from tests.architecture.mutations.fault import fault

_INPUT, _OUTPUT = "transfer/engines/common/semantic_input.py", "transfer/engines/common/semantic_output.py"
_INPUT_TESTS = "transfer/engines/common/test_semantic_input.py"
_STEPS = "parity/test_semantic.py::test_three_semantic_steps_are_detectron2s"

FAULTS = (
    fault(
        "fcn-head-dilation",
        _OUTPUT,
        "HEAD_CHANNELS, HEAD_DILATION = 256, 6",
        "HEAD_CHANNELS, HEAD_DILATION = 256, 1",
        "the head sees a field of view that is not the paper's, and trains without a word",
        _STEPS,
    ),
    fault(
        "fcn-corners",
        _OUTPUT,
        "align_corners=True",
        "align_corners=False",
        "classes lie up to half a cell beside their objects",
        _STEPS,
    ),
    fault(
        "semantic-flip",
        _INPUT,
        "return window if self.flip_axis is None",
        "return window if self.flip_axis is None or window.ndim == 2",
        "half of the images are trained on the labels of their mirror image",
        f"{_INPUT_TESTS}::test_each_pixel_keeps_its_label_through_scale_crop_and_flip",
    ),
    fault(
        "semantic-mixed-labels",
        _INPUT,
        "crop.pixels(labels, Image.Resampling.NEAREST",
        "crop.pixels(labels, Image.Resampling.BILINEAR",
        "at every edge a third class is learned, whose index lies between the two",
        f"{_INPUT_TESTS}::test_resizing_makes_no_labels_between_two",
    ),
    fault(
        "semantic-padding-colour",
        _INPUT,
        "padding = np.broadcast_to(np.array(settings.mean, dtype=np.float32)",
        "padding = np.broadcast_to(np.zeros(3, dtype=np.float32)",
        "the padding is a colour that no test has",
        f"{_INPUT_TESTS}::test_a_small_image_is_padded_right_and_below_in_the_mean",
    ),
    fault(
        "semantic-grid",
        _INPUT,
        "-(-(side - 1) // stride) * stride + 1)",
        "-(-side // stride) * stride)",
        "in a test the features lie beside the grid of the pixels",
        f"{_INPUT_TESTS}::test_a_test_image_is_padded_to_the_grid",
    ),
    fault(
        "semantic-loss-mean",
        _OUTPUT,
        "(labels != ignored).sum().clamp(min=1)",
        "max(labels.numel(), 1)",
        "crops with padding are learned from less",
        f"{_INPUT_TESTS}::test_the_loss_is_a_mean_over_labelled_pixels",
    ),
)
