"""What pipelines cost, as a table that joins an experiment's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
import pyterrier as pt

from .ledger import Ledger
from .rerank import Rerank


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
        frames = [Ledger().frame(), *(reranker.ledger.frame() for reranker in _rerankers(pipeline))]
        total = pd.concat([frame.set_index("qid").astype(float) for frame in frames]).groupby(level="qid").sum()
        rows.append({"name": name, **total.mean().fillna(0.0).to_dict()})
    return pd.DataFrame(rows)


def _rerankers(pipeline: pt.Transformer) -> Iterator[Rerank]:
    """Every ``Rerank`` within a pipeline, itself included."""
    if isinstance(pipeline, Rerank):
        yield pipeline
        return
    for part in pt.inspect.subtransformers(pipeline).values():
        for one in part if isinstance(part, list) else [part]:
            yield from _rerankers(one)
