"""Generation: padded on the left, greedy or as told, whatever a checkpoint's own configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from pyterrier_llmrank.models.base import Sampling

from .batching import Budget, in_batches
from .growing import new_cache, planner, share
from .loading import Loaded
from .reading import logits_at
from .sampling import processors
from .stopping import StopTexts


class Manner(NamedTuple):
    """How answers are written.

    Attributes:
        max_tokens: New tokens at most.
        stop: Texts that end an answer.
        sampling: How tokens are drawn; None for greedily.
        seeds: One per sequence, with ``sampling``.
    """

    max_tokens: int
    stop: Sequence[str] = ()
    sampling: Sampling | None = None
    seeds: Sequence[int] = ()

    def of(self, places: Sequence[int]) -> Manner:
        """The same for some of the sequences."""
        return self._replace(seeds=[self.seeds[place] for place in places] if self.seeds else ())


class Written(NamedTuple):
    """What was written after one sequence.

    Attributes:
        tokens: New token ids.
        cached: How many tokens of the sequence were read before, for another one.
    """

    tokens: list[int]
    cached: int


def write(
    loaded: Loaded, sequences: Sequence[list[int]], starts: Sequence[list[int]], budget: Budget, manner: Manner
) -> list[Written]:
    """What follows each sequence, up to and with the end token or stop text where the network came to one.

    Args:
        loaded: Network and tokenizer.
        sequences: What the network reads.
        starts: What the decoder's side starts with (encoder-decoders only; else empty lists).
        budget: What a batch may hold; new tokens count.
        manner: How to write.
    """
    import torch

    results: list[Written] = [Written([], 0)] * len(sequences)
    ends = end_tokens(loaded)
    config = _greedy(loaded, manner.max_tokens)

    def work(start: list[int], chosen: list[int], batch: list[int]) -> None:
        items = [chosen[place] for place in batch]
        seeds = [manner.seeds[item] for item in items] if manner.sampling else []
        with torch.inference_mode():
            inputs, offset, shared = _inputs(loaded, [sequences[item] for item in items], start)
            stops = StopTexts(loaded.tokenizer, manner.stop, offset, len(items))
            out = loaded.network.generate(  # type: ignore[operator]
                **inputs,
                generation_config=config,
                logits_processor=processors(manner.sampling, seeds, loaded.device),
                stopping_criteria=[stops] if manner.stop else [],
            )
        for row, (item, ids) in enumerate(zip(items, out[:, offset:].tolist(), strict=True)):
            ids = ids[: stops.lengths.get(row)]
            end = next((place for place, token in enumerate(ids) if token in ends), len(ids) - 1)
            results[item] = Written(ids[: end + 1], shared if row else 0)

    for start in dict.fromkeys(map(tuple, starts)):  # what differs there cannot be padded; it hardly ever does
        chosen = [item for item, own in enumerate(starts) if tuple(own) == start]
        lengths = [len(sequences[item]) + manner.max_tokens for item in chosen]
        planned = planner(loaded, [sequences[item] for item in chosen])
        in_batches(lengths, [1] * len(chosen), budget, partial(work, list(start), chosen), planned)
    return results


def _inputs(loaded: Loaded, sequences: Sequence[list[int]], start: list[int]) -> tuple[dict[str, Any], int, int]:
    """Arguments of ``generate``; how many leading ids of its output are not new; how many were read once for all."""
    import torch

    both = bool(loaded.network.config.is_encoder_decoder)
    cache = new_cache(loaded)
    shared = 0 if both else share(loaded, cache, sequences, partial(logits_at, loaded))
    longest, pad = max(map(len, sequences)), pad_token(loaded)
    rows, masks = [], []
    for ids in sequences:
        gap, split = longest - len(ids), len(ids) if both else shared
        rows.append([*ids[:split], *[pad] * gap, *ids[split:]])
        masks.append([*[1] * split, *[0] * gap, *[1] * (len(ids) - split)])
    inputs = {"input_ids": rows, "attention_mask": masks}
    if both:
        inputs["decoder_input_ids"] = [start] * len(rows)
    tensors: dict[str, Any] = {name: torch.tensor(value, device=loaded.device) for name, value in inputs.items()}
    if shared:
        tensors["past_key_values"] = cache
    return tensors, len(start) if both else longest, shared


def _greedy(loaded: Loaded, max_tokens: int) -> Any:  # noqa: ANN401 - transformers is imported lazily
    """Taking the largest logit, and nothing of the checkpoint's generation configuration but its special tokens."""
    from transformers import GenerationConfig

    own = loaded.network.generation_config
    plain = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_tokens,
        eos_token_id=sorted(end_tokens(loaded)) or None,
        pad_token_id=pad_token(loaded),
        bos_token_id=own.bos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
    )
    # transformers would fill gaps from the network's own
    loaded.network.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=plain.eos_token_id,
        pad_token_id=plain.pad_token_id,
        bos_token_id=plain.bos_token_id,
        decoder_start_token_id=plain.decoder_start_token_id,
    )
    return plain


def end_tokens(loaded: Loaded) -> set[int]:
    """Ids that end an answer."""
    own = loaded.network.generation_config.eos_token_id
    ends = {own} if isinstance(own, int) else set(own or ())
    if loaded.tokenizer.eos_token_id is not None:
        ends.add(int(loaded.tokenizer.eos_token_id))
    return ends


def pad_token(loaded: Loaded) -> int:
    """The id that fills up; masked, so any that the network has an embedding for will do where there is none."""
    for token in (loaded.tokenizer.pad_token_id, loaded.network.generation_config.pad_token_id, *end_tokens(loaded)):
        if token is not None and token < loaded.known_ids:
            return int(token)
    return 0
