"""The whole job in small: scenes, pretraining in two processes, conversion, fine-tuning from two starts, the report.

Every step is a command that can be run by hand; each is printed before it runs. Made for two CPU cores.
An interrupted demo goes on where it stopped when the same command is given again.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import command
from pretrain import config
from transfer import engines
from transfer.errors import TransferError

EXAMPLES = """examples:
  python tools/demo.py --output output/demo
  python tools/demo.py --output output/demo --dry-run
"""

MARKER = "demo.json"  # says that a folder is a demo's own: what lies in it half-finished may be made anew
TASKS = {"coco": (0, 1), "voc": (0,)}  # configs/transfer/demo_<task>.yaml, and the seeds of its trials
SCENES = {"--unlabelled": 2000, "--train": 300, "--test": 60}
ROOT = Path(__file__).resolve().parents[1]
PRETRAIN = ROOT / "configs/pretrain/demo.yaml"


@dataclass(frozen=True)
class Step:
    """One command. It is finished once `result` exists; `folder` is what it writes, removed if it is half-finished."""

    title: str
    arguments: tuple[str, ...]
    folder: Path
    result: Path
    environment: dict[str, str] = field(default_factory=dict)
    always: bool = False  # made anew each time

    def __str__(self) -> str:
        variables = [f"{name}={value} " for name, value in self.environment.items()]
        return "".join(variables) + shlex.join([_short(sys.executable), *self.arguments])


def main() -> None:
    arguments = parse_arguments()
    steps = plan(arguments.output, arguments.engine)
    if arguments.dry_run:
        print("\n".join(str(step) for step in steps))
        return
    claim(arguments.output, {"made_by": "tools/demo.py", "engine": arguments.engine})
    begun = time.monotonic()
    for number, step in enumerate(steps, start=1):
        run(step, f"[{number}/{len(steps)}] {step.title}")
    print(f"\nThe demo took {_duration(time.monotonic() - begun)}. The report: {steps[-1].result}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for all that the demo makes")
    parser.add_argument("--engine", default="auto", choices=engines.NAMES, help="of the fine-tuning (default auto)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    return parser.parse_args()


def plan(output: Path, engine: str) -> list[Step]:
    """Every command of the demo, in order."""
    scenes, moco, backbone = output / "scenes", output / "moco", output / "backbone.pth"
    checkpoint = moco / f"checkpoint_{config.load(PRETRAIN, ['data.root', 'x']).optim.epochs - 1:04d}.pth.tar"
    steps = [
        _tool("Make the scenes", "scenes", scenes, scenes / "scenes.json", "--output", scenes, *_flat(SCENES)),
        _pretraining(scenes / "unlabelled", moco, checkpoint),
        _tool("Convert the backbone", "convert", backbone, backbone, checkpoint, backbone, "--to", "detectron2"),
    ]
    for task, seeds in TASKS.items():
        for seed in seeds:
            for name, init in (("random", "random"), ("moco", backbone)):
                steps.append(_fine_tuning(task, name, init, seed, output, engine))
    report = output / "report"
    title = "Demo: what MoCo is worth on made-up scenes"
    page = report / "index.html"
    last = _tool("Report", "report", report, page, output / "runs", "--output", report, "--title", title)
    return [*steps, replace(last, always=True)]


def _pretraining(images: Path, folder: Path, checkpoint: Path) -> Step:
    starter = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    settings = ("--config-file", _short(PRETRAIN), "data.root", str(images), "output_dir", str(folder))
    return Step(
        "Pretrain a ResNet-18 with MoCo v2 in two processes",
        (*starter, _short(ROOT / "tools/train_moco.py"), *settings),
        folder,
        result=checkpoint,
        environment={"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2))},  # threads of each process
    )


def _fine_tuning(task: str, name: str, init: Path | str, seed: int, output: Path, engine: str) -> Step:
    folder = output / "runs" / f"{task}_{name}_{seed}"
    return _tool(
        f"Fine-tune on {task.upper()} layout from {name}, seed {seed}",
        "finetune",
        folder,
        folder / "result.json",
        *("--config-file", _short(ROOT / f"configs/transfer/demo_{task}.yaml"), "--engine", engine),
        *("--dataset-root", output / "scenes", "--init", init, "--seed", seed, "OUTPUT_DIR", folder),
    )


def _tool(title: str, name: str, folder: Path, result: Path, *arguments: object) -> Step:
    return Step(title, (_short(ROOT / "tools" / f"{name}.py"), *map(str, arguments)), folder, result)


def claim(output: Path, marker: dict[str, str]) -> None:
    """Make the demo's folder, or recognise an earlier demo's.

    Raises:
        TransferError: the folder holds something else, or a demo with other options.
    """
    path = output / MARKER
    if path.is_file():
        if json.loads(path.read_text()) != marker:
            raise TransferError(f"{output}: holds a demo with other options: rm -r {output}, or name another --output")
        print(f"Going on with the demo in {output}; for a new one: rm -r {shlex.quote(str(output))}")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise TransferError(f"{output}: exists and is no earlier demo's; nothing is overwritten, name another --output")
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(marker) + "\n")


def run(step: Step, title: str) -> None:
    """Run a step unless it is finished.

    Raises:
        TransferError: it failed; the command is named.
    """
    print(f"\n{title}", flush=True)
    if step.result.exists() and not step.always:
        print(f"done before: {step.result}")
        return
    if step.folder.exists():
        print(f"removed, to be made anew: {step.folder}")
        shutil.rmtree(step.folder)
    print(f"$ {step}", flush=True)
    begun = time.monotonic()
    done = subprocess.run([sys.executable, *step.arguments], env={**os.environ, **step.environment}, check=False)
    if done.returncode or not step.result.exists():
        raise TransferError(f"the demo stops here: exit code {done.returncode} from\n  {step}")
    print(f"{_duration(time.monotonic() - begun)}", flush=True)


def _flat(options: dict[str, int]) -> Sequence[object]:
    return [part for pair in options.items() for part in pair]


def _short(path: Path | str) -> str:
    """A path as one types it: relative where it lies below the folder we are in."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


if __name__ == "__main__":
    command.run(main)
