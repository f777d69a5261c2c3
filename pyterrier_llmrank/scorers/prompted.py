"""``Prompted``: a prompt read by a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import nlargest
from typing import cast

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import Generation, Permutation, Sampling
from pyterrier_llmrank.models.base import Primitive
from pyterrier_llmrank.models.partial import carrying, finished
from pyterrier_llmrank.prompts.base import ChoiceTemplate, Template, TextTemplate

from .labels import Labelled
from .limits import check_limits
from .showing import SLACK, Item, Reply, Showing, drawing, replied


@dataclass(frozen=True, repr=False)
class Prompted(Showing):
    """Shows documents to a language model in a prompt, and reads scores from its answer.

    Documents and queries are plain text to the model, whatever control tokens they spell. Documents that exceed the
    context are shortened evenly, and what was cut is counted. An answer that cannot be read is NaN for all its
    documents, and counted as a failure. One call per prompt.

    Args:
        prompt: What to ask, e.g. ``YesNo()`` or ``ListPrompt()``; ``Demonstrated(prompt, examples)`` shows solved
            examples first.
        model: Who answers, e.g. ``HFModel(name)``.
        max_doc_tokens: Tokens to keep of any document; all that fit by default.
        max_tokens: Tokens of a written answer at most; by default what the longest expected answer takes. Prompts that
            let the model reason need thousands.
        sampling: How the tokens of a written answer are drawn; greedily by default.
        seed: Decides what is drawn, together with the qid and the documents of each prompt.

    Raises:
        ConfigurationError: ``prompt`` is not a prompt, ``model`` not a model, or an argument about written answers is
            given for a prompt that reads probabilities.
        Unsupported: The model does not offer what the prompt asks for.
    """

    max_tokens: int | None = field(default=None, kw_only=True)
    sampling: Sampling | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, "max_tokens")
        if self.prompt.asks == "choices" and (self.max_tokens is not None or self.sampling is not None):
            raise ConfigurationError(
                f"{self.prompt!r} reads probabilities and nothing is written, so max_tokens and sampling mean nothing; "
                "leave them out, or use Reasoned to let the model write before it chooses"
            )

    def _primitives(self) -> tuple[Primitive, ...]:
        """What the model must offer."""
        held = _constraint(self.prompt, 1) is not None
        return (*super()._primitives(), "constrained") if held else super()._primitives()

    def _replies(self, template: Template, items: Sequence[Item]) -> list[Reply]:
        """Scores from the probabilities of labels, or from written answers."""
        if template.asks == "choices":
            return self._chosen(cast(ChoiceTemplate, template), items)
        return self._written(cast(TextTemplate, template), items)

    def _chosen(self, template: ChoiceTemplate, items: Sequence[Item]) -> list[Reply]:
        prompts, lost = self._fitted(template, items, self._rooms_of_labels(template, items))

        def made(place: int, one: Labelled) -> Reply:
            return replied(template.read(one.values, len(items[place].texts)), "ok", one.usage, lost[place])

        def early(error: Exception) -> dict[int, Reply]:
            return {place: made(place, one) for place, one in finished(error, "", prompts).items()}

        with carrying(items, early):
            read = self._labelled(template, prompts, items)
        return [made(*one) for one in enumerate(read)]

    def _written(self, template: TextTemplate, items: Sequence[Item]) -> list[Reply]:
        """Answers of equal length, or held to the same, are generated together."""
        rooms = self._rooms(template, {len(item.texts) for item in items})
        reserve = [rooms[len(item.texts)] for item in items]
        prompts, lost = self._fitted(template, items, reserve)
        replies: dict[int, Reply] = {}

        def note(places: Sequence[int], written: Mapping[int, Generation]) -> dict[int, Reply]:
            for at, generation in written.items():
                place = places[at]
                parsed = template.parse(generation.text, len(items[place].texts))
                replies[place] = replied(*parsed, generation.usage, lost[place])
            return replies

        def early(own: Sequence[Prompt], places: Sequence[int], error: Exception) -> dict[int, Reply]:
            return note(places, finished(error, "generate", own))

        kinds = [(room, _constraint(template, len(item.texts))) for room, item in zip(reserve, items, strict=True)]
        for max_tokens, constraint in dict.fromkeys(kinds):
            places = [place for place, kind in enumerate(kinds) if kind == (max_tokens, constraint)]
            more = drawing(self.sampling, self.seed, [items[place] for place in places])
            more |= {} if constraint is None else {"constraint": constraint}
            own = [prompts[place] for place in places]
            with carrying(items, partial(early, own, places)):
                written = self.model.generate(own, max_tokens=max_tokens, **more)
            note(places, dict(enumerate(written)))
        return [replies[place] for place in range(len(items))]

    def _rooms(self, template: TextTemplate, sizes: set[int]) -> dict[int, int]:
        """Tokens that an answer about so many documents may take."""
        if self.max_tokens is not None:
            return dict.fromkeys(sizes, self.max_tokens)
        ends = self.model.token_ends([template.longest(n) for n in sizes])
        return {n: max(len(tokens), self._apart(template, n)) + SLACK for n, tokens in zip(sizes, ends, strict=True)}

    def _apart(self, template: TextTemplate, n: int) -> int:
        """Tokens of an answer that is held to a permutation, where none spans two items; 0 for any other answer."""
        held = _constraint(template, n)
        if held is None:
            return 0
        lengths = map(len, self.model.token_ends([held.between + item for item in held.items]))
        return sum(nlargest(held.length or n, lengths))


def _constraint(template: Template, n: int) -> Permutation | None:
    """What an answer about ``n`` documents is held to, where the template says so."""
    told = getattr(template, "constraint", None)
    found = None if told is None else told(n)
    return None if found is None else Permutation(*found)
