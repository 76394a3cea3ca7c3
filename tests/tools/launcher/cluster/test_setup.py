"""The resource `setup`: what bash makes of its lines; on more nodes than one it is tested on a real SLURM."""

import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.cluster import local, setup
from tests.conftest import Tool
from tests.support.launched import jobs
from tests.support.waiting import PATIENCE, wait_until


def bash(*lines: str) -> "subprocess.CompletedProcess[str]":
    """A batch script of these lines, then the job, which prints an exported variable."""
    script = "\n".join([*setup.batch_lines(lines, nodes=1), "printenv FOUND; echo the job runs"])
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True)


def test_what_the_lines_export_reaches_the_job(tmp_path: Path) -> None:
    (tmp_path / "activate").write_text("false\nset -- other arguments\nexport FOUND=here\n")  # a file like a venv's
    done = bash(f"source {tmp_path}/activate", "# a remark", "", "if false; then exit 5; fi", "export FOUND=$FOUND,too")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "here,too\nthe job runs\n"


@pytest.mark.parametrize("line", ["false", "no-such-command", "source /no/such/file", "echo 'a", "-x", "(exit 3)"])
def test_a_line_that_fails_is_named_and_ends_the_job(line: str) -> None:
    done = bash("true", line, "echo more")
    assert done.returncode == 1
    (message,) = [text for text in done.stdout.splitlines() if text.startswith("error: ")]
    assert message.startswith(f"error: setup failed on {socket.gethostname()}, exit code ")
    assert message.endswith(f", in line 2: {line}")
    assert "more" not in done.stdout.replace(message, "")
    assert "the job runs" not in done.stdout


@settings(max_examples=25)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cc"]), max_size=12))
def test_a_line_reaches_the_shell_as_it_was_written(text: str) -> None:
    done = bash(f"printf '<%s>\\n' {shlex.quote(text)}")
    assert done.returncode == 0
    assert f"<{text}>\n" in done.stdout


def test_the_local_job_keeps_its_id_and_logs_the_lines(tmp_path: Path) -> None:
    logs = tmp_path / "some 'logs'"
    logs.mkdir()
    show = "import os; print(os.getpid(), os.environ['FOUND'], os.environ['SUBMITIT_LOCAL_WITH_SHELL'] == '')"
    line = setup.local_line(["echo prepared", "export FOUND=here"], logs, [sys.executable, "-c", show])
    with subprocess.Popen(["sh", "-c", f"{line} && false"], stdout=subprocess.PIPE, text=True) as job:
        assert job.communicate()[0] == f"{job.pid} here True\n"
    assert (logs / f"{job.pid}_0_log.out").read_text() == "prepared\n"


def test_a_cancel_ends_what_a_line_has_started(tmp_path: Path) -> None:
    line = setup.local_line(["sleep 300"], tmp_path, local.controller(tmp_path))
    with subprocess.Popen(["sh", "-c", line]) as shell:
        job = str(shell.pid)
        wait_until(lambda: local._children(job), "the line runs")
        (sleep,) = local._children(job)
        assert local.find_job(tmp_path) == job
        local.cancel([(job, tmp_path)])
        assert shell.wait(PATIENCE) == -signal.SIGTERM
    wait_until(lambda: not local._command_lines([sleep]).get(sleep), "the line has ended, too")


def test_status_and_logs_tell_the_line_that_failed_here(tool: Tool, tmp_path: Path) -> None:
    resources, run = tmp_path / "resources.yaml", tmp_path / "run"
    resources.write_text("setup: ['source /dev/null', 'echo prepares', 'module-of-no-site load cuda']\n")
    words = ("pretrain", "--cluster", "local", "--resources", resources, "--wait", "data.root", tmp_path)
    done = tool("launch", *words, "output_dir", run)
    assert done.returncode == 1
    message = f"error: setup failed on {socket.gethostname()}, exit code 127, in line 3: module-of-no-site load cuda"
    assert message in " ".join(done.stdout.split())
    printed = tool("launch", "logs", run, "pretrain").stdout
    assert printed.startswith("prepares\n")
    assert printed.endswith(f"{message}\n")
    assert jobs(run)["pretrain"][0].isdigit()
    shown = tool("launch", "status", run)
    assert "FAILED" in shown.stdout
    assert message in " ".join(shown.stdout.split())
