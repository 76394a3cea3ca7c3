"""tools/launcher/stages/verify.py: a result counts where it is whole and its stage's own."""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import convert
from launcher import reconcile, record
from launcher.cluster.errors import LaunchError
from launcher.cluster.resources import Resources
from launcher.job_states import adopt_lost_jobs
from launcher.reconcile import Round
from launcher.record import Entry, Record, Submission
from launcher.stages import build, snapshot, verify
from launcher.stages.options import ConvertOptions, FinetuneOptions, ReportOptions, ScenesOptions
from launcher.stages.stage import Stage
from pretrain.checkpoints import saver
from pretrain.config import config_io
from pretrain.runtime.files import file_sha256
from tests.conftest import ROOT
from tests.support import checkpoints
from tests.support.launched import call, controller
from tests.support.transfer.synthetic_runs import make_result
from transfer import results
from transfer.run.options import RunOptions


def tuning(folder: Path, **options: Any) -> Stage:
    """A fine-tuning stage that writes into a folder."""
    run = RunOptions(ROOT / "configs/transfer/demo_voc.yaml", **options)
    return Stage("voc", FinetuneOptions(run), str(folder), str(folder / results.FILE_NAME), Resources())


def refused(stage: Stage) -> str:
    with pytest.raises(LaunchError) as caught:
        verify.verify(stage)
    assert caught.value.args[0].startswith(f"{stage.name}: ")
    return str(caught.value)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and the backbone that was made of it."""
    folder = tmp_path_factory.mktemp("converted")
    checkpoint = checkpoints.write(folder / "moco.pth.tar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["convert.py", str(checkpoint), str(folder / "backbone.pth"), "--to", "detectron2"])
        convert.main()
    return folder


def conversion(folder: Path, encoder: str = "query") -> Stage:
    options = ConvertOptions(str(folder / "moco.pth.tar"), str(folder / "backbone.pth"), encoder)
    return Stage("convert", options, str(folder), options.output, Resources())


def test_nothing_is_not_finished(tmp_path: Path) -> None:
    assert not verify.verify(conversion(tmp_path))
    assert not verify.verify(tuning(tmp_path, init="random"))


def test_a_backbone_of_this_checkpoint_alone_is_good(converted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(converted, folder)
    stage = conversion(folder)
    assert verify.verify(stage)
    with open(folder / "moco.pth.tar", "ab") as file:
        file.write(b"another one")
    message = refused(stage)
    assert f"{folder / 'backbone.pth'} was made of another file than {folder / 'moco.pth.tar'}" in message
    assert "move it away" in message
    (folder / "moco.pth.tar").unlink()  # the checkpoint may be removed
    assert verify.verify(stage)
    (folder / "backbone.pth").write_bytes(b"half of it")
    with pytest.raises(LaunchError, match=r"backbone\.pth"):
        verify.verify(stage)


def test_scenes_of_these_numbers_and_this_seed_alone_are_good(scenes: Path, tmp_path: Path) -> None:
    options = ScenesOptions(str(scenes), 8, 8, 8)
    stage = Stage("scenes", options, str(scenes), str(scenes / "scenes.json"), Resources())
    assert verify.verify(stage)
    other = dataclasses.replace(stage, options=dataclasses.replace(options, test=5, seed=1))
    assert f"{scenes} holds scenes of test 8, not 5, seed 0, not 1; move it away" in refused(other)
    broken = dataclasses.replace(stage, result=str(tmp_path / "scenes.json"))
    (tmp_path / "scenes.json").write_text('{"seed"')
    assert "scenes.json cannot be read" in refused(broken)


def test_a_result_of_this_seed_engine_and_start_alone_is_good(converted: Path, tmp_path: Path) -> None:
    backbone = converted / "backbone.pth"
    start = results.Init("file", "MoCo", str(backbone), file_sha256(backbone), "resnet18", {})
    path = tmp_path / results.FILE_NAME
    good = make_result("voc", "MoCo", 5, 30.0, init=start)
    asked: dict[str, Any] = {"init": str(backbone), "seed": 3, "engine": "torchvision", "trial": 2}
    results.write_result(path, good)
    assert verify.verify(tuning(tmp_path, **asked))
    assert "is of seed 5, not 4" in refused(tuning(tmp_path, **asked | {"trial": 1}))
    assert f"started from another file than {converted / 'moco.pth.tar'}" in refused(
        tuning(tmp_path, **asked | {"init": str(converted / "moco.pth.tar")})
    )
    assert "started from MoCo, not random" in refused(tuning(tmp_path, **asked | {"init": "random"}))
    other = dataclasses.replace(good, seed=9, engine=results.Engine("detectron2", {}))
    results.write_result(path, other, overwrite=True)
    message = refused(tuning(tmp_path, **asked))
    assert "is of seed 9, not 5" in message
    assert "is of the engine detectron2, not torchvision" in message
    path.write_text("{")
    with pytest.raises(LaunchError, match=r"result\.json"):
        verify.verify(tuning(tmp_path, **asked))


def test_a_result_of_these_labels_alone_is_good(tmp_path: Path) -> None:
    labels = results.Labels("5%", 0.05, 2, 40, 6, 1, "a1")
    results.write_result(tmp_path / results.FILE_NAME, make_result("voc", "random", 0, 30.0, task={"labels": labels}))
    asked: dict[str, Any] = {"init": "random", "labels": "5%", "labels_seed": 1}
    assert verify.verify(tuning(tmp_path, **asked))
    assert "was trained on 5%, not --labels 10%" in refused(tuning(tmp_path, **asked | {"labels": "10%"}))
    assert "was trained on 5%, not --labels all images" in refused(tuning(tmp_path, init="random"))
    assert "is of the draw seed 1, not --labels-seed 0" in refused(tuning(tmp_path, **asked | {"labels_seed": None}))


def test_a_report_is_made_anew_after_a_later_run(tmp_path: Path) -> None:
    page, run = tmp_path / "report/index.html", tmp_path / "voc/random/trial_0/result.json"
    for path in (page, run):
        path.parent.mkdir(parents=True)
        path.touch()
    options = ReportOptions((str(tmp_path / "voc"),), str(page.parent))
    stage = Stage("report", options, str(page.parent), str(page), Resources())
    os.utime(run, (1, 1))
    assert verify.verify(stage)
    os.utime(page, (0, 0))
    assert not verify.verify(stage)


# -- the same command with other settings -----------------------------------------------------------------------------


def begun(folder: Path, stage: Stage, job: str, config: str | None = None) -> Record:
    run = Record(folder, "local", str(Path.cwd()))
    run.home.mkdir(parents=True, exist_ok=True)
    reconcile.enter_stages(folder, [stage], "local")
    run = record.load_record(folder)
    run.entries[stage.name].submissions.append(
        Submission("moco-a", job, "2026-01-01T00:00:00+00:00", "/code", config, stage.arguments)
    )
    run.save()
    return run


def test_other_settings_of_a_finished_stage_change_nothing(converted: Path, tmp_path: Path) -> None:
    shutil.copytree(converted, tmp_path, dirs_exist_ok=True)
    stage = conversion(tmp_path)
    run = begun(tmp_path, stage, "4194999")
    changed = conversion(tmp_path, "key")
    with pytest.raises(LaunchError, match=r"convert: has finished with other settings .*--encoder key.*another out"):
        reconcile.enter_stages(tmp_path, [changed], "local")
    assert record.load_record(tmp_path) == run
    reconcile.enter_stages(
        tmp_path, [dataclasses.replace(stage, resources=Resources(cpus=2))], "local"
    )  # are no settings


def test_other_settings_of_a_stage_on_its_way_are_refused(tmp_path: Path) -> None:
    stage = conversion(tmp_path)
    changed = conversion(tmp_path, "key")
    logs = (tmp_path / "launch/logs/convert").resolve()
    with controller(logs) as job:
        run = begun(tmp_path, stage, job)
        with pytest.raises(LaunchError, match=rf"convert: its job {job} has other settings .* cancel it"):
            reconcile.enter_stages(tmp_path, [changed], "local")
        with pytest.raises(LaunchError, match="jobs of this run are on --cluster local; cancel them first"):
            reconcile.enter_stages(tmp_path, [stage], "slurm")
        assert reconcile.enter_stages(tmp_path, [stage], "local") == []
        assert record.load_record(tmp_path) == run
        longer = dataclasses.replace(stage, resources=Resources(time="2:00"))
        (warning,) = reconcile.enter_stages(tmp_path, [longer], "local")
        assert warning == (
            f"convert (job {job}): runs, and asked for time unset, now 2:00, which counts from its next submission"
        )
    reconcile.enter_stages(tmp_path, [changed], "local")  # it has ended meanwhile, without a result
    assert record.load_record(tmp_path).entries["convert"].stage == changed


def test_another_content_of_the_config_is_another_setting(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("optim: {lr: 0.1}\n")
    result = tmp_path / "x"
    stage = Stage("a", FinetuneOptions(RunOptions(config)), str(tmp_path), str(result), Resources())
    begun(tmp_path, stage, "4194999", str(snapshot.config(config, tmp_path / "launch/configs").resolve()))
    result.touch()
    reconcile.enter_stages(tmp_path, [stage], "local")
    config.write_text("optim: {lr: 0.2}\n")
    with pytest.raises(LaunchError, match=r"a: has finished with another content of .*mine.yaml"):
        reconcile.enter_stages(tmp_path, [stage], "local")


def test_an_edit_of_a_config_changes_no_stage_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("run")
    for folder in ("launch", "p"):
        (run / folder).mkdir(parents=True)
    base, config = Path("base.yaml"), Path("mine.yaml")
    base.write_text("optim: {epochs: 1}\n")
    config.write_text("_BASE_: base.yaml\nseed: 5\n")
    settings = ["data.root", "x", "output_dir", "run/p"]
    made = build.pretraining("pretrain", "mine.yaml", settings, Resources())
    saver.write_checkpoint(Path(made.result), {}, 0, 1)
    Path("run/p/config.yaml").write_text(config_io.to_yaml(config_io.load("mine.yaml", settings)))
    tuned = dataclasses.replace(tuning(run / "voc"), options=FinetuneOptions(RunOptions(config)))
    reconcile.enter_stages(run, [made, tuned], "local")
    base.write_text("optim: {epochs: 9}\n")
    config.write_text("no_such: setting\n")
    for entry in record.load_record(run).entries.values():
        assert entry.stage.config is not None
        assert yaml.safe_load(Path(entry.stage.config).read_text()) == {"optim": {"epochs": 1}, "seed": 5}
        assert reconcile._config_copy(entry.stage, run) == Path(entry.stage.config)  # what its job is given
    assert reconcile.submit_ready(run, Round({}, 0)).finished == ("pretrain",)  # verified with what it was entered with


def test_a_run_is_gone_on_with_where_it_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(tmp_path, conversion(tmp_path), "4194999")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LaunchError, match=r"was begun in .*: give the command there"):
        reconcile.enter_stages(tmp_path, [conversion(tmp_path)], "local")


def test_a_changed_pipeline_has_its_new_order_and_report(tmp_path: Path) -> None:
    page = tmp_path / "report" / "index.html"

    def report(*tasks: str) -> Stage:
        options = ReportOptions(tasks, str(page.parent))
        needs = tuple(f"{task}/trial_0" for task in tasks)
        return Stage("report", options, str(page.parent), str(page), Resources(), needs)

    def trial(task: str) -> Stage:
        folder = str(tmp_path / task)
        config = tmp_path / f"{task}.yaml"
        config.write_text("VERSION: 2\n")
        options = FinetuneOptions(RunOptions(config))
        return Stage(f"{task}/trial_0", options, folder, folder + "/result", Resources())

    (tmp_path / "launch").mkdir()
    reconcile.enter_stages(tmp_path, [trial("old"), trial("voc"), report("old", "voc")], "local")
    run = record.load_record(tmp_path)
    submitted = Submission(
        "moco-a", "4194999", "2026-01-01T00:00:00+00:00", "/code", None, report("old", "voc").arguments
    )
    run.entries["report"].submissions.append(submitted)
    run.save()
    page.parent.mkdir()
    page.touch()
    stages = [trial("voc"), trial("coco"), report("voc", "coco")]
    reconcile.enter_stages(tmp_path, stages, "local")
    run = record.load_record(tmp_path)
    assert list(run.entries) == [stage.name for stage in stages]  # "old" is let go of
    assert run.entries["report"].stage == stages[-1]
    message = run.attempts(report("voc"))
    message.parent.mkdir(parents=True)
    message.write_text('{"event": "end", "job": "4194999", "outcome": "finished"}\n')
    for made, done in ((report("voc", "coco"), set()), (report("old", "voc"), {"report"})):
        run.entries = {"report": Entry(dataclasses.replace(made, after=()), [submitted])}
        assert reconcile._finished(run, (), ()) == done
    run.entries["report"].submissions.append(dataclasses.replace(submitted, job="4194998"))  # it failed
    assert reconcile._finished(run, (), ()) == set()


def test_a_running_job_whose_id_was_lost_is_found(tmp_path: Path) -> None:
    run = begun(tmp_path, conversion(tmp_path), "4194999")
    entry = run.entries["convert"]
    entry.submissions[-1].job = None
    with controller((tmp_path / "launch/logs/convert").resolve()) as job:
        adopt_lost_jobs(run)
        assert record.load_record(tmp_path).entries["convert"].job == job


def test_a_cancelled_run_waits_for_the_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On this machine a stage waits for its turn in the shell that was given the command, which looks for it again."""
    first = conversion(tmp_path)
    second = dataclasses.replace(first, name="second", result=str(tmp_path / "none"))
    with controller((tmp_path / "launch/logs/convert").resolve()) as job:
        begun(tmp_path, first, job)
        reconcile.enter_stages(tmp_path, [first, second], "local")
        before = reconcile.begin_round(tmp_path)
        done = call(capsys, "cancel", tmp_path)
        assert done.stdout == f"cancelled   convert: job {job}\n"
    found = reconcile.submit_ready(tmp_path, before)
    assert (found.live, found.submitted, found.waiting) == ((), (), ("convert", "second"))
    assert [entry.cancelled for entry in record.load_record(tmp_path).entries.values()] == [True, True]
    assert reconcile.begin_round(tmp_path) == Round({"convert": 2, "second": 1}, 1)
    assert [entry.cancelled for entry in record.load_record(tmp_path).entries.values()] == [False, False]


def test_a_shell_submits_no_more_than_it_may(tmp_path: Path) -> None:
    stages = [dataclasses.replace(conversion(tmp_path), name=name, result=str(tmp_path / name)) for name in "abc"]
    with controller((tmp_path / "launch/logs/a").resolve()) as job:
        begun(tmp_path, stages[0], job)
        reconcile.enter_stages(tmp_path, stages, "local")
        allowed = reconcile.begin_round(tmp_path)
        assert reconcile.submit_ready(tmp_path, allowed).submitted == ()  # one runs, and no more may at a time
        more = [dataclasses.replace(stage, parallel=9) for stage in stages]
        reconcile.enter_stages(tmp_path, more, "local")
        another_shells = dataclasses.replace(allowed, most={"a": 1})
        assert reconcile.submit_ready(tmp_path, another_shells).submitted == ()
        assert record.load_record(tmp_path).entries["b"].submissions == []


def test_a_stage_waits_on_this_machine_for_what_it_needs(tmp_path: Path) -> None:
    first = dataclasses.replace(conversion(tmp_path), parallel=9)
    second = dataclasses.replace(first, name="second", result=str(tmp_path / "none"), after=("convert",))
    with controller((tmp_path / "launch/logs/convert").resolve()) as job:
        begun(tmp_path, first, job)
        reconcile.enter_stages(tmp_path, [first, second], "local")
        found = reconcile.submit_ready(tmp_path, reconcile.begin_round(tmp_path))
    assert (found.live, found.submitted, found.waiting) == (("convert",), (), ("second",))


def test_a_run_killed_in_its_last_save_is_not_finished(tmp_path: Path) -> None:
    made = build.pretraining("pretrain", None, ["data.root", "x", "output_dir", str(tmp_path)], Resources())
    Path(made.result).touch()  # its manifest is written after it
    assert not verify.verify(made)


def test_an_ended_job_whose_id_was_lost_is_forgotten(tmp_path: Path) -> None:
    run = begun(tmp_path, conversion(tmp_path), "4194999")
    entry = run.entries["convert"]
    entry.submissions.append(
        Submission("moco-b", None, "2026-01-01T00:00:00+00:00", "/code", None, entry.stage.arguments)
    )
    adopt_lost_jobs(run)
    assert [submission.token for submission in entry.submissions] == ["moco-a"]
