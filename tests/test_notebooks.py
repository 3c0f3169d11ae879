"""The notebooks: script and notebook agree, their outputs are of a real run, and they run anew."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from tools.notebooks import FOLDER, executed, read

SCRIPTS = sorted(FOLDER.glob("*.py"))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def committed(script: Path) -> NotebookNode:
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def kinds(cell: NotebookNode) -> list[Any]:
    """What a cell gave, without the values: streams by name, everything else by its forms."""
    return [output.get("name") or sorted(output.get("data", {})) for output in cell.outputs]


def said(notebook: NotebookNode) -> str:
    """All that a notebook prints and shows as text."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_and_notebook_are_a_pair(script: Path) -> None:
    written, ran = read(script), committed(script)
    assert [(c.cell_type, c.source) for c in written.cells] == [(c.cell_type, c.source) for c in ran.cells]
    assert [cell.id for cell in written.cells] == [cell.id for cell in ran.cells]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_its_outputs_are_of_one_run_from_top_to_bottom(script: Path) -> None:
    ran = committed(script)
    cells = code_cells(ran)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "execute_result"}  # no error
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert str(Path.home()) not in said(ran)


@pytest.mark.real
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs_anew(script: Path, tmp_path: Path) -> None:
    now, then = executed(script, tmp_path), committed(script)
    assert [kinds(cell) for cell in code_cells(now)] == [kinds(cell) for cell in code_cells(then)]


def test_what_they_promise_came_out() -> None:
    assert "smollm2-135m: cheerful works at layer 21" in said(committed(FOLDER / "caa_to_vector.py"))
    assert "dose 0.20 on test items: +0." in said(committed(FOLDER / "own_direction.py"))
