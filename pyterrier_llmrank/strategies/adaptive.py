"""``slide_gar``: a window that slides over the list and over the neighbours of its best documents (SlideGAR)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyterrier_llmrank.core import Flow, Group, descending

Neighbours = Callable[[Sequence[int]], Sequence[int]]
"""From documents, best first, to those near to any of them, nearest to the best first; repeats are allowed."""


def slide_gar(
    listed: Sequence[int], neighbours: Neighbours | None, *, budget: int, window: int, step: int
) -> Flow[list[int]]:
    """Ranks documents of a list and others that are near to the best of them.

    The first window is the top of the list. Of each window the best ``window - step`` stay, and the next ``step`` come
    in turn from the neighbours of those and from the list. What falls out goes on top of what fell out before.

    Args:
        listed: Documents of the list, best first, by numbers that neighbours outside it do not have.
        neighbours: Near documents; None for the list alone.
        budget: Documents that are shown at most; a first window more than that is shown whole.
        window: Documents shown at once.
        step: New ones of each window after the first.

    Returns:
        The documents that were shown, best first.

    Reference:
        Rathee et al., 2025 (Guiding Retrieval using LLM-based Listwise Rankers).
    """
    final: list[int] = []
    batch = list(listed[:window])
    seen = set(batch)
    best: list[int] = []
    turn = 0
    while batch:
        group: Group = (*best, *batch)
        [scores] = yield [group]
        ranked = descending(group, scores)
        best, final = ranked[: window - step], ranked[window - step :] + final
        turn += 1
        room = min(step, budget - len(seen))
        rest = [document for document in listed if document not in seen]
        near = [document for document in neighbours(best) if document not in seen] if neighbours else []
        source = near if near and (turn % 2 or not rest) else rest
        batch = list(dict.fromkeys(source))[: max(room, 0)]
        seen.update(batch)
    return best + final
