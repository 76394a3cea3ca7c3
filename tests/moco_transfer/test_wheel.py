"""A wheel, installed in an environment of its own and used beside somebody's own `transfer`, `pretrain` and `tools`."""

import json
import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from moco_transfer.command import SCRIPTS
from tests.conftest import ROOT
from tests.tools.test_demo import TINY_PRETRAINING, TINY_TUNING, write_tiny
from transfer.report.page import PAGE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SOURCES = ("moco_transfer", "pretrain", "transfer", "tools", "configs", "pyproject.toml", "README.md", "LICENSE")
OTHERS = ("transfer", "pretrain", "tools", "common", "launcher")  # packages of the user's own, with our names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves a build/ in the tree that it builds."""
    pytest.importorskip("setuptools", reason="builds the wheel without a network")
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    words = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "."]
    subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin/ of an environment that has the wheel; the packages that it needs are those of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    own = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    # Added as they are: what an editable installation does in them, it does not do here.
    here = {path for path in (*sys.path, *site.getsitepackages()) if path.endswith("-packages")}
    Path(own, "shared.pth").write_text("\n".join(sorted(here)) + "\n")
    words = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return folder / "bin"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder whose user has packages with our names, each of which ends a program that imports it."""
    for name in OTHERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('somebody else`s {name}')\n")
    return tmp_path


def run(place: Path, *words: object) -> str:
    """Run a program to a good end; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COLUMNS")}
    line = list(map(str, words))
    done = subprocess.run(
        line, cwd=place, env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{' '.join(line)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_wheel_has_one_package_and_no_leftovers(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"moco_transfer"}
    listed = {str(path.relative_to(ROOT)) for part in SOURCES[1:5] for path in (ROOT / part).rglob("*")}
    files = {name for name in listed if (ROOT / name).is_file() and "__pycache__" not in name}
    inside = {name.removeprefix("moco_transfer/code/") for name in names if name.startswith("moco_transfer/code/")}
    assert inside == files


def test_nothing_but_our_package_can_be_imported(programs: Path, place: Path) -> None:
    code = f"import importlib.util as u; print([name for name in {OTHERS} if u.find_spec(name)])"
    assert run(place, programs / "python", "-I", "-c", code) == "[]\n"
    assert run(place, programs / "python", "-I", "-c", "import moco_transfer as m; print(m.__file__)").startswith(
        str(programs.parent)
    )


def test_every_command_starts_and_configs_are_found(programs: Path, place: Path) -> None:
    for name in SCRIPTS:
        assert run(place, programs / "moco-transfer", name, "--help").startswith(f"usage: moco-transfer {name}")
    assert "voc_r50_c4_24k" in run(place, programs / "moco-transfer", "configs")


def test_slurm_gets_jobs_that_run_the_copy_of_the_code(programs: Path, place: Path) -> None:
    printed = run(place, programs / "moco-transfer", "launch", "pipeline", "pipeline_demo", "--dry-run")
    assert f"{programs}/python" in printed
    assert "/code/" in printed
    assert "#SBATCH" in printed


def test_a_whole_pipeline_runs_on_this_machine(programs: Path, place: Path) -> None:
    words = ["launch", "pipeline", write_tiny(place), "--cluster", "local", "--output", "run"]
    printed = run(place, programs / "moco-transfer", *words)
    assert "see         moco-transfer launch status run" in printed
    assert (place / "run" / "report" / PAGE).is_file()
    assert "launch/code/" in (place / "run" / "pretrain" / "command.txt").read_text()


JOB = """
import json, sys
import moco_transfer
pretraining, tuning = map(json.loads, sys.argv[1:])
moco_transfer.run_command("make-scenes", "--output", "data", "--unlabelled", "16", "--train", "8", "--test", "2")
moco = moco_transfer.pretrain_backbone("data/unlabelled", "by_python/moco", "demo", pretraining, processes=2)
backbone = moco_transfer.convert_backbone(moco.checkpoint, "by_python/moco.pth")
tuned = moco_transfer.finetune_detector(
    "demo_voc", "by_python/voc", backbone.path, tuning, dataset_root="data", engine="torchvision", processes=2
)
report = moco_transfer.write_report(tuned.folder, "by_python/report", options=["--resamples", "0"])
print(tuned.init, len(tuned.points("AP50")), report.page)
"""


def test_the_functions_do_the_whole_job_in_two_processes(programs: Path, place: Path) -> None:
    """Those of pretraining are torchrun's, those of fine-tuning the command's own; each finds the code."""
    pretraining = {**TINY_PRETRAINING, "optim.epochs": 1, "checkpoint_period": 1, "device": "cpu", "data.workers": 1}
    settings = (pretraining, {**TINY_TUNING, "DATALOADER.NUM_WORKERS": 1})
    printed = run(place, programs / "python", "-c", JOB, *map(json.dumps, settings))
    assert printed.splitlines()[-1] == "MoCo 1 by_python/report/index.html"
    made = place / "by_python"
    assert (made / "report" / PAGE).is_file()
    assert (made / "moco" / "command.txt").read_text().startswith("moco-transfer pretrain --auto-resume ")
    trial = made / "voc" / "trial_0"
    assert json.loads((made / "moco" / "env.json").read_text())["processes"] == 2
    assert json.loads((trial / "result.json").read_text())["device"]["processes"] == 2
    words = ["--config-file", trial / "config.yaml", "--input", "data/VOC2007/JPEGImages", "--output", "found"]
    weights = ["--engine", "torchvision", "MODEL.WEIGHTS", trial / "model_final.pth"]
    assert "found/detections.json" in run(place, programs / "moco-transfer", "predict", *words, *weights)
