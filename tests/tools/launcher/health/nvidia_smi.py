"""A stand-in for nvidia-smi on PATH, for no machine of the tests has a GPU: it prints lines in the forms of NVIDIA's.

The forms are those of drivers 470 to 580, from NVIDIA's manual page and from outputs that others have published.
"""

import os
from collections.abc import Mapping
from pathlib import Path

LIST = "".join(
    f"GPU {n}: NVIDIA H100 80GB HBM3 (UUID: GPU-{n}a2b7c1d-0000-1111-2222-33334444555{n})\n" for n in range(2)
)
UUIDS = tuple(f"GPU-{n}a2b7c1d-0000-1111-2222-33334444555{n}" for n in range(2))
STATES = "".join(f"{n}, {uuid}, 81004, 81559, 0\n" for n, uuid in enumerate(UUIDS))
PAGES = "".join(f"{uuid}, [N/A]\n" for uuid in UUIDS)
ROWS = "".join(f"{uuid}, 0, 0\n" for uuid in UUIDS)
WELL = {"-L": LIST, "--query-gpu=index": STATES, "--query-gpu=uuid": PAGES, "--query-remapped-rows": ROWS}


def write(folder: Path, answers: Mapping[str, str], code: int = 0) -> str:
    """Write the command into a folder; return the PATH that finds it first.

    Args:
        answers: what it prints to a first word that begins so, over that of two GPUs that are well.
        code: its exit code where it is asked for the list.
    """
    folder.mkdir(exist_ok=True)
    cases = []
    for number, (word, text) in enumerate({**WELL, **answers}.items()):
        (folder / f"answer_{number}").write_text(text)
        end = code if word == "-L" else 0
        cases.append(f"{word}*) cat '{folder}/answer_{number}'; exit {end};;")
    command = folder / "nvidia-smi"
    command.write_text("#!/bin/sh\ncase $1 in\n" + "\n".join(cases) + "\nesac\nexit 2\n")
    command.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
