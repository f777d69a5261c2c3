"""``SlideGAR``: reranking that also retrieves, from the neighbours of what was ranked high."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import pandas as pd
import pyterrier as pt

from .asking import Asking
from .columns import check_columns
from .core import Doc, Flow, Group, Scorer, Scores, from_order, spelled
from .errors import ConfigurationError, InputError
from .flow import run, together
from .frames import RAW_SCORE, candidate_order, documents, query_texts, ranked
from .ledger import Ledger
from .pairing import check_pairing
from .parts import reads
from .strategies.adaptive import slide_gar
from .strategies.windows import SlidingWindow

Graph: TypeAlias = Any
"""A corpus graph of pyterrier_adaptive, anything else with ``neighbours(docno)``, or a mapping from docno to docnos."""


class SlideGAR(pt.Transformer):
    """Slides a window over the candidates and over the corpus-graph neighbours of the best so far.

    ::

        graph = CorpusGraph.load("msmarco-passage.gbm25.16")        # of pyterrier_adaptive
        bm25 % 100 >> text >> SlideGAR(Prompted(ListPrompt(), model), graph, text)

    Of each window the best stay; the next documents come in turn from the neighbours of these and from the candidates.
    At most ``budget`` documents are shown, in about ``(budget - window) / step + 1`` calls one after the other, those
    of all queries together. Candidates that were not shown follow below, in order. Documents that the first stage had
    not found have no values but ``qid``, ``query``, ``docno`` and text, ``score`` and ``rank``; beside them qids and
    docnos are texts.

    Args:
        scorer: What orders a window, e.g. ``Prompted(ListPrompt(), HFModel(name))``.
        graph: The neighbours of each document, nearest first.
        loader: A transformer that adds the text by docno, such as ``pt.text.get_text(dataset, "text")``.
        budget: Documents shown at most.
        window: Documents shown at once.
        step: New ones of each window after the first.
        text_field: Column of the documents' text.

    Attributes:
        ledger: What each query cost (see ``Ledger``).

    Raises:
        ConfigurationError: A number is out of range, or the scorer does not order windows of this size by their texts.

    Reference:
        Rathee et al., 2025 (Guiding Retrieval using LLM-based Listwise Rankers), whose numbers are the defaults.
    """

    def __init__(
        self,
        scorer: Scorer,
        graph: Graph,
        loader: pt.Transformer,
        *,
        budget: int = 50,
        window: int = 20,
        step: int = 10,
        text_field: str = "text",
    ) -> None:
        super().__init__()
        if not 1 <= step < window or budget < 1:
            raise ConfigurationError(
                f"step must be at least 1 and below window, and budget at least 1, got step={step}, window={window}, "
                f"budget={budget}"
            )
        if not isinstance(graph, Mapping) and not hasattr(graph, "neighbours"):
            raise ConfigurationError(f"graph needs a method neighbours(docno), or is a mapping; got {graph!r:.80}")
        check_pairing(SlidingWindow(window, step), scorer, None)
        if reads(scorer) != ("text",):
            raise ConfigurationError(
                f"SlideGAR shows documents that the first stage had not found, which have a text alone, and {scorer!r} "
                f"reads {', '.join(reads(scorer))}"
            )
        if isinstance(graph, Mapping) and not isinstance(next(iter(graph), ""), str):
            graph = {str(docno): near for docno, near in graph.items()}  # documents are known by texts
        self.scorer, self.graph, self.loader = scorer, graph, loader
        self.budget, self.window, self.step, self.text_field = budget, window, step, text_field
        self.ledger = Ledger()

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks each query's candidates and their neighbours; see the class for what comes back.

        Raises:
            InputValidationError: A column is missing.
            InputError: The loader has no text for a neighbour.
            ScoringError: The scorer failed; names the queries.
        """
        check_columns(inp, self.scorer, self.text_field, self)
        order, starts = candidate_order(inp)
        rows = inp.drop(columns=["score", "rank", RAW_SCORE], errors="ignore").iloc[order].reset_index(drop=True)
        if not len(rows):
            empty = pd.Series(dtype="float64")
            return rows.assign(**{RAW_SCORE: empty, "score": empty, "rank": pd.Series(dtype="int64")})
        lists = [range(start, end) for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)]
        names = [*zip(rows["qid"].astype(str).iloc[starts], query_texts(rows, starts), strict=True)]
        pool = _Pool(
            self, documents(rows, self.text_field), [name for name, own in zip(names, lists, strict=True) for _ in own]
        )
        self.ledger.open([qid for qid, _ in names])
        flows = [pool.flow(own, name) for own, name in zip(lists, names, strict=True)]
        asking = Asking("SlideGAR", self.scorer, docs=pool.docs, rows=pool.rows, ledger=self.ledger, bar=None)
        with asking as ask:
            answers = run(together(flows), partial(_asked, pool, ask))
        return self._ranked(rows, lists, pool, answers)

    def _ranked(
        self, rows: pd.DataFrame, lists: Sequence[range], pool: _Pool, answers: Sequence[list[int]]
    ) -> pd.DataFrame:
        """The rows of all documents in their final order."""
        new = pd.DataFrame(
            [(*name, doc.docno, doc.text) for name, doc in zip(pool.rows, pool.docs, strict=True)][len(rows) :],
            columns=["qid", "query", "docno", self.text_field],
        )
        whole = pd.concat([rows.astype({"qid": str, "docno": str}), new], ignore_index=True) if len(new) else rows
        places, spans, scores = list[int](), list[range](), list[Scores]()
        for own, shown in zip(lists, answers, strict=True):
            order = [*shown, *(row for row in own if row not in set(shown))]
            spans.append(range(len(places), len(places) + len(order)))
            places += order
            scores.append(from_order(range(len(shown))))
        return ranked(whole.iloc[places].reset_index(drop=True), spans, scores)

    def neighbours(self, docno: str) -> list[str]:
        """Docnos near to one, nearest first; none where the graph does not know it."""
        if isinstance(self.graph, Mapping):
            return [str(one) for one in self.graph.get(docno, ())]
        return [str(one) for one in self.graph.neighbours(docno)]

    def subtransformers(self) -> dict[str, pt.Transformer]:
        """The loader."""
        return {"loader": self.loader}

    def __repr__(self) -> str:
        """The call that builds it; a graph by its own repr."""
        told = {"budget": 50, "window": 20, "step": 10, "text_field": "text"}
        more = [f", {name}={getattr(self, name)!r}" for name, usual in told.items() if getattr(self, name) != usual]
        graph = "{…}" if isinstance(self.graph, Mapping) else repr(self.graph)
        return f"SlideGAR({spelled(self.scorer)}, {graph}, {self.loader!r}{''.join(more)})"


class _Pool:
    """The documents of a run: rows of the frame, then neighbours as they come up."""

    def __init__(self, owner: SlideGAR, docs: list[Doc], rows: list[tuple[str, str]]) -> None:
        self.owner = owner
        self.docs = docs
        self.rows = rows
        self.size = len(docs)  # of the frame
        self.texts: dict[str, str] = {}  # of neighbours, by docno
        self.places: dict[tuple[str, str], int] = {}
        for place, (doc, (qid, _)) in enumerate(zip(docs, rows, strict=True)):
            self.places.setdefault((qid, doc.docno), place)

    def flow(self, own: range, name: tuple[str, str]) -> Flow[list[int]]:
        """Ranks the rows of one query, and neighbours of them."""

        def near(best: Sequence[int]) -> list[int]:
            docnos = [self.docs[place].docno for place in best]
            return [self._place(name, one) for docno in docnos for one in self.owner.neighbours(docno)]

        told = {"budget": self.owner.budget, "window": self.owner.window, "step": self.owner.step}
        return slide_gar(own, near, **told)

    def load(self, groups: Sequence[Group]) -> None:
        """Fetches the texts of neighbours that are about to be shown.

        Raises:
            InputError: There is none for one.
        """
        shown = [place for group in groups for place in group if place >= self.size]
        if wanted := {self.docs[place].docno: self.rows[place] for place in shown}.keys() - self.texts.keys():
            asked = [(*self.rows[place], self.docs[place].docno) for place in shown if self.docs[place].docno in wanted]
            frame = pd.DataFrame(asked, columns=["qid", "query", "docno"]).drop_duplicates("docno")
            found = self.owner.loader.transform(frame)
            field = self.owner.text_field
            if field not in found or (lacking := wanted - set(found["docno"].astype(str))):
                told = f"no column {field!r}" if field not in found else f"no row for {', '.join(sorted(lacking)[:5])}"
                raise InputError(f"the loader {self.owner.loader!r} gave {told}; it must add the text of any document")
            self.texts |= {doc.docno: doc.text for doc in documents(found, field)}
        for place in shown:
            self.docs[place] = self.docs[place]._replace(text=self.texts[self.docs[place].docno])

    def _place(self, name: tuple[str, str], docno: str) -> int:
        """The row of a document, new where it had none."""
        key = (name[0], docno)
        if key not in self.places:
            self.places[key] = len(self.docs)
            self.docs.append(Doc(docno, ""))
            self.rows.append(name)
        return self.places[key]


def _asked(pool: _Pool, ask: Callable[[list[Group]], list[Scores]], groups: list[Group]) -> list[Scores]:
    """The answers of a round whose documents have their texts."""
    pool.load(groups)
    return ask(groups)
