"""tools/launcher/cluster/resources.py: what a job asks for; every fault at once, with the names there are."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import jobs
from launcher.cluster import resources
from launcher.cluster.errors import LaunchError
from launcher.cluster.resources import Resources
from launcher.record import Record
from launcher.stages.options import PretrainOptions
from launcher.stages.stage import Stage
from tests.conftest import ROOT

WRONG = {
    "nodes": (0, True, "2", 1.5),
    "gpus": (-1, "8"),
    "processes": (0, [1]),
    "cpus": (0, 2.0),
    "mem": (0, -1, "64GB", True, float("inf"), float("nan")),
    "time": ("24", 1440, "1:2", "0:00", "-1:00", "1:00:0", "a", "1:00\n", "0-0:00:00"),
    "partition": ("", "a b", "a\nb", "$(x)", "a;b", "'a'", 5),
    "account": ("`x`",),
    "qos": ('"',),
    "constraint": ("a b", "!x\t"),
    "signal_delay": (0, "60"),
    "gpus_by": ("gpus", 1, "--gres"),
    "gpu_type": ("a100:2", "", "a b", 100),
    "python": ("", "apptainer 'exec", "a\nb", ["python"]),
    "srun": ("--cpu-bind=none", ["cpu-bind"], ["-n"], ["--a\nb"], [1], ["--export=NONE"], ["--ntasks 3"]),
    "sbatch": (["x"], {"--exclusive": True}, {"A": 1}, {5: 1}, {"mail-type": "a\nb"}, {"mail-user": None}, {"x": [1]}),
    "gpu_check": ("no", 0),
    "setup": ("module load cuda", ["a\nb"], [1], {"a": "b"}),
}


def fault(*layers: tuple[str, dict[Any, Any]]) -> str:
    with pytest.raises(LaunchError) as caught:
        resources.resolve_resources(*layers)
    return str(caught.value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_named_with_where_it_stands(name: str, value: Any) -> None:
    message = fault(("some file", {name: value}))
    assert f"some file: {name}: is {value!r}" in message
    assert "must be" in message or "option" in message or "line of text" in message or "launch.py's own" in message


def test_all_faults_of_all_layers_are_told_at_once() -> None:
    file = {"gpu": 8, "nodes": 0, "mem": "much", "time": 1440, "qos": "a b", "sbatch": {"array": "0-9", "Bad": 1}}
    message = fault(("a.yaml", file), ("command line", {"cpus": 0}))
    named = ("a.yaml: gpu: no such", "nodes: is 0", "'much'", "1440", "'a b'", "'array'", "'Bad'", "line: cpus: is 0")
    assert [text for text in named if text not in message] == []
    for name in resources.NAMES:  # the valid ones
        assert name in message


def test_a_later_layer_is_over_an_earlier_one() -> None:
    lower = {"nodes": 2, "gpus": 8, "mem": 64, "sbatch": {"exclusive": True}}
    found = resources.resolve_resources(("file", lower), ("line", {"nodes": 4, "mem": None}))
    assert (found.nodes, found.gpus, found.mem, found.tasks) == (4, 8, 64, 32)
    assert found.sbatch == {"exclusive": True}
    assert resources.resolve_resources() == Resources()


@pytest.mark.parametrize("name", resources._OURS)
def test_what_the_launcher_says_itself_is_no_option_of_the_user(name: str) -> None:
    assert f"{name!r} is launch.py's own" in fault(("file", {"sbatch": {name: "x"}}))


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("0:30", 30), ("12:00", 720), ("3-00:00", 4320), ("1:00:01", 61), ("2-01:30:00", 2970), ("0:00:01", 1)],
)
def test_a_time_limit_is_rounded_up_to_minutes(text: str, minutes: int) -> None:
    assert resources.resolve_resources(("file", {"time": text})).minutes == minutes


@given(st.integers(0, 9), st.integers(0, 99), st.integers(0, 59), st.none() | st.integers(0, 59))
def test_time_limits_are_read_as_slurm_reads_them(days: int, hours: int, minutes: int, seconds: int | None) -> None:
    text = f"{f'{days}-' if days else ''}{hours}:{minutes:02}" + (f":{seconds:02}" if seconds is not None else "")
    total = ((24 * days + hours) * 60 + minutes) * 60 + (seconds or 0)
    if total == 0:
        assert "time: is" in fault(("file", {"time": text}))
    else:
        assert 0 <= (resources.resolve_resources(("file", {"time": text})).minutes or 0) * 60 - total < 60


@given(st.text() | st.integers() | st.floats() | st.none() | st.lists(st.integers()))
def test_a_time_of_any_kind_is_read_or_refused(value: Any) -> None:
    try:
        minutes = resources.resolve_resources(("file", {"time": value})).minutes or (value is None)
    except LaunchError as error:
        minutes, value = None, str(error)
    assert minutes or "time: is" in value


def test_the_warning_comes_before_the_limit() -> None:
    assert resources.resolve_resources(("file", {"time": "1:00"})).warning == resources.SIGNAL_DELAY
    assert resources.resolve_resources(("file", {"time": "0:02"})).warning == 60  # half of it
    assert resources.resolve_resources(("file", {"time": "0:02", "signal_delay": 110})).warning == 110
    assert resources.resolve_resources(("file", {})).warning == resources.SIGNAL_DELAY  # of a limit that SLURM knows
    assert resources.resolve_resources(("file", {"signal_delay": 9999})).warning == 9999
    message = fault(("file", {"time": "0:02", "signal_delay": 120}))
    assert "signal_delay: 120 s is not less than the time limit, 2 min" in message


def test_processes_beside_gpus_are_a_contradiction() -> None:
    assert "processes" in fault(("file", {"gpus": 2}), ("command line", {"processes": 2}))
    assert resources.resolve_resources(("file", {"gpus": 0, "processes": 2})).tasks == 2


@given(st.sampled_from(["partition", "account", "qos", "constraint"]), st.text(max_size=8))
def test_no_text_of_a_resource_begins_a_line_or_a_command(name: str, text: str) -> None:
    try:
        asked = resources.resolve_resources(("file", {name: text}))
    except LaunchError:
        return
    assert f"#SBATCH --{name}=" in sbatch(asked)
    assert not set(text) & set("\n\r\0\t \"'`$;<>\\")
    assert directives(asked) == directives(resources.resolve_resources(("file", {name: "plain"})))


@given(st.dictionaries(st.sampled_from(["mail-user", "gres", "nodelist"]), st.text(max_size=8)))
def test_no_text_of_an_sbatch_option_begins_a_line(options: dict[str, str]) -> None:
    try:
        asked = resources.resolve_resources(("file", {"sbatch": options}))
    except LaunchError:
        return
    plain = resources.resolve_resources(("file", {"sbatch": dict.fromkeys(options, "plain")}))
    assert directives(asked) == directives(plain)
    assert len(sbatch(asked).splitlines()) == len(sbatch(plain).splitlines())


def test_no_time_is_asked_for_unless_it_is_given() -> None:
    assert "--time" not in sbatch(Resources())
    assert "#SBATCH --time=90" in sbatch(Resources(time="1:30")).splitlines()


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({}, {"gpus-per-node=4"}),
        ({"gpu_type": "a100"}, {"gpus-per-node=a100:4"}),
        ({"gpus_by": "gres"}, {"gres=gpu:4"}),
        ({"gpus_by": "gres", "gpu_type": "a100"}, {"gres=gpu:a100:4"}),
        ({"gpus_by": "gres", "sbatch": {"gres": "nvme:100"}}, {"gres=gpu:4,nvme:100"}),
        ({"sbatch": {"gres": "nvme:100"}}, {"gpus-per-node=4", "gres=nvme:100"}),
        ({"gpus_by": "gpus-per-task", "gpu_type": "h100"}, {"gpus-per-task=h100:1"}),
    ],
)
def test_gpus_are_asked_for_as_the_site_wants_them(asked: dict[str, Any], options: set[str]) -> None:
    text = sbatch(resources.resolve_resources(("file", {"gpus": 4, **asked})))
    lines = {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH ")}
    assert {line for line in lines if line.startswith("g")} == options
    assert "ntasks-per-node=4" in lines


def test_how_gpus_are_asked_for_needs_their_number() -> None:
    message = fault(("file", {"gpus_by": "gres", "gpu_type": "a100"}))
    assert "gpus_by: needs `gpus`" in message
    assert "gpu_type: needs `gpus`" in message


def test_options_of_srun_stand_in_its_line() -> None:
    text = sbatch(Resources(cpus=2, srun=["--cpu-bind=none", "--container-image=/x y.sqsh"]))
    assert " --cpus-per-task=2 --cpu-bind=none '--container-image=/x y.sqsh' " in text


def test_sbatch_options_and_setup_lines_stand_in_the_file() -> None:
    text = sbatch(Resources(sbatch={"exclusive": True, "gres": "gpu:a100:2", "hint": False}, setup=["module load x"]))
    lines = text.splitlines()
    assert "#SBATCH --exclusive" in lines
    assert "#SBATCH --gres=gpu:a100:2" in lines
    assert "hint" not in text
    prepared = lines.index("eval -- 'module load x' || setup_failed $? 1 'module load x'")
    assert prepared < next(n for n, line in enumerate(lines) if line.startswith("srun "))


def test_every_file_of_resources_can_be_read() -> None:
    files = sorted(path for path in (ROOT / "configs/launch").glob("*.yaml") if not path.name.startswith("pipeline"))
    assert files
    for path in files:
        assert resources.resolve_resources((path.name, resources.content(path))).tasks >= 1


@pytest.mark.parametrize("text", ["- 1\n", "a: [", "just text", ""])
def test_a_file_that_holds_no_names_is_refused_by_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(LaunchError, match=r"r\.yaml"):
        resources.content(path)


def sbatch(asked: Resources) -> str:
    stage = Stage("pretrain", PretrainOptions(None, ()), "out", "out/x", asked)
    return jobs.sbatch_file([stage], Record(Path("run"), "slurm", "/"), Path("/code"), [])


def directives(asked: Resources) -> list[str]:
    """What the lines of a file are about."""
    return [line.partition("=")[0] for line in sbatch(asked).splitlines()]
