"""Command-line tools: parse, call, print. `python tools/x.py` and `python -m tools.x` both work."""

import pathlib
import sys

# The tools share command.py by a plain `import command`, as they find it when run as scripts.
sys.path.insert(0, str(pathlib.Path(__file__).parent))
