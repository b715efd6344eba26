"""The notebook of examples/ runs, shows what its text says, and lies in git without outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parent.parent / "examples" / "tour.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(TOUR, as_version=4)


def test_no_outputs_in_git(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kept = [cell.id for cell in code if cell.outputs or cell.execution_count is not None]
    assert code and not kept, f"clear the outputs of {kept} before you commit"


def test_tour_runs(notebook, tmp_path):
    """No cell fails, and training eagerly and by a program ends at the same loss."""
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, resources=where).execute()
    shown = "".join(
        output.get("text") or output["data"]["text/plain"] + "\n"
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    assert shown.startswith("(Value(data=0.5, grad=1), 2.0, 8.0)\n")
    assert re.findall(r"loss [\d.]+", shown) == ["loss 0.0033"] * 2
    assert "comparing a value that depends on an input" in shown
    assert "** gave inf from (0.0, -1)" in shown
    assert shown.endswith("True\n")
