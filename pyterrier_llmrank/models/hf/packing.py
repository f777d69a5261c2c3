"""Packed rows: many prompts in one row without padding, each token that they have in common computed once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .attention import packed
from .batching import Budget, in_batches, plan_in_order
from .layout import Kept, Layout, Segment, Span
from .loading import Loaded
from .prefixes import Node, prefix_tree
from .promises import promising
from .reading import Read, values_at
from .trimming import Spot, Trim

Values = NDArray[np.float64]


def read_packed(
    loaded: Loaded, reads: Sequence[Read], budget: Budget, spot: Spot | None = None
) -> list[tuple[Values, int]]:
    """What is wanted of each read, as ``read_plainly`` gives it, and how many of its tokens were another's already.

    Args:
        loaded: The network.
        reads: What to read.
        budget: What a row may hold.
        spot: "ends", where the last layer finishes nothing but what is read and what comes after it; "steps", where a
            decoder asks the encoder's states, without keys and values of them.
    """
    if loaded.network.config.is_encoder_decoder:
        return _read_both_sides(loaded, reads, budget, spot)
    nodes = prefix_tree([read.ids for read in reads], [min(read.positions) for read in reads])
    results: dict[int, Values] = {}
    kept = Kept()

    def work(batch: list[int]) -> None:
        first, end = batch[0], batch[-1] + 1
        spans = _spans([nodes[place] for place in batch], first)
        later = {place: spans[place] for place in batch if nodes[place].end > end}
        before = {place: [spans.get(one, one) for one in _ancestors(nodes, place)] for place in batch}
        segments = [Segment(*spans[place], before[place]) for place in batch]
        leaves = [place for place in batch if nodes[place].leaf]
        chosen = [reads[nodes[place].item] for place in leaves]
        starts = [spans[place][0] - nodes[place].start for place in leaves]
        rows = [start + min(one.positions) for start, one in zip(starts, chosen, strict=True)]
        wanted = [(place - first, row) for place, row in zip(leaves, rows, strict=True)]
        trim = Trim(segments, wanted) if spot == "ends" else None
        with packed(loaded, Layout(segments, keep=later, kept=kept, trim=trim)):
            found = values_at(loaded, chosen, _row(loaded, reads, [nodes[p] for p in batch]), [0] * len(leaves), starts)
        results.update(zip((nodes[place].item for place in leaves), found, strict=True))
        kept.drop([name for name in [*kept.tensors] if nodes[name].end <= end])

    lengths = [node.stop - node.start for node in nodes]
    rows = [len(reads[node.item].positions) if node.leaf else 0 for node in nodes]
    in_batches(lengths, rows, budget, work, plan_in_order)
    shared = _shared(nodes)
    return [(results[item], shared[item]) for item in range(len(reads))]


def _spans(nodes: Sequence[Node], first: int) -> dict[int, Span]:
    """Where the nodes of a row are in it, by their places in the tree, of which ``first`` is the first one's."""
    ends = np.cumsum([0, *(node.stop - node.start for node in nodes)]).tolist()
    return {first + place: (ends[place], ends[place + 1]) for place in range(len(nodes))}


def _ancestors(nodes: Sequence[Node], place: int) -> list[int]:
    """Places of the nodes that one goes on from, first to last."""
    found: list[int] = []
    while (place := nodes[place].parent) >= 0:
        found.append(place)
    return found[::-1]


def _row(loaded: Loaded, reads: Sequence[Read], nodes: Sequence[Node]) -> dict[str, Any]:
    """The tokens of some nodes, with their positions in their prompts, as a causal network takes them."""
    import torch

    ids = [token for node in nodes for token in reads[node.item].ids[node.start : node.stop]]
    positions = [position for node in nodes for position in range(node.start, node.stop)]
    row = torch.tensor([ids, positions], device=loaded.device)
    return {"input_ids": row[:1], "position_ids": row[1:]}


def _shared(nodes: Sequence[Node]) -> dict[int, int]:
    """How many tokens of each sequence are charged to another, the first that has them."""
    return {
        leaf.item: sum(
            nodes[one].stop - nodes[one].start for one in _ancestors(nodes, place) if nodes[one].item != leaf.item
        )
        for place, leaf in enumerate(nodes)
        if leaf.leaf
    }


def _read_both_sides(
    loaded: Loaded, reads: Sequence[Read], budget: Budget, spot: Spot | None
) -> list[tuple[Values, int]]:
    """The same for an encoder-decoder: each distinct input goes through the encoder once."""
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    results: dict[int, Values] = {}
    first = {tuple(read.ids): item for item, read in reversed(list(enumerate(reads)))}
    shared = [0 if first[tuple(read.ids)] == item else len(read.ids) for item, read in enumerate(reads)]

    def work(batch: list[int]) -> None:
        chosen = [reads[item] for item in batch]
        inputs = list(dict.fromkeys(tuple(read.ids) for read in chosen))
        ends = np.cumsum([0, *map(len, inputs)]).tolist()
        span = {ids: (ends[place], ends[place + 1]) for place, ids in enumerate(inputs)}
        places = np.cumsum([0, *(len(read.decoder) for read in chosen)]).tolist()
        segments = [Segment(places[at], places[at + 1]) for at in range(len(chosen))]
        source, target = (
            torch.tensor([[token for row in rows for token in row]], device=loaded.device)
            for rows in (inputs, [read.decoder for read in chosen])
        )
        with torch.inference_mode(), packed(loaded, Layout([Segment(*own) for own in span.values()])):
            states = loaded.network.get_encoder()(input_ids=source).last_hidden_state
        layout = Layout(segments, across=[span[tuple(read.ids)] for read in chosen])
        decoder: Any = loaded.network.get_decoder()  # type: ignore[no-untyped-call]
        asking = promising(decoder, layout, states) if spot == "steps" else nullcontext()
        with packed(loaded, layout), asking:
            arguments = {"encoder_outputs": BaseModelOutput(states), "decoder_input_ids": target}
            found = values_at(loaded, chosen, arguments, [0] * len(chosen), places[:-1])
        results.update(zip(batch, found, strict=True))

    lengths = [len(read.ids) + len(read.decoder) for read in reads]
    in_batches(lengths, [len(read.positions) for read in reads], budget, work)
    return [(results[item], shared[item]) for item in range(len(reads))]
