"""tools/launcher/stages/pipeline.py: a file as stages; every fault of it in one message that says where."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.cluster.errors import LaunchError
from launcher.cluster.resources import Resources
from launcher.stages import pipeline
from launcher.stages.options import FinetuneOptions
from launcher.stages.stage import Stage
from tests.conftest import ROOT
from tests.support.transfer.layouts import SIZE, make_voc, voc_object
from transfer.run.options import RunOptions

CONFIG = str(ROOT / "configs/transfer/voc_r18_fpn_cpu.yaml")
GOOD: dict[str, Any] = {
    "output": "out",
    "title": "A title",
    "resources": {"cpus": 2, "time": "0:10"},
    "pretrain": {
        "config": str(ROOT / "configs/pretrain/demo.yaml"),
        "settings": {"data.root": "some images", "optim.epochs": 2},
        "resources": {"nodes": 2, "processes": 3},
    },
    "convert": {"encoder": "key"},
    "finetune": {
        "trials": 2,
        "seed": 5,
        "parallel": 1,
        "starts": {"random": "random", "moco": "pretrained"},
        "dataset_root": "scenes",
        "engine": "torchvision",
        "tasks": {
            "voc": {"config": CONFIG, "settings": {"SOLVER.MAX_ITER": 20, "SOLVER.STEPS": [15]}},
            "coco": {
                "config": str(ROOT / "configs/transfer/coco_r18_fpn_cpu.yaml"),
                **{
                    "trials": 1,
                    "dataset_root": "elsewhere",
                    "classes": "dog,cat",
                    "data_rules": {"zero_area": "drop"},
                    "scale_to": 2,
                },
                "resources": {"cpus": 3},
            },
        },
    },
    "report": {"images": 3, "resources": {"mem": 9}},
}
SMALL = copy.deepcopy(GOOD)  # one fine-tuning run, whose check takes most of the time
SMALL["finetune"] |= {"trials": 1, "starts": {"moco": "pretrained"}}
del SMALL["finetune"]["tasks"]["coco"]


def read(
    tmp_path: Path, content: Any, output: Path | None = None, seed: int | None = None, **flags: Any
) -> pipeline.Pipeline:
    path = tmp_path / "study.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return pipeline.read_pipeline(path, output, flags, seed)


def stages(tmp_path: Path, content: Any, seed: int | None = None, **flags: Any) -> dict[str, Stage]:
    return {stage.name: stage for stage in read(tmp_path, content, seed=seed, **flags).stages}


def faults(tmp_path: Path, content: Any, **flags: Any) -> str:
    with pytest.raises(LaunchError) as caught:
        read(tmp_path, content, **flags)
    return str(caught.value)


def run_options(stage: Stage) -> RunOptions:
    assert isinstance(stage.options, FinetuneOptions)
    return stage.options.run


def changed(place: str, value: Any) -> dict[str, Any]:
    """SMALL with another value, or without it (None), at a place such as `finetune/tasks/voc`."""
    content = copy.deepcopy(SMALL)
    *outer, last = place.split("/")
    section = content
    for name in outer:
        section = section[name]
    section[last] = value
    if value is None:
        del section[last]
    return content


def test_a_file_gives_stages_that_each_come_after_what_they_need(tmp_path: Path) -> None:
    found = stages(tmp_path, GOOD)
    tuned = [f"voc/{start}/trial_{trial}" for start in GOOD["finetune"]["starts"] for trial in (0, 1)]
    tuned += [f"coco/{start}/trial_0" for start in GOOD["finetune"]["starts"]]
    assert list(found) == ["pretrain", "convert", *tuned, "report"]
    assert found["pretrain"].after == ()
    assert found["convert"].after == ("pretrain",)
    for name in tuned:
        assert found[name].after == (("convert",) if "/moco/" in name else ())
    assert found["report"].after == tuple(tuned)
    assert {found[name].array for name in tuned} == {name.rsplit("/", 1)[0] for name in tuned}
    assert {found[name].parallel for name in tuned} == {1}
    assert (found["convert"].array, found["report"].parallel) == (None, None)


def test_the_words_of_each_stage(tmp_path: Path) -> None:
    found = stages(tmp_path, GOOD)
    pretrain, convert, report = found["pretrain"], found["convert"], found["report"]
    assert pretrain.arguments == (
        *("data.root", "some images", "optim.epochs", "2", "output_dir", "out/pretrain", "--auto-resume"),
    )
    assert (pretrain.folder, pretrain.result) == ("out/pretrain", "out/pretrain/checkpoint_0001.pth.tar")
    assert convert.arguments == (
        *(pretrain.result, "out/convert/backbone.pth", "--to", "detectron2", "--encoder", "key"),
    )
    moco = found["voc/moco/trial_1"]
    assert moco.arguments == (
        *("--dataset-root", "scenes", "--init", convert.result, "--engine", "torchvision", "--seed", "5"),
        *("--trial", "1", "SOLVER.MAX_ITER", "20", "SOLVER.STEPS", "[15]", "OUTPUT_DIR", "out/voc/moco"),
    )
    assert (moco.config, moco.folder) == (CONFIG, "out/voc/moco/trial_1")
    assert moco.result == "out/voc/moco/trial_1/result.json"
    coco = run_options(found["coco/random/trial_0"])
    assert coco.dataset_root == Path("elsewhere")
    assert coco.data_rules == {"zero_area": "drop"}
    assert coco.classes == "dog,cat"
    assert coco.scale_to == 2
    assert report.arguments == (
        *("out/voc", "out/coco", "--output", "out/report", "--overwrite", "--images", "3", "--title", "A title"),
    )


def test_other_starts(tmp_path: Path) -> None:
    content = changed("finetune/starts", {"imagenet": "supervised", "other": "a file.pth"})
    found = stages(tmp_path, content)
    imagenet, other = (run_options(found[f"voc/{init}/trial_0"]) for init in ("imagenet", "other"))
    assert (imagenet.init, imagenet.download) == ("supervised", True)
    assert (other.init, other.download) == ("a file.pth", False)
    content["finetune"]["supervised_weights"] = "r50.pth"
    imagenet = run_options(stages(tmp_path, content)["voc/imagenet/trial_0"])
    assert (imagenet.supervised_weights, imagenet.download) == (Path("r50.pth"), False)


def test_scenes_come_first_and_are_read_by_default(tmp_path: Path) -> None:
    content = changed("scenes", {"unlabelled": 30, "train": 20, "test": 10})
    content["finetune"]["starts"]["random"] = "random"
    found = stages(tmp_path, content)
    assert next(iter(found)) == "scenes"
    assert found["scenes"].arguments == (
        *("--output", "out/scenes", "--unlabelled", "30", "--train", "20", "--test", "10", "--seed", "0"),
    )
    assert [found[name].after for name in ("pretrain", "voc/random/trial_0")] == [("scenes",), ("scenes",)]
    assert found["pretrain"].options.inputs() == {"data.root": "some images"}  # named in the file
    assert run_options(found["voc/random/trial_0"]).dataset_root == Path("scenes")
    del content["pretrain"]["settings"]["data.root"], content["finetune"]["dataset_root"]
    found = stages(tmp_path, content)
    assert found["pretrain"].options.inputs() == {"data.root": "out/scenes/unlabelled"}
    assert run_options(found["voc/random/trial_0"]).dataset_root == Path("out/scenes")


def test_a_seed_of_the_command_line_is_everythings(tmp_path: Path) -> None:
    content = changed("scenes", {"unlabelled": 30, "train": 20, "test": 10, "seed": 9})
    seeds = set()
    for seed in (0, 1, 2):
        found = stages(tmp_path, content, seed=seed)
        assert found["scenes"].arguments[-1] == str(seed)
        assert "seed" in found["pretrain"].arguments
        assert found["pretrain"].arguments[found["pretrain"].arguments.index("seed") + 1] == str(seed)
        seeds.add(run_options(found["voc/moco/trial_0"]).seed)
    assert seeds == {0, 1000, 2000}  # of the first trial; the trials of one share none with those of another
    assert stages(tmp_path, content)["scenes"].arguments[-1] == "9"
    (tmp_path / "list.txt").write_text("000001\n")
    content["finetune"]["labels"] = ["10%", str(tmp_path / "list.txt")]
    drawn = [run_options(stage).labels_seed for stage in stages(tmp_path, content, seed=3).values() if stage.array]
    assert drawn == [3, None]  # a list of files is not drawn


def test_parts_of_the_labels_multiply_the_runs(tmp_path: Path) -> None:
    content = changed("finetune/labels", ["1%", "10%", "100%"])
    content["finetune"] |= {"starts": {"random": "random", "moco": "pretrained"}, "labels_seed": 4}
    found = stages(tmp_path, content)
    names = ("labels_1pct", "labels_10pct", "labels_100pct")
    tuned = [f"voc/{name}/{start}/trial_0" for name in names for start in ("random", "moco")]
    assert list(found) == ["pretrain", "convert", *tuned, "report"]
    one = run_options(found[tuned[0]])
    assert (one.labels, one.labels_seed, one.overrides[-1]) == ("1%", 4, "out/voc/labels_1pct/random")
    assert found[tuned[0]].arguments[2:6] == ("--labels", "1%", "--labels-seed", "4")
    assert found[tuned[5]].folder == "out/voc/labels_100pct/moco/trial_0"
    assert found["report"].arguments[0] == "out/voc"
    own = stages(tmp_path, changed("finetune/tasks/voc/labels", "2-per-class"))
    assert run_options(own["voc/labels_2-per-class/moco/trial_0"]).labels == "2-per-class"


def test_a_task_is_logged_where_it_or_finetune_says(tmp_path: Path) -> None:
    content = changed("finetune/wandb", "photos")
    assert run_options(stages(tmp_path, content)["voc/moco/trial_0"]).wandb == "photos"
    content["finetune"]["tasks"]["voc"] |= {"wandb": "own", "mlflow": "study"}
    tuned = stages(tmp_path, content)["voc/moco/trial_0"]
    assert (run_options(tuned).wandb, run_options(tuned).mlflow) == ("own", "study")
    assert {"--wandb", "own", "--mlflow", "study"} <= set(tuned.arguments)


def test_bad_parts_of_the_labels_are_named(tmp_path: Path) -> None:
    for given, said in [
        (5, "finetune.tasks.voc.labels: is 5; expected: a percentage"),
        (["5%", "0%"], "--labels 0%: a percentage above 0"),
        (["5%", "5 %"], "would share a folder: 5%, 5 %"),
        ("nowhere.txt", "--labels nowhere.txt: no such file"),
    ]:
        assert said in faults(tmp_path, changed("finetune/labels", given))


def test_a_task_names_own_data_by_path(tmp_path: Path) -> None:
    make_voc(tmp_path / "cells", {"a": SIZE + voc_object()}, "train")
    make_voc(tmp_path / "cells", {"b": SIZE + voc_object()}, "test")
    file, lists = tmp_path / "cells.yaml", tmp_path / "cells/ImageSets/Main"
    file.write_text("cells: {train: cells/ImageSets/Main/train.txt, test: cells/ImageSets/Main/test.txt}\n")
    stage = stages(tmp_path, changed("finetune/tasks/voc/data", str(file)))["voc/moco/trial_0"]
    assert run_options(stage).data == file
    assert stage.options.inputs()["--data"] == str(file)
    assert Stage.from_json(json.loads(json.dumps(stage.to_json()))) == stage
    content = changed("finetune/tasks/voc/train", [str(lists / "train.txt")])
    content["finetune"]["tasks"]["voc"]["test"] = str(lists / "test.txt")
    run = run_options(stages(tmp_path, content)["voc/moco/trial_0"])
    assert (run.train, run.test) == ((f"{lists}/train.txt",), (f"{lists}/test.txt",))
    content["finetune"]["tasks"]["voc"]["test"] = str(lists / "val.txt")
    assert "finetune.tasks.voc, start moco: --test" in faults(tmp_path, content)


def test_output_of_the_command_line_is_over_the_files(tmp_path: Path) -> None:
    found = read(tmp_path, SMALL, Path("mine"))
    assert found.output == Path("mine")
    assert {stage.folder.split("/")[0] for stage in found.stages} == {"mine"}
    assert read(tmp_path, changed("output", None), Path("mine")).output == Path("mine")


def test_the_innermost_resources_count_under_the_flags(tmp_path: Path) -> None:
    found = stages(tmp_path, GOOD, partition="gpu", time="0:20")
    assert found["pretrain"].resources == Resources(nodes=2, processes=3, time="0:20", partition="gpu")
    assert found["convert"].resources == Resources(cpus=2, time="0:20", partition="gpu")
    assert found["voc/moco/trial_0"].resources.cpus == 2
    assert found["coco/moco/trial_0"].resources == Resources(cpus=3, time="0:20", partition="gpu")
    assert found["report"].resources == Resources(mem=9, time="0:20", partition="gpu")


def test_a_tool_of_one_process_never_gets_gpus(tmp_path: Path) -> None:
    found = stages(tmp_path, changed("resources", {"nodes": 4, "gpus": 8}))
    assert found["voc/moco/trial_0"].resources.tasks == 32
    assert (found["convert"].resources.tasks, found["convert"].resources.gpus) == (1, None)
    assert found["report"].resources.tasks == 1


def test_resources_may_be_the_path_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("gpus: 4\n")
    assert stages(tmp_path, changed("resources", str(path)))["voc/moco/trial_0"].resources.gpus == 4
    path.write_text("gpus: 4\nmany: 1\n")
    message = faults(tmp_path, changed("resources", str(path)))
    assert f"{path}: many: no such resource" in message
    assert "nowhere.yaml" in faults(tmp_path, changed("resources", "nowhere.yaml"))


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("outptu", "x", "outptu: no such key; there are output, title"),
        ("pretrain/folder", "x", "pretrain.folder: no such key; there are config, settings, resources"),
        ("finetune/trails", 2, "finetune.trails: no such key; there are trials, seed"),
        ("finetune/tasks/voc/conf", 2, "finetune.tasks.voc.conf: no such key; there are config"),
        ("report/title", 2, "report.title: no such key; there are images"),
        ("scenes", {"unlabelled": 30, "test": 5}, "scenes: give the number of images, train: N"),
        ("scenes", {"unlabelled": 1, "train": 5, "test": 5}, "scenes.unlabelled: is 1, must be a whole number, 2"),
        ("output", None, "output: no folder is named"),
        ("output", 5, "output: is 5, must be text"),
        ("pretrain", None, "finetune.starts: pretrained needs a section pretrain"),
        ("pretrain", [1], "pretrain: must be a mapping"),
        ("pretrain/settings/optim.leraning_rate", 1, "pretrain: optim.leraning_rate"),
        ("pretrain/settings/optim", {"lr": 1}, "pretrain.settings.optim: give the full name, such as optim.lr"),
        ("pretrain/settings/output_dir", "x", "pretrain.settings.output_dir: the pipeline chooses it"),
        ("pretrain/config", "nowhere.yaml", "pretrain.config: nowhere.yaml: there is no such file"),
        ("convert/encoder", "both", "convert.encoder: is 'both', must be query or key"),
        ("finetune/trials", 0, "finetune.tasks.voc.trials: is 0, must be a whole number, 1 or more"),
        ("finetune/trials", "2", "trials: is '2'"),
        ("finetune/seed", -1, "finetune.seed: is -1"),
        ("finetune/engine", "caffe", "engine: is 'caffe', must be one of auto, detectron2, torchvision"),
        ("finetune/starts", None, "finetune.starts: none is there"),
        ("finetune/tasks", {}, "finetune.tasks: none is there"),
        ("finetune/starts", ["random"], "finetune.starts: must be a mapping"),
        ("finetune/starts/a b", "random", "finetune.starts.a b: a name is made of"),
        ("finetune/starts/..", "random", "finetune.starts...: a name is made of"),
        ("finetune/tasks/report", {"config": CONFIG}, "finetune.tasks.report: a name is made of"),
        ("finetune/tasks/a;b", {"config": CONFIG}, "finetune.tasks.a;b: a name"),
        ("finetune/tasks/voc/config", None, "finetune.tasks.voc.config: no YAML of configs/transfer/ is named"),
        ("finetune/tasks/voc/settings/OUTPUT_DIR", "x", "finetune.tasks.voc.settings.OUTPUT_DIR: the pipeline"),
        ("finetune/tasks/voc/settings/SOLVER.BASE_RL", 1, "SOLVER.BASE_RL"),
        ("finetune/tasks/voc/settings/SOLVER", {"BASE_LR": 1}, "settings.SOLVER: give the full name"),
        ("finetune/tasks/voc/data_rules", "drop", "finetune.tasks.voc.data_rules: must be a mapping"),
        ("resources/gpu", 2, "gpu: no such resource; there are nodes, gpus"),
        ("report/images", -1, "report.images: is -1"),
        ("report/resources", [2], "report.resources: must be a mapping"),
        ("finetune/resources", {"time": 90}, "time: is 90"),
    ],
)
def test_a_fault_is_named_with_where_it_stands(tmp_path: Path, place: str, value: Any, named: str) -> None:
    message = faults(tmp_path, changed(place, value))
    assert str(tmp_path / "study.yaml") in message
    assert named in message


def test_every_fault_is_in_one_message_and_once(tmp_path: Path) -> None:
    content = changed("finetune/trails", 2)
    content["pretrain"]["settings"] |= {"optim.epochs": "many", "nonsense": 1}
    content["convert"]["encoder"] = "both"
    content["finetune"]["tasks"]["voc"]["settings"]["SOLVER.BASE_RL"] = 1
    content["finetune"]["tasks"]["coco"] = {"config": CONFIG, "engine": "caffe"}
    content["report"]["images"] = "all"
    content["finetune"] |= {"trials": "two", "starts": {"moco": "pretrained", "random": "random"}}  # met twice
    message = faults(tmp_path, content, nodes=0)
    for text in ("trails", "epochs", "nonsense", "encoder", "BASE_RL", "caffe", "'all'", "'two'", "nodes: is 0"):
        assert text in message
    lines = message.splitlines()
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("text", ["", "- 1", "just text", "a: [", "finetune: {tasks: 5, starts: 1}\noutput: x"])
def test_what_is_no_pipeline_is_one_message(tmp_path: Path, text: str) -> None:
    assert "study.yaml" in faults(tmp_path, text)


def test_a_file_without_stages_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nothing to do" in faults(tmp_path, {"output": "x"})
    assert "the key 'output' is given twice" in faults(tmp_path, "output: x\noutput: y")
    with pytest.raises(LaunchError, match=r"nowhere\.yaml: cannot be read"):
        pipeline.read_pipeline(tmp_path / "nowhere.yaml", None, {})


def test_pretraining_alone_and_fine_tuning_alone_are_pipelines(tmp_path: Path) -> None:
    assert list(stages(tmp_path, changed("finetune", None))) == ["pretrain", "convert"]
    content = changed("finetune/starts", {"random": "random"})
    del content["pretrain"]
    assert list(stages(tmp_path, content)) == ["voc/random/trial_0", "report"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs/launch").glob("pipeline*.yaml")), ids=lambda path: path.name)
def test_every_file_of_ours_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = pipeline.read_pipeline(path, None, {}).stages
    assert {"pretrain", "convert"} < {stage.name for stage in found}
    assert found[-1].name == "report"


def test_a_tilde_in_a_path_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "voc.yaml").write_text(f"_BASE_: {CONFIG}\n")
    (tmp_path / "pre.yaml").write_text(f"_BASE_: {GOOD['pretrain']['config']}\n")
    (tmp_path / "res.yaml").write_text("cpus: 3\n")
    content = copy.deepcopy(SMALL)
    content["output"] = "~/study"
    content["resources"] = "~/res.yaml"
    content["pretrain"] = {"config": "~/pre.yaml", "settings": {"data.root": "~/images"}}
    content["finetune"] |= {"dataset_root": "~/scenes", "starts": {"file": "~/moco.pth"}}
    content["finetune"]["tasks"]["voc"]["config"] = "~/voc.yaml"
    made = read(tmp_path, content)
    assert made.output == tmp_path / "study"
    words = [word for stage in made.stages for word in (str(stage.options.config_file), *stage.options.words())]
    for name in ("voc.yaml", "pre.yaml", "images", "scenes", "moco.pth"):
        assert str(tmp_path / name) in words
    assert not any(word.startswith("~") for word in words)
