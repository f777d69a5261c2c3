"""A server's own tokenizer, asked over the wire; it stands in for a local one where that is not at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import ModelNotFound, ServerError
from pyterrier_llmrank.models.hf.text import Rendered, TextSide

from .estimate import spread
from .failures import Failed
from .wire import Wire, cut

Turns = tuple[tuple[str, str], ...]  # role and text of each


class ServerTokenizer:
    """As much of a tokenizer as ``TextSide`` uses; every list of texts is asked about at once.

    Known are vLLM's and SGLang's ``/tokenize`` and ``/detokenize``, and llama-server's, whose ``/apply-template``
    renders chats; vLLM's ``/tokenize`` takes chats itself.

    Args:
        wire: Where it is.
        name: The model.
        chat: Whether chats can be rendered.
        takes_chats: Whether ``/tokenize`` does it; else ``/apply-template``.
    """

    eos_token_id: None = None
    all_special_tokens: tuple[str, ...] = ()
    added_tokens_decoder: Mapping[int, str] = {}

    def __init__(self, wire: Wire, name: str, *, chat: bool, takes_chats: bool) -> None:
        self.wire = wire
        self.takes_chats = takes_chats
        self.name_or_path = name
        self.chat_template = "the server's own" if chat else None
        self._rendered: dict[tuple[Turns, bool], str] = {}

    def __call__(
        self, texts: Sequence[str], *, add_special_tokens: bool, return_offsets_mapping: bool = False, **_: object
    ) -> dict[str, list[Any]]:
        """Token ids of each text; where tokens end is an estimate, but their number is the server's."""

        async def ask(chunk: Sequence[str]) -> list[list[int]]:
            return [await self.tokens({"prompt": text, "content": text}, special=add_special_tokens) for text in chunk]

        ids = self._all(ask, texts)
        if not return_offsets_mapping:
            return {"input_ids": ids}
        ends = [spread(text, len(row)) for text, row in zip(texts, ids, strict=True)]
        return {"input_ids": ids, "offset_mapping": [[(0, end) for end in row] for row in ends]}

    def apply_chat_template(self, turns: Sequence[Mapping[str, str]], *, enable_thinking: bool, **_: object) -> str:
        """A chat as the text that the model reads, with the beginning of the next turn."""
        chat = _key(turns)
        self.render([turns], thinking=enable_thinking)
        return self._rendered.pop((chat, enable_thinking))

    def render(self, chats: Sequence[Sequence[Mapping[str, str]]], *, thinking: bool) -> None:
        """Renders many chats at once; each is kept until it is asked for."""
        new = [chat for chat in dict.fromkeys(map(_key, chats)) if (chat, thinking) not in self._rendered]

        async def ask(chunk: Sequence[Turns]) -> list[str]:
            return [await self.templated(chat, thinking) for chat in chunk]

        for chat, text in zip(new, self._all(ask, new), strict=True):
            self._rendered[chat, thinking] = text

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """What each token spells."""

        async def ask(chunk: Sequence[int]) -> list[str]:
            return [await self.text([token]) for token in chunk]

        return self._all(ask, ids)

    async def tokens(self, what: Mapping[str, Any], *, special: bool) -> list[int]:
        """Token ids of a text or a chat.

        Raises:
            Failed: The server has no such address, or answers something else.
        """
        manner = {"add_special_tokens": special, "add_special": special, "parse_special": True}
        answer = await self.wire.post(f"{self.wire.root}/tokenize", {"model": self.name_or_path, **what, **manner})
        ids = answer.get("tokens") if isinstance(answer, dict) else None
        if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
            raise Failed(f"{self.wire.root}/tokenize answered without token ids")
        return ids

    async def text(self, ids: Sequence[int]) -> str:
        """The text of token ids; raises as ``tokens`` does."""
        answer = await self.wire.post(f"{self.wire.root}/detokenize", {"model": self.name_or_path, "tokens": list(ids)})
        named = answer if isinstance(answer, dict) else {}
        text = named.get("prompt", named.get("content", named.get("text")))
        if not isinstance(text, str):
            raise Failed(f"{self.wire.root}/detokenize answered without a text")
        return text

    async def templated(self, chat: Turns, thinking: bool) -> str:
        """A chat as text; raises as ``tokens`` does."""
        turns = [{"role": role, "content": content} for role, content in chat]
        manner = {"chat_template_kwargs": {"enable_thinking": thinking}, "add_generation_prompt": True}
        if self.takes_chats:
            return await self.text(await self.tokens({"messages": turns, **manner}, special=False))
        return await self._applied(turns, manner)

    async def _applied(self, turns: Sequence[Mapping[str, str]], manner: Mapping[str, Any]) -> str:
        answer = await self.wire.post(f"{self.wire.root}/apply-template", {"messages": turns, **manner})
        text = answer.get("prompt") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise Failed(f"{self.wire.root}/apply-template answered without a text")
        return text

    def _all(self, ask: Any, items: Sequence[Any]) -> list[Any]:  # noqa: ANN401 - any of the above
        """One answer per item."""
        answers, error = self.wire.each(ask, cut(items, 1))
        if error or any(answer is None for answer in answers):
            raise error or ServerError(f"{self.wire.root} did not tokenise every text that it was sent")
        return answers


def _key(turns: Sequence[Mapping[str, str]]) -> Turns:
    return tuple((turn["role"], turn["content"]) for turn in turns)


def local_text(name: str, *, chat: bool | None, thinking: bool) -> TextSide:
    """A text side over a tokenizer that is in a folder, in the cache, or on the hub.

    Raises:
        ModelNotFound: There is no such tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelNotFound(
            f"the tokenizer {name!r} cannot be had: {str(error).strip().splitlines()[0]}; give a folder with "
            "tokenizer.json, a name on the hub, or leave out tokenizer="
        ) from error
    return TextSide(tokenizer, encoder_decoder=False, chat=chat, thinking=thinking)


def untokenized() -> TextSide:
    """A text side that only puts prompts together, without a chat template."""
    return TextSide(_NoTokenizer(), encoder_decoder=False, chat=False, thinking=False)  # type: ignore[arg-type]


def rendered(text: TextSide, prompts: Sequence[Prompt]) -> list[Rendered]:
    """Prompts as text; a server is asked for all of its chats at once."""
    tokenizer: object = text.tokenizer
    if isinstance(tokenizer, ServerTokenizer) and text.chat:
        chats = [[turn._asdict() for turn in prompt.messages] for prompt in prompts if not prompt.raw]
        tokenizer.render(chats, thinking=text.thinking)
    return [text.render(prompt) for prompt in prompts]


class _NoTokenizer:
    """Stands where nothing is tokenised."""

    chat_template = None
