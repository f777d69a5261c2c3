"""What a scorer is made of, what it reads of a document, and whether several threads may ask it at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from inspect import getattr_static

AT_ONCE = 64  # queries under way, where a model does not say how many requests it takes at once


def is_scorer(part: object) -> bool:
    """Whether it answers questions."""
    return callable(part) and not isinstance(part, type) and getattr_static(part, "gives", None) is not None


def is_model(part: object) -> bool:
    """Whether it runs prompts; without a look at what it can, as a server would have to be asked for that."""
    return not isinstance(part, type) and getattr_static(part, "can", None) is not None


def inner(part: object) -> Iterator[object]:
    """The scorers and models that a scorer asks itself: fields of a dataclass, also those in a tuple."""
    if not is_dataclass(part) or isinstance(part, type):
        return
    for field in fields(part):
        value = getattr(part, field.name) if field.init else None
        for one in value if isinstance(value, tuple) else (value,):
            if is_scorer(one) or is_model(one):
                yield one


def reads(part: object) -> tuple[str, ...]:
    """Columns that a scorer reads of a document: "text", unless it says otherwise.

    One that needs others names all of them in an attribute ``reads``, such as ``("features",)`` or ``("text",
    "score")``; it finds them in ``Doc.fields``. "text" stands for the text, whatever its column is called, "score" for
    the first stage's score, and "rank" for the place among the candidates, from 0. What only asks others reads what
    they read.
    """
    told = getattr(part, "reads", None)
    if told is not None:
        return tuple(told)
    names = [name for one in inner(part) if is_scorer(one) for name in reads(one)]
    return tuple(dict.fromkeys(names)) or ("text",)


def at_once(part: object) -> int:
    """How many queries may ask a scorer or model at once, each in a thread of its own; 1 where it must not be.

    One that may be asked so says ``eager = True``, and with ``concurrency`` how much it takes at once. What only asks
    others may be asked as they may.
    """
    told = getattr(part, "eager", None)
    if told is not None:
        return int(getattr(part, "concurrency", AT_ONCE)) if told else 1
    return min(map(at_once, inner(part)), default=1)
