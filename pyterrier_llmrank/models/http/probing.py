"""Finds out what a server really does, once per server and model: neither its word is taken, nor a status of 200."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from pyterrier_llmrank.errors import AccessDenied, ConfigurationError, ModelNotFound, ServerError
from pyterrier_llmrank.models.base import Primitive
from pyterrier_llmrank.models.hf.text import TextSide

from .dialects import ById
from .failures import Failed, Unreached
from .guided import GUIDES, Guide
from .loop import run
from .proof import Proof
from .reading import candidates
from .tokenizing import ServerTokenizer
from .trial import FEW, LIMITS, QUESTIONS, Trial
from .wire import Wire

TOPS = (100, 20, 5)  # likeliest tokens that servers tell at most
NOBODY = "no-model-has-this-name"
EVEN = {"repetition_penalty": 1.0, "repeat_penalty": 1.0, "min_p": 0.0}  # servers have other defaults, as models' own
UNLIKELY = ("zq zq 7", "zq qz 3")  # texts that no model writes by itself


class Manner(NamedTuple):
    """How chats are put to a server.

    Attributes:
        fields: Of every request.
        limit: The name of the field that limits the answer.
    """

    fields: Mapping[str, Any]
    limit: str


class Facts(NamedTuple):
    """What a server does for one model.

    Attributes:
        context: Tokens that a prompt and its answer may hold; None where it does not say.
        text: Makes the token ids that it takes as prompts; None where it takes none.
        tokenizer: The server's own, to count with; None where it cannot be asked.
        by_id: How it tells log-probabilities of token ids; None where it does not.
        many: Whether one request may hold many prompts of token ids.
        echo: Whether it tells the right log-probabilities of a prompt.
        chat: How chats are put; None where it has none.
        top: Likeliest tokens that it tells after a chat; 0 where it tells none.
        raw: The same after a text without a chat template; None where it takes no such text.
        guide: How it is made to write one of several texts, after a text; None where it cannot be, or need not.
        fields: Of every request to go on from a text.
    """

    context: int | None
    text: TextSide | None
    tokenizer: ServerTokenizer | None
    by_id: ById | None
    many: bool
    echo: bool
    chat: Manner | None
    top: int
    raw: int | None
    guide: Guide | None = None
    fields: Mapping[str, Any] = MappingProxyType({})

    @property
    def can(self) -> frozenset[Primitive]:
        """The primitives that it offers."""
        told = self.by_id is not None or self.top > 0 or bool(self.chat is None and self.raw)
        goes_on = self.by_id is not None or (self.guide is not None and (self.text is not None or self.chat is None))
        offers: dict[Primitive, bool] = {
            "generate": True,
            "choices": told,
            "continuation": self.echo,
            "constrained": goes_on,
        }
        return frozenset(name for name, offered in offers.items() if offered)


def probe(wire: Wire, *, local: TextSide | None, chat: bool | None, thinking: bool) -> Facts:
    """What the server of ``wire`` does for its model.

    Args:
        wire: To the server.
        local: The model's tokenizer, where it is at hand.
        chat: Whether prompts are put as chats; None for wherever that is possible.
        thinking: What a chat template that can switch reasoning on is told.

    Raises:
        ModelNotFound: There is no server, or it has no such model.
        AccessDenied: The key is missing or wrong.
        ServerError: It fails for a reason that may pass, so that nothing is known yet.
    """
    trial = Trial(wire)
    try:
        return _facts(trial, local, chat, thinking)
    except Failed as error:
        raise ServerError(
            f"what {trial.name!r} can do is not known yet, as its server fails: {error}; ask again later"
        ) from None


def _facts(trial: Trial, local: TextSide | None, chat: bool | None, thinking: bool) -> Facts:
    """See ``probe``."""
    context, vocabulary = _listed(trial)
    manner = None if chat is False else _manner(trial, thinking)
    raw = _raw(trial)
    if manner is None and raw is None:
        url = trial.wire.address.url
        raise ModelNotFound(
            f"{url} answers neither chats nor completions of {trial.name!r} (the last answer: {trial.refusal}); is it "
            "the address of an OpenAI-compatible server? It often ends in /v1"
        )
    tokenizer = None if local else _tokenizer(trial, chat)
    text = local
    if tokenizer and (tokenizer.chat_template or manner is None):
        text = TextSide(tokenizer, encoder_decoder=False, chat=chat, thinking=thinking)  # type: ignore[arg-type]
    fields = {} if raw is None else _fields(trial)
    proof = Proof(trial, text) if text and raw is not None else None
    if proof is None or not proof.holds:
        guide = None if raw is None else _guide(trial)
        return Facts(context, None, tokenizer, None, False, False, manner, _top(trial, manner), raw, guide, fields)
    by_id = proof.dialect(vocabulary)
    top, guide = (_top(trial, manner), _guide(trial)) if by_id is None else (0, None)
    return Facts(context, text, tokenizer, by_id, proof.many(), proof.echo(), manner, top, raw, guide, fields)


def agreed(told: Sequence[tuple[str, Facts]]) -> Facts:
    """What all of several servers do, by their addresses.

    Raises:
        ConfigurationError: One tells log-probabilities of labels exactly and another one does not, so that a score
            would depend on who was asked.
    """
    url, first = told[0]
    for other, facts in told[1:]:
        if (facts.by_id is None, facts.text is None) != (first.by_id is None, first.text is None):
            raise ConfigurationError(
                f"{url} and {other} tell log-probabilities in different ways, so that scores would depend on who was "
                "asked; use servers of one kind"
            )
    every = [facts for _, facts in told]
    chats = [own.chat for own in every if own.chat is not None]
    return first._replace(
        context=min((own.context for own in every if own.context is not None), default=None),
        echo=all(own.echo for own in every),
        top=min(own.top for own in every),
        raw=None if any(own.raw is None for own in every) else min(own.raw or 0 for own in every),
        chat=chats[0]._replace(fields=_common(chats)) if len(chats) == len(every) else None,
        guide=first.guide if all(own.guide == first.guide for own in every) else None,
        fields=_common(every),
    )


def _common(told: Sequence[Manner | Facts]) -> dict[str, Any]:
    """The fields that all of them take."""
    return {name: value for name, value in told[0].fields.items() if all(name in one.fields for one in told)}


def _listed(trial: Trial) -> tuple[int | None, int | None]:
    """What a server says of the context and the vocabulary of its model.

    Raises:
        ModelNotFound: It does not answer; or the model is not in its list, and names mean nothing to it otherwise.
    """
    name = trial.name
    try:
        answer = trial.wire.ask("/models", retries=FEW)
    except Failed as error:
        if not error.reached:
            raise Unreached(f"no model {name!r} to be had: {error}; check base_url=") from None
        answer = trial.told(lambda: trial.ask("/models")) if error.passing else None
    listed = answer.get("data") if isinstance(answer, dict) else answer
    models = {
        str(known): one
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict)
        for known in [one.get("id"), *(one.get("aliases") or [])]
    }
    own = models.get(name) or models.get(f"{name}:latest")
    if models and own is None and _takes_any_name(trial):
        raise ModelNotFound(
            f"{trial.wire.address.url} has no model {name!r}, but {', '.join(map(repr, [*models][:5]))}"
        )
    own = own or {}
    meta: dict[str, Any] = own["meta"] if isinstance(own.get("meta"), dict) else {}
    sizes = own.get("max_model_len"), meta.get("n_ctx"), meta.get("n_vocab")
    told, slot, vocabulary = (size if isinstance(size, int) and size > 0 else None for size in sizes)
    return told or slot, vocabulary


def _takes_any_name(trial: Trial) -> bool:
    """Whether it answers for a model that cannot exist, so that only its list tells what it has."""
    try:
        return trial.chat({"max_tokens": 1}, name=NOBODY) is not None
    except (AccessDenied, ModelNotFound):
        return False


def _manner(trial: Trial, thinking: bool) -> Manner | None:
    """The most that chats may say without being refused; None where there are none."""
    template = {"chat_template_kwargs": {"enable_thinking": thinking}}
    for more in (EVEN | template, template, EVEN, {}, None):
        fields = {} if more is None else {"temperature": 0, **more}
        for limit, room in LIMITS.items():
            if trial.chat({**fields, limit: room}) is not None:
                return Manner(fields, limit)
    return None


def _top(trial: Trial, manner: Manner | None) -> int:
    """Likeliest tokens told after a chat; none of a model that reasons, whose first token is no answer."""
    if manner is None or manner.limit != "max_tokens":
        return 0
    for top in TOPS:
        if _tells(trial.chat({**manner.fields, "max_tokens": 1, "logprobs": True, "top_logprobs": top})):
            return top
    return 0


def _raw(trial: Trial) -> int | None:
    """Likeliest tokens told after a text; 0 where it is answered without, None where it is not."""
    body = {"model": trial.name, "prompt": QUESTIONS[0], "max_tokens": 1, "temperature": 0}
    answered = False
    for top in TOPS:
        answer = trial.entry("/completions", {**body, "logprobs": top})
        answered = answered or answer is not None
        if _tells(answer):
            return top
    return 0 if answered or trial.entry("/completions", body) is not None else None


def _fields(trial: Trial) -> dict[str, Any]:
    """The most that requests to go on from a text may say."""
    body = {"model": trial.name, "prompt": QUESTIONS[0], "max_tokens": 1, "temperature": 0, **EVEN}
    return {} if trial.entry("/completions", body) is None else EVEN


def _guide(trial: Trial) -> Guide | None:
    """How the server is made to write one of several texts that it would not write by itself."""
    for guide in GUIDES:
        body = {"model": trial.name, "prompt": QUESTIONS[0], "temperature": 0, **guide.choosing(UNLIKELY)}
        entry = trial.entry("/completions", body)
        if entry is not None and str(entry.get("text")).strip() in UNLIKELY:
            return guide
    return None


def _tokenizer(trial: Trial, chat: bool | None) -> ServerTokenizer | None:
    """The server's tokenizer, with chats where it can render them."""
    plain = ServerTokenizer(trial.wire, trial.name, chat=False, takes_chats=False)
    asked = {"prompt": QUESTIONS[0], "content": QUESTIONS[0]}
    if trial.told(lambda: run(plain.tokens(asked, special=False))) is None:
        return None
    for takes_chats in () if chat is False else (True, False):
        chatting = ServerTokenizer(trial.wire, trial.name, chat=True, takes_chats=takes_chats)
        rendered = trial.told(partial(_rendered, chatting))
        if rendered and QUESTIONS[0] in rendered and rendered != QUESTIONS[0]:
            return chatting
    return plain


def _rendered(tokenizer: ServerTokenizer) -> str:
    """A chat as the tokenizer renders it."""
    return run(tokenizer.templated((("user", QUESTIONS[0]),), False))


def _tells(entry: dict[str, Any] | None) -> bool:
    """Whether there are log-probabilities of more than one token in it."""
    try:
        return entry is not None and len(candidates(entry)) > 1
    except Failed:
        return False
