"""tools/launcher/health/gpus.py: what is wrong with a node's GPUs, read from what nvidia-smi prints (a stand-in)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.health.gpus import Gpus, look_at_gpus
from tests.tools.launcher.health import nvidia_smi
from tests.tools.launcher.health.nvidia_smi import LIST, ROWS, STATES, UUIDS

LOST = (
    "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system to recover this GPU\n"
)
NO_DRIVER = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest"
Look = Callable[..., Gpus]
SLICES = "".join(f"  MIG 1g.10gb     Device  {n}: (UUID: MIG-{n})\n" for n in range(3))


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    def look_at(asked: int = 2, visible: str | None = "0,1", code: int = 0, **answers: str) -> Gpus:
        words = {
            "list": "-L",
            "states": "--query-gpu=index",
            "pages": "--query-gpu=uuid",
            "rows": "--query-remapped-rows",
        }
        given = {words[name]: text for name, text in answers.items()}
        monkeypatch.setenv("PATH", nvidia_smi.write(tmp_path / "bin", given, code))
        return look_at_gpus(asked, visible)

    return look_at


def test_two_that_are_well_have_no_fault(look: Look) -> None:
    assert look().faults == ()


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        ({"asked": 4}, "4 GPUs were asked for, nvidia-smi lists 2"),
        ({"list": LIST + LOST}, "GPU is lost"),
        ({"list": NO_DRIVER, "code": 9}, "`nvidia-smi -L` ends with 9: NVIDIA-SMI has failed because"),
        ({"states": STATES.replace("81559, 0", "81559, 3", 1)}, "GPU 0 has had 3 uncorrected memory errors"),
        ({"states": STATES.replace("81004", "[GPU is lost]", 1)}, "GPU 0 does not answer"),
        ({"states": STATES.replace("1, " + UUIDS[1] + ", 81004", "1, " + UUIDS[1] + ", 410")}, "GPU 1 has only 410 of"),
        ({"rows": ROWS.replace(", 0, 0", ", 1, 0", 1)}, "a repair of its memory waits for a reset"),
        ({"rows": ROWS.replace(", 0, 0", ", Yes, Yes", 1)}, "could not be repaired"),
        ({"pages": f"{UUIDS[0]}, Yes\n"}, "a repair of its memory waits for a reset"),
    ],
)
def test_a_broken_gpu_is_named(look: Look, answers: dict[str, Any], named: str) -> None:
    (fault,) = look(**answers).faults
    assert named in fault


def test_a_gpu_half_full_is_a_warning(look: Look) -> None:
    found = look(states=STATES.replace("81004", "30000", 1))
    assert found.faults == ()
    assert "GPU 0 has only 30000 of 81559 MiB of memory free" in found.warnings[0]


def test_gpus_of_other_jobs_do_not_count(look: Look) -> None:
    broken = STATES.replace("81559, 0", "81559, 3", 1)
    assert look(asked=1, visible="1", states=broken).faults == ()
    assert look(asked=1, visible=UUIDS[1][:12], states=broken).faults == ()
    assert look(asked=1, visible="0", states=broken).faults != ()


def test_parts_of_a_divided_gpu_are_counted(look: Look) -> None:
    assert look(asked=4, visible=None, list=LIST + SLICES).faults == ()  # one is whole, one has three parts
    assert look(asked=5, visible=None, list=LIST + SLICES).faults != ()


def test_without_nvidia_smi_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look_at_gpus(2, None) == Gpus(unchecked="there is no nvidia-smi")
