"""What designs share: a check of their arguments, and draws that leave no document unlinked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from pyterrier_llmrank.core import Group
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.seeds import generator


def at_least(least: int, design: object, name: str, remedy: str) -> None:
    """Refuses a design whose argument ``name`` is below ``least``; ``remedy`` ends the message.

    Raises:
        ConfigurationError: It is.
    """
    value = getattr(design, name)
    if value < least:
        raise ConfigurationError(
            f"{type(design).__name__} needs {name} of at least {least}, got {name}={value}; {remedy}"
        )


def connected(n: int, groups: Iterable[Group]) -> bool:
    """Whether a chain of groups links every two of ``n`` documents; so all of them are in one, if there are two."""
    leader = list(range(n))

    def leader_of(i: int) -> int:
        while leader[i] != i:
            leader[i] = i = leader[leader[i]]
        return i

    for group in groups:
        for i in group[1:]:
            leader[leader_of(i)] = leader_of(group[0])
    return len({leader_of(i) for i in range(n)}) < 2


def drawn_connected(n: int, seed: int, draw: Callable[[np.random.Generator], list[Group]]) -> list[Group]:
    """The first of successive draws that links all documents: unlinked ones could not be compared by any aggregate."""
    rng = generator(seed)
    while not connected(n, groups := draw(rng)):
        pass
    return groups
