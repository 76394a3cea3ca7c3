"""Draw leak.svg beside this file from the two runs of docs/reference/ablations.md: leak.py SHUFFLED NOT_SHUFFLED"""

import json
import pathlib
import sys
from collections import defaultdict
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

COLOURS = ("#2f6db3", "#c8443b")
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "moco-transfer"}


def by_epoch(folder: pathlib.Path, key: str) -> tuple[list[int], list[float]]:
    """Epochs from 1 and the mean of a value in percent over each, of a run's metrics.json."""
    found = defaultdict(list)
    for line in (folder / "metrics.json").read_text().splitlines():
        row = json.loads(line)
        if key in row:
            found[row["epoch"] + 1].append(100 * row[key])
    return list(found), [sum(values) / len(values) for values in found.values()]


def main() -> None:
    with rc_context(STYLE):
        figure = Figure(figsize=(7, 2.6), layout="constrained")
        accuracy, knn = figure.subplots(1, 2)
        for name, label, colour in zip(sys.argv[1:], ("shuffled", "not shuffled"), COLOURS, strict=True):
            for axes, key in ((accuracy, "contrast_accuracy"), (knn, "knn_top1")):
                axes.plot(*by_epoch(pathlib.Path(name), key), label=label, color=colour)
        accuracy.set(xlabel="epoch", ylabel="%", title="pretext accuracy")
        knn.set(xlabel="epoch", ylabel="%", title="kNN top-1")
        accuracy.legend(frameon=False)
        figure.savefig(pathlib.Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
