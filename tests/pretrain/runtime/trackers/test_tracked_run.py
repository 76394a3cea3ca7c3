"""Logging to W&B and MLflow, through their own libraries: offline, and into a data base in a file."""

import http.server
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pretrain.runtime.errors import UserError
from pretrain.runtime.trackers import tracked_run
from pretrain.runtime.trackers.tracked_run import TrackedRun, Trackers, without_secrets
from tests.support.pretrain import wandb_files
from tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # of the libraries, which both lean on many others
SECRETS = {
    "WANDB_API_KEY": "s3cr3t" * 7,
    "MLFLOW_TRACKING_USERNAME": "alice",
    "MLFLOW_TRACKING_PASSWORD": "hunter2hunter2",
}
SETTINGS = {"optim.lr": 0.03, "data.crop_scale": (0.2, 1.0), "model.arch": "resnet18"}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """W&B offline and MLflow into a file below `tmp_path`, and secrets that must not be written anywhere."""
    for name, value in {**SECRETS, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [name for name in ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD") if SECRETS[name].encode() in content]


def log_run(trackers: Trackers, folder: Path, steps: range, finished: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with TrackedRun(trackers, folder, SETTINGS) as run:
        for step in steps:
            run.write(step, {"loss": 1 / step, "bbox/AP-sea (blue)": float(step)})
        run.finished = finished


def test_wandb_has_every_row_and_a_resumed_run_is_one(places: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    trackers, folder = Trackers(wandb="team/photos"), places / "out/moco/trial_0"
    trackers.check()
    log_run(trackers, folder, range(1, 4), finished=False)
    log_run(trackers, folder, range(3, 5))  # from a checkpoint after step 2
    wait_until(lambda: len(wandb_files.rows(folder)) == 5, "W&B has written every row")
    found = wandb_files.rows(folder)
    assert [(row["step"], row["loss"]) for row in found] == [(1, 1), (2, 1 / 2), (3, 1 / 3), (3, 1 / 3), (4, 1 / 4)]
    assert found[0]["bbox/AP-sea (blue)"] == 1
    ids = wandb_files.run_ids(folder)
    assert len(ids) == 2
    assert set(ids) == {json.loads((folder / "trackers.json").read_text())["wandb"]["id"]}


def test_two_runs_of_one_process_are_two(places: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    for trial in ("trial_0", "trial_1"):
        log_run(Trackers(wandb="photos"), places / trial, range(1, 2))
    assert wandb_files.run_ids(places / "trial_0") != wandb_files.run_ids(places / "trial_1")
    wait_until(lambda: wandb_files.rows(places / "trial_1"), "W&B has written every row")
    assert [row["step"] for row in wandb_files.rows(places / "trial_1")] == [1]


def test_mlflow_has_every_row_and_a_resumed_run_is_one(places: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
    trackers, folder = Trackers(mlflow="photos"), places / "out/moco/trial_0"
    trackers.check()
    log_run(trackers, folder, range(1, 4), finished=False)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("photos").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["KILLED"]
    log_run(trackers, folder, range(3, 5))
    (run,) = client.search_runs([experiment])
    assert (run.info.run_name, run.info.status) == ("moco/trial_0", "FINISHED")
    assert run.data.params == {"optim.lr": "0.03", "data.crop_scale": "(0.2, 1.0)", "model.arch": "resnet18"}
    history = client.get_metric_history(run.info.run_id, "bbox/AP-sea _blue_")
    assert sorted({(point.step, point.value) for point in history}) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_an_earlier_run_that_is_gone_is_said_and_replaced(places: Path, caplog: pytest.LogCaptureFixture) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
    gone = {"mlflow": {"project": "photos", "id": "0" * 32}}
    (places / "trackers.json").write_text(json.dumps(gone))
    with caplog.at_level(logging.INFO):
        log_run(Trackers(mlflow="photos"), places, range(1, 2))
    assert "a new run is opened" in caplog.text
    (run,) = mlflow.MlflowClient().search_runs([mlflow.MlflowClient().get_experiment_by_name("photos").experiment_id])
    assert json.loads((places / "trackers.json").read_text())["mlflow"]["id"] == run.info.run_id


def test_a_missing_library_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()  # the folder that W&B writes, which Python would take for a package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in [name for name in sys.modules if name.partition(".")[0] in ("wandb", "mlflow")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError) as error:
        Trackers("photos", "photos").check()
    assert str(error.value) == (
        "wandb: W&B is not installed here; install it (pip install wandb), or leave the setting `wandb` out\n"
        "  mlflow: MLflow is not installed here; install it (pip install mlflow), or leave the setting `mlflow` out"
    )


def test_nobody_logged_in_is_said_before_the_run(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(places / "netrc"))
    wandb.teardown()  # forgets the environment that it has read
    try:
        with pytest.raises(UserError, match="run `wandb login` or set WANDB_API_KEY"):
            Trackers("photos").check()
    finally:
        wandb.teardown()


def test_a_server_that_hangs_neither_stops_nor_slows_the_run(
    places: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    release = threading.Event()

    class Hanging(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            release.wait(60)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hanging)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://alice:hunter2hunter2@127.0.0.1:{server.server_port}")
    monkeypatch.setattr(tracked_run, "PATIENCE", 0.2)
    begun = time.monotonic()
    with caplog.at_level(logging.INFO):
        log_run(Trackers(mlflow="photos"), places, range(1, 100))
    assert time.monotonic() - begun < 20  # the server would have held it for a minute
    assert [record.message.partition(" after")[0] for record in caplog.records] == [
        "warning: MLflow does not answer",
        "warning: MLflow has not taken everything",
    ]
    release.set()
    server.shutdown()


def test_a_failure_is_said_once_without_secrets(
    places: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://alice:hunter2hunter2@host")
    with caplog.at_level(logging.INFO):
        log_run(Trackers(mlflow="photos"), places, range(1, 50))
    (record,) = caplog.records
    assert record.message.startswith("warning: MLflow: ")
    assert record.message.endswith("metrics.json has all its numbers")
    assert "hunter2" not in record.message
    assert without_secrets("at https://a:b@host/x, key hunter2hunter2") == "at https://host/x, key ..."


def test_nothing_is_written_without_a_setting(tmp_path: Path) -> None:
    Trackers().check()
    threads = threading.enumerate()
    with TrackedRun(Trackers(), tmp_path, SETTINGS) as run:
        run.write(1, {"loss": 1.0})
        assert threading.enumerate() == threads
    assert list(tmp_path.iterdir()) == []
