"""tools/launcher/stages/snapshot.py: a job runs the code and the config of the moment in which it was submitted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from launcher.stages import snapshot
from pretrain.runtime import provenance
from tests.conftest import ROOT
from tests.support.waiting import outcomes, wait_until

GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@b")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own with a copy of this code."""
    copy = tmp_path / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", *snapshot.PARTS],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0")[:-1]:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    (copy / ".gitignore").write_text("__pycache__/\n")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        subprocess.run([*GIT, *words], cwd=copy, check=True)
    return copy


def test_a_snapshot_is_made_once_and_carries_the_revision(tmp_path: Path) -> None:
    first = snapshot.code(tmp_path / "code")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert snapshot.code(tmp_path / "code") == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    assert [path.name for path in (tmp_path / "code").iterdir()] == [first.name]
    assert (first / provenance.NOTE).read_text().strip() == (provenance.revision() or "")
    copied = {str(path.relative_to(first)) for path in first.rglob("*") if path.is_file()}
    assert copied >= {
        "tools/launcher/cluster/block_signals.py",
        "tools/train_moco.py",
        "transfer/report/page.py",
        "pretrain/train.py",
    }
    assert not [name for name in copied if "__pycache__" in name or name.endswith(".pyc")]
    for name in copied - {provenance.NOTE}:
        assert (first / name).read_bytes() == (ROOT / name).read_bytes()


def test_every_edit_is_another_snapshot(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", checkout)
    found = [snapshot.code(tmp_path / "code")]
    for text in ("# one\n", "# two\n"):  # both are `+changes`
        (checkout / "transfer/report/page.py").write_text(text)
        found.append(snapshot.code(tmp_path / "code"))
        assert (found[-1] / "transfer/report/page.py").read_text() == text
    (checkout / "tools/new.py").touch()
    found.append(snapshot.code(tmp_path / "code"))
    assert len(set(found)) == 4
    assert (found[0] / provenance.NOTE).read_text() != (found[1] / provenance.NOTE).read_text()


def test_a_config_is_copied_with_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("a: 1\nb: 2\n")
    mine = tmp_path / "mine.yaml"
    mine.write_text("_BASE_: base.yaml\nb: 3\n")
    first = snapshot.config(mine, tmp_path / "configs")
    assert first.name == "mine.yaml"
    assert yaml.safe_load(first.read_text()) == {"a": 1, "b": 3}
    assert snapshot.config(mine, tmp_path / "configs") == first
    (tmp_path / "base.yaml").write_text("a: 9\nb: 2\n")
    other = snapshot.config(mine, tmp_path / "configs")
    assert other != first
    assert yaml.safe_load(first.read_text()) == {"a": 1, "b": 3}
    assert yaml.safe_load(other.read_text()) == {"a": 9, "b": 3}


@pytest.mark.slow
def test_edits_after_the_submission_change_nothing(checkout: Path, tmp_path: Path) -> None:
    images, run, waits = tmp_path / "images", tmp_path / "run", tmp_path / "waits.yaml"
    images.mkdir()
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(images / f"{number}.png")
    (checkout / "mine.yaml").write_text("_BASE_: configs/pretrain/moco_v2_r18_cpu.yaml\n")
    waits.write_text(f"setup: ['until [ -e {tmp_path}/go ]; do sleep 0.1; done']\n")
    settings = {
        **{"data.root": images, "output_dir": run, "data.image_size": 32, "data.workers": 0},
        **{"optim.epochs": 1, "optim.batch_size": 4, "model.queue_size": 8, "model.bn_groups": 1},
    }
    words = [str(word) for pair in settings.items() for word in pair]
    options = ("--cluster", "local", "--resources", waits, "--config-file", "mine.yaml")
    line = [sys.executable, "tools/launch.py", "pretrain", *map(str, options), *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}  # this code is installed, as editable
    done = subprocess.run(line, cwd=checkout, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for path in (*checkout.rglob("*.py"), *checkout.rglob("*.yaml")):
        path.write_text("raise SystemExit('this is the edited code')\n")
    (tmp_path / "go").touch()
    wait_until(lambda: len(outcomes(run, "pretrain")) == 2, "it has ended")
    assert outcomes(run, "pretrain") == ["start", "finished"]
    commit = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    assert json.loads((run / "env.json").read_text())["git"] == commit.stdout.strip() + "+changes"  # mine.yaml is new
