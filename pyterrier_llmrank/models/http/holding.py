"""Answers of servers that are held to a permutation: item by item, as no server has a grammar for permutations.

Where a server tells log-probabilities by token id, it is asked which of the tokens that are allowed comes next, once a
choice, and the answer is the one that a local model gives. Where it only writes one of several texts that it is given,
it is asked which of the items that are left comes next. Each request goes on from the prompt and the answer so far,
which a server with a prefix cache has read before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Prompt, Usage
from pyterrier_llmrank.errors import Unsupported
from pyterrier_llmrank.models.base import Generation, Permutation
from pyterrier_llmrank.models.hearing import ear
from pyterrier_llmrank.models.hf.constraints import Path, Spelling, check_held, spellings
from pyterrier_llmrank.models.hf.sampling import drawn_from, processors
from pyterrier_llmrank.models.hf.text import Rendered, TextSide

from .asking import Asker
from .dialects import ById, Read
from .failures import Failed
from .guided import Chooser, Drawing
from .outcomes import NOTHING, settled, texts_one_by_one
from .tokenizing import untokenized
from .wire import Wire, cut


def constrained(
    asker: Asker,
    prompts: Sequence[Prompt],
    max_tokens: int,
    held: Permutation,
    drawings: Sequence[Drawing],
) -> list[Generation]:
    """One answer per prompt, held to a permutation; see ``OpenAIModel.generate``."""
    text, by_id, guide = asker.facts.text, asker.facts.by_id, asker.facts.guide
    if text and by_id:
        return _by_tokens(asker, by_id, held, _jobs(asker, text, prompts, max_tokens, held, drawings))
    assert guide is not None, "a server that was not seen to choose"
    side = untokenized()
    shown = asker.ready(text, prompts, max_tokens)[0] if text else [side.render(prompt) for prompt in prompts]
    chooser = Chooser(asker.wire, guide, text, asker.facts.fields)

    async def ask(asked: tuple[Rendered, Drawing]) -> Generation:
        return await chooser.answer(asked[0], held, asked[1])

    return texts_one_by_one(asker.wire, ask, list(zip(shown, drawings, strict=True)))


class Job(NamedTuple):
    """One answer that is read token by token.

    Attributes:
        ids: The prompt.
        spelling: What the answer is held to.
        ends: Tokens that end it.
        drawing: How it is drawn.
    """

    ids: list[int]
    spelling: Spelling
    ends: frozenset[int]
    drawing: Drawing


def _jobs(
    asker: Asker,
    text: TextSide,
    prompts: Sequence[Prompt],
    max_tokens: int,
    held: Permutation,
    drawings: Sequence[Drawing],
) -> list[Job]:
    """What is asked of each prompt.

    Raises:
        Unsupported: Only an end token could tell that an answer is complete, and none is known.
    """
    shown, rows = asker.ready(text, prompts, max_tokens)
    told = spellings(text, shown, held)
    check_held(max_tokens, (), told)
    end = getattr(text.tokenizer, "eos_token_id", None)
    if end is None and any(spelling.open_ended for spelling in told):
        raise Unsupported(
            f"one of the identifiers {held.items!r} begins as another, and the end token of {asker.name} is not known, "
            "which alone would tell that an answer ends with it; say tokenizer=, or put identifiers in brackets"
        )
    ends = frozenset(() if end is None else (int(end),))
    return [Job(ids, spelling, ends, drawing) for ids, spelling, drawing in zip(rows, told, drawings, strict=True)]


def _by_tokens(asker: Asker, by_id: ById, held: Permutation, jobs: Sequence[Job]) -> list[Generation]:
    """Answers that are read token by token."""

    async def ask(chunk: Sequence[Job]) -> list[Generation]:
        return await by_tokens(asker.wire, asker.name, by_id, held, chunk)

    answers, error = asker.wire.each(ask, cut(jobs, asker.many()), ear())
    return settled([one or Generation("", "length", NOTHING) for one in answers], answers, error)


async def by_tokens(wire: Wire, name: str, by_id: ById, held: Permutation, jobs: Sequence[Job]) -> list[Generation]:
    """Answers to several prompts, all of which go on by one choice a request.

    Raises:
        Failed: The server told nothing of any token that is allowed.
    """
    paths = [Path(job.spelling, job.ends) for job in jobs]
    draws = [processors(job.drawing.sampling, [job.drawing.seed], "cpu") for job in jobs]
    usages = [Usage()] * len(jobs)
    for path in paths:
        path.forced()
    while left := [place for place, path in enumerate(paths) if not path.done]:
        allowed = {place: paths[place].allowed() for place in left}
        wanted = tuple(sorted(set().union(*allowed.values())))  # of one request there is one list
        reads = await by_id(wire, name, [jobs[place].ids + paths[place].tokens for place in left], wanted)
        for place, read in zip(left, reads, strict=True):
            own = [index for index, token in enumerate(wanted) if token in allowed[place]]
            paths[place].write(wanted[own[_chosen(read, own, draws[place])]])
            paths[place].forced()
            usages[place] += read.usage
    return [
        Generation(held.text(path.named), "stop", replace(usage, output_tokens=len(path.tokens)))
        for path, usage in zip(paths, usages, strict=True)
    ]


def _chosen(read: Read, own: Sequence[int], draws: Sequence[Any]) -> int:
    """The place in ``own`` of the token to go on with: one that the server told of, as the others are less likely."""
    values: NDArray[np.float64] = np.where(read.missing[own], -np.inf, read.logprobs[own])
    if np.isneginf(values).all():
        raise Failed(f"the server tells nothing of {len(own)} tokens, one of which has to come next")
    return drawn_from(values, draws)
