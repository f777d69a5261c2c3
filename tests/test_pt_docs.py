"""The plugin's pages for PyTerrier's documentation name what exists and draw what they show."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pyterrier as pt

import pyterrier_llmrank

PAGE = (Path(pyterrier_llmrank.__file__).parent / "pt_docs" / "index.rst").read_text(encoding="utf-8")


def test_the_schematic_draws_offline():
    drawn = ast.literal_eval(re.search(r"\.\. schematic::\n\n((?:    .*\n)+)", PAGE)[1].strip())
    html = pt.schematic.draw(drawn)
    assert "BM25" in html and "ListwiseLLM" in html


def test_every_public_name_is_documented_and_every_documented_name_is_public():
    named = set(re.findall(r"\.\. auto(?:class|function):: pyterrier_llmrank\.(\w+)", PAGE))
    values = {"Answer", "Doc", "Evidence", "LLMRankError", "LLMRankWarning", "Question", "Usage", "__version__"}
    assert named == set(pyterrier_llmrank.__all__) - values
    for name in named:
        assert getattr(pyterrier_llmrank, name).__doc__, name
