"""The command line of tools/finetune.py and its typed options: one says what the other does."""

from pathlib import Path

import pytest

from transfer.errors import TransferError
from transfer.run import arguments
from transfer.run.options import RunOptions

FILE = Path("folder/voc.yaml")
OPTIONS = [
    RunOptions(FILE),
    RunOptions(FILE, ("SOLVER.STEPS", "(6,)", "OUTPUT_DIR", "a folder"), init="moco r50.pth", seed=0, trials=5),
    RunOptions(FILE, classes="traffic light,dog", init="random"),
    RunOptions(FILE, ("SEED", "-1"), "detectron2", Path("VOCdevkit"), {"zero_area": "drop", "outside": "clip"}),
    RunOptions(
        FILE,
        init="supervised",
        supervised_weights=Path("r50.pth"),
        processes=8,
        scale_to=4,
        trial=0,
        keep_checkpoints=9,
        max_broken=0.25,
        evaluator="pycocotools",
    ),
    RunOptions(FILE, init="random", labels="5%", labels_seed=3),
    RunOptions(FILE, init="random", wandb="my team/photos", mlflow="photos"),
    RunOptions(FILE, init="supervised", download=True, auto_resume=True),
    RunOptions(FILE, ("MODEL.WEIGHTS", "final.pth"), eval_only=True, resume=True),
    RunOptions(FILE, init="random", data=Path("my cells.yaml"), train=("a", "b/c d"), test=("my_cells_test",)),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_words_of_options_are_read_as_the_options(options: RunOptions) -> None:
    words = arguments.words_from(options)
    assert arguments.options_from(arguments.parser().parse_intermixed_args(words)) == options


def test_every_option_differs_from_its_default_in_some_example() -> None:
    fields = vars(OPTIONS[0])
    assert {name for name in fields if any(getattr(o, name) != fields[name] for o in OPTIONS)} == {*fields} - {
        "config_file"
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": 2, "trial": 1}, "give one of the two"),
        ({"trials": 2, "resume": True}, "--trials trains"),
        ({"trial": 1, "eval_only": True}, "--trial trains"),
        ({"max_broken": 1.5}, "--max-broken 1.5: a share of the images from 0 to 1"),
        ({"keep_checkpoints": 1}, "--keep-checkpoints 1: a number from 2 up"),
        ({"labels_seed": 1}, "--labels-seed 1: draws what --labels asks for, which is not given"),
        ({"labels": "5%", "eval_only": True}, "--labels 5%: --eval-only trains nothing"),
        ({"labels": "5%", "labels_seed": -1}, "--labels-seed -1: a whole number from 0 up"),
        ({"labels": "list.txt", "labels_seed": 1}, "--labels-seed 1: list.txt is a list, nothing is drawn"),
        ({"labels": "101%"}, "--labels 101%: a percentage above 0 and up to 100"),
        ({"auto_resume": True, "eval_only": True}, "--auto-resume trains, and resumes by itself"),
    ],
)
def test_options_that_exclude_each_other_are_refused(given: dict, message: str) -> None:
    with pytest.raises(TransferError, match=message):
        RunOptions(FILE, **given)
