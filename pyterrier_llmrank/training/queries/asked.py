"""``Asked``: queries that a language model writes about documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import getattr_static
from typing import NamedTuple

from pyterrier_llmrank.core import Doc, Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError, Unsupported
from pyterrier_llmrank.models.base import Generation, Model, Sampling
from pyterrier_llmrank.prompts.truncation import fit
from pyterrier_llmrank.seeds import derived, generator

from .cleaning import fault, first_query
from .drafts import Draft, Written
from .kinds import KINDS, Kind
from .shots import Shot

DRAWN = Sampling(temperature=0.8)
STOP = ("\nPassage:",)  # a base model goes on with an example of its own


class _Task(NamedTuple):
    """One query to write: for which document, of which kind, with which examples and seed."""

    doc: int
    kind: Kind
    passage: str
    shots: tuple[Shot, ...]
    seed: int


@dataclass(frozen=True)
class _Shown:
    """A task as a template that can be made to fit."""

    task: _Task

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The prompt about one text."""
        return self.task.kind.prompt(texts[0], self.task.shots)


@dataclass(frozen=True, repr=False)
class Asked:
    """Asks a model for queries of several kinds about each document, and keeps those that are fit for use.

    What is written for a document depends on it, on the seed, and on nothing else in the call. Documents and examples
    are plain text to the model, whatever control tokens they spell; a document that exceeds the context is shortened.
    Why a query is not fit, ``cleaning.fault`` tells; one that was cut off is "unfinished".

    Args:
        model: Who writes, e.g. ``HFModel("Qwen/Qwen3-4B-Instruct-2507")``.
        kinds: Kinds or names of ``KINDS``; all of these by default.
        per_doc: Queries to ask for of each kind.
        sampling: How tokens are drawn.
        max_tokens: Tokens of a query at most.
        characters: What is shown of a document.
        seed: Decides examples and draws, together with the docno.

    Raises:
        ConfigurationError: No kind, an unknown one, two of one name, or a number below 1.
        Unsupported: The model cannot generate.

    Reference:
        Tamber et al., 2025 (CADET), for the kinds and the numbers.
    """

    model: Model
    kinds: tuple[Kind | str, ...] = tuple(KINDS)
    per_doc: int = 1
    sampling: Sampling = DRAWN
    max_tokens: int = 50
    characters: int = 2048
    seed: int = 0

    __repr__ = brief

    def __post_init__(self) -> None:
        names = [kind.name for kind in self._kinds()]
        if not names or len(set(names)) < len(names):
            raise ConfigurationError(f"Asked takes kinds of different names, at least one, got {names}")
        if min(self.per_doc, self.max_tokens, self.characters) < 1:
            raise ConfigurationError(f"per_doc, max_tokens and characters are at least 1, got {self!r}")
        if getattr_static(self.model, "can", None) is None:  # a server is not asked yet
            raise ConfigurationError(f"{self.model!r} is not a model: pass one such as HFModel('Qwen/Qwen3-0.6B')")

    def __call__(self, docs: Sequence[Doc]) -> list[Draft]:
        """One draft per document; all prompts of all documents go to the model together."""
        if not docs:
            return []
        if "generate" not in self.model.can:
            raise Unsupported(f"queries are generated, which {self.model!r} does not offer; see its field can")
        tasks = [task for place, doc in enumerate(docs) for task in self._tasks(place, doc)]
        prompts = [self._prompt(task) for task in tasks]
        answers = self.model.generate(
            prompts,
            max_tokens=self.max_tokens,
            stop=STOP,
            sampling=self.sampling,
            seeds=[task.seed for task in tasks],
        )
        drafts = [Draft(()) for _ in docs]
        for task, answer in zip(tasks, answers, strict=True):
            drafts[task.doc] = _with(drafts[task.doc], task, answer)
        return drafts

    def _kinds(self) -> list[Kind]:
        """The kinds asked for.

        Raises:
            ConfigurationError: A name is unknown.
        """
        if unknown := [kind for kind in self.kinds if isinstance(kind, str) and kind not in KINDS]:
            raise ConfigurationError(f"no kinds {unknown}; there are {', '.join(KINDS)}, or pass a Kind of your own")
        return [KINDS[kind] if isinstance(kind, str) else kind for kind in self.kinds]

    def _tasks(self, place: int, doc: Doc) -> list[_Task]:
        """What is asked about a document; nothing about one without text."""
        passage = self.model.plain(doc.text[: self.characters])
        numbered = [(kind, number) for kind in self._kinds() for number in range(self.per_doc) if passage.strip()]
        return [
            _Task(place, kind, passage, self._shots(kind, doc.docno, number), self._seed(kind, doc.docno, number))
            for kind, number in numbered
        ]

    def _seed(self, kind: Kind, docno: str, number: int) -> int:
        return derived(self.seed, docno, kind.name, number)

    def _shots(self, kind: Kind, docno: str, number: int) -> tuple[Shot, ...]:
        """Examples drawn for one query, plain."""
        rng = generator(self.seed, docno, kind.name, number, "shots")
        chosen = rng.permutation(len(kind.examples))[: kind.shown]
        own = (kind.examples[place] for place in chosen)
        return tuple(Shot(self.model.plain(one.passage), self.model.plain(one.query)) for one in own)

    def _prompt(self, task: _Task) -> Prompt:
        [fitted] = fit(_Shown(task), [("", (task.passage,))], self.model, reserve=[self.max_tokens])
        return fitted.prompt


def _with(draft: Draft, task: _Task, answer: Generation) -> Draft:
    """A draft with one more answer, kept or dropped."""
    query, more = first_query(answer.text)
    cut_off = answer.finish == "length" and not more and bool(query)
    reason = "unfinished" if cut_off else fault(query, task.passage, task.kind)
    usage = draft.usage + answer.usage
    if reason:
        return Draft(draft.queries, (*draft.dropped, reason), usage)
    return Draft((*draft.queries, Written(task.kind.name, query)), draft.dropped, usage)
