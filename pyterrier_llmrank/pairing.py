"""Whether a strategy and a scorer fit together, and what would, if they do not; whether a strategy keeps the rules."""

from __future__ import annotations

import numpy as np

from .core import Evidence, Flow, Scorer, Scores, Strategy, spelled
from .errors import ConfigurationError

_MEANING = {
    Evidence.CHOICE: "the best document of a group (CHOICE)",
    Evidence.ORDER: "the order of a group (ORDER)",
    Evidence.SCORE: "scores that hold between groups (SCORE)",
}
_FITTING = {
    Evidence.CHOICE: "Heapsort, Bubble, Insertion, or Sampled(all_pairs, additive)",
    Evidence.ORDER: "SlidingWindow, TopDown, OneShot, Heapsort, or Sampled(equi_replicate(20), page_rank)",
    Evidence.SCORE: "Pointwise, or Sampled(shuffled_groups(10), mean)",
}


def check_pairing(strategy: Strategy, scorer: Scorer, depth: int | None) -> None:
    """Whether the scorer gives what the strategy needs, for groups of its size.

    Raises:
        ConfigurationError: It does not; names what would work.
    """
    if not callable(strategy):
        raise ConfigurationError(
            f"{strategy!r} is not a strategy: pass one such as SlidingWindow(20, 10), or a generator function of (n, k)"
        )
    gives = getattr(scorer, "gives", None)
    if not callable(scorer) or gives is None:
        raise ConfigurationError(
            f"{scorer!r} is not a scorer: pass one such as Prompted(ListPrompt(), model) or CrossEncoder(name)"
        )
    needs = getattr(strategy, "needs", Evidence.CHOICE)
    if gives < needs:
        raise ConfigurationError(
            f"{spelled(strategy)} needs {_MEANING[needs]}, but {scorer!r} gives only {_MEANING[gives]}; "
            f"use {_FITTING[gives]}, or a scorer that gives {needs.name}"
        )
    size = getattr(strategy, "group_size", 0)
    size = depth if size is None else size
    largest = getattr(scorer, "max_docs", None)
    if largest is not None and (size is None or size > largest):
        asked = "the whole list" if size is None else f"{size} documents"
        raise ConfigurationError(
            f"{spelled(strategy)} asks about {asked} at once, but {scorer!r} takes at most {largest}; "
            f"use smaller groups such as SlidingWindow({largest}, {max(1, largest // 2)})"
        )


def check_selection(strategy: Strategy, scorer: Scorer) -> None:
    """Whether scores will say which documents were selected (``keep_only_selected``).

    Raises:
        ConfigurationError: The scorer orders documents, each of which has its place; or the strategy shows parts of the
            list, so that its scores are places.
    """
    if not getattr(scorer, "selects", False):
        raise ConfigurationError(
            f"keep_only_selected=True needs a scorer that selects, such as Prompted(SelectPrompt(), model); {scorer!r} "
            "says nothing of documents that are not wanted"
        )
    if getattr(strategy, "group_size", None) is not None:
        raise ConfigurationError(
            f"keep_only_selected=True needs a strategy that shows the whole list, such as OneShot(); "
            f"{spelled(strategy)} shows parts of it, and its scores are places"
        )


def checked(strategy: Strategy, flow: Flow[Scores], n: int) -> Flow[Scores]:
    """The flow of a strategy, which asks about distinct documents of the list and returns a score for each.

    Raises:
        ConfigurationError: It does something else.
    """
    if not hasattr(flow, "send"):
        raise ConfigurationError(
            f"{spelled(strategy)} returned {flow!r:.80} when it was called with (n, k), so it is no generator; a "
            "strategy yields lists of groups and returns its scores: write `answers = yield groups`"
        )
    documents = frozenset(range(n))
    answers: list[Scores] | None = None
    while True:
        try:
            groups = next(flow) if answers is None else flow.send(answers)
        except StopIteration as stop:
            return _scores(strategy, stop.value, n)
        try:
            for group in groups:
                if not 0 < len(group) == len(own := set(group)) or not own <= documents:
                    raise ConfigurationError(
                        f"{spelled(strategy)} asked about the group {group!r:.80} of {n} documents; a group is a tuple "
                        f"of distinct indices from 0 to {n - 1}, of one document at least"
                    )
        except TypeError as error:
            raise ConfigurationError(
                f"{spelled(strategy)} asked {groups!r:.80}; a strategy yields lists of groups, which are tuples of "
                "indices, such as [(0, 1), (2, 3)]"
            ) from error
        answers = yield groups


def _scores(strategy: Strategy, result: object, n: int) -> Scores:
    """What a strategy returned, as one score for each of ``n`` documents.

    Raises:
        ConfigurationError: It is something else.
    """
    try:
        scores = np.asarray(result, dtype=np.float64)
        found = f"{len(scores)} scores" if scores.ndim == 1 else f"{result!r:.80}"
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{spelled(strategy)} returned {result!r:.80} for {n} documents; a strategy returns one score per document"
        ) from error
    if scores.shape != (n,):
        raise ConfigurationError(
            f"{spelled(strategy)} returned {found} for {n} documents; a strategy returns one score per document"
        )
    return scores
