"""``Trial``: what a server refuses is a fact about it; what only goes wrong is none, and is an error instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .failures import Failed
from .reading import entries
from .wire import Wire

T = TypeVar("T")

QUESTIONS = ("Is water wet? Answer Yes or No.", "Is the sun cold? Answer Yes or No.")
ROOM = 16  # tokens that a reasoning model is given where it refuses to answer with one
LIMITS = {"max_tokens": 1, "max_completion_tokens": ROOM}  # what the limit of an answer is called
FEW = 1  # retries where a failure is expected


class Trial:
    """Asks a server for what it may refuse.

    Some servers fail where they should refuse (500 for a field that they do not know). That counts as a refusal where
    it is so after all retries, and once more after the plainest request was answered.

    Args:
        wire: To the server.

    Attributes:
        refusal: The last one; None where there was none.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.name = wire.address.model
        self.refusal: Failed | None = None
        self._retries: int | None = None

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """The answer to one request; raises as ``Wire.ask`` does."""
        return self.wire.ask(path, body, retries=self._retries)

    def entry(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The one entry of an answer; None where the request is refused, or answered without one."""
        return self.told(lambda: entries(self.ask(path, body), 1)[0])

    def chat(self, fields: Mapping[str, Any], *, name: str | None = None) -> dict[str, Any] | None:
        """The same of a chat, of this model or of another one."""
        body = {"model": name or self.name, "messages": [{"role": "user", "content": QUESTIONS[0]}], **fields}
        return self.entry("/chat/completions", body)

    def told(self, ask: Callable[[], T]) -> T | None:
        """What ``ask`` finds; None where the server refuses it, or answers something else.

        Raises:
            Failed: It went wrong in a way that may pass, so that nothing is known.
        """
        for again in (False, True):
            try:
                return ask()
            except Failed as error:
                self.refusal = error
                if not error.passing:
                    return None
                if not error.odd or not (again or self._well()):
                    raise
        self._retries = min(FEW, self.wire.limits.retries)  # its failures are refusals
        return None

    def _well(self) -> bool:
        """Whether the plainest request is answered now."""
        turns = [{"role": "user", "content": QUESTIONS[0]}]
        plain = [("/chat/completions", {"messages": turns, limit: room}) for limit, room in LIMITS.items()]
        for path, body in [*plain, ("/completions", {"prompt": QUESTIONS[0], "max_tokens": 1})]:
            try:
                entries(self.wire.ask(path, {"model": self.name, **body}, retries=FEW), 1)
            except Failed:
                continue
            return True
        return False
