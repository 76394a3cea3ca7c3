"""The parameters of a view depend only on its seed, and are distributed as torchvision's transforms draw them."""

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.data.augment import params
from pretrain.data.augment import recipe as augment
from pretrain.data.augment.params import ViewParams
from tests.support.pretrain import torchvision_recipe

SAMPLES = 10_000
JITTER = ("brightness", "contrast", "saturation", "hue")


def ours(name: str, image: Image.Image) -> list[ViewParams]:
    recipe, uniform = augment.recipe(name), random.Random(1).random
    return [params.draw_view(recipe, image.height, image.width, uniform) for _ in range(SAMPLES)]


def torchvisions(name: str, image: Image.Image) -> list[ViewParams]:
    composed = torchvision_recipe.compose(name)
    with torch.random.fork_rng(devices=[]):
        torchvision_recipe.seed(1)
        return [torchvision_recipe.draw(composed, image) for _ in range(SAMPLES)]


@pytest.fixture(scope="module", params=["v1", "v2"])
def both(request: pytest.FixtureRequest) -> tuple[list[ViewParams], list[ViewParams]]:
    image = Image.new("RGB", (500, 375))
    return ours(request.param, image), torchvisions(request.param, image)


def amount(name: str) -> Callable[[ViewParams], float]:
    return lambda view: dict(view.colours).get(name, np.nan)


QUANTITIES: dict[str, Callable[[ViewParams], float]] = {
    "top": lambda view: view.top,
    "left": lambda view: view.left,
    "height": lambda view: view.height,
    "width": lambda view: view.width,
    "area": lambda view: view.height * view.width,
    "log ratio": lambda view: np.log(view.width / view.height),
    "middle": lambda view: view.left + view.width / 2,
    **{name: amount(name) for name in JITTER},
    "gray": lambda view: float("gray" in dict(view.colours)),
    "jittered": lambda view: float("hue" in dict(view.colours)),
    "blurred": lambda view: float(view.sigma > 0),
    "sigma": lambda view: view.sigma or np.nan,
    "flip": lambda view: float(view.flip),
}


def table(views: list[ViewParams]) -> np.ndarray:
    """(SAMPLES, QUANTITIES) float64; nan where the view has none."""
    return np.array([[quantity(view) for quantity in QUANTITIES.values()] for view in views])


def test_each_quantity_is_distributed_as_torchvisions(both: tuple[list[ViewParams], list[ViewParams]]) -> None:
    """Marginals by Kolmogorov's and Smirnov's test at 1e-4, means and variances within five standard errors."""
    for name, mine, theirs in zip(QUANTITIES, table(both[0]).T, table(both[1]).T, strict=True):
        mine, theirs = np.sort(mine[~np.isnan(mine)]), np.sort(theirs[~np.isnan(theirs)])
        assert abs(len(mine) - len(theirs)) < 5 * np.sqrt(SAMPLES * 0.25 * 2), name
        if not len(mine):  # v1 has no blur
            assert not len(theirs), name
            continue
        values = np.concatenate([mine, theirs])
        shares = [np.searchsorted(sample, values, side="right") / len(sample) for sample in (mine, theirs)]
        assert np.abs(shares[0] - shares[1]).max() < 2.23 * np.sqrt(1 / len(mine) + 1 / len(theirs)), name
        for moment in (values, (values - values.mean()) ** 2):
            parts = moment[: len(mine)], moment[len(mine) :]
            error = np.sqrt(sum(part.var() / len(part) for part in parts))
            assert abs(parts[0].mean() - parts[1].mean()) <= 5 * error, name


def test_all_orders_of_the_jitter_are_as_frequent(both: tuple[list[ViewParams], list[ViewParams]]) -> None:
    for views in both:
        orders = [tuple(name for name, _ in view.colours if name != "gray") for view in views]
        orders = [order for order in orders if order]
        expected = len(orders) / 24
        counts = [orders.count(order) for order in itertools.permutations(JITTER)]
        assert sum(counts) == len(orders)
        assert sum((count - expected) ** 2 / expected for count in counts) < 63.7  # chi-square, 23 degrees, 1e-5


def test_quantities_are_as_independent_as_torchvisions(both: tuple[list[ViewParams], list[ViewParams]]) -> None:
    """Correlations of all pairs, those of the crop among them, and of a view with the next one."""
    mine, theirs = (np.nan_to_num(table(views)) for views in both)
    mine, theirs = (np.hstack([rows[:-1], rows[1:]]) for rows in (mine, theirs))
    changing = mine.std(0) > 0
    mine, theirs = (np.corrcoef(rows[:, changing].T) for rows in (mine, theirs))
    assert np.abs(mine - theirs).max() < 5 * np.sqrt(2 / SAMPLES)


def test_gray_comes_first_in_v1_and_last_in_v2(both: tuple[list[ViewParams], list[ViewParams]]) -> None:
    for views in both:
        orders = [[name for name, _ in view.colours] for view in views]
        orders = [order for order in orders if "gray" in order]
        first, last = ({order[place] for order in orders} == {"gray"} for place in (0, -1))
        v1 = all(len(order) == 5 for order in orders)  # v1 jitters every view
        assert (first, last) == (v1, not v1)


@pytest.mark.parametrize(("width", "height"), [(3000, 20), (20, 3000), (1, 1), (1, 40), (40, 1), (2, 3), (41, 30)])
def test_crops_of_odd_images_are_torchvisions(width: int, height: int) -> None:
    """Both take the same crop in the middle where no other fits; else both take each crop about as often."""
    image = Image.new("RGB", (width, height))
    recipe, uniform = augment.recipe("v2", crop_scale=(0.2, 1.0)), random.Random(1).random
    mine = [params.draw_crop(recipe, height, width, uniform) for _ in range(3000)]
    composed = torchvision_recipe.compose("v2").transforms[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = [composed.get_params(image, composed.scale, composed.ratio) for _ in range(3000)]
    for crop in {*mine, *theirs}:
        assert abs(mine.count(crop) - theirs.count(crop)) < 5 * np.sqrt(2 * 3000 * 0.25)
    for top, left, h, w in mine:
        assert 0 <= top < top + h <= height
        assert 0 <= left < left + w <= width
    if max(width, height) > 100 * min(width, height):
        assert len(set(mine)) == 1
        assert set(mine) == set(theirs)


def test_crops_cover_the_share_asked_for() -> None:
    for low, high in ((0.05, 0.1), (0.5, 0.6)):
        recipe, uniform = augment.recipe("v1", 32, (low, high)), random.Random(1).random
        crops = [params.draw_crop(recipe, 375, 500, uniform) for _ in range(1000)]
        shares = np.array([h * w / (375 * 500) for _, _, h, w in crops])
        assert low - 0.002 < shares.min() < low + 0.01
        assert high - 0.01 < shares.max() < high + 0.002  # sides are whole pixels


def test_the_numbers_are_those_of_the_published_transforms() -> None:
    for name in ("v1", "v2"):
        recipe = augment.recipe(name, 96, (0.1, 0.9))
        crop, *rest = torchvision_recipe.compose(name, 96, (0.1, 0.9)).transforms
        assert (crop.size, crop.scale, crop.ratio) == ((96, 96), recipe.crop_scale, recipe.crop_ratio)
        applied = {type(step.transforms[0]).__name__: step for step in rest if hasattr(step, "transforms")}
        flat = {type(step).__name__: step for step in rest} | {k: v.transforms[0] for k, v in applied.items()}
        jitter = flat["ColorJitter"]
        assert jitter.brightness == jitter.contrast == jitter.saturation == recipe.factor
        assert jitter.hue == (-recipe.hue, recipe.hue)
        assert flat["RandomGrayscale"].p == recipe.gray
        assert flat["RandomHorizontalFlip"].p == recipe.flip
        if name == "v2":
            assert (applied["ColorJitter"].p, applied["GaussianBlur"].p) == (recipe.jitter, recipe.blur)
            assert (flat["GaussianBlur"].smallest, flat["GaussianBlur"].largest) == recipe.sigma
        else:
            assert (recipe.jitter, recipe.blur, applied) == (1, 0, {})


def test_draws_depend_on_their_seed_alone() -> None:
    recipe = augment.recipe("v2")
    first = params.draw_two_views(recipe, 375, 500, seed=7)
    random.random()
    torch.rand(1)
    assert params.draw_two_views(recipe, 375, 500, seed=7) == first
    assert first[0] != first[1]
    others = {
        params.draw_two_views(recipe, 375, 500, seed) for seed in (-(2**63), -7, -1, 0, 1, 8, 2**32 + 7, 2**63 - 1)
    }
    assert len(others | {first}) == 9


def test_drawing_leaves_the_random_state_of_the_run_alone() -> None:
    random.seed(3)
    torch.manual_seed(3)
    expected = random.random(), torch.rand(3)
    random.seed(3)
    torch.manual_seed(3)
    params.draw_two_views(augment.recipe("v2"), 375, 500, seed=7)
    assert random.random() == expected[0]
    assert torch.equal(torch.rand(3), expected[1])


def test_a_seed_draws_the_same_for_ever() -> None:
    """A run that is resumed on another machine or version sees the same views."""
    view = params.draw_two_views(augment.recipe("v1"), 375, 500, seed=2024)[1]
    assert view == ViewParams(
        top=57,
        left=28,
        height=318,
        width=363,
        colours=(
            ("saturation", 1.2975253859312565),
            ("hue", -0.28130287807221266),
            ("contrast", 1.1672279049843814),
            ("brightness", 0.9748265738765634),
        ),
        sigma=0.0,
        flip=True,
    )
