"""Do the whole job on made-up scenes: pretrain, convert, fine-tune beside a random start, and write the report."""

from pathlib import Path

from common import cli

# isort: split
from launcher import submit
from launcher.arguments import make_parser
from pretrain.runtime.host import config_path, user_path
from pretrain.runtime.invocation.parser import Parser

EXAMPLES = """\
examples:
  python tools/demo.py
  python tools/demo.py --seed 1

It is the pipeline configs/launch/pipeline_demo.yaml on this machine, and takes about ten minutes on two cores. After
Ctrl-C the same command continues it.
"""


def main() -> None:
    """Launch the demo's pipeline, and wait for its end."""
    parser = Parser(description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--seed", type=int, metavar="N", help="another one: other scenes, weights and draws throughout")
    add(
        "--output",
        type=user_path,
        metavar="RUN",
        help="folder of the run (default: output/demo, output/demo_seed_N)",
    )
    add("--dry-run", action="store_true", help="print what would run, and run nothing")
    arguments = parser.parse_args()
    words = ["pipeline", str(config_path("pipeline_demo", "launch")), "--cluster", "local"]
    output = arguments.output
    if arguments.seed is not None:
        words += ["--seed", str(arguments.seed)]
        output = output or Path("output") / f"demo_seed_{arguments.seed}"
    words += ["--output", str(output)] if output else []
    words += ["--dry-run"] if arguments.dry_run else []
    submit.launch_pipeline(make_parser("").parse_args(words), ())


if __name__ == "__main__":
    cli.run(main)
