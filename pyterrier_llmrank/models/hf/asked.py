"""What is asked about a prompt's attention, as tokens and heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import ConfigurationError, ModelError, Unsupported

from .layout import Span
from .places import check_places, placed
from .rows import Ending
from .text import Rendered, TextSide

MARK = "\ue000\ue001"  # what no text has

Heads: TypeAlias = dict[int, list[int]]
"""The heads of each layer that is asked for."""


class Asked(NamedTuple):
    """One prompt, and what is asked about it.

    Attributes:
        ids: Its tokens, none after the rows.
        rows: Tokens that attend.
        spans: Tokens that are attended to, text by text.
        places: Where the tokens of each text stand, in characters.
    """

    ids: tuple[int, ...]
    rows: Span
    spans: list[Span]
    places: list[list[Span]]

    @property
    def beginning(self) -> tuple[int, ...]:
        """What comes before the rows."""
        return self.ids[: self.rows[0]]

    @property
    def ending(self) -> Ending:
        """The rows."""
        return Ending(self.ids[self.rows[0] :], (0, self.rows[1] - self.rows[0]))


def ask(side: TextSide, prompt: Prompt, rows: tuple[int, int | None], spans: Sequence[Span]) -> Asked:
    """A prompt as tokens, and where in it the texts are that attend, or are attended to.

    Raises:
        Unsupported: The tokenizer's offsets, or the chat template, do not let them be found.
        ModelError: No text attends, or one that is attended to comes after it.
    """
    rendered = side.render(prompt)
    found = placed(side.tokenizer, rendered.text, special=rendered.special)
    shift = _shift(side, prompt, rendered)
    last = len(rendered.text) if rows[1] is None else rows[1] + shift
    tokens = [found.tokens((start + shift, end + shift)) for start, end in spans]
    first, end = found.tokens((rows[0] + shift, last))
    check_places(side.tokenizer, found, [*tokens, (first, end)])
    if first >= end or any(after > first for _, after in tokens):
        raise ModelError("the texts that are attended to must end before those that attend, which must not be empty")
    places = [[(a - shift, b - shift) for a, b in found.places[slice(*span)]] for span in tokens]
    return Asked(tuple(found.ids[:end]), (first, end), tokens, places)


def _shift(side: TextSide, prompt: Prompt, rendered: Rendered) -> int:
    """Where the text of the last message stands in the rendered prompt.

    Raises:
        Unsupported: The chat template changes it.
    """
    *others, last = prompt.messages
    marked = side.render(replace(prompt, messages=(*others, last._replace(content=MARK))))
    at = marked.text.find(MARK)
    if at < 0 or rendered.text[at : at + len(last.content)] != last.content:
        raise Unsupported("the model's chat template changes the text of a message; use a prompt without it (raw=True)")
    return at


def by_layer(heads: Sequence[tuple[int, int]] | None, shape: tuple[int, int]) -> Heads:
    """Heads by layer; all by default.

    Raises:
        ConfigurationError: There is no such head, or none is asked for.
    """
    layers, width = shape
    if heads is None:
        return {layer: [*range(width)] for layer in range(layers)}
    if not heads:
        raise ConfigurationError("no head is asked for; name one or more, or leave heads=None for all")
    found: Heads = {}
    for layer, head in heads:
        if not (0 <= layer < layers and 0 <= head < width):
            raise ConfigurationError(
                f"there is no head {layer}-{head}: this model has {layers} layers of {width} heads"
            )
        found.setdefault(layer, []).append(head)
    return {layer: sorted(set(found[layer])) for layer in sorted(found)}


def order_of(heads: Sequence[tuple[int, int]] | None, chosen: Heads) -> list[int] | None:
    """Where each head that was asked for is among those that were read."""
    if heads is None:
        return None
    read = {pair: at for at, pair in enumerate((layer, head) for layer in chosen for head in chosen[layer])}
    return [read[layer, head] for layer, head in heads]
