"""Which written queries are worth learning from: what a retriever and a teacher say of the documents they came from.

A filter takes a frame of queries (qid, query, docno, and kind if there are several) to those that stay, and how many do
not; ``sift`` runs one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.training.data.agreement import positives_within

from .words import normalised


class Sifted(NamedTuple):
    """What a filter leaves.

    Attributes:
        queries: Rows that stay, in their order.
        dropped: How many do not, by reason, in the order of the filters.
    """

    queries: pd.DataFrame
    dropped: dict[str, int]


Filter: TypeAlias = Callable[[pd.DataFrame], Sifted]


def sift(queries: pd.DataFrame, *filters: Filter) -> Sifted:
    """The queries that pass every filter, such as ``partial(found_by, run=run)`` and ``deduplicated``, in turn."""
    dropped: Counter[str] = Counter()
    for one in filters:
        queries, gone = one(queries)
        dropped.update(gone)
    return Sifted(queries, dict(dropped))


def found_by(queries: pd.DataFrame, run: pd.DataFrame, *, k: int = 20) -> Sifted:
    """Queries whose document a retriever has among its first ``k`` (dropped: "not found").

    Args:
        queries: Columns qid and docno.
        run: Results of these queries, with columns qid and docno, and rank or score.
        k: 20 in CADET.

    Raises:
        InputError: A column is missing.
        ConfigurationError: ``k`` is below 1.

    Reference:
        Tamber et al., 2025 (CADET).
    """
    return _kept(queries, _within(queries, run, k), "not found")


def first_by(queries: pd.DataFrame, ranked: pd.DataFrame, *, at_least: int | None = None) -> Sifted:
    """Queries whose document a teacher ranks first (dropped: "not first"), in a list that is not short ("short list").

    Args:
        queries: Columns qid and docno.
        ranked: The teacher's results, with columns qid and docno, and rank or score.
        at_least: Documents of a list; 20 in CADET, None for any.

    Raises:
        InputError: A column is missing.

    Reference:
        Tamber et al., 2025 (CADET).
    """
    first = _kept(queries, _within(queries, ranked, 1), "not first")
    if at_least is None:
        return first
    sizes = _qids(ranked.drop_duplicates(["qid", "docno"])).value_counts()
    long = _qids(first.queries).map(sizes).fillna(0) >= at_least
    return sift(queries, lambda _: first, lambda left: _kept(left, long.to_numpy(), "short list"))


def confident(
    queries: pd.DataFrame,
    ranked: pd.DataFrame,
    *,
    percentile: float = 25.0,
    among: Literal["lists", "documents"] = "lists",
) -> Sifted:
    """Queries whose document gets more from a teacher than a percentile of its kind's scores (dropped: "low score").

    Args:
        queries: Columns qid and docno, and kind if there are several.
        ranked: The teacher's results, with columns qid, docno and score.
        percentile: From 0 to 100; 25 in CADET.
        among: Which scores it is of: all of the queries' "lists", or those of the "documents" that they were written
            for, which drops that part of them.

    Raises:
        InputError: A column is missing.
        ConfigurationError: An argument is out of range.

    Reference:
        Tamber et al., 2025 (CADET).
    """
    if not 0 <= percentile <= 100:
        raise ConfigurationError(f"percentile goes from 0 to 100, got {percentile}")
    if among not in ("lists", "documents"):
        raise ConfigurationError(f"among must be 'lists' or 'documents', got {among!r}")
    require(ranked, ["qid", "docno", "score"])
    told, own, kinds = with_kind(ranked, queries), _own_scores(queries, ranked), _kinds(queries)
    stays = np.zeros(len(queries), dtype=bool)
    for kind in kinds.unique():
        of_kind = (kinds == kind).to_numpy()
        scores = (
            told.loc[told["kind"] == kind, "score"].to_numpy(dtype=np.float64) if among == "lists" else own[of_kind]
        )
        known = scores[~np.isnan(scores)]
        bound = np.percentile(known, percentile) if len(known) else np.inf
        stays |= of_kind & (own > bound)  # NaN is not
    return _kept(queries, stays, "low score")


def deduplicated(queries: pd.DataFrame, *, within: Literal["corpus", "document"] = "corpus") -> Sifted:
    """The first of queries that differ in case and marks only, over the corpus or per document (dropped: "repeated").

    Args:
        queries: Columns query and docno.
        within: Where a query may not come again.

    Raises:
        InputError: A column is missing.
        ConfigurationError: ``within`` is none of its choices.
    """
    if within not in ("corpus", "document"):
        raise ConfigurationError(f"within must be 'corpus' or 'document', got {within!r}")
    require(queries, ["query", "docno"])
    keys = pd.DataFrame({"query": queries["query"].map(normalised), "docno": queries["docno"]})
    again = keys.duplicated(["query"] if within == "corpus" else ["query", "docno"])
    return _kept(queries, ~again.to_numpy(), "repeated")


def _within(queries: pd.DataFrame, run: pd.DataFrame, k: int) -> np.ndarray:
    """Whether each query's document is among a ranking's first ``k``, (queries,)."""
    if k < 1:
        raise ConfigurationError(f"a document is sought among one or more, got k={k}")
    require(queries, ["qid", "docno"])
    require(run, ["qid", "docno"])
    sources = pd.DataFrame({"qid": _qids(queries), "docno": queries["docno"].astype(str), "label": 1})
    kept = positives_within(run.astype({"docno": str}), sources, k=k)
    return sources["qid"].isin(kept["qid"]).to_numpy()


def _own_scores(queries: pd.DataFrame, ranked: pd.DataFrame) -> np.ndarray:
    """The score of each query's document, (queries,); NaN without one."""
    rows = zip(ranked["qid"].astype(str), ranked["docno"].astype(str), ranked["score"], strict=True)
    scores = {(qid, docno): float(score) for qid, docno, score in rows}
    asked = zip(_qids(queries), queries["docno"].astype(str), strict=True)
    return np.array([scores.get(pair, np.nan) for pair in asked], dtype=np.float64)


def with_kind(ranked: pd.DataFrame, queries: pd.DataFrame) -> pd.DataFrame:
    """A ranking's rows for these queries, with each query's kind."""
    kinds = dict(zip(_qids(queries), _kinds(queries), strict=True))
    own = ranked[ranked["qid"].astype(str).isin(kinds)]
    return own.assign(kind=own["qid"].astype(str).map(kinds))


def _kinds(queries: pd.DataFrame) -> pd.Series[str]:
    """The kind of each query; one and the same where nothing says it."""
    return queries["kind"] if "kind" in queries.columns else pd.Series("query", index=queries.index)


def _qids(queries: pd.DataFrame) -> pd.Series[str]:
    return queries["qid"].astype(str)


def _kept(queries: pd.DataFrame, stays: np.ndarray, reason: str) -> Sifted:
    """The rows that stay, and the number of others under a reason."""
    return Sifted(queries[stays].reset_index(drop=True), {reason: int((~stays).sum())})


def require(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Refuses a frame without the columns.

    Raises:
        InputError: Some are missing.
    """
    if missing := [column for column in columns if column not in frame.columns]:
        raise InputError(f"this filter needs the columns {missing}, but there are {list(frame.columns)}")
