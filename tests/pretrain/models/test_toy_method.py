"""A pretraining method that only this file knows: registered, trained, saved and resumed as one of the library's."""

import json
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from pretrain import train
from pretrain.config import config_io, schema
from pretrain.config.text import ConfigError
from pretrain.models.method import Method, ModelSettings, Output, encode
from pretrain.models.registry import METHODS
from pretrain.runtime import distributed, files


@dataclass(frozen=True)
class ToySection:
    """The settings that only the toy has."""

    pull: float = 1.0
    centre_momentum: float = 0.9

    def __post_init__(self) -> None:
        if not self.pull > 0:
            raise ValueError(f"pull is {self.pull} and must be above 0")


class Toy(Method):
    """Pull the two views of an image together, away from the centre of all features so far."""

    section = ToySection
    centre: Tensor

    def __init__(self, encoder: nn.Module, dim: int, own: ToySection) -> None:
        super().__init__()
        self.encoder_q, self.own = encoder, own
        self.register_buffer("centre", torch.zeros(dim))

    @classmethod
    def from_settings(cls, encoder: nn.Module, model: ModelSettings, own: Any, images: int, shuffle: bool) -> Self:
        return cls(encoder, model.dim, own)

    @classmethod
    def notices(cls, model: ModelSettings, keys: int) -> list[str]:
        return [f"the toy has no dictionary, {keys} keys are all it sees"]

    def forward(
        self, query_images: Tensor, key_images: Tensor, indices: Tensor, generator: torch.Generator | None
    ) -> Output:
        query, key = encode(self.encoder_q, query_images), encode(self.encoder_q, key_images).detach()  # (N, dim)
        dropped = F.dropout(query, 0.1)  # torch's layers draw from its own generator, which a resume must restore
        near, far = (query * key).sum(1), dropped @ self.centre  # (N,) each
        loss = self.own.pull * F.softplus(far - near).mean()
        keys = distributed.all_gather(key)  # (world size x N, dim)
        return Output(loss, (near > far).float().mean().detach(), keys, query.detach(), key)

    def after_step(self, keys: Tensor, indices: Tensor) -> None:
        self.centre.lerp_(keys.mean(0), 1 - self.own.centre_momentum)

    def diagnostics(self, steps: int, batch_size: int) -> dict[str, float]:
        return {"toy_images": float(steps * batch_size)}

    def published_state(self) -> dict[str, Tensor]:
        state = dict(self.state_dict())
        state["toy_centre"] = state.pop("centre")[None]  # (1, dim)
        return state

    def load_published_state(self, state: Mapping[str, Tensor]) -> None:
        named = dict(state)
        named["centre"] = named.pop("toy_centre")[0]
        self.load_state_dict(named)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    METHODS["toy"] = Toy
    yield
    del METHODS["toy"]


def settings(pictures: pathlib.Path, folder: pathlib.Path, *overrides: str) -> schema.Config:
    """Two epochs of two steps with the toy method."""
    values = {
        "data.root": str(pictures),
        "output_dir": str(folder),
        "model.mechanism": "toy",
        "model.arch": "resnet18",
        "model.dim": "8",
        "data.image_size": "32",
        "data.workers": "0",
        "optim.batch_size": "4",
        "optim.epochs": "2",
        "device": "cpu",
        "log_period": "1",
        "toy.pull": "2",
    }
    return config_io.load(None, [word for pair in values.items() for word in pair] + list(overrides))


def rows(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.json without what depends on the clock."""
    found = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("images_per_second", "data_wait")} for row in found]


def test_toy_method_trains_saves_and_resumes(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.run(settings(pictures, whole))
    assert [row["toy_images"] for row in rows(whole)] == [4, 8, 12, 16]
    assert "the toy has no dictionary, 4 keys are all it sees" in (whole / "log.txt").read_text()
    assert config_io.load(whole / "config.yaml") == settings(pictures, whole)

    train.run(settings(pictures, parts))
    for file in parts.glob("checkpoint_0001*"):
        file.unlink()  # killed after the first epoch
    assert train.run(settings(pictures, parts), resume=True)
    assert rows(parts) == rows(whole)
    one, other = (files.load_tensors(folder / "checkpoint_0001.pth.tar")["state_dict"] for folder in (whole, parts))
    assert {name.split(".")[1] for name in one} == {"encoder_q", "toy_centre"}
    assert one["module.toy_centre"].shape == (1, 8)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)

    with pytest.raises(ConfigError, match=r"^toy.pull: the run began with 2.0, now it is 3.0"):
        train.run(settings(pictures, parts, "toy.pull", "3"), resume=True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("toy.pull", "0", "toy: pull is 0.0 and must be above 0"),
        ("toy.pull", "strong", "toy.pull: 'strong' is not a number"),
        ("toy.pul", "1", "toy.pul: no such setting; nearest: toy.pull"),
        ("toy", "1", "toy: is a section and takes no value; its settings are toy.pull, toy.centre_momentum"),
        ("model.mechanism", "moco", "toy.pull: a setting of method toy, but model.mechanism is moco"),
        ("model.mechanism", "toys", "model.mechanism: toys is out of range, it must be one of moco, .*, toy "),
    ],
)
def test_faults_in_the_toys_settings_are_named(key: str, value: str, message: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        settings(tmp_path, tmp_path / "run", key, value)


def test_help_shows_the_toys_settings() -> None:
    assert "toy.pull" in config_io.describe()
