"""``FusionInDecoder``: each document read by itself, the order of all of them written by one decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from os import PathLike, fspath
from typing import Any

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import FusedModel, HFModel, Model
from pyterrier_llmrank.prompts.base import Template
from pyterrier_llmrank.prompts.fused import LIT5, FusedPrompt
from pyterrier_llmrank.prompts.truncation import fit

from .prompted import Prompted
from .showing import Item


@dataclass(frozen=True, repr=False)
class FusionInDecoder(Prompted):
    """Orders a group of documents with an encoder-decoder that encodes each of them alone, beside the query.

    The decoder reads all states at once and writes the order (LiT5, ListT5). Encoding costs as much as reading the
    documents one by one, whatever the size of the group. A document is shortened until its own text fits; the end of
    that text stays. Takes the other arguments of ``Prompted`` by name (``max_tokens``, ``sampling``, ``seed``), and:

    Args:
        model: An encoder-decoder that was trained so, by name or as an ``HFModel``, whose ``max_length`` bounds what
            is read of one document, with the query.
        max_doc_tokens: Tokens to keep of any document; all that fit by default.
        prompt: The format; that of LiT5-Distill by default.

    Raises:
        ConfigurationError: ``model`` runs elsewhere, or ``prompt`` is not for this.
        Unsupported: On first use, if ``model`` is not an encoder-decoder.

    Examples:
        Windows of LiT5, and the tournament of ListT5, whose format is ``prompts.fused.LIST_T5``::

            Rerank(SlidingWindow(20, 10), FusionInDecoder("castorini/LiT5-Distill-base-v2"))
            Rerank(MultiwayTournament(5, keep=2), FusionInDecoder("Soyoung97/ListT5-base", prompt=LIST_T5), top_k=10)

    Reference:
        Tamber et al., 2023 (LiT5); Yoon et al., 2024 (ListT5); Izacard and Grave, 2021 (Fusion-in-Decoder).
    """

    prompt: FusedPrompt = field(default=LIT5, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", as_fused(self.model))
        if not isinstance(self.prompt, FusedPrompt):
            raise ConfigurationError(f"{self.prompt!r} shows documents together; pass a FusedPrompt")
        super().__post_init__()

    def _fitted(
        self, template: Template, items: Sequence[Item], reserve: Sequence[int]
    ) -> tuple[list[Prompt], list[int]]:
        """Prompts whose messages each leave no document token out that fits; and what was left out."""
        assert isinstance(template, FusedPrompt)
        return fitted(template, items, self.model, self.max_doc_tokens)


def fitted(
    template: FusedPrompt, items: Sequence[Item], model: Model, max_doc_tokens: int | None = None
) -> tuple[list[Prompt], list[int]]:
    """Prompts of one message for each document shown, none longer than the model reads, and the tokens each lost.

    Args:
        template: The format.
        items: What each prompt shows.
        model: Whose tokens count.
        max_doc_tokens: Tokens to keep of any document.
    """
    shown = [template.shown(len(item.texts)) for item in items]
    messages: list[list[Any]] = [[] for _ in items]
    lost = [0] * len(items)
    for place in range(max(map(len, shown), default=0)):
        own = [number for number, places in enumerate(shown) if place < len(places)]
        texts = [(items[number].query, [items[number].texts[shown[number][place]]]) for number in own]
        parts = fit(template.part(place), texts, model, reserve=[0] * len(own), max_doc_tokens=max_doc_tokens)
        for number, part in zip(own, parts, strict=True):
            messages[number] += part.prompt.messages
            lost[number] += part.lost
    return [Prompt(tuple(of_item), raw=True) for of_item in messages], lost


def as_fused(model: object) -> Any:  # noqa: ANN401 - also what stands in for a model
    """A model that reads the messages of a prompt apart, from a name or a local model.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(model, str | PathLike):
        return FusedModel(fspath(model))
    if isinstance(model, HFModel):
        told = {one.name: getattr(model, one.name) for one in fields(HFModel) if one.init}
        return model if isinstance(model, FusedModel) else FusedModel(**told)
    if not _reads_apart(model):
        raise ConfigurationError(
            f"fusion in the decoder looks inside a local model: pass its name or HFModel(name), not {model!r}"
        )
    return model


def _reads_apart(model: object) -> bool:
    """Whether it is such a model, or one is inside it."""
    within = [getattr(model, name, None) for name in ("inner", "model")]
    return isinstance(model, FusedModel) or any(_reads_apart(one) for one in within if one is not None)
