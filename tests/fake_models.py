"""Language models without a network, for tests of what asks them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.models.base import ChoiceScores, Generation, TokenLogprobs


def shown(prompt):
    """All that a model reads of a prompt."""
    return "\n".join(message.content for message in prompt.messages) + prompt.answer


def any_of(held, number):
    """One of the answers that a permutation allows."""
    order = np.random.default_rng(number).permutation(len(held.items))
    return held.text(order[: held.length or len(held.items)])


@dataclass
class HashModel:
    """Answers by a hash of what it is shown, and of the seed where it draws; a token is a character.

    Keeps what it was asked.
    """

    writes: object = lambda number: f"[{1 + number % 3}] > [{1 + (number + 1) % 3}]"
    finish: str = "stop"
    context: int | None = None
    log_total: float = 3.0
    can: frozenset = frozenset({"choices", "continuation", "generate", "constrained"})
    asked: list = field(default_factory=list, compare=False, repr=False)

    def load(self):
        self.asked.append(("load",))

    def plain(self, text):
        return text.replace("<|x|>", "< |x|>")

    def token_ends(self, texts):
        return [list(range(1, len(text) + 1)) for text in texts]

    def lengths(self, prompts):
        return [len(shown(prompt)) for prompt in prompts]

    def choices(self, prompts, labels):
        self.asked.append(("choices", list(prompts)))
        return [self._choice(prompt, names) for prompt, names in zip(prompts, labels, strict=True)]

    def _choice(self, prompt, names):
        weights = np.array([1.0 + zlib.crc32(f"{shown(prompt)}{name}".encode()) % 97 for name in names])
        usage = Usage(1, len(shown(prompt)))
        return ChoiceScores(np.log(weights / weights.sum()), np.zeros(len(names), dtype=bool), usage, self.log_total)

    def continuation(self, prompts, texts):
        self.asked.append(("continuation", list(prompts)))
        return [
            TokenLogprobs(
                -np.array([1.0 + zlib.crc32(f"{shown(p)}{c}".encode()) % 7 for c in text]), Usage(1, len(text))
            )
            for p, text in zip(prompts, texts, strict=True)
        ]

    def generate(self, prompts, *, max_tokens, stop=(), sampling=None, seeds=None, constraint=None):
        self.asked.append(("generate", list(prompts), max_tokens, tuple(stop), sampling, seeds))
        answers = []
        for prompt, seed in zip(prompts, seeds or [0] * len(prompts), strict=True):
            number = zlib.crc32(f"{shown(prompt)}{seed}".encode())
            text = (self.writes(number) if constraint is None else any_of(constraint, number))[:max_tokens]
            answers.append(Generation(text, self.finish, Usage(1, len(shown(prompt)), output_tokens=len(text))))
        return answers

    def calls(self, kind):
        return [call for call in self.asked if call[0] == kind]
