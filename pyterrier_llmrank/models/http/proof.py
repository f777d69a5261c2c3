"""Proof that a server reads token ids as they are meant: what it says of them in several ways must agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.models.hf.text import TextSide

from .dialects import ById, TopById, score_endpoint, token_ids
from .failures import Failed
from .loop import run
from .reading import candidates, echoed, entries
from .wire import Wire

QUESTIONS = ("Is water wet? Answer Yes or No.", "Is the sun cold? Answer Yes or No.")
TOLERANCE = 0.05  # between log-probabilities of one token, told in two ways; half precision differs by less


class Proof:
    """What a server says of the tokens that it chooses after two questions.

    Args:
        wire: To the server.
        text: Makes token ids of prompts.

    Attributes:
        holds: Whether it took token ids, no more and no fewer, and told which token it chose.
    """

    def __init__(self, wire: Wire, text: TextSide) -> None:
        self.wire = wire
        self.name = wire.address.model
        self.text = text
        asked = [Prompt((Message("user", question),)) for question in QUESTIONS]
        self.prompts = text.prompts([text.render(prompt) for prompt in asked])
        chosen = [self._chosen(ids) for ids in self.prompts]
        self.chosen = [one for one in chosen if one is not None]
        self.holds = len(self.chosen) == len(QUESTIONS)

    def dialect(self, vocabulary: int | None) -> ById | None:
        """The first dialect that gives the tokens chosen the log-probabilities that they were chosen with."""
        ladder: list[ById] = [token_ids, score_endpoint]
        if vocabulary:
            ladder.append(TopById(vocabulary))
        return next((by_id for by_id in ladder if self._agrees(by_id)), None)

    def many(self) -> bool:
        """Whether two prompts of one request are answered as each is alone."""
        body = {"model": self.name, "prompt": self.prompts, "max_tokens": 1, "temperature": 0, "logprobs": 1}
        try:
            found = [candidates(entry) for entry in entries(self.wire.ask("/completions", body), len(QUESTIONS))]
        except Failed:
            return False
        return all(one and _near(one[0].logprob, own) for one, (_, own) in zip(found, self.chosen, strict=True))

    def echo(self) -> bool:
        """Whether the last token of an echoed prompt has the log-probability that it had as the next one.

        One server is known whose echo is off by a place, which no other check would show.
        """
        try:
            for ids, (token, logprob) in zip(self.prompts, self.chosen, strict=True):
                whole = [*ids, token]
                [entry] = entries(self.wire.ask("/completions", echo_body(self.name, [whole])), 1)
                if not _near(echoed(entry, whole)[-1], logprob):
                    return False
        except Failed:
            return False
        return True

    def _chosen(self, ids: Sequence[int]) -> tuple[int, float] | None:
        """The token chosen after a prompt of ids, and its log-probability; None where that is unclear."""
        body = {"model": self.name, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "logprobs": 1}
        try:
            answer = self.wire.ask("/completions", {**body, "return_tokens_as_token_ids": True})
            [entry] = entries(answer, 1)
            found = candidates(entry)
        except Failed:
            return None
        usage = answer.get("usage") or {}
        if not found or usage.get("prompt_tokens", len(ids)) != len(ids):
            return None  # it read a text, or more than it was sent
        if (token := found[0].id) is not None:
            return token, found[0].logprob
        spelled = self.text.encode([found[0].text.decode(errors="replace")], special=False)[0]
        return (spelled[0], found[0].logprob) if len(spelled) == 1 else None

    def _agrees(self, by_id: ById) -> bool:
        """Whether a dialect says of every token chosen what was said before, and not the same of all tokens."""
        tokens = [token for token, _ in self.chosen]
        try:
            for ids, (token, logprob) in zip(self.prompts, self.chosen, strict=True):
                wanted = tuple(dict.fromkeys([token, *tokens, *ids[:2]]))
                [read] = run(by_id(self.wire, self.name, [ids], wanted))
                if read.missing[0] or not _near(read.logprobs[0], logprob) or np.ptp(read.logprobs) == 0:
                    return False
        except Failed:
            return False
        return True


def echo_body(name: str, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """A request for the log-probabilities of prompts; it writes one token too, as some servers must write one."""
    manner = {"max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 0, "return_tokens_as_token_ids": True}
    return {"model": name, "prompt": [list(ids) for ids in prompts], **manner}


def _near(one: float, other: float) -> bool:
    return abs(one - other) < TOLERANCE
