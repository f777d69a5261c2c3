"""What can be said of an unknown tokenizer: an estimate from above, and which texts look like control tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyterrier_llmrank.core import Prompt

TURN = 16  # tokens that a chat template puts around a turn, at most
PIECE = re.compile(r"\s?[A-Za-z]{1,4}|\s?[0-9]|\s?[!-/:-@\[-`{-~]|\s|[^\x00-\x7f]|.", re.DOTALL)
CONTROL = re.compile(
    r"<[|\uff5c][^<>]{1,40}[|\uff5c]>|</?(?:s|bos|eos|pad|unk|mask|think|(?:start|end|begin)_of_\w{1,20}|tool_\w{1,20})>"
    r"|<</?SYS>>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w{1,20})\]"
)


def plain(text: str) -> str:
    """``text`` with a space inside everything that looks like a control token of some model."""
    return CONTROL.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def ends(text: str) -> list[int]:
    """Where each token may end, in characters: more tokens than tokenizers of today make of ordinary text.

    A token holds at most four letters, one digit or one sign, and the space before it; a character beyond ASCII takes
    one token less than it has bytes.
    """
    found: list[int] = []
    for match in PIECE.finditer(text):
        found += [match.end()] * max(1, len(match[0].encode()) - 1 if not match[0].isascii() else 1)
    return found


def spread(text: str, count: int) -> list[int]:
    """Where ``count`` tokens may end, where only their number is known."""
    guess = ends(text)
    if count > len(guess):
        return [-(-(place + 1) * len(text) // count) for place in range(count)]
    return [guess[-(-(place + 1) * len(guess) // count) - 1] for place in range(count)]


def length(prompt: Prompt) -> int:
    """Tokens of a prompt, template included, from above."""
    return sum(len(ends(text)) for text in contents(prompt)) + TURN * (len(prompt.messages) + 1)


def contents(prompt: Prompt) -> Sequence[str]:
    """The texts of a prompt."""
    return [*(message.content for message in prompt.messages), prompt.answer]


def at_most(prompt: Prompt) -> int:
    """Tokens that a prompt cannot exceed with any tokenizer: a token is at least a byte."""
    return sum(len(text.encode()) for text in contents(prompt)) + TURN * (len(prompt.messages) + 1)
