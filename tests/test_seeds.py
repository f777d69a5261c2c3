"""Seeds: derived from what they are for, on every machine alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pyterrier_llmrank.seeds import derived, generator, reseeded


@dataclass(frozen=True)
class Drawn:
    size: int
    seed: int = 0


@dataclass(frozen=True)
class Around:
    inner: object
    aggregate: object = np.mean
    calls: list = field(init=False, default_factory=list, compare=False)


def test_a_derived_seed_is_the_same_on_every_machine():
    assert derived(0, "q1") == 5155483079786754936
    assert derived(0, "q1") != derived(1, "q1") != derived(1, "q2")


def test_keys_are_not_run_together():
    assert derived(0, "1", "23") != derived(0, "12", "3")


def test_a_generator_repeats_itself():
    assert generator(3, "q").permutation(50).tolist() == generator(3, "q").permutation(50).tolist()


def test_every_seed_within_is_derived_and_nothing_else_changes():
    part = Around(Around(Drawn(5, seed=2)))
    fresh = reseeded(part, "q1")
    assert fresh.inner.inner == Drawn(5, seed=derived(2, "q1"))
    assert fresh.aggregate is np.mean
    assert part.inner.inner.seed == 2


def test_seeds_are_found_in_tuples_and_partials():
    fresh = reseeded(Around((Drawn(1), partial(sorted, seed=7))), "q1")
    assert fresh.inner[0].seed == derived(0, "q1")
    assert fresh.inner[1].keywords == {"seed": derived(7, "q1")}


def test_what_has_no_seed_stays_what_it_is():
    part = Around(7)
    assert reseeded(part, "q1") is part
    assert reseeded(max, "q1") is max
