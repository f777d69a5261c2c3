"""The text side of a local model: chat templates, token ids, labels in context, control tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import LabelError, SeveralTokens, Unsupported

from .chats import Chats
from .prefixes import common_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXT = 4  # tokens that can decide how the next one reads
MARKS = re.compile(r"<\|\w+\|>|\[/?[A-Z]{2,}\]|<</?[A-Z]+>>")  # <|user|>, [INST], <<SYS>>: often several tokens
TAIL = 64  # characters before a label that can decide how it is tokenised


class Rendered(NamedTuple):
    """A prompt as text.

    Attributes:
        text: What the network reads (its encoder, for an encoder-decoder).
        answer: How the decoder's side begins; empty for a decoder, whose ``text`` ends with it.
        special: Whether the tokenizer adds its own special tokens around ``text``.
        glue: What stands between the prompt and its continuation.
    """

    text: str
    answer: str
    special: bool
    glue: str


class LabelTokens(NamedTuple):
    """How labels are tokenised after a prompt.

    Attributes:
        dropped: How many of the prompt's last tokens merge with every label, and are left off.
        shared: Tokens that every label begins with, such as that of a space.
        ids: The one token of each label that tells it from the others.
    """

    dropped: int
    shared: list[int]
    ids: list[int]


class TextSide:
    """Turns prompts into token ids.

    Args:
        tokenizer: A fast tokenizer.
        encoder_decoder: Whether the answer is read on a decoder's side of its own.
        chat: Whether to use the chat template; None for where there is one.
        thinking: Whether the model may reason before it answers (see ``Chats``).
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, encoder_decoder: bool, chat: bool | None, thinking: bool
    ) -> None:
        self.tokenizer = tokenizer
        self.encoder_decoder = encoder_decoder
        self.chat = bool(tokenizer.chat_template) if chat is None else chat
        self.thinking = thinking
        self._chats = Chats(tokenizer, thinking=thinking)
        self._labels: dict[tuple[str, str, tuple[str, ...]], LabelTokens] = {}
        if self.chat and not tokenizer.chat_template:
            raise Unsupported(f"{tokenizer.name_or_path} has no chat template; load it with chat=False")

    def render(self, prompt: Prompt) -> Rendered:
        """The prompt as the text that is tokenised whole."""
        if self.chat and not prompt.raw:
            text, special, glue = self._chats.text(prompt.messages, prompt.answer), False, self._chats.glue
        else:
            cue, special = not (prompt.raw or self.encoder_decoder), True
            text = "\n\n".join(
                f"Answer: {turn.content}" if cue and turn.role == "assistant" else turn.content
                for turn in prompt.messages
            )
            text, glue = (f"{text}\n\nAnswer:", " ") if cue else (text, "")
        if self.encoder_decoder:
            return Rendered(text, prompt.answer, special=True, glue="")
        if prompt.answer:
            text, glue = text + glue + prompt.answer, ""
        return Rendered(text, "", special, glue)

    def encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Token ids of each text; with ``special``, those that the tokenizer puts around a text too."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=special, return_attention_mask=False, verbose=False
        )["input_ids"]
        if special and not self.encoder_decoder:  # an end token would close the prompt before its answer
            ids = [row[:-1] if row and row[-1] == self.tokenizer.eos_token_id else row for row in ids]
        return ids

    def prompts(self, rendered: Sequence[Rendered], tails: Sequence[str] | None = None) -> list[list[int]]:
        """Token ids of each prompt's main side, with ``tails`` appended to the texts."""
        tails = tails or [""] * len(rendered)
        ids: list[list[int]] = [[] for _ in rendered]
        for special in (False, True):
            places = [place for place, one in enumerate(rendered) if one.special is special]
            texts = [rendered[place].text + tails[place] for place in places]
            for place, row in zip(places, self.encode(texts, special=special), strict=True):
                ids[place] = row
        return ids

    def answers(self, rendered: Sequence[Rendered], tails: Sequence[str] | None = None) -> list[list[int]]:
        """Token ids of the decoder's side of each prompt, after its start token."""
        tails = tails or [""] * len(rendered)
        return self.encode([one.answer + tail for one, tail in zip(rendered, tails, strict=True)], special=False)

    def labels(self, rendered: Rendered, labels: Sequence[str]) -> LabelTokens:
        """How labels are tokenised after this prompt; worked out once for prompts that end alike.

        Raises:
            SeveralTokens: A label is not told by a single token here.
            LabelError: Two labels are the same to the tokenizer.
        """
        before = rendered.answer if self.encoder_decoder else rendered.text
        key = (before[-TAIL:], rendered.glue, tuple(labels))
        if key not in self._labels:
            self._labels[key] = self._resolve(before, rendered, labels)
        return self._labels[key]

    def _resolve(self, before: str, rendered: Rendered, labels: Sequence[str]) -> LabelTokens:
        special = rendered.special and not self.encoder_decoder
        base, *whole = self.encode([before, *(before + rendered.glue + label for label in labels)], special=special)
        shared = min(common_prefix(whole[0], ids) for ids in whole[1:]) if len(whole) > 1 else len(whole[0]) - 1
        pieces = [self.tokenizer.convert_ids_to_tokens(ids[common_prefix(base, ids) :]) for ids in whole]
        for place, (label, ids) in enumerate(zip(labels, whole, strict=True)):
            if (twin := whole.index(ids)) < place:
                raise LabelError(
                    f"the labels {labels[twin]!r} and {label!r} are the same after this prompt: {pieces[place]}; use "
                    "other labels, or a model with another tokenizer"
                )
        for label, ids, own in zip(labels, whole, pieces, strict=True):
            if len(ids) != shared + 1:
                raise SeveralTokens(
                    f"the label {label!r} is {own} after this prompt, not one token that tells it from the others; use "
                    "other labels (such as letters), or a model with another tokenizer"
                )
        kept = common_prefix(base, whole[0][:shared])
        return LabelTokens(len(base) - kept, whole[0][kept:shared], [ids[shared] for ids in whole])

    def ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters."""
        if not texts:
            return []
        offsets = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_offsets_mapping=True,
            verbose=False,
        )["offset_mapping"]
        return [[end for _, end in row] for row in offsets]

    def added(self, before: list[int], token: int) -> str:
        """The text that ``token`` adds after the ids ``before``."""
        context = before[-CONTEXT:]
        both = str(self.tokenizer.decode([*context, token]))
        return both[len(str(self.tokenizer.decode(context))) :]

    def plain(self, text: str) -> str:
        """``text`` with a space inside every control token, so that none is read as one."""
        return self._control.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text) if self._control else text

    @cached_property
    def _control(self) -> re.Pattern[str] | None:
        """Matches control tokens: those marked special, added ones that look like tags, and a template's own marks."""
        added = self.tokenizer.added_tokens_decoder.values()
        tokens = {str(token) for token in added if token.special or re.fullmatch(r"<.+>|\[.+\]", str(token))}
        tokens.update(self.tokenizer.all_special_tokens, MARKS.findall(str(self.tokenizer.chat_template or "")))
        words = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, words))) if words else None
