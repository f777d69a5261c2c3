"""Labels read as the next token of a prompt, or as whole texts where they are more than one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from pyterrier_llmrank.core import Prompt, Scores, Usage, silence
from pyterrier_llmrank.errors import SeveralTokens, Unsupported
from pyterrier_llmrank.models import ChoiceScores, Model
from pyterrier_llmrank.models.partial import carrying, finished


class Labelled(NamedTuple):
    """What was read of the labels of one prompt.

    Attributes:
        values: Natural-log probability of each label, or its logit, (labels,); all NaN where none was to be had.
        mass: Probability of all labels together, 0 to 1.
        usage: What it cost.
    """

    values: Scores
    mass: float
    usage: Usage


def read_labels(
    model: Model, prompts: Sequence[Prompt], labels: Sequence[tuple[str, ...]], *, logits: bool = False
) -> list[Labelled]:
    """Log-probabilities of labels as next tokens; as whole continuations where they are not single tokens.

    Prompts with other labels go apart, so that it depends on none of them how a prompt is read.

    Args:
        model: Offers ``choices``.
        prompts: What to read after.
        labels: Of each prompt.
        logits: Whether the network's logits are wanted, without normalisation.

    Raises:
        SeveralTokens: A label is more than one token, and the model does not offer ``continuation`` or logits are
            wanted, which only single tokens have.
        Unsupported: Logits are wanted of a model that does not tell them.
    """
    read: dict[int, Labelled] = {}

    def early(own: Sequence[Prompt], places: Sequence[int], error: Exception) -> dict[int, Labelled]:
        told = finished(error, "choices", own)
        return read | {places[at]: _labelled(model, one, logits) for at, one in told.items()}

    for names in dict.fromkeys(labels):
        places = [place for place, own in enumerate(labels) if own == names]
        own = [prompts[place] for place in places]
        try:
            with carrying(prompts, partial(early, own, places)):
                told = model.choices(own, [names] * len(own))
            scored = [_labelled(model, one, logits) for one in told]
        except SeveralTokens:
            if logits or "continuation" not in model.can:
                raise
            scored = _spelled_out(model, own, names)
        read.update(zip(places, scored, strict=True))
    return [read[place] for place in range(len(prompts))]


def _labelled(model: Model, one: ChoiceScores, logits: bool) -> Labelled:
    """One reading in the unit that is wanted."""
    if logits and np.isnan(one.log_total):
        raise Unsupported(
            f"the prompt is scored by logits, which {model!r} does not tell; use a model that runs here, such as "
            "HFModel(name), or a prompt that reads probabilities"
        )
    values = one.logprobs + one.log_total if logits else one.logprobs
    return Labelled(silence(len(values)) if one.missing.all() else values, one.mass, one.usage)


def _spelled_out(model: Model, prompts: Sequence[Prompt], names: Sequence[str]) -> list[Labelled]:
    """Log-probabilities of labels as whole texts.

    The beginning of the answer counts as a part of each, as a label that merges with it could not be compared else.
    """
    bare = [replace(prompt, answer="") for prompt in prompts for _ in names]
    read = iter(model.continuation(bare, [prompt.answer + name for prompt in prompts for name in names]))
    scored = []
    for _ in prompts:
        own = [next(read) for _ in names]
        sums = np.array([one.logprobs.sum() for one in own])
        scored.append(Labelled(sums, float(np.exp(sums).sum()), sum((one.usage for one in own), Usage())))
    return scored
