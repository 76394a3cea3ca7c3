"""Both engines have the functions of the Engine protocol, with its arguments in its order."""

import inspect

import pytest

from transfer import engines

FUNCTIONS = [name for name, _ in inspect.getmembers(engines.Engine, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("name", ["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)])
def test_an_engine_has_the_functions_of_the_protocol(name: str) -> None:
    if name == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    engine = engines.load_engine(name)
    assert name == engine.NAME
    assert "train" in FUNCTIONS
    for function in FUNCTIONS:
        _, *wanted = inspect.signature(getattr(engines.Engine, function)).parameters.values()
        found = list(inspect.signature(getattr(engine, function)).parameters.values())
        assert [(one.name, one.default) for one in found] == [(one.name, one.default) for one in wanted], function
