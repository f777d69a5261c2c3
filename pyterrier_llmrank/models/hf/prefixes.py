"""Finds what prompts have in common, on their token ids: no template needs to say where its constant part ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

DEPTH = 100  # prefixes within prefixes; deeper ones are taken as they are
WORTH = 8  # tokens that a prefix must save: less would not pay for the attention to one more piece


class Node(NamedTuple):
    """Tokens that several sequences have in common, or the rest of one.

    Attributes:
        item: A sequence that they are tokens of: the first one, or the only one.
        start: How many tokens come before them.
        stop: Where they end in the sequence.
        parent: Place of the node that they go on from; -1 for none.
        end: Place after the last node that goes on from them, at any distance; a leaf is its own last.
        leaf: Whether they end their sequence.
    """

    item: int
    start: int
    stop: int
    parent: int
    end: int
    leaf: bool


def prefix_tree(sequences: Sequence[list[int]], limits: Sequence[int]) -> list[Node]:
    """Sequences as a tree, in which tokens that are worth sharing occur once; parents come before their children.

    Args:
        sequences: Token ids.
        limits: How much of each sequence may be shared; less than all of it.

    Returns:
        Nodes, depth first; every sequence ends in one leaf of its own.
    """
    order = sorted(range(len(sequences)), key=lambda item: sequences[item])
    common = [0] * len(order)  # with the sequence before
    for place, (one, other) in enumerate(pairwise(order), start=1):
        common[place] = common_prefix(sequences[one], sequences[other], min(limits[one], limits[other]))
    nodes: list[Node] = []
    pending = [(0, len(order), 0, -1, 0)] if order else []
    while pending:
        left, right, start, parent, depth = pending.pop()
        item = order[left]
        if right - left == 1:
            nodes.append(Node(item, start, len(sequences[item]), parent, len(nodes) + 1, leaf=True))
            continue
        length = min(common[left + 1 : right])
        cuts = [left, *(place for place in range(left + 1, right) if common[place] == length), right]
        if (length - start) * (right - left - 1) >= WORTH:
            nodes.append(Node(item, start, length, parent, 0, leaf=False))
            start, parent, depth = length, len(nodes) - 1, depth + 1
        if depth >= DEPTH:
            cuts = list(range(left, right + 1))
        pending += [(*part, start, parent, depth) for part in reversed(list(pairwise(cuts)))]
    return _with_ends(nodes)


def _with_ends(nodes: list[Node]) -> list[Node]:
    """Nodes that know where their descendants end."""
    ends = [place + 1 for place in range(len(nodes))]
    for place in reversed(range(len(nodes))):
        parent = nodes[place].parent
        if parent >= 0:
            ends[parent] = max(ends[parent], ends[place])
    return [node._replace(end=end) for node, end in zip(nodes, ends, strict=True)]


def common_prefix(one: Sequence[int], other: Sequence[int], limit: int | None = None) -> int:
    """How many leading ids two sequences share, at most ``limit``."""
    alike, unlike = 0, min(len(one), len(other)) if limit is None else min(len(one), len(other), limit)
    if one[:unlike] == other[:unlike]:
        return unlike
    while unlike - alike > 1:  # by bisection: slices compare fast
        middle = (alike + unlike) // 2
        alike, unlike = (middle, unlike) if one[alike:middle] == other[alike:middle] else (alike, middle)
    return alike
