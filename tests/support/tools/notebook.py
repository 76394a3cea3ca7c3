"""The notebook of the documentation: run anew in an empty folder, and compared with the outputs that it shows.

python -m tests.support.tools.notebook    runs it and writes its outputs into docs/start/whole_job.ipynb
"""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = ROOT / "docs" / "start" / "whole_job.ipynb"
TIMEOUT = 600  # seconds a cell


def executed(folder: Path) -> nbformat.NotebookNode:
    """Run the notebook in a kernel of this Python, in an empty folder; return it with its new outputs.

    Raises CellExecutionError, with the cell and the traceback, where a cell fails.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True, record_timing=False,
    )  # fmt: skip
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    return notebook


def kinds(notebook: nbformat.NotebookNode) -> list[list[tuple[str, ...]]]:
    """The kinds of the outputs of each code cell: a stream by its name, others by their MIME types."""
    return [
        [
            ("stream", output.name) if output.output_type == "stream" else tuple(sorted(output.data))
            for output in outputs
        ]
        for outputs in (cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    ]


def printed(notebook: nbformat.NotebookNode) -> str:
    """All that the cells have printed."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.text for output in outputs if output.output_type == "stream")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
