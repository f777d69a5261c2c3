"""Answers held to a permutation: at each step, only tokens that go on to an item that was not named yet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from heapq import nlargest
from typing import NamedTuple

from pyterrier_llmrank.errors import ConfigurationError, LabelError
from pyterrier_llmrank.models.base import Permutation

from .prefixes import common_prefix
from .text import TAIL, Rendered, TextSide


class Spelling(NamedTuple):
    """The items of a permutation as token ids.

    Attributes:
        first: Each item where it begins the answer.
        later: Each item after another one, with what stands between the two.
        length: How many the answer names.
    """

    first: list[tuple[int, ...]]
    later: list[tuple[int, ...]]
    length: int

    @property
    def most(self) -> int:
        """Tokens of the longest answer."""
        others = [[len(ids) for item, ids in enumerate(self.later) if item != own] for own in range(len(self.first))]
        rest = [sum(nlargest(self.length - 1, lengths)) for lengths in others]
        return max(len(ids) + more for ids, more in zip(self.first, rest, strict=True))

    @property
    def open_ended(self) -> bool:
        """Whether only an end token can tell that an answer is complete: its last item may go on as another one."""
        last = self.later if self.length > 1 else self.first
        starts = {ids[:place] for ids in last for place in range(1, len(ids))}
        return self.length < len(last) and not starts.isdisjoint(last)


def check_held(max_tokens: int, stop: Sequence[str], spellings: Iterable[Spelling]) -> None:
    """Whether every answer that is held to a permutation can be written to its end.

    Raises:
        ConfigurationError: ``max_tokens`` or a stop text could cut one off.
    """
    if stop:
        raise ConfigurationError(f"an answer that is held to a permutation ends by itself; leave out stop={stop!r}")
    most = max((spelling.most for spelling in spellings), default=0)
    if max_tokens < most:
        raise ConfigurationError(
            f"an answer that is held to this permutation can take {most} tokens, max_tokens={max_tokens} would cut it "
            "off; allow for more, or let it name fewer items (top_k=)"
        )


def spellings(text: TextSide, rendered: Sequence[Rendered], permutation: Permutation) -> list[Spelling]:
    """How the items are tokenised after each prompt, worked out once for those that end alike; see ``spelled``."""
    keys = [(one.text[-TAIL:], one.answer[-TAIL:], one.glue) for one in rendered]
    known = {key: spelled(text, one, permutation) for key, one in dict(zip(keys, rendered, strict=True)).items()}
    return [known[key] for key in keys]


def spelled(text: TextSide, rendered: Rendered, permutation: Permutation) -> Spelling:
    """How the items are tokenised after this prompt.

    Raises:
        LabelError: Two items are the same to the tokenizer.
    """
    items, between = permutation.items, permutation.between
    before = (rendered.answer if text.encoder_decoder else rendered.text)[-TAIL:]
    first = _after(text, before, [rendered.glue + item for item in items])
    later = _after(text, before + rendered.glue + items[0], [between + item for item in items])
    for place, (one, other) in enumerate(zip(first, later, strict=True)):
        twin = min(first.index(one), later.index(other))
        if twin < place:
            raise LabelError(
                f"the identifiers {items[twin]!r} and {items[place]!r} are the same after this prompt: "
                f"{text.tokenizer.convert_ids_to_tokens(list(one))}; use other labels, or a model with another "
                "tokenizer"
            )
    return Spelling(first, later, permutation.length or len(items))


def _after(text: TextSide, before: str, tails: list[str]) -> list[tuple[int, ...]]:
    """Token ids of each tail as they follow ``before``; as they are alone where they would merge with it."""
    base, *whole = text.encode([before, *(before + tail for tail in tails)], special=False)
    alone = text.encode(tails, special=False)
    return [
        tuple(ids[len(base) :] if common_prefix(base, ids) == len(base) else own)
        for ids, own in zip(whole, alone, strict=True)
    ]


class Path:
    """How far one answer has come.

    Args:
        spelling: What it is held to.
        ends: Tokens that end an answer, for an item that goes on as another one does ("1" of "12").

    Attributes:
        done: Whether it is complete.
        tokens: What was written, without an end token.
        named: The items that were, by their places.
        ends: Tokens that end an answer.
    """

    def __init__(self, spelling: Spelling, ends: Collection[int]) -> None:
        self.tokens: list[int] = []
        self.named: list[int] = []
        self.done = False
        self.ends = frozenset(ends)
        self._spelling = spelling
        self._left = set(range(len(spelling.first)))
        self._written: tuple[int, ...] = ()  # of the item under way

    def allowed(self) -> set[int]:
        """Tokens that may come next; empty when the answer is complete."""
        if self.done:
            return set()
        place = len(self._written)
        tokens = {ids[place] for ids in self._open() if len(ids) > place}
        whole = self._whole()
        if whole is not None:  # the item may end here, though another one goes on
            last = len(self.named) + 1 == self._spelling.length
            tokens |= self.ends if last else {self._spelling.later[item][0] for item in self._left - {whole}}
        return tokens

    def forced(self) -> list[int]:
        """Writes the tokens that leave no choice, and returns them."""
        start = len(self.tokens)
        while len(tokens := self.allowed()) == 1:
            self.write(*tokens)
        return self.tokens[start:]

    def write(self, token: int) -> list[int]:
        """Goes on by one of the tokens allowed; what that adds to the answer (an end token adds nothing)."""
        place = len(self._written)
        if not any(ids[place : place + 1] == (token,) for ids in self._open()):
            self._name(self._whole())  # what follows belongs to the next item
            if self.done:
                return []
        self.tokens.append(token)
        self._written = (*self._written, token)
        if len(self._open()) == 1 and (whole := self._whole()) is not None:
            self._name(whole)
        return [token]

    def _open(self) -> list[tuple[int, ...]]:
        """Spellings of the items left that begin as what was written."""
        spellings, place = self._spelling.later if self.named else self._spelling.first, len(self._written)
        return [spellings[item] for item in self._left if spellings[item][:place] == self._written]

    def _whole(self) -> int | None:
        """The item that was written to its end, if one was."""
        spellings = self._spelling.later if self.named else self._spelling.first
        return next((item for item in self._left if spellings[item] == self._written), None)

    def _name(self, item: int | None) -> None:
        assert item is not None, "a token that was not allowed"
        self.named.append(item)
        self._left.discard(item)
        self._written = ()
        self.done = len(self.named) == self._spelling.length
