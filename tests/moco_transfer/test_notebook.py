"""The notebook of the documentation runs, and its outputs are still of the kind that it shows."""

from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="the notebook needs nbclient and ipykernel: pip install nbclient ipykernel")

import nbformat

from tests.support.tools import notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


# Whatever the numbers are.
SAYS = (
    "output/scenes: 256 unlabelled images, 16 to train and 8 to test",
    "step 32/32  epoch 3  loss ",
    "done: output/moco/checkpoint_0003.pth.tar",
    "resnet18 trained by MoCo; features differ by ",
    "iteration 10/10  loss ",
    "random: box AP50 of each trial [",
    "MoCo: box AP50 of each trial [",
    "The page: output/report/index.html",
    "optim.epoch: no such setting; nearest: optim.epochs",
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own packages
def test_the_notebook_gives_what_it_shows(tmp_path: Path) -> None:
    shown = nbformat.read(notebook.NOTEBOOK, as_version=4)
    again = notebook.executed(tmp_path)
    assert sum(map(len, notebook.kinds(shown))) >= 10  # it was saved with its outputs
    assert notebook.kinds(again) == notebook.kinds(shown)
    for text in map(notebook.printed, (shown, again)):
        assert [line for line in SAYS if line not in text] == []
        assert not {"\x1b", "\r"} & set(text)  # a page shows them as they are
