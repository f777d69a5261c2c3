"""Where tokens stand in a text: character offsets, believed only where they reproduce the text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pyterrier_llmrank.errors import Unsupported

from .layout import Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Placed(NamedTuple):
    """A text as tokens.

    Attributes:
        text: What was tokenised.
        ids: Its tokens, special ones included.
        places: Where each of them stands, [start, end) in characters; empty for those that are not in the text.
    """

    text: str
    ids: list[int]
    places: list[Span]

    def tokens(self, span: Span) -> Span:
        """The tokens that share a character with a text, [first, last + 1); empty for an empty text."""
        first, last = np.array(self.places).reshape(-1, 2).T
        own = np.flatnonzero((first < last) & (first < span[1]) & (last > span[0]))
        return (int(own[0]), int(own[-1]) + 1) if own.size else (0, 0)


def placed(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> Placed:
    """A text as tokens; with ``special``, those that the tokenizer puts before it too, but none that would end it.

    Raises:
        Unsupported: The tokenizer knows no offsets.
    """
    if not tokenizer.is_fast:
        raise Unsupported(
            f"{type(tokenizer).__name__} does not tell where tokens stand in a text; load the fast tokenizer of this "
            "model, or use another model"
        )
    found = tokenizer(
        text, add_special_tokens=special, return_attention_mask=False, return_offsets_mapping=True, verbose=False
    )
    ids, places = list(found["input_ids"]), [(int(start), int(end)) for start, end in found["offset_mapping"]]
    if special and ids and ids[-1] == tokenizer.eos_token_id and places[-1][0] == places[-1][1]:
        ids, places = ids[:-1], places[:-1]
    return Placed(text, ids, places)


def check_places(tokenizer: PreTrainedTokenizerBase, found: Placed, spans: Sequence[Span]) -> None:
    """Whether the tokens of each span, written out, are the text where they are said to stand.

    White space, and the forms that normalisation to NFKC makes equal, make no difference.

    Raises:
        Unsupported: They are not.
    """
    for first, last in spans:
        ids = found.ids[first:last]
        if not ids or tokenizer.unk_token_id in ids:
            continue
        said = found.text[found.places[first][0] : found.places[last - 1][1]]
        written = str(tokenizer.decode(ids))
        if _bare(said) != _bare(written):
            raise Unsupported(
                f"the offsets of {type(tokenizer).__name__} cannot be trusted: tokens that should stand at {said!r} "
                f"read {written!r}; update tokenizers, or use a model with another tokenizer"
            )


def _bare(text: str) -> str:
    """What two spellings of a text have in common."""
    return "".join(unicodedata.normalize("NFKC", text).split())
