"""How much of a decoder's attention each part of a fused row gets while it writes an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Prompt, Usage
from pyterrier_llmrank.errors import Unsupported

from .batching import in_batches
from .fused import FusedModel
from .fusing import parts_of
from .growing import Growing
from .loading import Loaded
from .reading import right_padded
from .writing import end_tokens, pad_token

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = 256  # what the released code divides by, whatever the length of a passage


class Attended(NamedTuple):
    """What a decoder read of one prompt.

    Attributes:
        parts: Of each message, the attention to its tokens, weighted by the length of what they hold, (messages,).
        usage: What it cost.
    """

    parts: NDArray[np.float64]
    usage: Usage


def attended(model: FusedModel, prompts: Sequence[Prompt], skipped: Sequence[int], max_tokens: int) -> list[Attended]:
    """Which messages of each prompt the decoder attends to while it writes an answer of its own, greedily.

    Summed over the steps, the layers and a message's tokens, averaged over heads: the share of a token, times the norm
    of its value vector; over ``TOKENS`` times the number of layers.

    Args:
        model: What reads them.
        prompts: Messages that are encoded apart.
        skipped: Tokens at the beginning of each message of a prompt that do not count, such as those of the query.
        max_tokens: Tokens of the answer at most.

    Raises:
        Unsupported: The network's attention is not laid out as T5's.
        PromptTooLong: A message exceeds the context.

    Reference:
        Izacard and Grave, 2021 (Distilling Knowledge from Reader to Retriever), section 3; Tamber et al., 2023
        (LiT5-Score), section 3.2; castorini/LiT5, ``FiD/src/model.py``.
    """
    import torch

    model.load()
    loaded, results = model._loaded, dict[int, Attended]()
    rendered, rows = model._ready(prompts)
    starts = model._starts(rendered)
    end = int(loaded.tokenizer.eos_token_id)

    def work(batch: list[int]) -> None:
        chosen = [rows[item] for item in batch]
        with torch.inference_mode(), model._apart():
            growing = Growing(loaded, chosen, [starts[item] for item in batch], pad_token(loaded))
            written = _greedy(loaded, growing, len(batch), max_tokens)
            sides = [[*starts[item], *new[:-1]] for item, new in zip(batch, written, strict=True)]
            tokens = _to_tokens(loaded, growing._fixed, sides).double().cpu().numpy()  # (batch, tokens)
        for item, row, new, shares in zip(batch, chosen, written, tokens, strict=True):
            parts = np.array([shares[min(a + skipped[item], b) : b].sum() for a, b in parts_of(row, end)])
            results[item] = Attended(parts, Usage(calls=1, prompt_tokens=len(row), output_tokens=len(new)))

    in_batches([len(row) + max_tokens for row in rows], [1] * len(rows), model._budget, work)
    return [results[item] for item in range(len(rows))]


def _greedy(loaded: Loaded, growing: Growing, n: int, max_tokens: int) -> list[list[int]]:
    """The likeliest tokens of ``n`` rows, up to and with an end token."""
    ends = end_tokens(loaded)
    written: list[list[int]] = [[] for _ in range(n)]
    left = [*range(n)]
    while left:
        ready, logits = growing.run(left)
        for row, token in zip(ready, logits.argmax(-1).tolist(), strict=True):
            written[row].append(token)
            if token in ends or len(written[row]) == max_tokens:
                left.remove(row)
            else:
                growing.write(row, [token])
    return written


def _to_tokens(loaded: Loaded, encoded: dict[str, Any], sides: Sequence[Sequence[int]]) -> Tensor:
    """Attention to each token of a batch over all steps of an answer, (batch, tokens); 0 where there is padding."""
    import torch

    ids, steps = right_padded(sides, 0, loaded.device)
    real: Tensor = encoded["attention_mask"]
    decoder: Any = loaded.network.get_decoder()  # type: ignore[no-untyped-call]
    with _values(loaded) as values, _spelled_out(loaded):
        layers = decoder(
            input_ids=ids,
            encoder_hidden_states=encoded["encoder_outputs"].last_hidden_state,
            encoder_attention_mask=real,
            output_attentions=True,
            use_cache=False,
        ).cross_attentions
    total = torch.zeros(real.shape, device=loaded.device)
    for shares, value in zip(layers, values, strict=True):  # (batch, heads, steps, tokens), (batch, tokens, all heads)
        batch, heads, _, tokens = shares.shape
        lengths = value.float().view(batch, tokens, heads, -1).norm(dim=-1).transpose(1, 2)  # (batch, heads, tokens)
        weighed = (shares.float() * lengths[:, :, None]).mean(1)  # (batch, steps, tokens)
        total += (weighed * steps[..., None]).sum(1)
    return total * real / (TOKENS * len(values))


@contextmanager
def _values(loaded: Loaded) -> Iterator[list[Tensor]]:
    """Collects the value vectors that a decoder reads of its encoder's states, layer by layer."""
    found: list[Tensor] = []
    crossing = [part for name, part in loaded.network.named_modules() if name.endswith("EncDecAttention")]
    if not crossing:
        raise Unsupported(
            f"cross-attention is read off networks like T5, and {type(loaded.network).__name__} is not laid out as one"
        )
    handles = [part.v.register_forward_hook(lambda *args: found.append(args[2])) for part in crossing]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _spelled_out(loaded: Loaded) -> Iterator[None]:
    """Lets a network compute its attention weights, which fused kernels never hold."""
    before = [(config, config._attn_implementation) for config in loaded.configs]
    try:
        for config, _ in before:
            config._attn_implementation = "eager"
        yield
    finally:
        for config, own in before:
            config._attn_implementation = own
