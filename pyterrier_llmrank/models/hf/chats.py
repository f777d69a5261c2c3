"""Chat turns as text: a tokenizer's template, and what templates leave open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.core import Message
from pyterrier_llmrank.errors import ServerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DAY = datetime(2024, 7, 26)  # which Llama 3.1's template names by itself
TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
THINK, THOUGHT = "<think>", "</think>"
OPEN = re.compile(rf"{THINK}\s*\Z")
BLOCK = re.compile(rf"{THINK}\s*(?:{THOUGHT}\s*)?\Z")
MARK = re.compile(r"<\|channel\|>|\[/?THINK\]|<\|(?:START|END)_THINKING\|>|</?think>")
REASONING = {  # of gpt-oss, Magistral and Command A Reasoning
    r"<\|channel\|>(?:analysis|commentary)[^<]*<\|message\|>": THINK,
    r"<\|end\|><\|start\|>assistant": THOUGHT,
    r"<\|channel\|>final[^<]*<\|message\|>": "",
    r"\[THINK\]|<\|START_THINKING\|>": THINK,
    r"\[/THINK\]|<\|END_THINKING\|>": THOUGHT,
}
PROBE = Message("user", "Quux?"), Message("assistant", "Quux!")


class Chats:
    """Renders chats up to where an answer begins.

    Templates that write the day of today are told always the same one, so that no score depends on when it is asked
    for. A system turn that a template refuses or leaves out becomes part of the first user turn.

    Args:
        tokenizer: It has a chat template.
        thinking: Whether the model may reason before it answers. If not, a template that can switch reasoning off is
            told to, and reasoning that it opens all the same is closed at once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, thinking: bool) -> None:
        self.tokenizer = tokenizer
        self.thinking = thinking

    def text(self, messages: Sequence[Message], answer: str = "") -> str:
        """The turns, and the beginning of the next one up to where ``answer`` follows."""
        text = f"{self._start}{self._whole(messages)}{self._opening}"
        if answer.lstrip().startswith(THINK):  # it opens the reasoning itself
            return BLOCK.sub("", text)
        return text if self.thinking else OPEN.sub(f"{THINK}\n\n{THOUGHT}\n\n", text)

    @cached_property
    def glue(self) -> str:
        """White space that the template puts between the beginning of a turn and what is said."""
        return "" if self._before.strip() else self._before

    @cached_property
    def _opening(self) -> str:
        """What else it puts there, such as the channel of an answer; not where it opens reasoning."""
        own = self._before
        return own if own.strip() and not self.thinking and THINK not in own else ""

    @cached_property
    def _before(self) -> str:
        """What stands in a finished turn between its beginning, as generation is prompted with it, and its text."""
        from jinja2 import TemplateError

        asked, answered = PROBE
        try:
            begun, whole = self._apply([asked]), self._apply([asked, answered], begun=False)
        except TemplateError:
            return ""
        except ServerError as error:  # which has the template, and may refuse such a chat
            if error.retryable:
                raise
            return ""
        before, said, _ = whole.removeprefix(begun).partition(answered.content)
        return before if said and whole.startswith(begun) else ""

    @cached_property
    def _start(self) -> str:
        """The start token, where the tokenizer puts one before every text and the template does not write it."""
        token = getattr(self.tokenizer, "bos_token", None)
        if not token or self.tokenizer("a")["input_ids"][0] != self.tokenizer.bos_token_id:
            return ""
        return "" if self._apply(PROBE[:1]).startswith(token) else str(token)

    def _whole(self, messages: Sequence[Message]) -> str:
        """The turns through the template, none of them lost."""
        from jinja2 import TemplateError

        system = messages[0].content.strip() if messages[0].role == "system" and len(messages) > 1 else ""
        try:
            text = self._apply(messages)
        except TemplateError:
            if not system:
                raise
        else:
            if system in text:
                return text
        merged = Message(messages[1].role, f"{messages[0].content}\n\n{messages[1].content}")
        return self._apply([merged, *messages[2:]])

    @cached_property
    def _told(self) -> dict[str, Any]:
        """What a template is told of every chat, and the template itself, where it would name the day."""
        told: dict[str, Any] = {"enable_thinking": self.thinking, "thinking": self.thinking}
        template = self.tokenizer.chat_template
        if isinstance(template, str) and TODAY.search(template):
            told["chat_template"] = TODAY.sub(lambda found: repr(DAY.strftime(found[2])), template)
        return told

    def _apply(self, messages: Sequence[Message], *, begun: bool = True) -> str:
        text = self.tokenizer.apply_chat_template(
            [message._asdict() for message in messages],
            tokenize=False,
            add_generation_prompt=begun,
            **self._told,
        )
        return str(text)


def spoken(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """What a model wrote, without special tokens; those around its reasoning are spelled <think> and </think>."""
    plain, whole = (str(tokenizer.decode(ids, skip_special_tokens=skip)) for skip in (True, False))
    if not (marks := MARK.findall(whole)):
        return plain
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    if special.isdisjoint(marks):
        return plain
    for pattern, said in REASONING.items():
        whole = re.sub(pattern, said, whole)
    return re.sub("|".join(map(re.escape, special - {THINK, THOUGHT})), "", whole)
