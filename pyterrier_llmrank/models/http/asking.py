"""Puts prompts to a server in the best way that it has, and makes answers of what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pyterrier_llmrank.core import Prompt, Usage
from pyterrier_llmrank.errors import ModelError, PromptTooLong, Unsupported
from pyterrier_llmrank.models.base import EMPTY, ChoiceScores, Generation, Sampling, TokenLogprobs
from pyterrier_llmrank.models.hearing import ear, telling
from pyterrier_llmrank.models.hf.prefixes import common_prefix
from pyterrier_llmrank.models.hf.stopping import before_stop
from pyterrier_llmrank.models.hf.text import Rendered, TextSide

from . import estimate
from .dialects import ById, Read, Request, top_by_text
from .failures import Address, billed
from .outcomes import NOTHING, one_by_one, settled, texts_one_by_one
from .probing import Facts
from .proof import echo_body
from .reading import costs, echoed, entries, written
from .tokenizing import rendered, untokenized
from .wire import Wire, cut

PER_REQUEST = 64  # prompts
STOPS = 4  # stop texts that servers take; all are looked for here
SEEDS = 2**31  # that all servers take


class Job(NamedTuple):
    """Token ids to read after, and the ids whose log-probabilities are wanted."""

    ids: list[int]
    wanted: tuple[int, ...]


class Asker(NamedTuple):
    """Who asks.

    Attributes:
        wire: The server.
        facts: What it does.
        context: Tokens of a prompt and its answer.
    """

    wire: Wire
    facts: Facts
    context: int | None

    @property
    def name(self) -> str:
        """The model."""
        return self.wire.address.model

    def choices(self, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[ChoiceScores]:
        """See ``OpenAIModel.choices``."""
        if self.facts.text and self.facts.by_id:
            return self._by_id(self.facts.text, self.facts.by_id, prompts, labels)

        async def ask(asked: tuple[Request, list[str]]) -> Read:
            return await top_by_text(self.wire, *asked)

        asked = [self._labelled(prompt, names) for prompt, names in zip(prompts, labels, strict=True)]

        def made(place: int, read: Read) -> ChoiceScores:
            return _choice([read], len(labels[place]))

        (answers, error), lost = one_by_one(self.wire, ask, asked, telling(made))
        read = [_choice([one], len(names), cost) for one, names, cost in zip(answers, labels, lost, strict=True)]
        return settled(read, answers, error)

    def continuation(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[TokenLogprobs]:
        """See ``OpenAIModel.continuation``."""
        text = self._text()
        shown, bases = self.ready(text, prompts, 0)
        sides = text.prompts(shown, [one.glue + tail for one, tail in zip(shown, texts, strict=True)])
        firsts = [common_prefix(base, side) for base, side in zip(bases, sides, strict=True)]
        if not all(firsts):
            raise ModelError(EMPTY)
        check_fit(map(len, sides), 1, self.context, self.wire.address)

        async def ask(chunk: Sequence[list[int]]) -> list[tuple[Any, Usage]]:
            read = sum(map(len, chunk))
            body = echo_body(self.name, chunk)
            answer = await self.wire.post("/completions", body, tokens=read + len(chunk), read=read)
            found = entries(answer, len(chunk))
            usages = costs(answer, [len(ids) for ids in chunk], Usage(output_tokens=len(chunk)))
            return [(echoed(entry, ids), usage) for entry, ids, usage in zip(found, chunk, usages, strict=True)]

        def made(place: int, read: tuple[Any, Usage] | None) -> TokenLogprobs:
            told, usage = read or (np.zeros(0), NOTHING)
            return TokenLogprobs(told[firsts[place] :], usage)

        answers, error = self.wire.each(ask, cut(sides, self.many()), telling(made))
        return settled([made(*one) for one in enumerate(answers)], answers, error)

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_tokens: int,
        stop: Sequence[str],
        sampling: Sampling | None,
        seeds: Sequence[int],
    ) -> list[Generation]:
        """See ``OpenAIModel.generate``; one prompt a request, since each has its own seed and may take long."""
        drawn: dict[str, Any] = {"stop": list(stop[:STOPS])} if stop else {}
        if sampling:
            drawn |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
            drawn |= {"top_k": sampling.top_k} if sampling.top_k else {}

        async def ask(request: Request) -> Generation:
            return await self._written(request, stop)

        asked = self._put(prompts, max_tokens)
        for place, request in enumerate(asked):
            request.body.update(drawn | ({"seed": seeds[place] % SEEDS} if sampling else {}))
        return texts_one_by_one(self.wire, ask, asked)

    def _by_id(
        self, text: TextSide, by_id: ById, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]
    ) -> list[ChoiceScores]:
        """Labels by their tokens; what all labels begin with is read first, token by token."""
        shown, rows = self.ready(text, prompts, 1)
        jobs: list[tuple[int, Job]] = []
        for place, (one, row, names) in enumerate(zip(shown, rows, labels, strict=True)):
            tokens = text.labels(one, names)
            side = row[: len(row) - tokens.dropped] + tokens.shared
            kept = len(row) - tokens.dropped
            jobs += [(place, Job(side[:end], (side[end],))) for end in range(kept, len(side))]
            jobs.append((place, Job(side, tuple(tokens.ids))))
        alike: dict[tuple[int, ...], list[tuple[int, Job]]] = {}
        for one_job in jobs:
            alike.setdefault(one_job[1].wanted, []).append(one_job)  # one request has one list of labels
        chunks = [chunk for own in alike.values() for chunk in cut(own, self.many())]

        async def ask(chunk: Sequence[tuple[int, Job]]) -> list[Read]:
            return await by_id(self.wire, self.name, [job.ids for _, job in chunk], chunk[0][1].wanted)

        flat, hear = [one for chunk in chunks for one in chunk], ear()
        reads: list[dict[int, Read]] = [{} for _ in prompts]  # by the length of what was read
        sizes = Counter(place for place, _ in flat)

        def made(place: int) -> ChoiceScores:
            known = [read for _, read in sorted(reads[place].items())]
            return _choice([*known, *[None] * (sizes[place] - len(known))], len(labels[place]))

        def note(at: int, read: Read) -> None:
            place, job = flat[at]
            reads[place][len(job.ids)] = read
            if hear and len(reads[place]) == sizes[place]:
                hear(place, made(place))

        _, error = self.wire.each(ask, chunks, note)
        whole = [own if len(own) == sizes[place] else None for place, own in enumerate(reads)]
        return settled([made(place) for place in range(len(prompts))], whole, error)

    def _labelled(self, prompt: Prompt, labels: Sequence[str]) -> tuple[Request, list[str]]:
        """A request for the likeliest tokens after a prompt, and the texts that the labels have there."""
        [request] = self._put([prompt], 1)
        if "messages" in request.body:
            request.body.update(logprobs=True, top_logprobs=self.facts.top)
            return request, list(labels)
        if not self.facts.raw:
            raise Unsupported(f"{self.name} at {self.wire.address.url} tells no log-probabilities of plain texts")
        glue = untokenized().render(prompt).glue
        request.body.update(logprobs=self.facts.raw)
        return request, [glue + label for label in labels]

    def _put(self, prompts: Sequence[Prompt], max_tokens: int) -> list[Request]:
        """The request for each prompt."""
        if self.facts.text:
            _, rows = self.ready(self.facts.text, prompts, max_tokens)
            return [self._plain(row, len(row), Usage(1, len(row), 0, max_tokens)) for row in rows]
        return [self._one(prompt, max_tokens) for prompt in prompts]

    def _one(self, prompt: Prompt, max_tokens: int) -> Request:
        """A request for a server that takes no token ids."""
        chat, tokens = self.facts.chat, estimate.at_most(prompt)
        most = Usage(1, estimate.length(prompt), 0, max_tokens)
        if chat is None or prompt.raw:
            if self.facts.raw is None:
                raise Unsupported(f"{self.wire.address.url} takes chats only, and this prompt is none (raw=True)")
            return self._plain(untokenized().render(prompt).text, tokens, most)
        if prompt.answer:
            raise Unsupported(
                f"{self.wire.address.url} is not known to go on from the beginning of an answer "
                f"({prompt.answer[:20]!r}), which this prompt needs; say tokenizer= where the server takes token ids"
            )
        turns = [message._asdict() for message in prompt.messages]
        body = {"model": self.name, "messages": turns, **chat.fields, chat.limit: max_tokens}
        return Request("/chat/completions", body, tokens + max_tokens, most)

    def _plain(self, prompt: str | list[int], tokens: int, most: Usage) -> Request:
        limit = {"max_tokens": most.output_tokens, "temperature": 0}
        body = {"model": self.name, "prompt": prompt, **self.facts.fields, **limit}
        return Request("/completions", body, tokens + most.output_tokens, most)

    async def _written(self, request: Request, stop: Sequence[str]) -> Generation:
        answer = await self.wire.post(request.path, request.body, tokens=request.tokens)
        [usage] = costs(answer, [None], request.most)
        with billed(usage):
            whole, finish = written(entries(answer, 1)[0])
        text, stopped = before_stop(whole, stop)
        return Generation(text, "stop" if stopped else finish, usage)

    def _text(self) -> TextSide:
        if self.facts.text is None:
            raise Unsupported(f"{self.wire.address.url} takes no token ids")
        return self.facts.text

    def ready(self, text: TextSide, prompts: Sequence[Prompt], reserve: int) -> tuple[list[Rendered], list[list[int]]]:
        """Prompts as text and as ids, none longer than the context allows."""
        shown = rendered(text, prompts)
        rows = text.prompts(shown)
        if not all(rows):
            raise ModelError(EMPTY)
        check_fit(map(len, rows), reserve, self.context, self.wire.address)
        return shown, rows

    def many(self) -> int:
        """Prompts of one request."""
        return PER_REQUEST if self.facts.many else 1


def check_fit(lengths: Iterable[int], reserve: int, context: int | None, address: Address) -> None:
    """Refuses prompts that leave no room for an answer of ``reserve`` tokens.

    Raises:
        PromptTooLong: One does not.
    """
    longest = max(lengths, default=0)
    if context is not None and longest + reserve > context:
        raise PromptTooLong(
            f"a prompt of {longest} tokens with an answer of {reserve} exceeds the {context} tokens of "
            f"{address.model} at {address.url}; use fewer or shorter documents (window=, max_doc_tokens=)"
        )


def _choice(reads: Sequence[Read | None], n: int, lost: Usage = NOTHING) -> ChoiceScores:
    """Scores of ``n`` labels from the last reading; those before it are of what all labels begin with."""
    told = [read for read in reads if read is not None]
    usage = sum((read.usage for read in told), Usage())
    if not told or len(told) < len(reads):
        return ChoiceScores(np.zeros(n), np.ones(n, dtype=bool), usage + lost)
    common = sum(float(read.logprobs[0]) for read in told[:-1])
    unsure = any(read.missing.any() for read in told[:-1])
    return ChoiceScores(told[-1].logprobs + common, told[-1].missing | unsure, usage)
