"""What a server's refusals mean, in this package's errors; no key is ever part of one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import AccessDenied, ModelError, ModelNotFound, PromptTooLong, ServerError

if TYPE_CHECKING:
    from openai import APIError

LENGTH = 300  # characters of a server's message that are passed on
CONTEXT = re.compile(
    r"context.?(length|size|window)|(prompt|input)[^.]{0,40}too (long|large)|tokens` must be <="
    r"|must have less than \d+ (tokens|characters)",
    re.I,
)
MODEL = re.compile(r"(invalid|unknown|no such) model|pinned to|model.{0,80}(not exist|not found|not available)", re.I)
SENDABLE = re.compile(r"[\x21-\x7e]+")  # a key
RESULTS = {"choices", "data", "results", "scores"}  # fields of answers
KEYS = re.compile(r"sk-[\w*-]{6,}|(?<=Bearer )\S+")  # what looks like a key, or like the rest of one


class Failed(ServerError):
    """One request that came to nothing; survived, unless too many do so in a row.

    Attributes:
        refused: Whether the server understood, and would refuse it again.
        reached: Whether a server answered at all.
        passing: Whether there was no answer, for a reason that may pass; else there was one that cannot be used.
        odd: Whether it passes with most servers, but is a refusal of some.
        usage: What an answer cost that cannot be used.
    """

    def __init__(
        self, message: str, *, refused: bool = False, reached: bool = True, passing: bool = False, odd: bool = False
    ) -> None:
        super().__init__(message)
        self.refused = refused
        self.reached = reached
        self.passing = passing or odd
        self.odd = odd
        self.retryable = not refused
        self.usage = Usage()


@contextmanager
def billed(usage: Usage) -> Iterator[None]:
    """Adds what an answer cost to the error that it cannot be used."""
    try:
        yield
    except Failed as error:
        error.usage += usage
        raise


class Unreached(ModelNotFound):
    """There is no server at an address, or none that answers; asking again later may help."""

    retryable = True


@dataclass(frozen=True)
class Address:
    """Who was asked, for messages.

    Attributes:
        url: Of the server.
        model: Its model.
        key_env: The environment variable with the key; None where none was sent.
        key: The key itself, to be struck out of messages.
    """

    url: str
    model: str
    key_env: str | None
    key: str | None = field(repr=False)


def told(error: APIError, address: Address) -> ModelError:
    """What the openai client raised, as this package says it."""
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    if isinstance(error, APITimeoutError) and not type(error.__cause__).__name__.startswith("Connect"):
        late = f"{address.url} did not answer in time, though asked again; raise timeout=, or lower concurrency="
        return Failed(late, reached=False, passing=True)
    if isinstance(error, APIConnectionError):
        gone = f"{address.url} cannot be reached ({_cause(error, address)}); is the server running there?"
        return Failed(gone, reached=False, passing=True)
    if not isinstance(error, APIStatusError):
        return Failed(f"{address.url} answered what is no answer: {_clean(str(error), address)}", odd=True)
    return _status(error.status_code, error.body, address)


def within(answer: object, address: Address) -> ModelError | None:
    """The error that an answer with a status of 200 consists of; None where it is an answer."""
    if isinstance(answer, str):
        return Failed(f"{address.url} answered what is not JSON: {_clean(answer, address)[:100]!r}", odd=True)
    error = answer.get("error") if isinstance(answer, dict) and not answer.keys() & RESULTS else None
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    return _status(code if isinstance(code, int) and 400 <= code < 600 else 200, error, address)


def _status(status: int, body: object, address: Address) -> ModelError:
    """What a status means: one of 400 and above, or of 200 with an error in place of an answer."""
    fields: dict[str, Any] = body if isinstance(body, dict) else {}
    message = _clean(str(fields.get("message") or fields.get("detail") or body or "no reason given"), address)
    code = f"{fields.get('code')} {fields.get('type')}"
    if status == 401:
        return AccessDenied(f"{address.url} refuses {_key(address)}")
    if status == 403 or "insufficient_quota" in code:
        return AccessDenied(f"{address.url} denies access to {address.model!r} with {_key(address)}: {message}")
    if status in (400, 413, 422) and (CONTEXT.search(message) or "context" in code):
        return PromptTooLong(
            f"a prompt exceeds the context of {address.model} at {address.url}: {message}; use fewer or shorter "
            "documents (window=, max_doc_tokens=), or say max_length= and they are shortened to fit"
        )
    if "model_not_found" in code or (status in (400, 404) and MODEL.search(message)):
        return ModelNotFound(f"{address.url} has no model {address.model!r}: {message}")
    refused = status == 501 or (400 <= status < 500 and status not in (408, 409, 429))
    said = f"{address.url} answered {status}: {message}"
    return Failed(said, refused=refused, passing=not refused, odd=status in (200, 500))


def check_key(address: Address) -> None:
    """Refuses a key that no request can carry.

    Raises:
        AccessDenied: It holds a space, a line break, or a character outside ASCII.
    """
    if address.key and not SENDABLE.fullmatch(address.key):
        raise AccessDenied(
            f"the key of the environment variable {address.key_env} holds a space, a line break or a character outside "
            "ASCII, and was not sent; put the key there alone, without what stands around it"
        )


def _key(address: Address) -> str:
    """How the key is told of, which is never shown."""
    if address.key_env is None:
        return "a request without a key; name the environment variable that holds it with key_env="
    if address.key is None:
        return f"a request without a key: the environment variable {address.key_env} is not set"
    return f"the key of the environment variable {address.key_env}; put a valid one there"


def _cause(error: APIError, address: Address) -> str:
    """The innermost reason of a failed connection."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return _clean(str(cause) or type(cause).__name__, address)


def _clean(message: str, address: Address) -> str:
    """The telling part of a message, without anything that looks like a key."""
    if address.key:
        message = message.replace(address.key, "***")
    return KEYS.sub("***", " ".join(message.split()))[:LENGTH].rstrip(". ")
