"""MLflow (https://mlflow.org), through its own library; the server is the one of MLFLOW_TRACKING_URI."""

import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from pretrain.runtime.trackers.tracked_run import Description, without_secrets

log = logging.getLogger(__name__)

_BATCH = 100  # parameters that a call may have
_LONGEST = 500  # characters of a parameter's value that every version of MLflow takes
_FORBIDDEN = re.compile(r"[^\w\-. :/]")  # in a name


class MlflowService:
    """A run of MLflow."""

    TITLE = "MLflow"
    INSTALL = "pip install mlflow"

    @staticmethod
    def check() -> None:
        """Do nothing: MLflow has a place of its own where no server is named."""

    def open(self, run: Description, earlier: str | None) -> tuple[str, str]:
        """Open a run in the experiment, which is made where it is missing, or continue the earlier one."""
        from mlflow import MlflowClient

        self._client: Any = MlflowClient()
        experiment = self._experiment(run.project)
        if earlier and self._continues(earlier):
            self._id = earlier
        else:
            self._id = self._client.create_run(experiment, run_name=run.name).info.run_id
            self._send_settings(run.settings)
        return self._id, f"run {run.name} ({self._id}) of experiment {run.project}"

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Send a row, and wait for the server."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_FORBIDDEN.sub("_", name), float(value), now, step) for name, value in numbers.items()]
        for first in range(0, len(metrics), _BATCH):
            self._client.log_batch(self._id, metrics=metrics[first : first + _BATCH])

    def close(self, finished: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")

    def _continues(self, earlier: str) -> bool:
        """Return whether the server has the run of an earlier attempt; another one may be set up by now."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.update_run(earlier, status="RUNNING")
        except MlflowException as error:
            log.warning("warning: MLflow: %s: a new run is opened", without_secrets(str(error).splitlines()[0]))
            return False
        return True

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:  # another run has made it in the meantime
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id

    def _send_settings(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        texts = [Param(_FORBIDDEN.sub("_", key), str(value)[:_LONGEST]) for key, value in settings.items()]
        for first in range(0, len(texts), _BATCH):
            self._client.log_batch(self._id, params=texts[first : first + _BATCH])


SERVICE = MlflowService
