"""Weights & Biases (https://docs.wandb.ai), through its own library; key, host and mode are those it is set up with."""

import uuid
from collections.abc import Mapping
from typing import Any

from pretrain.runtime.errors import UserError
from pretrain.runtime.trackers.tracked_run import PATIENCE, Description

_WITHOUT_KEY = ("offline", "dryrun", "disabled")  # modes in which nothing is sent


class WandbService:
    """A run of W&B."""

    TITLE = "W&B"
    INSTALL = "pip install wandb"

    @staticmethod
    def check() -> None:
        """Raise UserError where nobody is logged in."""
        import wandb

        if wandb.setup().settings.mode in _WITHOUT_KEY or wandb.login(prompt=False):
            return
        raise UserError(
            "wandb: nobody is logged in to W&B here: run `wandb login` or set WANDB_API_KEY; WANDB_MODE=offline keeps "
            "everything in the run's folder"
        )

    def open(self, run: Description, earlier: str | None) -> tuple[str, str]:
        """Open a run with an id of its own, or continue the earlier one."""
        import wandb

        entity, _, project = run.project.rpartition("/")
        own = wandb.Settings(
            console="off",  # what is printed stays ours
            reinit="create_new",
            init_timeout=PATIENCE,
            finish_timeout=PATIENCE - 5,
            finish_timeout_raises=True,
        )
        self._run: Any = wandb.init(
            project=project,
            entity=entity or None,
            name=run.name,
            id=earlier or uuid.uuid4().hex[:8],  # not WANDB_RUN_ID, which all runs of a process would share
            resume="allow",
            dir=str(run.folder),
            config=dict(run.settings),
            allow_val_change=True,
            settings=own,
        )
        # W&B's own step may only grow, and a resumed run sends again what follows its checkpoint.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        sync = f"offline; `wandb sync {self._run.dir.removesuffix('/files')}` sends it"
        return self._run.id, sync if self._run.offline else self._run.url

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Give a row to W&B's own process, which sends it."""
        self._run.log({**numbers, "step": step})

    def close(self, finished: bool) -> None:
        """End the run, once its rows are sent; raises TimeoutError where they are not."""
        self._run.finish(exit_code=0 if finished else 1)


SERVICE = WandbService
