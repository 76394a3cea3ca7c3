"""Everything that only a GPU can show, in nine minutes and without a network: `make test-gpu`.

With DEVICE=cpu the same code runs at tiny size, so that it is known to run. docs/measurements/gpu.md lists the checks.
"""

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path

from tests.gpu.plan import CHECKS, SECONDS
from tests.gpu.run import LOG, run_checks

ROOT = Path(__file__).resolve().parents[2]
CPU_SECONDS = 10800  # of all checks on a CPU, which may be a busy one: minutes on an idle one
NEEDED = {  # modules to import, and the packages that have them
    **{name: name for name in ("torch", "torchvision", "numpy", "pycocotools", "fvcore", "rich", "safetensors")},
    **{name: name for name in ("fsspec", "simplejpeg", "shapely", "matplotlib", "jinja2", "pytest", "hypothesis")},
    **{"yaml": "pyyaml", "PIL": "pillow", "cv2": "opencv-python-headless"},
}


def main() -> int:
    """Run the checks that the command line names; return the exit code."""
    arguments = _parser().parse_args()
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f"error: {sys.executable} lacks {', '.join(missing)}; name another with PYTHON=...", file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT / "tools"))  # the scripts import the packages beside them
    if fault := _device_fault(arguments.device):
        print(f"error: {fault}", file=sys.stderr)
        return 2
    output: Path = arguments.output
    if (output / LOG).exists():
        print(f"error: {output / LOG} is there already; move it away or name another --output", file=sys.stderr)
        return 2
    output.mkdir(parents=True, exist_ok=True)
    if arguments.device == "cpu":
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads beside busy processes cost more than they give
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the process of a check is ended, too
    checks = [check for check in CHECKS if not arguments.only or check.name in arguments.only]
    seconds = arguments.seconds or (SECONDS if arguments.device == "cuda" else CPU_SECONDS)
    return 0 if run_checks(checks, arguments.device, output, seconds) else 1


def _parser() -> argparse.ArgumentParser:
    names = [check.name for check in CHECKS]
    checks = "\n".join(f"  {check.name:9} {check.seconds:4} s  {check.shows}" for check in CHECKS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu",
        description=__doc__,
        epilog=f"checks, and the seconds on a GPU that each may take:\n{checks}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=names, metavar="CHECK", help="these checks alone")
    parser.add_argument("--seconds", type=float, help=f"for all of them (default: {SECONDS}, {CPU_SECONDS} on a CPU)")
    output = Path(os.environ.get("OUT", "output")) / "test_gpu"
    parser.add_argument("--output", type=Path, default=output, metavar="DIR", help="for the log (default: %(default)s)")
    return parser


def _device_fault(device: str) -> str:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device; DEVICE=cpu runs the same code at tiny size"
    return ""


if __name__ == "__main__":
    sys.exit(main())
