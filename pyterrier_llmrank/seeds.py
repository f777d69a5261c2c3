"""Randomness that depends on a seed and on what it is for, never on batches or on the order of queries."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass, replace
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
    """``part`` for one purpose, such as one query: each ``seed`` in it, and in its parts, is derived from ``key``.

    What has no seed is returned as it is.
    """
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changed: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name) if field.init else None
        fresh = derived(value, key) if field.name == "seed" and isinstance(value, int) else reseeded(value, key)
        if fresh is not value:
            changed[field.name] = fresh
    return replace(part, **changed) if changed else part
