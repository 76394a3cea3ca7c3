"""KEY=VALUE and a configuration without its option are answered with what to type."""

import pytest

from pretrain.config import config_io
from pretrain.config.text import ConfigError
from pretrain.runtime.invocation.pairs import misread_words


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["data.root=my images"], ["data.root 'my images'"]),
        (["SOLVER.MAX_ITER=3", "SEED", "a=b"], ["SOLVER.MAX_ITER 3"]),
        (["demo", "data.root", "X"], ["--config-file demo"]),
        (["mine.yaml", "optim.lr=0.1"], ["--config-file mine.yaml", "optim.lr 0.1"]),
        (["data.root", "x=1.yaml", "output_dir", "demo"], []),  # values may be anything
        (["--x=1"], []),
    ],
)
def test_words_in_the_place_of_a_key_are_told(words: list[str], typed: list[str]) -> None:
    assert [fault.split("type: ")[1] for fault in misread_words(words, ["demo"])] == typed


@pytest.mark.parametrize("word", ["data.root=X", "demo", "configs/pretrain/demo.yaml"])
def test_pretraining_tells_nothing_else(word: str) -> None:
    with pytest.raises(ConfigError) as error:
        config_io.load(None, [word, "data.root", "X"])
    assert len(error.value.faults) == 1
    assert "type: " in error.value.faults[0]


def test_an_unknown_setting_is_not_answered_by_all() -> None:
    with pytest.raises(ConfigError, match=r"qqq: no such setting; tools/train_moco\.py --help lists all"):
        config_io.load(None, ["qqq", "1", "data.root", "X"])
