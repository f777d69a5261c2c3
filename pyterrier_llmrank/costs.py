"""What pipelines cost, as a table that joins an experiment's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, cast

import pandas as pd
import pyterrier as pt

from .ledger import Ledger


class Bookkeeper(Protocol):
    """A transformer that books what it spends."""

    ledger: Ledger


def costs(systems: Mapping[str, pt.Transformer]) -> pd.DataFrame:
    """What each pipeline cost, a row per name: the mean, over the queries it reranked, of each query's latest run.

    Where a pipeline holds several rerankers their costs add up, also where one saw fewer queries than another.

    Args:
        systems: Pipelines by name, as ``pt.Experiment`` takes them.

    Returns:
        A frame with ``name`` and the columns of the ledger (calls, rounds, …, seconds); zeros where nothing reranks.
        Joins the table of ``pt.Experiment``: ``results.merge(costs(systems), on="name")``.
    """
    rows = []
    for name, pipeline in systems.items():
        frames = [Ledger().frame(), *(reranker.ledger.frame() for reranker in bookkeepers(pipeline))]
        total = pd.concat([frame.set_index("qid").astype(float) for frame in frames]).groupby(level="qid").sum()
        rows.append({"name": name, **total.mean().fillna(0.0).to_dict()})
    return pd.DataFrame(rows)


def bookkeepers(pipeline: pt.Transformer) -> Iterator[Bookkeeper]:
    """Every part of a pipeline that keeps a ledger: rerankers, and what runs them elsewhere; itself included."""
    if isinstance(getattr(pipeline, "ledger", None), Ledger):
        yield cast(Bookkeeper, pipeline)
        return
    for part in held(pipeline).values():
        for one in part if isinstance(part, list) else [part]:
            yield from bookkeepers(one)


def held(part: pt.Transformer) -> dict[str, pt.Transformer | list[pt.Transformer]]:
    """The transformers in a transformer; of a pipeline also where ``subtransformers`` leaves out those on disk."""
    if isinstance(part, pt.Compose):
        return {"transformers": list(part)}
    return pt.inspect.subtransformers(part)
