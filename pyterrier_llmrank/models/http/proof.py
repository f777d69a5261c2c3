"""Proof that a server reads token ids as they are meant: what it says of them in several ways must agree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.models.hf.text import TextSide

from .dialects import ById, Read, TopById, score_endpoint, token_ids
from .loop import run
from .reading import Candidate, candidates, echoed, entries
from .trial import QUESTIONS, Trial

TOLERANCE = 0.05  # between log-probabilities of one token, told in two ways; half precision differs by less


class Proof:
    """What a server says of the tokens that it chooses after two questions.

    Args:
        trial: Of the server.
        text: Makes token ids of prompts.

    Attributes:
        holds: Whether it took token ids, no more and no fewer, and told which token it chose.
    """

    def __init__(self, trial: Trial, text: TextSide) -> None:
        self.trial = trial
        self.name = trial.name
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
        found = self.trial.told(self._both)
        return found is not None and all(
            one and _near(one[0].logprob, own) for one, (_, own) in zip(found, self.chosen, strict=True)
        )

    def _both(self) -> list[list[Candidate]]:
        """What is told after both prompts of one request."""
        body = {"model": self.name, "prompt": self.prompts, "max_tokens": 1, "temperature": 0, "logprobs": 1}
        return [candidates(entry) for entry in entries(self.trial.ask("/completions", body), len(QUESTIONS))]

    def echo(self) -> bool:
        """Whether the last token of an echoed prompt has the log-probability that it had as the next one.

        One server is known whose echo is off by a place, which no other check would show.
        """
        return all(
            self._told(ids, token, logprob) for ids, (token, logprob) in zip(self.prompts, self.chosen, strict=True)
        )

    def _told(self, ids: Sequence[int], token: int, logprob: float) -> bool:
        """Whether a token has the log-probability in an echo that it had as the next one."""
        whole = [*ids, token]
        body = echo_body(self.name, [whole])
        found = self.trial.told(lambda: echoed(entries(self.trial.ask("/completions", body), 1)[0], whole))
        return found is not None and _near(found[-1], logprob)

    def _chosen(self, ids: Sequence[int]) -> tuple[int, float] | None:
        """The token chosen after a prompt of ids, and its log-probability; None where that is unclear."""
        told = self.trial.told(lambda: self._next(ids))
        if told is None:
            return None
        found, length = told
        if not found or length != len(ids):
            return None  # it read a text, or more than it was sent
        if (token := found[0].id) is not None:
            return token, found[0].logprob
        spelled = self.text.encode([found[0].text.decode(errors="replace")], special=False)[0]
        return (spelled[0], found[0].logprob) if len(spelled) == 1 else None

    def _next(self, ids: Sequence[int]) -> tuple[list[Candidate], int]:
        """What is told of the token after a prompt of ids, and how long the server says that the prompt is."""
        body = {"model": self.name, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "logprobs": 1}
        answer = self.trial.ask("/completions", {**body, "return_tokens_as_token_ids": True})
        [entry] = entries(answer, 1)
        return candidates(entry), (answer.get("usage") or {}).get("prompt_tokens", len(ids))

    def _agrees(self, by_id: ById) -> bool:
        """Whether a dialect says of every token chosen what was said before, and not the same of all tokens."""
        tokens = [token for token, _ in self.chosen]
        for ids, (token, logprob) in zip(self.prompts, self.chosen, strict=True):
            wanted = tuple(dict.fromkeys([token, *tokens, *ids[:2]]))
            told = self.trial.told(partial(self._read, by_id, ids, wanted))
            if told is None or told.missing[0] or not _near(told.logprobs[0], logprob) or np.ptp(told.logprobs) == 0:
                return False
        return True

    def _read(self, by_id: ById, ids: Sequence[int], wanted: tuple[int, ...]) -> Read:
        """What a dialect says of some tokens."""
        [read] = run(by_id(self.trial.wire, self.name, [ids], wanted))
        return read


def echo_body(name: str, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """A request for the log-probabilities of prompts; it writes one token too, as some servers must write one."""
    manner = {"max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 0, "return_tokens_as_token_ids": True}
    return {"model": name, "prompt": [list(ids) for ids in prompts], **manner}


def _near(one: float, other: float) -> bool:
    return abs(one - other) < TOLERANCE
