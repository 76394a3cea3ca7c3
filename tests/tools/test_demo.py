"""tools/demo.py: what it is going to run can run, it resumes where it stopped, and it stops at a step that fails."""

import sys
from pathlib import Path

import pytest

import demo
from common import demo_steps
from common.demo_steps import Step, run
from pretrain.config import schema
from pretrain.runtime.errors import UserError
from tests.conftest import ROOT, Tool, refused
from transfer.engines.torchvision import load_config


def a_step(folder: Path, code: str, **changes: object) -> Step:
    return Step(("-c", code), folder, folder / "result", **changes)  # type: ignore[arg-type]


def planned(output: Path) -> list[Step]:
    return [step for _, together in demo.plan(output, "auto") for step in together]


MAKE = "import pathlib, sys; p = pathlib.Path({!r}); p.mkdir(); (p / 'result').write_text('made')"


def test_a_finished_step_is_not_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    step = a_step(folder, MAKE.format(str(folder)))
    run("first", [step])
    (folder / "result").write_text("kept")
    run("again", [step])
    assert (folder / "result").read_text() == "kept"


def test_a_half_finished_step_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "model_0001.pth").write_text("half")
    run("again", [a_step(folder, MAKE.format(str(folder)))])
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_what_is_always_made_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "result").write_text("old")
    run("again", [a_step(folder, MAKE.format(str(folder)), always=True)])
    assert (folder / "result").read_text() == "made"


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "pass"])
def test_a_failing_step_stops_the_demo_and_is_named(tmp_path: Path, code: str) -> None:
    with pytest.raises(UserError) as caught:
        run("a step", [a_step(tmp_path / "x", code, environment={"ONE": "1"})])
    assert f"ONE=1 {demo_steps.short(sys.executable)} -c" in str(caught.value)
    assert code.split()[0] in str(caught.value)


def test_steps_of_one_title_run_at_the_same_time(tmp_path: Path) -> None:
    wait = "import pathlib, time\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.02)\n"  # each waits for the other
    steps = []
    for name, other in (("x", "y"), ("y", "x")):
        make = f"import pathlib; pathlib.Path({str(tmp_path / name)!r}).mkdir()\n"
        end = f"print('said'); pathlib.Path({str(tmp_path / name / 'result')!r}).touch()"
        steps.append(a_step(tmp_path / name, make + wait.format(str(tmp_path / other)) + end))
    run("both", steps)
    assert [step.log.read_text() for step in steps] == ["said\n", "said\n"]


def test_a_failure_ends_the_step_beside_it_and_is_shown(tmp_path: Path) -> None:
    fails = a_step(tmp_path / "x", "print('because'); raise SystemExit(3)")
    endless = a_step(tmp_path / "y", "import time; time.sleep(600)")
    with pytest.raises(UserError, match=r"(?s)because.*exit code 3"):
        run("both", [fails, endless])


def test_a_folder_of_something_else_is_never_taken_for_a_demo(tmp_path: Path) -> None:
    (tmp_path / "moco").mkdir()
    with pytest.raises(UserError, match="not an earlier demo"):
        demo.claim(tmp_path, {"engine": "auto"})
    demo.claim(tmp_path / "new", {"engine": "auto"})
    demo.claim(tmp_path / "new", {"engine": "auto"})  # resumes
    with pytest.raises(UserError, match="other options"):
        demo.claim(tmp_path / "new", {"engine": "torchvision"})


def test_each_step_reads_what_an_earlier_one_writes(tmp_path: Path) -> None:
    steps = planned(tmp_path)
    made: list[Path] = []
    for step in steps:
        for path in (Path(text) for text in step.arguments if text.startswith(str(tmp_path))):
            assert path == step.folder or any(old == path or old in path.parents or path in old.parents for old in made)
        made += [step.folder, step.result]
    assert len({step.folder for step in steps}) == len(steps)
    assert steps[-1].result == tmp_path / "report" / "index.html"


def test_the_configs_are_good_and_the_last_checkpoint_is_used(tmp_path: Path) -> None:
    epochs = schema.load(ROOT / "configs/pretrain/demo.yaml", ["data.root", "x"]).optim.epochs
    pretraining = planned(tmp_path)[1]
    assert pretraining.result.name == f"checkpoint_{epochs - 1:04d}.pth.tar"
    for task in demo.TASKS:
        settings = load_config(ROOT / f"configs/transfer/demo_{task}.yaml", [])
        assert settings.MODEL.RESNETS.DEPTH == 18
        assert (task == "coco") == settings.MODEL.MASK_ON


def test_a_dry_run_prints_every_command_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["tools/demo.py", "--output", str(tmp_path / "demo"), "--dry-run"])
    demo.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(planned(tmp_path / "demo"))
    assert "--nproc-per-node 2 tools/train_moco.py --config-file configs/pretrain/demo.yaml" in lines[1]
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_folder_is_refused_by_the_tool(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    refused(tool("demo", "--output", tmp_path), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
