"""What every query cost: calls, rounds, tokens, failures and seconds, as a frame that joins an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from itertools import count

import pandas as pd

from .core import USAGE_FIELDS, Usage

RUNS = count(1)
COLUMNS = ("calls", "rounds", *USAGE_FIELDS[1:], "seconds")


@dataclass
class Entry:
    """What one query cost.

    Attributes:
        usage: Calls, tokens and failures.
        rounds: Rounds it took part in: its longest chain of calls that could not run in parallel.
        seconds: Its share, by tokens, of the wall time of those rounds.
    """

    usage: Usage = field(default_factory=Usage)
    rounds: int = 0
    seconds: float = 0.0

    def row(self) -> tuple[float, ...]:
        """The values of ``COLUMNS``."""
        calls, *rest = astuple(self.usage)
        return (calls, self.rounds, *rest, self.seconds)


class Ledger(Mapping[str, Entry]):
    """Costs by qid, of the latest run of each query; ``total`` keeps everything that was ever spent.

    ``ledger[qid]`` is an ``Entry``; ``ledger.frame()`` has one row per query.

    Attributes:
        opened: Number of the latest run among all ledgers of this process; 0 before the first.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.total = Entry()
        self._entries: dict[str, Entry] = {}

    def open(self, qids: Iterable[str]) -> None:
        """Starts a new entry for each query, in place of an older run's."""
        self.opened = next(RUNS)
        for qid in qids:
            self._entries[qid] = Entry()

    def add_round(self, costs: Iterable[tuple[str | None, Usage]], seconds: float) -> None:
        """Books one round: the usage of each answer, and the seconds shared out by tokens.

        Where it is not known which query an answer was for (None), it counts in ``total`` alone.
        """
        costs = list(costs)
        weights = [usage.prompt_tokens + usage.output_tokens for _, usage in costs]
        if not any(weights):
            weights = [1] * len(costs)
        second = seconds / max(1, sum(weights))
        for (qid, usage), weight in zip(costs, weights, strict=True):
            for entry in (self.total,) if qid is None else (self._entries[qid], self.total):
                entry.usage += usage
                entry.seconds += weight * second
        for qid in {qid for qid, _ in costs if qid is not None}:
            self._entries[qid].rounds += 1
        self.total.rounds += 1

    def frame(self) -> pd.DataFrame:
        """One row per query: qid, calls, rounds, prompt_tokens, …, seconds.

        Joins the per-query table of an experiment: ``results.merge(ledger.frame(), on="qid")``. As there, qids are
        text; a frame whose qids are numbers joins by ``frame.assign(qid=frame["qid"].astype(str))``.
        """
        frame = pd.DataFrame([entry.row() for entry in self.values()], columns=list(COLUMNS))
        frame.insert(0, "qid", pd.Series(list(self), dtype=object if not self._entries else None))
        return frame

    def measures(self, name: str) -> pd.DataFrame:
        """The same in the long form of ``pt.Experiment(perquery=True)``: name, qid, measure, value."""
        long = self.frame().melt(id_vars="qid", var_name="measure", value_name="value")
        long.insert(0, "name", name)
        return long

    def __getitem__(self, qid: str) -> Entry:
        """The latest run of one query."""
        return self._entries[qid]

    def __iter__(self) -> Iterator[str]:
        """Queries, in the order they were first run."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Number of queries."""
        return len(self._entries)

    def __repr__(self) -> str:
        """Queries and total cost."""
        usage, total = self.total.usage, self.total
        return (
            f"<Ledger: {len(self)} queries, {usage.calls} calls, {usage.prompt_tokens} prompt tokens, "
            f"{usage.output_tokens} output tokens, {usage.failures} failures, {total.seconds:.2f} s in all>"
        )
