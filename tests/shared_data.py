"""Recorded results and runs in ``shared`` beside the checkout; tests skip where they are absent."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import pandas as pd
import pyterrier as pt
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


def shared(*parts):
    """A file or folder of ``shared``."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


def rows(*parts):
    """Records of a compressed file of one JSON object per line."""
    with gzip.open(shared(*parts), "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@cache
def topics(collection):
    lines = shared("data", collection, "topics.tsv").read_text(encoding="utf-8").splitlines()
    return pd.DataFrame([line.split("\t", 1) for line in lines], columns=["qid", "query"])


@cache
def qrels(collection):
    return pt.io.read_qrels(str(shared("data", collection, "qrels.txt")))


@cache
def grades(*parts):
    """The label of each (qid, docno) in a file of judgments."""
    labels = pt.io.read_qrels(str(shared(*parts)))
    return {(qid, docno): label for qid, docno, label in labels[["qid", "docno", "label"]].itertuples(index=False)}


@cache
def retrieved(collection, first_stage):
    """A first stage's run with its queries; ranks as recorded."""
    run = pt.io.read_results(str(shared("data", collection, f"run.{first_stage}.txt")))
    return run.merge(topics(collection), on="qid")


def orders(frame):
    """Docnos of each query, best first."""
    return {qid: group.sort_values("rank")["docno"].tolist() for qid, group in frame.groupby("qid")}
