"""``Inserted``: shows what else is known of a document beside its text, such as the first stage's score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Formatter

from pyterrier_llmrank.core import Answer, Doc, Evidence, Question, Scorer, brief
from pyterrier_llmrank.errors import ConfigurationError, InputError

from .around import Around, check_scorer

OWN = ("text", "place")

SCORE_FIRST = "(first-stage score: {score:.2f}) {text}"


@dataclass(frozen=True, repr=False)
class Inserted(Around):
    """Asks a scorer about documents whose texts have columns of the frame put into them.

    ``Inserted(Prompted(ListPrompt(), model))`` shows the first stage's score before each text, so that a language model
    can weigh it (InsertRank). What is said of a document may be a title or a date as well. Where texts have to be
    shortened, they are at their end.

    Args:
        scorer: What is asked; it reads texts.
        template: Text with ``{text}`` and the columns to put in, such as ``{score:.2f}``; ``{place}`` is the place at
            which the document is shown, from 1.
        passage: What is done to the text alone before; nothing by default. What the scorer's prompt does to a passage
            it does to all of it.

    Raises:
        ConfigurationError: ``scorer`` is not a scorer, or the template lacks ``{text}`` or has a stray brace.

    Reference:
        Seetharaman et al., 2025 (InsertRank).
    """

    scorer: Scorer
    template: str = SCORE_FIRST
    passage: Callable[[str], str] | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        check_scorer("Inserted", self.scorer)
        try:
            names = self._names
        except ValueError as error:
            raise ConfigurationError(
                f"the template {self.template!r} has a stray brace ({error}); double it to spell it"
            ) from error
        if "text" not in names:
            raise ConfigurationError(f"the template {self.template!r} lacks {{text}}; write it where it belongs")
        if "" in names or any(not name.isidentifier() for name in names):
            raise ConfigurationError(f"the template {self.template!r} has a field without the plain name of a column")

    @property
    def _names(self) -> list[str]:
        """The fields of the template, in order."""
        return [name for _, name, _, _ in Formatter().parse(self.template) if name is not None]

    @property
    def reads(self) -> tuple[str, ...]:
        """The text, and the columns that are put in."""
        return tuple(dict.fromkeys(["text", *(name for name in self._names if name not in OWN)]))

    @property
    def gives(self) -> Evidence:
        """What the scorer gives; an order at most where a document's place is shown."""
        return min(self.scorer.gives, Evidence.ORDER) if "place" in self._names else self.scorer.gives

    @property
    def selects(self) -> bool:
        """Whether the scorer selects documents."""
        return bool(getattr(self.scorer, "selects", False))

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; one call of the scorer.

        Raises:
            InputError: A value does not suit the template.
        """
        return self.scorer([self._shown(question) for question in questions]) if questions else []

    def _shown(self, question: Question) -> Question:
        docs = tuple(self._filled(question, doc, place) for place, doc in enumerate(question.docs, 1))
        return question._replace(docs=docs)

    def _filled(self, question: Question, doc: Doc, place: int) -> Doc:
        """The document with everything in its text."""
        text = doc.text if self.passage is None else self.passage(doc.text)
        try:
            filled = self.template.format(**dict(doc.fields), text=text, place=place)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"document {doc.docno} of query {question.qid!r} cannot be shown as {self.template!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return doc._replace(text=filled)
