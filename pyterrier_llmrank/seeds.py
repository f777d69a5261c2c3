"""Randomness that depends on a seed and on what it is for, never on batches or on the order of queries."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def derived(seed: int, *keys: object) -> int:
    """A seed of 63 bits for one purpose: the same for the same seed and keys, on every machine."""
    text = "\x1f".join(map(str, (seed, *keys)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *keys: object) -> np.random.Generator:
    """A random generator for one purpose."""
    return np.random.default_rng(derived(seed, *keys))


def reseeded(part: T, key: object) -> T:
    """``part`` for one purpose, such as one query: each ``seed`` in it is derived from its value and ``key``.

    Looked for in the fields of dataclasses, in tuples, and among the keywords of ``functools.partial``; what has none
    is returned as it is.
    """
    if not seeded(part):
        return part
    made: Any = part
    if isinstance(made, tuple):
        return tuple(reseeded(one, key) for one in made)  # type: ignore[return-value]
    fresh = {
        name: derived(value, key) if name == "seed" and isinstance(value, int) else reseeded(value, key)
        for name, value in _named(made).items()
    }
    if isinstance(made, partial):
        return partial(made.func, *made.args, **fresh)  # type: ignore[return-value]
    return replace(made, **fresh)  # type: ignore[no-any-return]


def seeded(part: object) -> bool:
    """Whether there is a seed in it, where ``reseeded`` looks for one."""
    if type(part) is tuple:
        return any(map(seeded, part))
    named = _named(part)
    return isinstance(named.get("seed"), int) or any(map(seeded, named.values()))


def _named(part: object) -> dict[str, Any]:
    """The fields of a dataclass, or the keywords of a partial; nothing of anything else."""
    if isinstance(part, partial):
        return dict(part.keywords)
    if not is_dataclass(part) or isinstance(part, type):
        return {}
    return {field.name: getattr(part, field.name) for field in fields(part) if field.init}
