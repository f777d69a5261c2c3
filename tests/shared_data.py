"""Recorded results of official code, in ``shared/parity`` beside the checkout; tests skip where they are absent."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

SHARED: Path = Path(__file__).resolve().parents[1].parent / "shared"


def parity(name: str) -> dict:
    """The content of ``shared/parity/<name>.json``; do not change it, it is read once. Call it inside a test."""
    path = SHARED / "parity" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the recorded results {path} are not here")
    return _load(path)


@cache
def _load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
