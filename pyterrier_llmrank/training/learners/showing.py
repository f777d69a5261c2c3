"""Shows training lists in prompts, as inference would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.models.hf.text import TextSide
from pyterrier_llmrank.prompts.truncation import Ruler, fit
from pyterrier_llmrank.scorers.showing import SLACK
from pyterrier_llmrank.training.data import TrainingList

from .lessons import Lesson


class Shown(NamedTuple):
    """A list as it is shown once.

    Attributes:
        query: The query.
        texts: Of the documents that are shown, in their order.
        targets: Theirs, (docs,).
    """

    query: str
    texts: list[str]
    targets: Tensor

    @property
    def order(self) -> list[int]:
        """Places of the documents, best first; equals as they are shown."""
        best: list[int] = torch.sort(self.targets, descending=True, stable=True).indices.tolist()
        return best


def show(lesson: Lesson, lists: Sequence[TrainingList], side: TextSide) -> list[Shown]:
    """The lists that are asked about, and the documents shown of each; drawn by torch's random state."""
    shown = []
    for one in _part(lists, lesson.share):
        places = _drawn(one.targets, lesson)
        texts = [side.plain(one.docs[place].text) for place in places]
        shown.append(Shown(side.plain(one.query), texts, torch.tensor([one.targets[place] for place in places])))
    return shown


def prompts(
    lesson: Lesson, items: Sequence[tuple[str, Sequence[str]]], ruler: Ruler, answers: Sequence[str] | None = None
) -> list[Prompt]:
    """Prompts about queries and documents, which are cut as at inference.

    Args:
        lesson: What is asked.
        items: Queries, and the documents shown of each.
        ruler: The model that is asked.
        answers: What will be written, for which room is left.
    """
    cap = None if lesson.lengths is None else _between(*lesson.lengths)
    rooms = [0] * len(items) if answers is None else [len(ends) for ends in ruler.token_ends(answers)]
    fitted = fit(lesson.prompt, items, ruler, reserve=[room + SLACK for room in rooms], max_doc_tokens=cap)
    return [one.prompt for one in fitted]


def targets_of(shown: Sequence[Shown]) -> Tensor:
    """(lists, docs), 0 where a list is shorter."""
    return pad_sequence([one.targets for one in shown], batch_first=True)


def mask_of(shown: Sequence[Shown]) -> Tensor:
    """True where a document is real, (lists, docs)."""
    return pad_sequence([torch.ones(len(one.texts), dtype=torch.bool) for one in shown], batch_first=True)


def _part(lists: Sequence[TrainingList], share: float) -> Sequence[TrainingList]:
    """Some of the lists, at least one."""
    if share == 1:
        return lists
    places = torch.randperm(len(lists))[: max(1, round(share * len(lists)))]
    return [lists[place] for place in places]


def _drawn(targets: Sequence[float], lesson: Lesson) -> list[int]:
    """Places of the documents that are shown, in the order in which they are."""
    docs = len(targets)
    places = torch.randperm(docs) if lesson.docs or lesson.shuffled else torch.arange(docs)
    if lesson.docs is not None:
        places = _some(places, targets, _between(*lesson.docs), told_apart=lesson.prompt.max_docs != 1)
    if lesson.shuffled == 0 or (lesson.shuffled < 1 and torch.rand(()) >= lesson.shuffled):
        places = places.sort().values
    found: list[int] = places.tolist()
    return found


def _some(places: Tensor, targets: Sequence[float], n: int, *, told_apart: bool) -> Tensor:
    """The first ``n`` places; where all have the same target, one of them makes way for the next that has another."""
    values = torch.tensor(targets)[places]
    others = (values != values[0]).nonzero().flatten()
    if told_apart and 1 < n and len(others) and others[0] >= n:
        places[torch.randint(n, ())] = places[others[0]].clone()
    return places[:n]


def _between(low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``."""
    return low if low == high else int(torch.randint(low, high + 1, ()))
