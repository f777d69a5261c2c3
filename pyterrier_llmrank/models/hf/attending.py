"""The primitive ``attention`` of a local model: how much the last words of prompts attend to texts in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyterrier_llmrank.core import Prompt, Usage
from pyterrier_llmrank.errors import PromptTooLong, Unsupported
from pyterrier_llmrank.models.base import Attended

from .asked import Asked, Heads, ask, by_layer, order_of
from .batching import Budget, in_batches
from .exactness import TOLERANCES
from .layout import Span
from .loading import Loaded
from .local import Local
from .rows import Ending, read_rows, refuse
from .text import TextSide
from .wholly import read_wholly

if TYPE_CHECKING:
    from torch import Tensor

PROBE = 48, 8  # tokens of the beginning and of the ends on which a network is tried

DIALECTS = {  # a control token that gives a way of writing chat turns away
    "<|start_header_id|>": "llama-3",
    "<|im_sep|>": "phi",
    "<|start_of_role|>": "granite",
}


@dataclass(frozen=True, repr=False)
class Attends(Local):
    """Local weights of a decoder whose attention can be read."""

    @cached_property
    def _text(self) -> TextSide:
        """What it reads of prompts."""
        raise NotImplementedError

    @property
    def attention_heads(self) -> tuple[int, int]:
        """Layers, and heads of a layer.

        Raises:
            Unsupported: An encoder-decoder.
        """
        config = self._loaded.network.config
        if config.is_encoder_decoder:
            raise Unsupported(f"{self.name} is an encoder-decoder; attention is read from decoders, such as Qwen3's")
        text = config.get_text_config(decoder=True)
        return int(text.num_hidden_layers), int(text.num_attention_heads)

    @property
    def dialect(self) -> str:
        """How chat turns are written: "llama-3", "phi", "granite", "qwen", "mistral", otherwise "chat" or "plain".

        Told by control tokens and the kind of network, never by the name of a folder.
        """
        tokenizer, kind = self._loaded.tokenizer, str(self._loaded.network.config.model_type)
        known = tokenizer.convert_tokens_to_ids
        for token, name in DIALECTS.items():
            if known(token) not in (None, tokenizer.unk_token_id):
                return name
        if kind.startswith(("qwen2", "qwen3")) and known("<|im_start|>") not in (None, tokenizer.unk_token_id):
            return "qwen"
        if kind.startswith(("mistral", "mixtral")) or "[INST]" in str(tokenizer.chat_template or ""):
            return "mistral"
        return "chat" if self._text.chat else "plain"

    def attention(
        self,
        prompts: Sequence[Prompt],
        *,
        rows: Sequence[tuple[int, int | None]],
        spans: Sequence[Sequence[tuple[int, int]]],
        heads: Sequence[tuple[int, int]] | None = None,
        by_head: bool = False,
        slowly: bool = False,
    ) -> list[Attended]:
        """How much the tokens of ``rows`` attend to each of ``spans``; see ``Attentive.attention``.

        Prompts that are alike up to the rows are read in one pass, in which that part is computed once; a prompt that
        occurs twice is read once. Memory grows with the length of a prompt, not with its square.

        Raises:
            ConfigurationError: There is no such head, or none is asked for.
            Unsupported: The network does not attend in the ordinary way, or the tokenizer does not tell where its
                tokens stand in a text.
            PromptTooLong: A prompt exceeds the context.
        """
        if not prompts:
            return []
        chosen = by_layer(heads, self.attention_heads)
        asked = [ask(self._text, prompt, own, texts) for prompt, own, texts in zip(prompts, rows, spans, strict=True)]
        for one in asked:
            self._fits(one)
        groups: dict[tuple[int, ...], dict[tuple[tuple[int, ...], Span], list[int]]] = {}
        for item, one in enumerate(asked):
            groups.setdefault(one.beginning, {}).setdefault((one.ids, one.rows), []).append(item)
        if not slowly:
            self._try(max(asked, key=lambda one: len(one.ids)))
        results: dict[int, Attended] = {}
        batches = [batch for group in groups.values() for batch in self._batches(group, asked)]

        lengths = [len(asked[batch[0][0]].ids) for batch in batches]

        def run(on: Loaded, _: Budget, places: list[int]) -> list[dict[int, Attended]]:
            found: dict[int, dict[int, Attended]] = {}

            def work(some: list[int]) -> None:
                for at in some:
                    batch = batches[places[at]]
                    found[at] = _attended(on, batch, asked, chosen, by_head=by_head, slowly=slowly)

            own = [lengths[place] for place in places]
            in_batches(own, [1] * len(own), Budget(1, 1), work)  # one at a time
            return [found[at] for at in range(len(places))]

        for found in self._spread([asked[batch[0][0]].ids for batch in batches], run):
            results.update(found)
        order = order_of(heads, chosen) if by_head else None
        return [_reordered(results[item], order) for item in range(len(prompts))]

    def _fits(self, one: Asked) -> None:
        """Refuses a prompt that exceeds the context."""
        if self.context is not None and len(one.ids) > self.context:
            raise PromptTooLong(
                f"a prompt of {len(one.ids)} tokens exceeds the {self.context} tokens of {self.name}; use fewer or "
                "shorter documents (window=, max_doc_tokens=)"
            )

    def _batches(
        self, group: dict[tuple[tuple[int, ...], Span], list[int]], asked: Sequence[Asked]
    ) -> list[list[list[int]]]:
        """The prompts of a group, equal ones together, in parts whose ends fit into one pass."""
        batches: list[list[list[int]]] = [[]]
        tokens = 0
        for items in group.values():
            own = len(asked[items[0]].ending.ids)
            if batches[-1] and tokens + own > self._budget.tokens:
                batches.append([])
                tokens = 0
            batches[-1].append(items)
            tokens += own
        return batches

    def _try(self, one: Asked) -> None:
        """Holds the quick way against the slow one, on a few tokens at first use.

        Raises:
            Unsupported: They differ, or the network sees less far than the prompt is long.
        """
        loaded = self._loaded
        name = type(loaded.network).__name__
        if loaded.window is not None and loaded.window < len(one.ids):
            refuse(f"a layer of {name} sees only {loaded.window} tokens back, and the prompt has {len(one.ids)}")
        if loaded.attends is None:
            try:
                loaded.attends = _difference(loaded, one.ids, by_layer(None, self.attention_heads))
            except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                if isinstance(error, Unsupported):
                    raise
                refuse(f"{name}: {error}")
        if not loaded.attends <= TOLERANCES.get(str(loaded.network.dtype), 0.0):
            refuse(f"weights of {name} would be off by {loaded.attends:.2g}")


def _attended(
    loaded: Loaded, batch: list[list[int]], asked: Sequence[Asked], heads: Heads, *, by_head: bool, slowly: bool
) -> dict[int, Attended]:
    """What is asked about prompts of one beginning."""
    firsts = [asked[items[0]] for items in batch]
    keys = sorted({key for items in batch for item in items for span in asked[item].spans for key in range(*span)})
    place = {key: at for at, key in enumerate(keys)}
    ends = [one.ending for one in firsts]
    if slowly:
        weights = [read_wholly(loaded, one.ids, one.rows, keys, heads, by_head=by_head) for one in firsts]
    else:
        weights = [*read_rows(loaded, firsts[0].beginning, ends, keys, heads, by_head=by_head).unbind(1)]
    results = {}
    for number, (items, found) in enumerate(zip(batch, weights, strict=True)):
        rows = found.float().cpu().numpy() if by_head else found[0].float().cpu().numpy()
        for copy, item in enumerate(items):
            one = asked[item]
            shared = len(one.ids) if copy else one.rows[0] if number and not slowly else 0
            own = [rows[..., [place[key] for key in range(*span)]] for span in one.spans]
            results[item] = Attended(own, one.places, Usage(1, len(one.ids), shared))
    return results


def _difference(loaded: Loaded, ids: tuple[int, ...], heads: Heads) -> float:
    """How far the two ways are apart for some tokens, of two endings after one beginning."""
    before, after = PROBE
    ids = (ids * (1 + (before + 2 * after) // len(ids)))[: before + 2 * after]
    ends = [Ending(ids[start : start + after], (1, after)) for start in (before, before + after)]
    quick = read_rows(loaded, ids[:before], ends, range(before), heads, by_head=True)
    rows = before + 1, before + after
    slow = [read_wholly(loaded, [*ids[:before], *end.ids], rows, range(before), heads, by_head=True) for end in ends]
    return max(_apart(quick[:, place], own) for place, own in enumerate(slow))


def _apart(one: Tensor, other: Tensor) -> float:
    """How far sums over heads are apart, relative to the largest."""
    one, other = one.float().sum(0), other.float().sum(0)
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-6))


def _reordered(one: Attended, order: list[int] | None) -> Attended:
    return one if order is None else one._replace(weights=[np.ascontiguousarray(own[order]) for own in one.weights])
