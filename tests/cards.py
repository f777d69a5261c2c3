"""Runs the Python of a model card."""

from __future__ import annotations

import re


def run_card(folder, monkeypatch):
    """What the code of the card in a folder makes, by its names; it is run there."""
    [code] = re.findall("```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    made = {}
    exec(code, made)
    return made
