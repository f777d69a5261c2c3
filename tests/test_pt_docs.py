"""The plugin's pages for PyTerrier's documentation name what exists and draw what they show."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from operator import attrgetter
from pathlib import Path

import pyterrier as pt
import pytest

import pyterrier_llmrank

DOCS = Path(pyterrier_llmrank.__file__).parent / "pt_docs"
PAGE = (DOCS / "index.rst").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("*.rst")}
DOCUMENTED = set(re.findall(r"\.\. auto(?:class|function|data):: pyterrier_llmrank\.([\w.]+)", "".join(PAGES.values())))
VALUES = {"Answer", "Doc", "Evidence", "LLMRankError", "LLMRankWarning", "Question", "Usage", "__version__", "presets"}


def test_the_schematic_draws_offline():
    drawn = ast.literal_eval(re.search(r"\.\. schematic::\n\n((?:    .*\n)+)", PAGE)[1].strip())
    html = pt.schematic.draw(drawn)
    assert "BM25" in html and "ListwiseLLM" in html


def test_every_public_name_is_documented_and_every_documented_name_is_public():
    assert {name for name in DOCUMENTED if "." not in name} == set(pyterrier_llmrank.__all__) - VALUES
    training = ("data", "grpo", "learner", "learners", "loop", "losses", "merging", "queries", "rewards", "rollouts")
    for room in ("artifacts", "coprompt", "dense", "vectors", *(f"training.{room}" for room in training)):
        importlib.import_module(f"pyterrier_llmrank.{room}")
    for name in DOCUMENTED:
        assert attrgetter(name)(pyterrier_llmrank).__doc__, name


@pytest.mark.parametrize("room", ["strategies", "designs", "aggregates", "scorers", "prompts", "presets"])
def test_every_name_of_a_room_is_documented(room):
    module = importlib.import_module(f"pyterrier_llmrank.{room}")
    names = {name for name in module.__all__ if callable(getattr(module, name))}
    assert not {name for name in names if not {name, f"{room}.{name}"} & DOCUMENTED}


def test_every_page_is_in_the_table_of_contents():
    listed = re.search(r"\.\. toctree::\n(?:    :.*\n)*\n((?:    \w+\n)+)", PAGE)[1].split()
    assert sorted(listed) == sorted(PAGES.keys() - {"index"})


@pytest.mark.parametrize("page", ["strategies", "scorers", "reading_lists"])
def test_what_a_page_shows_can_be_built(page):
    block = re.search(r"\.\. code-block:: python\n.*\n\n((?:    .*\n|\n)+)", PAGES[page])[1]
    code = textwrap.dedent(block).replace("Qwen/Qwen3-4B-Instruct-2507", ".")
    examples = tuple(
        pyterrier_llmrank.Demonstration(q, ("a b", "c d"), answer) for q, answer in (("x", "A"), ("y", "B"))
    )
    exec(code, {"examples": examples})
