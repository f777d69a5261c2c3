"""Sets of attention heads: all, a band of layers, lists that were published, or one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError

Head: TypeAlias = tuple[int, int]
"""A layer and a head of it, both from 0."""


@dataclass(frozen=True, repr=False)
class Band:
    """All heads of a band of layers.

    The signal of relevance rises to the middle of a network and falls after it (Selective-ICR); a band that ends early
    also saves the layers behind it. By default the 40 to 70 per cent of the depth in which nine in ten of the heads lie
    that were published one by one (``QR`` and ``CORE``).

    Args:
        start: Where it begins, as a share of the layers.
        end: Where it ends; the layer that this falls on is not in it.

    Raises:
        ConfigurationError: Not 0 <= start < end <= 1.

    Reference:
        Chen et al., 2026, Where Relevance Emerges. The ends of the band are ours.
    """

    start: float = 0.4
    end: float = 0.7

    __repr__ = brief

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise ConfigurationError(f"a band needs 0 <= start < end <= 1, got start={self.start}, end={self.end}")

    def layers(self, n: int) -> range:
        """Its layers of ``n``, at least one."""
        start = min(int(self.start * n), n - 1)
        return range(start, max(start + 1, round(self.end * n)))


Heads: TypeAlias = str | Band | tuple[Head, ...]
"""A set of heads: "all", "middle", "qr" or "core"; a ``Band``; pairs of a layer and a head, or "14-22,13-16"."""

NAMED = ("all", "middle", "qr", "core")

QR = {  # princeton-pli/QRHead, src/qrretriever/configs/*_qr_head_NQ.yaml: best first, found on 128 NQ queries
    "Llama-3.1-8B-Instruct": "14-22,13-16,14-28,14-31,16-19,14-1,16-26,17-24,14-0,13-0,16-25,13-12,13-1,13-10,17-27,"
    "20-14",
    "Llama-3.1-70B-Instruct": "31-32,35-26,35-25,35-21,39-41,35-29,38-18,37-9,52-19,35-6,47-18,52-58,35-24,35-28,37-29,"
    "35-40,37-25,39-40,34-1,31-39,37-24,35-23,31-37,35-20,33-18,35-50,64-31,35-42,37-28,47-17,35-19,35-3",
    "Llama-3.2-3B-Instruct": "13-16,12-12,13-23,13-21,15-18,12-3,21-20,12-1,13-2,13-1,12-6,12-11,13-0,15-22,18-19,"
    "18-11",
    "Llama-3.2-1B-Instruct": "8-21,8-14,7-22,6-31,8-28,10-26,10-0,5-5,8-3,6-30,8-0,7-26,7-25,7-23,11-4,8-20",
    "Qwen2.5-7B-Instruct": "16-19,16-2,16-20,16-14,16-0,15-24,16-18,17-18,16-1,19-18,19-19,18-16,16-17,19-25,19-17,"
    "20-21",
    "Qwen3-8B": "21-31,21-18,20-15,22-4,21-11,20-16,21-17,19-13,21-10,21-8,18-5,20-14,19-14,24-13,17-4,19-28",
}
CORE = {  # linhhtran/CoRe-Reranking, head_data/*/core_temp*_prune0.0.json: the best 8 by their scores there
    "Llama-3.1-8B-Instruct": "13-18,13-1,14-13,13-21,14-31,13-13,8-11,14-20",
    "Mistral-7B-Instruct-v0.2": "15-21,15-1,16-12,15-7,9-26,12-11,12-7,18-0",
}
RELEASED = {"qr": QR, "core": CORE}


def checked(heads: object) -> Heads:
    """A set of heads as it was told, pairs as a tuple of tuples.

    Raises:
        ConfigurationError: It is none, or an empty one.
    """
    if isinstance(heads, Band) or (isinstance(heads, str) and heads in NAMED):
        return heads
    try:
        pairs = parsed(heads) if isinstance(heads, str) else tuple((int(a), int(b)) for a, b in heads)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        pairs = ()
    if not pairs or min(map(min, pairs)) < 0 or len(set(pairs)) < len(pairs):
        raise ConfigurationError(
            f"heads must be 'all', 'middle', 'qr', 'core', a Band, or pairs of a layer and a head from 0, each once, "
            f"such as ((14, 22), (13, 16)) or '14-22,13-16'; got {heads!r}"
        )
    return pairs


def parsed(text: str) -> tuple[Head, ...]:
    """Heads from a text as they are published in: ``"14-22,13-16"``.

    Raises:
        ValueError: It is not written so.
    """
    pairs = [one.split("-") for one in text.split(",")]
    return tuple((int(layer), int(head)) for layer, head in pairs)


def resolved(heads: Heads, shape: tuple[int, int], name: str) -> tuple[Head, ...] | None:
    """The heads of a model; None for all.

    Args:
        heads: The set.
        shape: Layers of the model, and heads of a layer.
        name: Of the model, for published lists.

    Raises:
        ConfigurationError: No list was published for this model.
    """
    if heads == "all":
        return None
    if heads in RELEASED:
        return released(str(heads), name)
    band = Band() if heads == "middle" else heads
    if isinstance(band, Band):
        return tuple((layer, head) for layer in band.layers(shape[0]) for head in range(shape[1]))
    return band  # type: ignore[return-value]


def released(kind: str, name: str) -> tuple[Head, ...]:
    """The heads that were published for a model, known by the last part of its name.

    Raises:
        ConfigurationError: None were.
    """
    own = name.replace("\\", "/").rstrip("/").rpartition("/")[2].casefold().removeprefix("meta-")
    for model, text in RELEASED[kind].items():
        if model.casefold() == own:
            return parsed(text)
    known: Sequence[str] = sorted(RELEASED[kind])
    raise ConfigurationError(
        f"heads={kind!r} is a list that was published for {', '.join(known)}, not for {name!r}; use heads='middle', "
        "name the heads, or find them with InContextRanker.fit"
    )
