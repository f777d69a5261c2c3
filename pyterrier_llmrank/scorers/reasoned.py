"""``Reasoned``: the model reasons first, and its answer is read as probabilities of labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

from pyterrier_llmrank.core import Prompt, silence
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import Generation, Sampling
from pyterrier_llmrank.models.base import Primitive
from pyterrier_llmrank.prompts.base import ChoiceTemplate, Status, Template

from .labels import Labelled
from .limits import check_limits
from .showing import Item, Reply, Showing, drawing, replied

SENTENCES = re.compile(r".*(?:[.!?](?=\s|$)|[。！？])", re.DOTALL)  # noqa: RUF001 - sentences of any script


class Thought(NamedTuple):
    """What a model thought, and whether it came to an end."""

    text: str
    status: Status


@dataclass(frozen=True, repr=False)
class Reasoned(Showing):
    """Lets a language model reason about documents, then reads how probable each label is as its answer.

    The model writes after ``opening`` until it writes the end of its reasoning; labels are read after ``closing``.
    Reasoning that does not end within ``max_tokens`` is cut after its last full sentence and closed, and counted as
    repaired: the answer then follows from what was thought so far. Works with any prompt that reads labels, about one
    document (Rank1) or several. Two calls per prompt.

    Args:
        prompt: What to ask; reads labels, such as ``YesNo()``.
        model: Who answers; it must offer ``generate`` and ``choices``.
        max_doc_tokens: Tokens to keep of any document; all that fit by default.
        max_tokens: Tokens of the reasoning at most; the context must hold them beside the prompt.
        opening: How the reasoning begins; empty where the prompt itself ends so.
        closing: What ends the reasoning and comes before the answer.
        stop: What the model is stopped at; ``closing`` without the spaces around it by default.
        sampling: How the tokens of the reasoning are drawn; greedily by default.
        seed: Decides what is drawn, together with the qid and the documents of each prompt.

    Raises:
        ConfigurationError: ``prompt`` is not a prompt or reads written answers, ``model`` is not a model, ``closing``
            is empty, or ``max_tokens`` below 1.
        Unsupported: The model does not offer both primitives.

    Reference:
        Weller et al., 2025 (Rank1).
    """

    max_tokens: int = field(default=8192, kw_only=True)
    opening: str = field(default="<think>\n", kw_only=True)
    closing: str = field(default="</think>\n\n", kw_only=True)
    stop: str = field(default="", kw_only=True)
    sampling: Sampling | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, "max_tokens")
        if self.prompt.asks != "choices":
            raise ConfigurationError(
                f"Reasoned reads labels after the reasoning, and {self.prompt!r} reads written answers: use "
                f"Prompted with max_tokens={self.max_tokens}, whose answer may hold the reasoning"
            )
        if not self.closing.strip():
            raise ConfigurationError(f"closing must end the reasoning with a text, got {self.closing!r}")

    def _primitives(self) -> tuple[Primitive, ...]:
        return (*super()._primitives(), "generate")

    def _replies(self, template: Template, items: Sequence[Item]) -> list[Reply]:
        """Scores from the labels after the reasoning."""
        choice = cast(ChoiceTemplate, template)
        [frame] = self.model.token_ends([f"{self.opening}\n{self.closing}"])
        reserve = [self.max_tokens + len(frame) + room for room in self._rooms_of_labels(choice, items)]
        prompts, lost = self._fitted(choice, items, reserve)
        written = self._written(prompts, items)
        replies = {
            place: replied(silence(len(items[place].texts)), "empty", generation.usage, lost[place])
            for place, generation in enumerate(written)
            if generation.usage.failures  # nothing was thought, so nothing follows from it
        }
        rest = [place for place in range(len(items)) if place not in replies]
        thoughts = self._thoughts([written[place].text for place in rest], [written[p].finish == "stop" for p in rest])
        read = self._answers(choice, [prompts[place] for place in rest], [items[place] for place in rest], thoughts)
        for place, thought, one in zip(rest, thoughts, read, strict=True):
            scores = choice.read(one.values, len(items[place].texts))
            replies[place] = replied(scores, thought.status, written[place].usage + one.usage, lost[place])
        return [replies[place] for place in range(len(items))]

    def _written(self, prompts: Sequence[Prompt], items: Sequence[Item]) -> list[Generation]:
        """The reasoning of each prompt."""
        return self.model.generate(
            [replace(prompt, answer=self.opening) for prompt in prompts],
            max_tokens=self.max_tokens,
            stop=(self.stop or self.closing.strip(),),
            **drawing(self.sampling, self.seed, items),
        )

    def _thoughts(self, texts: Sequence[str], ended: Sequence[bool]) -> list[Thought]:
        """Each reasoning up to its end, or else to its last full sentence.

        Written tokens are not always those that the text is tokenised to again, which may be more: such a text is cut
        too, as there is only room for ``max_tokens``.
        """
        thoughts = []
        for text, end, tokens in zip(texts, ended, self.model.token_ends(texts), strict=True):
            fits = len(tokens) <= self.max_tokens
            if end and fits:
                thoughts.append(Thought(text, "ok"))
                continue
            kept = text if fits else text[: tokens[self.max_tokens - 1]]
            sentences = SENTENCES.match(kept)
            thoughts.append(Thought(f"{(sentences[0] if sentences else kept).rstrip()}\n", "repaired"))
        return thoughts

    def _answers(
        self, template: ChoiceTemplate, prompts: Sequence[Prompt], items: Sequence[Item], thoughts: Sequence[Thought]
    ) -> list[Labelled]:
        """The labels after each reasoning."""
        closed = [
            replace(prompt, answer=f"{self.opening}{thought.text}{self.closing}{prompt.answer}")
            for prompt, thought in zip(prompts, thoughts, strict=True)
        ]
        return self._labelled(template, closed, items)
