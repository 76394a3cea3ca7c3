"""The display of a training: a line now and then where there is no terminal."""

import pytest

from transfer.engines.torchvision.metrics import TrainingProgress

MEANS = {"time": 0.5, "total_loss": 1.25, "lr": 0.02, "loss_cls": 1.0}


def test_a_file_gets_a_line_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(0, 7220, shown=True) as progress:
        progress.advance(19, MEANS)
        progress.print_row(19, MEANS)
    assert capsys.readouterr().err == "iteration 20/7220  loss 1.2500  lr 0.02  2.00 it/s  left 1:00:00\n"


def test_other_ranks_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(0, 40, shown=False) as progress:
        progress.print_row(19, MEANS)
    assert capsys.readouterr().err == ""
