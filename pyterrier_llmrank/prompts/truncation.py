"""Makes prompts fit: shortens documents evenly by the model's own tokens, never the instructions, never the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import PromptTooLong

TEMPLATE_TOKENS = 256  # more than any chat template adds
BYTES_PER_CHARACTER = 12  # more tokens than a character can become, byte by byte, after normalisation


class Ruler(Protocol):
    """What truncation needs of a model."""

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer may hold together."""
        ...

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters."""
        ...

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt."""
        ...


class Renderer(Protocol):
    """What truncation needs of a template."""

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The prompt about these texts."""
        ...


class Fitted(NamedTuple):
    """A prompt that fits, and how many tokens of its documents it had to leave out."""

    prompt: Prompt
    lost: int


def fit(
    template: Renderer,
    items: Sequence[tuple[str, Sequence[str]]],
    ruler: Ruler,
    *,
    reserve: Sequence[int],
    max_doc_tokens: int | None = None,
) -> list[Fitted]:
    """Prompts for (query, documents) pairs, each leaving room for an answer of ``reserve`` tokens.

    Args:
        template: Renders them.
        items: Query and document texts of each prompt.
        ruler: Counts tokens as the model does.
        reserve: Tokens to leave for each answer.
        max_doc_tokens: Tokens to keep of any document, however much room there is.

    Raises:
        PromptTooLong: Instructions and query alone do not fit, or demonstrations leave no room for the documents.
    """
    cut = getattr(getattr(template, "passage", None), "cut", None)
    if cut is not None:  # what a template would not show anyway is not worth shortening
        items = [(query, [cut(text) for text in texts]) for query, texts in items]
    items, lost = _capped(items, ruler, max_doc_tokens)
    prompts = [template.render(query, texts) for query, texts in items]
    if ruler.context is None:
        return [Fitted(prompt, gone) for prompt, gone in zip(prompts, lost, strict=True)]
    rooms = [ruler.context - kept for kept in reserve]
    doubtful = [place for place, prompt in enumerate(prompts) if _at_most(prompt) > rooms[place]]
    lengths = ruler.lengths([prompts[place] for place in doubtful])
    for place, length in zip(doubtful, lengths, strict=True):
        if length > rooms[place]:
            prompts[place], gone = _shortened(template, items[place], ruler, rooms[place], length)
            lost[place] += gone
    return [Fitted(prompt, gone) for prompt, gone in zip(prompts, lost, strict=True)]


def even_cap(lengths: Sequence[int], room: int) -> int:
    """The most tokens to leave each document so that all of them together take no more than ``room``.

    Short documents stay whole; what they do not use goes to the long ones.
    """
    left, cap = room, 0
    for place, length in enumerate(sorted(lengths)):
        cap = left // (len(lengths) - place)
        if length > cap:
            return cap
        left -= length
    return max(lengths, default=0)


def _at_most(prompt: Prompt) -> int:
    """More tokens than a prompt can have, without tokenising it."""
    text = prompt.answer + "".join(message.content for message in prompt.messages)
    return len(text) * (1 if text.isascii() else BYTES_PER_CHARACTER) + TEMPLATE_TOKENS


def _capped(
    items: Sequence[tuple[str, Sequence[str]]], ruler: Ruler, cap: int | None
) -> tuple[list[tuple[str, Sequence[str]]], list[int]]:
    """Items with no document longer than ``cap`` tokens, and the tokens that each item lost."""
    if cap is None:
        return list(items), [0] * len(items)
    texts = list(dict.fromkeys(text for _, of_item in items for text in of_item))
    cuts = {text: _cut(text, ends, cap) for text, ends in zip(texts, ruler.token_ends(texts), strict=True)}
    kept: list[tuple[str, Sequence[str]]] = [(query, [cuts[text][0] for text in of_item]) for query, of_item in items]
    return kept, [sum(cuts[text][1] for text in of_item) for _, of_item in items]


def _cut(text: str, ends: Sequence[int], cap: int) -> tuple[str, int]:
    """The first ``cap`` tokens of a text, and how many were left out; a character of several tokens is not broken."""
    if len(ends) <= cap:
        return text, 0
    while cap and ends[cap] == ends[cap - 1]:
        cap -= 1
    return text[: ends[cap - 1]] if cap else "", len(ends) - cap


def _shortened(
    template: Renderer, item: tuple[str, Sequence[str]], ruler: Ruler, room: int, length: int
) -> tuple[Prompt, int]:
    """A prompt of at most ``room`` tokens, and the tokens lost; rendered again until it really fits."""
    query, texts = item
    ends = ruler.token_ends(texts)
    counts = [len(of_text) for of_text in ends]
    fixed = length - sum(counts)
    allowance = room - fixed
    while allowance >= sum(count > 0 for count in counts):
        cap = even_cap(counts, allowance)
        cuts = [_cut(text, of_text, cap) for text, of_text in zip(texts, ends, strict=True)]
        prompt = template.render(query, [text for text, _ in cuts])
        [length] = ruler.lengths([prompt])
        if length <= room:
            return prompt, sum(gone for _, gone in cuts)
        allowance = min(allowance, sum(min(count, cap) for count in counts)) - (length - room)
    error = _too_long(template, item, ruler, room, fixed)
    error.query = query
    raise error


def _too_long(
    template: Renderer, item: tuple[str, Sequence[str]], ruler: Ruler, room: int, fixed: int
) -> PromptTooLong:
    """What to say where ``fixed`` tokens beside the documents leave no room for them."""
    query, texts = item
    bare: Renderer | None = getattr(template, "bare", None)  # what has demonstrations, without them
    [alone] = ruler.lengths([bare.render(query, [""] * len(texts))]) if bare else [room]
    if alone < room:
        return PromptTooLong(
            f"the demonstrations leave no room for {len(texts)} documents: they take {fixed - alone} of {room} tokens, "
            f"and instructions, query and identifiers {alone}; use fewer or shorter demonstrations, or a model with "
            "more context"
        )
    return PromptTooLong(
        f"instructions, query and identifiers of {len(texts)} documents leave no room for the documents themselves: "
        f"{fixed} of {room} tokens; use a smaller window, a shorter query, fewer tokens for the answer, or a model "
        "with more context"
    )
