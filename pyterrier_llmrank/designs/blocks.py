"""Blocks that share documents, so that orders of parts add up to an order of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from math import isqrt

import numpy as np

from pyterrier_llmrank.core import Group, brief
from pyterrier_llmrank.seeds import generator

from .drawing import at_least, drawn_connected

_USUAL_SIZES = "10 and 20 are usual"
_USUAL_COPIES = (
    "4 is usual; with one, no two blocks share a document and nothing compares them. "
    "Where scores hold between groups, use shuffled_groups"
)


@dataclass(frozen=True)
class latin:
    """Rows and columns of a square of documents: ``2 k`` blocks of k for ``n = k²``.

    Other numbers of documents: as many as fit one block are one block; up to ``size²`` fill the smallest square that
    holds them, row by row, and its holes are left out (``w = ceil(sqrt(n))``: at most ``w + ceil(n / w)`` blocks);
    more of them fill a cube, or a lattice of as many dimensions as it takes, whose lines are the blocks. Each
    document is in one block per dimension, blocks of a single one left out, and every two documents are linked.

    Args:
        size: Documents of a block at most, at least 2.

    Raises:
        ConfigurationError: ``size`` is below 2.

    Reference:
        Dedov, 2025 (JointRank), Latin square design; lattices of more dimensions: Yates, 1936.
    """

    size: int

    __repr__ = brief

    def __post_init__(self) -> None:
        at_least(2, self, "size", _USUAL_SIZES)

    @property
    def group_size(self) -> int:
        """The longest line of the lattice."""
        return self.size

    def __call__(self, n: int) -> list[Group]:
        """Rows, then columns, then the lines of further dimensions; each in input order."""
        if n < 2:
            return []
        dimensions = next(d for d in count(1) if self.size**d >= n)
        side = next(w for w in count(2) if w**dimensions >= n)
        steps = [side**d for d in range(dimensions)]
        starts = [(start, step) for step in steps for start in range(n) if start // step % side == 0]
        lines = [tuple(range(start, min(n, start + side * step), step)) for start, step in starts]
        return [line for line in lines if len(line) > 1]


@dataclass(frozen=True)
class triangular:
    """Each document in two blocks, each two blocks with at most one in common: k + 1 blocks for ``n = k (k + 1) / 2``.

    The blocks are the corners of a graph and the documents its edges: a complete graph with that many documents.
    Otherwise it is the smallest graph that has enough edges, and no more than ``size`` at a corner: about
    ``max(sqrt(2 n), 2 n / size)`` blocks. As many documents as fit one block are one block. Every two documents are
    linked.

    Args:
        size: Documents of a block at most, at least 2.

    Raises:
        ConfigurationError: ``size`` is below 2.

    Reference:
        Dedov, 2025 (JointRank), triangular design.
    """

    size: int

    __repr__ = brief

    def __post_init__(self) -> None:
        at_least(2, self, "size", _USUAL_SIZES)

    @property
    def group_size(self) -> int:
        """The most edges of a corner."""
        return self.size

    def __call__(self, n: int) -> list[Group]:
        """Documents number the edges from corner to corner; each block in input order."""
        if n <= self.size:
            return [tuple(range(n))] if n > 1 else []
        fewest = max(isqrt(2 * n), -(-2 * n // self.size))
        graphs = ((corners, self._edges(corners, n)) for corners in count(fewest))
        corners, edges = next((corners, edges) for corners, edges in graphs if len(edges) == n)
        blocks: list[list[int]] = [[] for _ in range(corners)]
        for document, edge in enumerate(sorted(edges)):
            for corner in edge:
                blocks[corner].append(document)
        return [tuple(block) for block in blocks]

    def _edges(self, corners: int, most: int) -> list[Group]:
        """Up to ``most`` edges that spread evenly over the corners: first a cycle through all, then its chords."""
        free = [self.size] * corners
        edges: list[Group] = []
        for step in range(1, corners // 2 + 1):
            for one in range(corners if 2 * step < corners else step):  # half-way round, each edge shows up twice
                other = (one + step) % corners
                if len(edges) < most and free[one] and free[other]:
                    free[one] -= 1
                    free[other] -= 1
                    edges.append((min(one, other), max(one, other)))
        return edges


@dataclass(frozen=True)
class equi_replicate:
    """Each document in exactly ``copies`` random blocks: ``ceil(copies * n / size)`` blocks of equal size.

    Where ``size`` does not divide ``copies * n``, some blocks are one document smaller; an odd number of places in
    pairs gets one document once more. Fewer documents than ``size`` are ``copies`` blocks of all of them. Documents
    are shown in random order, so that nobody gains by its place. It is drawn again until every two are linked.

    Args:
        size: Documents of a block at most, at least 2.
        copies: Blocks of a document, at least 2.
        seed: Of the draw.

    Raises:
        ConfigurationError: An argument is below 2.

    Reference:
        Dedov, 2025 (JointRank), equi-replicate design.
    """

    size: int
    copies: int = 4
    seed: int = 0

    __repr__ = brief

    def __post_init__(self) -> None:
        at_least(2, self, "size", _USUAL_SIZES)
        at_least(2, self, "copies", _USUAL_COPIES)

    @property
    def group_size(self) -> int:
        """One block."""
        return self.size

    def __call__(self, n: int) -> list[Group]:
        """Deals shuffled documents into blocks."""
        return drawn_connected(n, self.seed, lambda rng: self._deal(n, rng)) if n > 1 else []

    def _deal(self, n: int, rng: np.random.Generator) -> list[Group]:
        number = -(-self.copies * n // min(self.size, n))
        places = max(self.copies * n, 2 * number)
        blocks: list[Group] = []
        deck: list[int] = []
        for b in range(number):
            wanted = -(-places * (b + 1) // number) - -(-places * b // number)
            block, deck = deck[:wanted], deck[wanted:]
            if len(block) < wanted:
                fresh = rng.permutation(n).tolist()
                added = [i for i in fresh if i not in block][: wanted - len(block)]
                block, deck = block + added, [i for i in fresh if i not in added]
            blocks.append(tuple(block))
        return blocks


@dataclass(frozen=True)
class random_blocks:
    """Blocks drawn independently of one another: ``ceil(copies * n / size)`` blocks, all of the same size.

    A document is in ``copies`` of them on average. So that none is left out and every two are linked, the first
    ``ceil((n - 1) / (size - 1))`` blocks are a chain through all documents in random order, each sharing one with
    the block before. Fewer documents than ``size`` are ``copies`` blocks of all of them. Documents are shown in
    random order.

    Args:
        size: Documents of a block, at least 2.
        copies: Blocks of a document on average, at least 2.
        seed: Of the draw.

    Raises:
        ConfigurationError: An argument is below 2.

    Reference:
        Dedov, 2025 (JointRank), random design, which leaves documents out.
    """

    size: int
    copies: int = 4
    seed: int = 0

    __repr__ = brief

    def __post_init__(self) -> None:
        at_least(2, self, "size", _USUAL_SIZES)
        at_least(2, self, "copies", _USUAL_COPIES)

    @property
    def group_size(self) -> int:
        """One block."""
        return self.size

    def __call__(self, n: int) -> list[Group]:
        """The chain, then blocks of their own."""
        if n < 2:
            return []
        rng, size = generator(self.seed), min(self.size, n)
        order = rng.permutation(n)
        starts = [min(start, n - size) for start in range(0, n - 1, size - 1)]
        blocks = [order[start : start + size] for start in starts]
        blocks += [rng.permutation(n)[:size] for _ in range(-(-self.copies * n // size) - len(starts))]
        return [tuple(block.tolist()) for block in blocks]
