"""Answers that a server chooses: item by item, where it can be made to write one of several texts.

Whether an item is complete that another one begins with ("1", "12") is decided by the end token here, and not, as in
answers by token id, by what would stand between two items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.models.base import Generation, Permutation, Sampling
from pyterrier_llmrank.models.hf.text import Rendered, TextSide

from . import estimate
from .failures import Failed, billed
from .reading import costs, entries, written
from .wire import Wire

SEEDS = 2**31  # that all servers take


class Drawing(NamedTuple):
    """How one answer is drawn.

    Attributes:
        sampling: Among what is allowed; None for the likeliest.
        seed: Of this answer.
    """

    sampling: Sampling | None
    seed: int

    def fields(self, step: int) -> dict[str, Any]:
        """What a request for the item after ``step`` others says of it."""
        if self.sampling is None:
            return {"temperature": 0}
        more = {"top_k": self.sampling.top_k} if self.sampling.top_k else {}
        manner = {"temperature": self.sampling.temperature, "top_p": self.sampling.top_p}
        return {**manner, **more, "seed": (self.seed + step) % SEEDS}


class Guide(NamedTuple):
    """A field of requests that makes a server write one of several texts.

    Attributes:
        field: Its name.
        within: The name of the field within it; none where it holds the texts itself.
    """

    field: str
    within: str | None = None

    def choosing(self, texts: Sequence[str]) -> dict[str, Any]:
        """Fields of a request for one of ``texts``; no text of them takes more tokens than bytes."""
        told = list(texts) if self.within is None else {self.within: list(texts)}
        return {self.field: told, "max_tokens": 1 + max(len(text.encode()) for text in texts)}


GUIDES = (Guide("structured_outputs", "choice"), Guide("guided_choice"))  # of vLLM, today's and yesterday's


class Chooser(NamedTuple):
    """Makes a server choose.

    Attributes:
        wire: The server.
        guide: How it is told what to write.
        text: Makes token ids; None for a server that takes texts.
        fields: Of every request.
    """

    wire: Wire
    guide: Guide
    text: TextSide | None
    fields: Mapping[str, Any]

    async def answer(self, prompt: Rendered, held: Permutation, drawing: Drawing) -> Generation:
        """One answer, each of whose items is written out of those that are left.

        Raises:
            Failed: The server wrote something else.
        """
        left, answer, usage = list(range(len(held.items))), "", Usage()
        named: list[int] = []
        while len(named) < (held.length or len(held.items)):
            options = [f"{held.between if named else prompt.glue}{held.items[place]}" for place in left]
            chosen = 0
            if len(options) > 1:
                with billed(usage):
                    chosen, cost = await self._choice(prompt, answer, options, drawing.fields(len(named)))
                usage += cost
            answer += options[chosen]
            named.append(left.pop(chosen))
        return Generation(held.text(named), "stop", usage)

    async def _choice(
        self, prompt: Rendered, answer: str, options: Sequence[str], manner: Mapping[str, Any]
    ) -> tuple[int, Usage]:
        """Which of the options follows the answer so far."""
        shown = self.text.prompts([prompt], [answer])[0] if self.text else prompt.text + answer
        asked = {"model": self.wire.address.model, "prompt": shown}
        body = {**asked, **self.fields, **self.guide.choosing(options), **manner}
        length = len(shown) if self.text else len(prompt.text.encode()) + len(answer.encode())
        said = await self.wire.post("/completions", body, tokens=length + body["max_tokens"])
        read = length if self.text else len(estimate.ends(prompt.text + answer))
        [cost] = costs(said, [length if self.text else None], Usage(1, read, 0, body["max_tokens"]))
        with billed(cost):
            text, _ = written(entries(said, 1)[0])
            places = [place for place, option in enumerate(options) if option.strip() == text.strip()]
            if not places:
                raise Failed(f"the server wrote {text[:40]!r} where it was to choose one of {len(options)} texts")
        return places[0], cost
