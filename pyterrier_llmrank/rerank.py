"""``Rerank``: a strategy and a scorer as a PyTerrier transformer. The only PyTerrier face of ranking."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import pyterrier as pt

from .asking import Asking, Bar
from .columns import check_columns, columns_read, docs_read
from .core import Doc, Flow, Scorer, Scores, Strategy
from .cutoff import FirstCandidates
from .described import Described
from .errors import ConfigurationError
from .flow import eagerly, relabel, run, together
from .frames import RAW_SCORE, candidate_order, query_texts, ranked
from .ledger import Ledger
from .pairing import check_pairing, check_selection, checked
from .parts import at_once
from .seeds import reseeded


class Rerank(Described):
    """Reorders each query's documents: ``strategy`` asks about groups of them, ``scorer`` answers.

    Candidates are taken in the order of ``rank``, else of ``score``, else of rows. All queries of a frame advance in
    lockstep, so that a round of all of them is one call of the scorer; or each by itself (``eager``). Ties, and
    documents without an answer, keep their order. The result holds every input column and row (unless ``num_results``
    or ``keep_only_selected`` says fewer), with

    * ``score``: finite and strictly decreasing in float32, so that no evaluation tool can reorder it: the
      strategy's score where it has one, and steps of 1 below it for the rest;
    * ``rank``: from 0;
    * ``llmrank_score``: the strategy's own score (its unit is the scorer's), NaN where it was not asked.

    Args:
        strategy: Which groups to ask about, e.g. ``SlidingWindow(20, 10)``; or a generator function of (n, k).
        scorer: What answers, e.g. ``Prompted(ListPrompt(), HFModel(name))``. One that reads other columns than the
            text, such as ``features``, is given them (see ``parts.reads``).
        top_k: Positions to settle; the strategy may leave the rest in input order. All by default.
        depth: Candidates to rerank; the rest follow below them in input order. All by default.
        num_results: Rows to return for a query. All by default.
        keep_only_selected: Whether only the documents that the scorer selected are returned: those that the strategy
            scored above 0, for prompts that select (DynamicRAG). Where the answer could not be read, all are.
        text_field: Column of the documents' text.
        verbose: Whether to show a progress bar; the scorer is then asked 64 questions at a time, so that a text that
            queries share may be read again.
        eager: Whether each query advances as soon as its own answers are back, in a thread of its own; the result is
            the same. By default where all models in ``scorer`` may be asked so: those behind a server.

    Attributes:
        ledger: What each query cost (see ``Ledger``).

    Raises:
        ConfigurationError: The scorer does not give what the strategy needs, takes smaller groups, does not select, or
            does not say that several threads may ask it.
    """

    def __init__(
        self,
        strategy: Strategy,
        scorer: Scorer,
        *,
        top_k: int | None = None,
        depth: int | None = None,
        num_results: int | None = None,
        keep_only_selected: bool = False,
        text_field: str = "text",
        verbose: bool = False,
        eager: bool | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("top_k", top_k), ("depth", depth), ("num_results", num_results)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1 or None (all), got {value}")
        check_pairing(strategy, scorer, depth)
        if keep_only_selected:
            check_selection(strategy, scorer)
        if eager and at_once(scorer) == 1:
            raise ConfigurationError(
                f"eager=True asks from several threads, and not all models and scorers of {scorer!r} say that they may "
                "be asked so (with an attribute eager = True); leave it out to advance in lockstep"
            )
        self.strategy = strategy
        self.scorer = scorer
        self.top_k = top_k
        self.depth = depth
        self.num_results = num_results
        self.keep_only_selected = keep_only_selected
        self.text_field = text_field
        self.verbose = verbose
        self.eager = eager
        self.ledger = Ledger()

    def load(self) -> Rerank:
        """Loads whatever the scorer needs now, so that what is missing is said before the first query; returns self."""
        load = getattr(self.scorer, "load", None)
        if load is not None:
            load()
        return self

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Reranks a result frame; see the class for what comes back.

        Raises:
            InputValidationError: A column is missing.
            InputError: A row without a qid, a query without text, ranks that are no numbers, or a column twice.
            ConfigurationError: A strategy of one's own asked or returned what it must not.
            ScoringError: The scorer failed; names the queries.
        """
        check_columns(inp, self.scorer, self.text_field, self)
        order, starts = candidate_order(inp)
        out = inp.drop(columns=["score", "rank", RAW_SCORE], errors="ignore").iloc[order].reset_index(drop=True)
        if len(out) == 0:
            empty = pd.Series(dtype="float64")
            return out.assign(**{RAW_SCORE: empty, "score": empty, "rank": pd.Series(dtype="int64")})
        self.load()
        lists = [range(start, end) for start, end in zip(starts, [*starts[1:], len(out)], strict=True)]
        heads = [rows[: self.depth] for rows in lists]
        qids = [str(out["qid"].iloc[rows.start]) for rows in lists]
        flows = [self._flow(qid, rows) for qid, rows in zip(qids, heads, strict=True)]
        threads = 1 if self.eager is False else at_once(self.scorer)
        docs = docs_read(inp, order, starts, self.scorer, self.text_field)
        with self._asking(out, docs, lists, heads) as ask:
            answers = eagerly(flows, ask, at_once=threads) if threads > 1 else run(together(flows), ask)
        return ranked(out, lists, answers, num_results=self.num_results, only_selected=self.keep_only_selected)

    def transform_iter(self, inp: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """The same for an iterable of rows; nothing in, nothing out."""
        rows = list(inp)
        out: list[dict[str, Any]] = self.transform(pd.DataFrame(rows)).to_dict(orient="records") if rows else []  # type: ignore[assignment]
        return out

    def _asking(self, out: pd.DataFrame, docs: Sequence[Doc], lists: Sequence[range], heads: Sequence[range]) -> Asking:
        """What answers the questions of this run."""
        starts = [rows.start for rows in lists]
        qids = [str(out["qid"].iloc[start]) for start in starts]
        names = list(zip(qids, query_texts(out, starts), strict=True))
        rows = [name for name, of_query in zip(names, lists, strict=True) for _ in of_query]
        self.ledger.open(qids)
        return Asking(type(self).__name__, self.scorer, docs=docs, rows=rows, ledger=self.ledger, bar=self._bar(heads))

    def _bar(self, heads: Sequence[range]) -> Bar | None:
        """Progress in questions; their number is known where the strategy tells its cost, else only their count."""
        if not self.verbose:
            return None
        cost = getattr(self.strategy, "cost", None)
        total = None if cost is None else sum(cost(len(rows), self._settle(len(rows))).calls for rows in heads)
        bar: Bar = pt.tqdm(total=total, desc=type(self).__name__, unit="question")
        return bar

    def _settle(self, n: int) -> int:
        """How many of ``n`` positions will be read."""
        return min(n, self.top_k or n, self.num_results or n)

    def _flow(self, qid: str, rows: range) -> Flow[Scores]:
        """The strategy over one query's rows; what it draws at random depends on its seed and the qid."""
        flow = reseeded(self.strategy, qid)(len(rows), self._settle(len(rows)))
        return relabel(checked(self.strategy, flow, len(rows)), rows)

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer | None:
        """``% k`` as an argument: the same first ``k`` rows, with no more calls than before.

        Where ``k`` lies within ``depth``, the rows below ``depth`` need not even be retrieved.
        """
        if self.num_results is not None and self.num_results <= k:
            return self
        clone = self.apply_attributes(num_results=k)
        return FirstCandidates(self.depth) >> clone if self.depth is not None and k <= self.depth else clone

    def apply_attributes(self, **changes: Any) -> Rerank:  # noqa: ANN401 - PyTerrier's protocol
        """A copy with other arguments of its own, sharing the scorer (nothing is loaded again), with a new ledger."""
        if changes.keys() - {"top_k", "depth", "num_results", "keep_only_selected", "text_field", "verbose", "eager"}:
            made: Rerank = super().apply_attributes(**changes)  # type: ignore[assignment]
            return made
        clone = copy.copy(self)
        vars(clone).update(changes, ledger=Ledger())
        return clone

    def transform_inputs(self) -> list[list[str]]:
        """Columns it reads."""
        return [["qid", "query", "docno", *columns_read(self.scorer, self.text_field)]]
