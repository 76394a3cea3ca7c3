"""The whole job in small: scenes, pretraining in two processes, conversion, fine-tuning twice, the report.

Every step is a command that can be run by hand; each is printed before it runs. Made for two CPU cores.
The same command resumes an interrupted demo.
"""

import argparse
import json
import shlex
import time
from dataclasses import replace
from pathlib import Path

from common import cli
from common.demo_steps import Step, duration, run, short
from pretrain.config import schema
from pretrain.runtime.errors import UserError
from pretrain.runtime.host import usable_cores, user_path
from transfer import engines

EXAMPLES = """examples:
  python tools/demo.py --output output/demo
  python tools/demo.py --output output/demo --dry-run
"""

MARKER = "demo.json"  # says that a folder is a demo's own: what lies in it half-finished may be made anew
TASKS = {"coco": (0, 1), "voc": (0,)}  # configs/transfer/demo_<task>.yaml, and the seeds of its trials
SCENES = ("--unlabelled", 2000, "--train", 300, "--test", 40)
ROOT = Path(__file__).resolve().parents[1]
THREADS = {"OMP_NUM_THREADS": str(max(1, usable_cores() // 2))}  # two processes run at a time: half each
PRETRAIN = ROOT / "configs/pretrain/demo.yaml"


def main() -> None:
    arguments = parse_arguments()
    steps = plan(arguments.output, arguments.engine)
    if arguments.dry_run:
        print("\n".join(str(step) for _, together in steps for step in together))
        return
    claim(arguments.output, {"made_by": "tools/demo.py", "engine": arguments.engine})
    begun = time.monotonic()
    for number, (title, together) in enumerate(steps, start=1):
        run(f"[{number}/{len(steps)}] {title}", together)
    print(f"\nThe demo took {duration(time.monotonic() - begun)}. The report: {steps[-1][1][0].result}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=user_path, required=True, metavar="DIR", help="folder for all of the demo")
    parser.add_argument("--engine", default="auto", choices=engines.NAMES, help="of the fine-tuning (default auto)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    return parser.parse_args()


def plan(output: Path, engine: str) -> list[tuple[str, list[Step]]]:
    """Return every command of the demo, in order, with titles; those of one title run at the same time."""
    scenes, moco, backbone = output / "scenes", output / "moco", output / "backbone.pth"
    checkpoint = moco / f"checkpoint_{schema.load(PRETRAIN, ['data.root', 'x']).optim.epochs - 1:04d}.pth.tar"
    report, page, title = output / "report", output / "report/index.html", "Demo: what MoCo is worth on made-up scenes"
    starts: dict[str, Path | str] = {"random": "random", "moco": backbone}
    return [
        ("Make the scenes", [_tool("make_scenes", scenes, scenes / "scenes.json", "--output", scenes, *SCENES)]),
        ("Pretrain a ResNet-18 with MoCo v2", [_pretraining(scenes / "unlabelled", moco, checkpoint)]),
        ("Convert it", [_tool("convert", backbone, backbone, checkpoint, backbone, "--to", "detectron2")]),
        *(
            (
                f"Fine-tune on the scenes in {task.upper()} layout from a random start and from MoCo, seed {seed}",
                [_fine_tuning(task, name, init, seed, output, engine) for name, init in starts.items()],
            )
            for task, seeds in TASKS.items()
            for seed in seeds
        ),
        ("Report", [_tool("report", report, page, output / "runs", "--output", report, "--title", title, always=True)]),
    ]


def _pretraining(images: Path, folder: Path, checkpoint: Path) -> Step:
    starter = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    settings = ("--config-file", short(PRETRAIN), "data.root", str(images), "output_dir", str(folder))
    return Step((*starter, short(ROOT / "tools/train_moco.py"), *settings), folder, checkpoint, THREADS)


def _fine_tuning(task: str, name: str, init: Path | str, seed: int, output: Path, engine: str) -> Step:
    folder = output / "runs" / f"{task}_{name}_{seed}"
    step = _tool(
        "finetune",
        folder,
        folder / "result.json",
        *("--config-file", short(ROOT / f"configs/transfer/demo_{task}.yaml"), "--engine", engine),
        *("--dataset-root", output / "scenes", "--init", init, "--seed", seed, "OUTPUT_DIR", folder),
    )
    return replace(step, environment=THREADS)


def _tool(name: str, folder: Path, result: Path, *arguments: object, always: bool = False) -> Step:
    return Step((short(ROOT / "tools" / f"{name}.py"), *map(str, arguments)), folder, result, always=always)


def claim(output: Path, marker: dict[str, str]) -> None:
    """Make the demo's folder, or recognise an earlier demo's.

    Raises:
        UserError: the folder holds something else, or a demo with other options.
    """
    path = output / MARKER
    if path.is_file():
        if json.loads(path.read_text()) != marker:
            raise UserError(f"{output}: holds a demo with other options: rm -r {output}, or name another --output")
        print(f"Resuming the demo in {output}; for a new one: rm -r {shlex.quote(str(output))}")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: exists and is not an earlier demo; nothing is overwritten, name another --output")
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(marker) + "\n")


if __name__ == "__main__":
    cli.run(main)
