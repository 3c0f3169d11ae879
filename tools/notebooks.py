"""Write examples/notebooks/*.ipynb with the outputs of a real run of the scripts beside them.

python tools/notebooks.py                      every notebook, in a folder of its own that is gone afterwards
python tools/notebooks.py own_direction        one of them
"""

import shutil
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
SECONDS = 1200  # that one cell may take


def read(script: Path) -> NotebookNode:
    """The notebook of a script in percent form, its cells numbered so that writing it again changes nothing."""
    notebook = jupytext.read(script)
    for place, cell in enumerate(notebook.cells):
        cell.id = f"cell-{place}"
    return notebook


def executed(script: Path, work: Path) -> NotebookNode:
    """The notebook after every cell ran in the folder `work`, to which the files beside the script are copied."""
    for beside in script.parent.glob("*.json"):
        shutil.copy(beside, work)
    notebook = read(script)
    where = {"metadata": {"path": str(work)}}
    NotebookClient(
        notebook, startup_timeout=SECONDS, kernel_name="python3", timeout=SECONDS, record_timing=False, resources=where
    ).execute()
    return notebook


def main(names: list[str]) -> None:
    """Run the named notebooks, or all of them, and write them."""
    for script in sorted(FOLDER.glob("*.py")):
        if not names or script.stem in names:
            with tempfile.TemporaryDirectory() as work:
                nbformat.write(executed(script, Path(work)), script.with_suffix(".ipynb"))


if __name__ == "__main__":
    main(sys.argv[1:])
