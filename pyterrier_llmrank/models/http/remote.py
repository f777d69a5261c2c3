"""What every user of a server shares: where it is, who asks, how much at once."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError

from .failures import Address
from .fleet import Fleet
from .limits import Limits, Purse
from .wire import Wire

if TYPE_CHECKING:
    from typing_extensions import Self

OPENAI = "https://api.openai.com/v1"

_LOCK = threading.Lock()
_WIRES: dict[tuple[Any, ...], Wire] = {}
_PURSES: dict[tuple[Any, ...], Purse] = {}


@dataclass(frozen=True, repr=False)
class Remote:
    """A value that names a model behind a server; equal ones share connections and budget in one process.

    Args:
        name: The model, as the server calls it.
        base_url: The server, such as "http://localhost:8000/v1"; "/v1" is added where there is no path. Or several that
            have the same model: prompts that begin alike go to the same one, so that its prefix cache hits; an idle one
            takes over what waits for another; what one leaves without an answer, the others are asked. A server that is
            dead is left out, and tried again after a minute.
        key_env: The environment variable that holds the key, which is read when it is needed and kept nowhere else. By
            default OPENAI_API_KEY for OpenAI, and no key for any other server.
        concurrency: Requests under way at once, of each server.
        timeout: Seconds of one attempt.
        deadline: Seconds of one request, with all its attempts.
        retries: Attempts after the first; they wait ever longer, with jitter, or as long as the server says.
        max_failures: Requests in a row that may come to nothing before it is an error (of several servers: before one
            is dead); a single one leaves what it asked without an answer, and is counted.
        budget: Tokens to spend in this process, read and written; no request is sent that could pass it. Where a server
            does not say what an answer cost, it is the most that it can have been.
        extra: Fields of every request for a completion that this package knows nothing of.

    Raises:
        ConfigurationError: An argument is out of range, or the URL holds a password.
        MissingExtra: On first use: the openai client is not installed.
    """

    name: str
    base_url: str | tuple[str, ...] = OPENAI
    _: KW_ONLY
    key_env: str | None = None
    concurrency: int = 64
    timeout: float = 120.0
    deadline: float = 600.0
    retries: int = 4
    max_failures: int = 5
    budget: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    probed: ClassVar[bool] = True  # what it can do is known once the server was asked
    eager: ClassVar[bool] = True  # threads may ask at once, so each query can go on as soon as it has its answers

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_env):
            raise ConfigurationError(
                "key_env must be the name of an environment variable, not the key; it is not shown"
            )
        object.__setattr__(self, "base_url", _addresses(self.base_url))
        if self.key_env is None and self.base_url == OPENAI:
            object.__setattr__(self, "key_env", "OPENAI_API_KEY")
        for name, least in (("concurrency", 1), ("retries", 0), ("max_failures", 1)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("timeout", "deadline", "budget"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} must be above 0, got {value}")

    @property
    def spent(self) -> int:
        """Tokens that this process has spent on it, by the server's count; at most, where it has none."""
        return self._members[0]._wire.purse.spent

    @cached_property
    def _group(self) -> tuple[str, ...]:
        """The servers that share a budget."""
        return self.base_url if isinstance(self.base_url, tuple) else (self.base_url,)

    @cached_property
    def _members(self) -> tuple[Self, ...]:
        """One value per server."""
        if not isinstance(self.base_url, tuple):
            return (self,)
        made = tuple(replace(self, base_url=url) for url in self.base_url)
        for one in made:
            vars(one)["_group"] = self._group
        return made

    @cached_property
    def _fleet(self) -> Fleet[Self]:
        return Fleet(self._members, self._group)

    @property
    def _wire(self) -> Wire:
        """The connections of this process to one server: none are carried over when it forks, or is pickled."""
        key = os.environ.get(self.key_env) if self.key_env else None
        limits = Limits(self.concurrency, self.timeout, self.deadline, self.retries, self.max_failures, self.budget)
        [url] = {self.base_url} if isinstance(self.base_url, str) else self.base_url
        address = Address(url, self.name, self.key_env, key)
        shared = (
            os.getpid(),
            self._group,
            self.name,
            self.key_env,
            key,
            limits,
            json.dumps(self.extra, sort_keys=True),
        )
        with _LOCK:
            purse = _PURSES.setdefault(shared, Purse(self.budget))
            if (url, shared) not in _WIRES:
                _WIRES[url, shared] = Wire(address, limits, self.extra, purse)
            return _WIRES[url, shared]

    def __getstate__(self) -> dict[str, Any]:
        """Its arguments: connections and what is known of servers are found again where it is unpickled."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}


def _addresses(urls: object) -> str | tuple[str, ...]:
    """One server, or several different ones."""
    if isinstance(urls, str):
        return _address(urls)
    if not isinstance(urls, Sequence) or not urls or not all(isinstance(url, str) for url in urls):
        raise ConfigurationError(f"base_url must be a URL, or a list of at least one, got {urls!r}")
    found = tuple(map(_address, urls))
    for url in found:
        if found.count(url) > 1:
            raise ConfigurationError(f"base_url names {url} twice; name each server once")
    return found if len(found) > 1 else found[0]


def _address(url: str) -> str:
    """A URL without a slash at its end, and with a path."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"base_url must be a URL such as 'http://localhost:8000/v1', got {parts.scheme or url!r}"
        )
    if parts.username or parts.password or parts.query:
        raise ConfigurationError(
            f"base_url must hold no user, password or query, which could be a key (at {parts.hostname}); name the "
            "environment variable that holds the key with key_env="
        )
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"
