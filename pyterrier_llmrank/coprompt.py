"""Co-Prompt: a beam search for the instruction that makes queries most likely, given their relevant documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from .core import Doc, Message, Prompt, Question, descending
from .errors import ConfigurationError
from .models import Model
from .prompts import QueryPrompt
from .prompts.turn import literal
from .scorers import QueryLikelihood

Next: TypeAlias = Callable[[Sequence[str], int], Sequence[Sequence[str]]]
"""The most probable next tokens of each text, as texts, at most so many."""

Score: TypeAlias = Callable[[Sequence[str]], Sequence[float]]
"""How good each instruction is, higher is better; NaN for unknown."""

TEMPLATE = "Passage: {text}\n{instruction}\n"


def co_prompt(
    generate_next: Next, score: Score, *, start: str = "Please", beam: int = 10, top_k: int = 10, length: int = 10
) -> list[tuple[str, float]]:
    """The best instructions that a beam search comes to, with their scores, the best first; at most ``beam``.

    Each step continues every instruction of the beam by each of its ``top_k`` next tokens, scores what is new, and
    keeps the ``beam`` best. Instructions of all lengths are compared in the end. None is scored twice; the start alone
    is not scored.

    Costs: at most ``top_k * (1 + beam * (length - 1))`` instructions scored, each of which takes a call for every pair
    of ``likelihood``, and ``1 + beam * (length - 1)`` texts continued. With the defaults and 1500 pairs that is 1.4
    million calls: done once, before any ranking.

    Args:
        generate_next: Proposes tokens, e.g. ``most_probable(model)``.
        score: Judges instructions, e.g. ``likelihood(model, pairs)``.
        start: What every instruction begins with.
        beam: Instructions kept at each step.
        top_k: Tokens proposed for each.
        length: Steps, of one token each.

    Raises:
        ConfigurationError: ``beam``, ``top_k`` or ``length`` is below 1.

    Reference:
        Cho et al., 2023 (Co-Prompt), section 3.
    """
    for name, value in (("beam", beam), ("top_k", top_k), ("length", length)):
        if value < 1:
            raise ConfigurationError(f"{name} must be at least 1, got {value}")
    scores: dict[str, float] = {}
    kept = [start]
    for _ in range(length):
        proposed = generate_next(kept, top_k)
        grown = dict.fromkeys(text + token for text, own in zip(kept, proposed, strict=True) for token in own[:top_k])
        fresh = [text for text in grown if text not in scores and text != start]
        if not fresh:
            break
        scores.update(zip(fresh, map(float, score(fresh)), strict=True))
        kept = _best(fresh, scores)[:beam]
    return [(text, scores[text]) for text in _best(list(scores), scores)[:beam]]


def _best(texts: Sequence[str], scores: dict[str, float]) -> list[str]:
    """Texts from the highest score to the lowest, unknown ones last."""
    return descending(texts, np.array([scores[text] for text in texts], dtype=np.float64))


class Proposer(Protocol):
    """What is used of a local model, such as ``HFModel``."""

    def plain(self, text: str) -> str:
        """``text`` with every control token broken up."""
        ...

    def next_tokens(self, prompts: Sequence[Prompt], k: int) -> list[list[tuple[str, float]]]:
        """The likeliest next tokens of each prompt, as texts with their log-probabilities."""
        ...


def most_probable(model: Proposer) -> Next:
    """Proposes the tokens that a model finds most probable after the instruction so far, without a chat template.

    Control tokens, and tokens that are only a part of a character, are left out.
    """

    def propose(texts: Sequence[str], k: int) -> list[list[str]]:
        found = model.next_tokens([Prompt((Message("user", text),), raw=True) for text in texts], k)
        return [[token for token, _ in row if "\ufffd" not in token and model.plain(token) == token] for row in found]

    return propose


def likelihood(
    model: Model, pairs: Sequence[tuple[str, str]], *, template: str = TEMPLATE, max_doc_tokens: int | None = None
) -> Score:
    """Scores instructions by the mean log-probability of a query's tokens after its relevant document.

    Args:
        model: The ranker; must offer ``continuation``.
        pairs: Queries, each with the text of a document that is relevant to it.
        template: What comes before the query, without a chat template: text with ``{text}`` and ``{instruction}``.
        max_doc_tokens: Tokens to keep of any document; all that fit by default.

    Returns:
        A function for ``co_prompt``; natural logs, the mean over tokens and over pairs.

    Raises:
        ConfigurationError: There are no pairs, ``template`` lacks a field, or the model does not offer
            ``continuation``.
    """
    if not pairs:
        raise ConfigurationError("likelihood needs one pair of a query and a relevant text, or more")
    if "{instruction}" not in template:
        raise ConfigurationError(f"the template {template!r} lacks {{instruction}}; write it where it belongs")
    questions = [Question(query, (Doc(str(place), text),)) for place, (query, text) in enumerate(pairs)]

    def scorer(instruction: str) -> QueryLikelihood:
        shown = template.replace("{instruction}", literal(instruction))
        return QueryLikelihood(model, QueryPrompt(shown, raw=True), max_doc_tokens=max_doc_tokens)

    def score(instructions: Sequence[str]) -> list[float]:
        means = []
        for instruction in instructions:
            likely = np.array([answer.scores[0] for answer in scorer(instruction)(questions)])
            known = likely[~np.isnan(likely)]
            means.append(float(known.mean()) if known.size else np.nan)
        return means

    scorer("")  # says now what does not fit
    return score
