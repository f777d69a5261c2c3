"""Which of several servers is sent what: what begins alike goes to one, so that its prefix cache hits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from zlib import crc32

BLOCK = 64  # characters; what is compared of prompts is a multiple
ALONE = 512  # characters that a prompt is known by which begins as no other one does
SPARE = 1.25  # load of a server at most, in those of an equal share


def homes(texts: Sequence[str], servers: Sequence[str], loads: Sequence[int]) -> list[int]:
    """The server of each text, by place.

    A text is known by the longest beginning that it shares with another one. Every server has a rank for a beginning,
    by a hash of both, which is the same in every process and changes little when servers come and go; the first one
    takes it that has not more than its share of the load.

    Args:
        texts: What is to be sent.
        servers: Their names.
        loads: What each has to do already, in texts.

    Reference:
        Thaler and Ravishankar, 1998 (rendezvous hashing); Mirrokni et al., 2018 (bounded loads).
    """
    loads, most = list(loads), math.ceil(SPARE * (sum(loads) + len(texts)) / len(servers))
    ranked: dict[bytes, list[int]] = {}
    found = []
    for text, end in zip(texts, beginnings(texts), strict=True):
        key = blake2b(text[:end].encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key not in ranked:
            ranks = [blake2b(key + server.encode(), digest_size=8).digest() for server in servers]
            ranked[key] = sorted(range(len(servers)), key=ranks.__getitem__)
        home = next(server for server in ranked[key] if loads[server] < most)
        loads[home] += 1
        found.append(home)
    return found


def beginnings(texts: Sequence[str]) -> list[int]:
    """Characters that each text is known by: those it shares with another one, in whole blocks."""
    sums = [_sums(text) for text in texts]
    shared = Counter(one for own in sums for one in own)
    ends = [sum(shared[one] > 1 for one in own) * BLOCK for own in sums]  # the first blocks are shared by the most
    return [end or ALONE for end in ends]


def _sums(text: str) -> list[tuple[int, int]]:
    """What tells each block of a text from others, with all that is before it."""
    found, so_far = [], 0
    for start in range(0, len(text) - BLOCK + 1, BLOCK):
        so_far = crc32(text[start : start + BLOCK].encode("utf-8", "surrogatepass"), so_far)
        found.append((start, so_far))
    return found
