"""Documents to learn against: from bands of ranks, of one retriever or several."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError, InputError, LLMRankWarning
from pyterrier_llmrank.frames import candidate_order
from pyterrier_llmrank.seeds import generator

from .lists import judgments


@dataclass(frozen=True)
class Band:
    """Ranks from which to draw.

    Args:
        start: The first, from 0.
        stop: One after the last.
        count: Documents to draw of each query; all where there are no more.

    Raises:
        ConfigurationError: There is no rank in it, or nothing to draw.
    """

    start: int
    stop: int
    count: int

    __repr__ = brief

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop or self.count < 1:
            raise ConfigurationError(f"a band goes from rank 0 or later to a later one, and draws some, got {self!r}")


def with_negatives(
    runs: pd.DataFrame | Mapping[str, pd.DataFrame],
    qrels: pd.DataFrame,
    *,
    bands: Sequence[Band] = (Band(0, 100, 7),),
    positives: pd.DataFrame | None = None,
    most: int | None = None,
    texts: Mapping[str, str] | None = None,
    text_field: str = "text",
    seed: int = 0,
) -> pd.DataFrame:
    """A frame of each query's relevant documents with others that retrievers ranked in the bands.

    Several retrievers make negatives that no single one is blind to: each is drawn from by itself, and a document
    counts for the first that draws it.

    Args:
        runs: Results with columns qid, query, docno and ``text_field``; of several retrievers by their names.
        qrels: Columns qid, docno and label; above 0 is relevant, and never drawn.
        bands: From which ranks how many documents are drawn of every run. Ranks are those among what is not relevant.
        positives: Judgments to take relevant documents from, where not all of ``qrels`` are to be taught, as those of
            ``positives_within``.
        most: Relevant documents of a query, the highest labels first; None for all.
        texts: By docno, of relevant documents that no run retrieved.
        text_field: The documents' column.
        seed: Of the draws, which depend on it, on the query and on the retriever, not on other queries.

    Returns:
        Columns qid, query, docno, ``text_field``, label, and source: "qrels" or the retriever's name. Relevant
        documents come first. Queries without any are left out, and this is said with the count.

    Raises:
        InputError: There is no text for a relevant document, or a label is no number.

    Reference:
        Zhou et al., 2023 (R2anker, several retrievers); Hu et al., 2025 (KaLM-Embedding, ranks 50 to 100).
    """
    named = {"run": runs} if isinstance(runs, pd.DataFrame) else runs
    ranked = {name: _by_query(run) for name, run in named.items()}
    relevant, taught = _relevant(qrels), _relevant(qrels if positives is None else positives)
    known = {str(docno): text for docno, text in (texts or {}).items()}
    for run in named.values():
        known.update(zip(run["docno"].astype(str), run[text_field], strict=True))
    rows: list[tuple[object, ...]] = []
    lost = 0
    queries = {qid: frame["query"].iloc[0] for found in ranked.values() for qid, frame in found.items()}
    for qid, query in queries.items():
        good = taught.get(qid, {})
        lost += not good
        if good:
            wanted = sorted(good, key=lambda docno: -good[docno])[:most]
            rows += [(qid, query, docno, _text(known, docno, qid), good[docno], "qrels") for docno in wanted]
            never = {**relevant.get(qid, {}), **good}
            found = {name: run[qid] for name, run in ranked.items() if qid in run}
            drawn = _drawn(qid, found, never, bands, seed)
            rows += [(qid, query, docno, known[docno], 0, name) for name, docno in drawn]
    if lost:
        told = f"{lost} of {len(queries)} queries have no relevant document, and are left out"
        warnings.warn(told, LLMRankWarning, stacklevel=2)
    return pd.DataFrame(rows, columns=["qid", "query", "docno", text_field, "label", "source"])


def _by_query(run: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Each query's rows, best first."""
    order, _ = candidate_order(run)
    ranked = run.iloc[order].astype({"docno": str})
    return {str(qid): rows for qid, rows in ranked.groupby("qid", sort=False)}


def _relevant(qrels: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Labels above 0, by query and document."""
    found: dict[str, dict[str, float]] = {}
    for qid, docno, label in judgments(qrels).itertuples(index=False):
        if label > 0:
            found.setdefault(qid, {})[docno] = label
    return found


def _drawn(
    qid: str, runs: Mapping[str, pd.DataFrame], never: Collection[str], bands: Sequence[Band], seed: int
) -> Iterator[tuple[str, str]]:
    """Retriever and document of each draw, no document twice."""
    taken = set(never)
    for name, run in runs.items():
        others = [docno for docno in run["docno"] if docno not in never]
        for band in bands:
            left = [docno for docno in others[band.start : band.stop] if docno not in taken]
            rng = generator(seed, qid, name, band.start, band.stop)
            places = rng.permutation(len(left))[: band.count]
            chosen = [left[place] for place in sorted(places)]
            taken.update(chosen)
            yield from ((name, docno) for docno in chosen)


def _text(known: Mapping[str, str], docno: str, qid: str) -> str:
    """The text of a relevant document.

    Raises:
        InputError: There is none.
    """
    if docno not in known:
        raise InputError(f"no run retrieved {docno!r}, which is relevant for query {qid!r}; pass its text in texts")
    return known[docno]
