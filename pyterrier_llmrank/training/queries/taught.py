"""Queries and lists to learn from, by a retriever and a teacher in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from pyterrier_llmrank.training.data.scaling import scaled_scores

from .filters import confident, deduplicated, first_by, found_by, require, with_kind


class Taught(NamedTuple):
    """What ``sifted_by_teacher`` leaves.

    Attributes:
        queries: Rows that stay, in their order.
        dropped: How many do not, by reason, in the order of the filters.
        ranked: The teacher's results for the queries that stay, with a column kind.
    """

    queries: pd.DataFrame
    dropped: dict[str, int]
    ranked: pd.DataFrame


def sifted_by_teacher(
    queries: pd.DataFrame,
    retriever: Callable[[pd.DataFrame], pd.DataFrame],
    teacher: Callable[[pd.DataFrame], pd.DataFrame],
    *,
    k: int = 20,
    at_least: int | None = 20,
    percentile: float | None = 25.0,
    scale: tuple[float, float] | None = (1.0, 99.0),
) -> Taught:
    """Queries and lists to learn from, as CADET makes them: what a retriever finds and a teacher confirms.

    In this order: no query twice; the document is among the retriever's first ``k``; the teacher, who is asked about no
    other query, ranks it first, in a list of ``at_least``; its score is above the percentile of its kind.

    Args:
        queries: Columns qid, query and docno, and kind if there are several.
        retriever: Makes candidates of queries, with the texts that the teacher reads: 100 each in CADET.
        teacher: Ranks them.
        k: See ``found_by``.
        at_least: See ``first_by``.
        percentile: See ``confident``; None for no such filter.
        scale: Percentiles of the scores of a kind that become 0 and 1, see ``scaled_scores``; None leaves scores as
            they are.

    Returns:
        Queries, what was dropped, and the teacher's results: ``training_lists(taught.ranked, k=20)`` is what CADET
        trains on.

    Raises:
        InputError: A column is missing.
        ConfigurationError: An argument is out of range.

    Reference:
        Tamber et al., 2025 (CADET), but for the first filter.
    """
    require(queries, ["qid", "query", "docno"])
    once, dropped = deduplicated(queries)
    run = retriever(once[["qid", "query"]].reset_index(drop=True))
    found, lost = found_by(once, run, k=k)
    dropped |= lost
    ranked = teacher(run[run["qid"].astype(str).isin(found["qid"].astype(str))].reset_index(drop=True))
    left, lost = first_by(found, ranked, at_least=at_least)
    dropped |= lost
    if percentile is not None:
        left, lost = confident(left, ranked, percentile=percentile)
        dropped |= lost
    own = with_kind(ranked, left)
    if scale is not None and len(own):
        parts = [scaled_scores(rows, percentiles=scale) for _, rows in own.groupby("kind", sort=False)]
        own = pd.concat(parts).sort_index()
    return Taught(left, dropped, own.reset_index(drop=True))
