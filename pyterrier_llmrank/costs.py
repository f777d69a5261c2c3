"""What pipelines cost, as a table that joins an experiment's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, cast

import pandas as pd
import pyterrier as pt

from .errors import LLMRankWarning
from .ledger import Ledger


class Bookkeeper(Protocol):
    """A transformer that books what it spends."""

    ledger: Ledger


def costs(systems: Mapping[str, pt.Transformer]) -> pd.DataFrame:
    """What each pipeline cost, a row per name: the mean, over the queries it reranked, of each query's latest run.

    Where a pipeline holds several rerankers their costs add up, also where one saw fewer queries than another. An
    experiment with ``plan="tree"`` or ``precompute_prefix`` runs what several pipelines begin with once; that run then
    counts for each of them, as each would have cost as much alone.

    Args:
        systems: Pipelines by name, as ``pt.Experiment`` takes them.

    Returns:
        A frame with ``name`` and the columns of the ledger (calls, rounds, …, seconds); zeros where nothing reranks.
        Joins the table of ``pt.Experiment``: ``results.merge(costs(systems), on="name")``.
    """
    places = [place for name, pipeline in systems.items() for place in _places(name, pipeline)]
    _warn_of_shared(places)
    rows = []
    for name in systems:
        frames = [Ledger().frame(), *(_books(place, places).frame() for place in places if place.system == name)]
        total = pd.concat([frame.set_index("qid").astype(float) for frame in frames]).groupby(level="qid").sum()
        rows.append({"name": name, **total.mean().fillna(0.0).to_dict()})
    return pd.DataFrame(rows)


class _Place(NamedTuple):
    """Where a pipeline keeps a ledger.

    Attributes:
        system: Name of the pipeline.
        until: Its stages up to the one that holds the bookkeeper.
        number: Of the bookkeeper among those of that stage.
        bookkeeper: What keeps the ledger.
    """

    system: str
    until: Sequence[pt.Transformer]
    number: int
    bookkeeper: Bookkeeper

    def same(self, other: _Place) -> bool:
        """Whether both would do the same work, so that an experiment may run only one of them."""
        return self.number == other.number and self.until == other.until


def _places(name: str, pipeline: pt.Transformer) -> Iterator[_Place]:
    """Every place of a pipeline."""
    stages = list(pipeline) if isinstance(pipeline, pt.Compose) else [pipeline]
    for end, stage in enumerate(stages, 1):
        for number, one in enumerate(bookkeepers(stage)):
            yield _Place(name, stages[:end], number, one)


def _books(place: _Place, places: Sequence[_Place]) -> Ledger:
    """The ledger that has the latest run of what a place does.

    Where every pipeline was run, in order, that is its own. Where an experiment ran only the first of several that are
    the same, it is that one's, even if this one had been run before by itself.
    """
    ledgers = [other.bookkeeper.ledger for other in places if place.same(other)]
    until = ledgers[: 1 + next(at for at, one in enumerate(ledgers) if one is place.bookkeeper.ledger)]
    return max(until if any(one.opened for one in until) else ledgers, key=lambda ledger: ledger.opened)


def _warn_of_shared(places: Sequence[_Place]) -> None:
    """Says which pipelines hold the same reranker for different work: its ledger has the latest run only."""
    told = set()
    for place in places:
        own = place.bookkeeper
        sharing = [other for other in places if other.bookkeeper is own]
        if own.ledger.opened and id(own) not in told and not all(map(place.same, sharing)):
            told.add(id(own))
            names = ", ".join(dict.fromkeys(repr(one.system) for one in sharing))
            warnings.warn(
                f"one reranker object, {own!r:.120}, stands at {len(sharing)} places, in {names}; its ledger holds "
                "each query's latest run, whose costs are shown for all of them. Build a reranker for each place "
                "(they may share a scorer), and run again",
                LLMRankWarning,
                stacklevel=3,
            )


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
