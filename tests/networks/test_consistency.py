"""A planted direction is found again, up to its sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyterrier_llmrank.networks.consistency import consistent_scores


def planted(docs=12, width=24, noise=0.05, seed=0):
    """States of statements and negations that differ along one direction by each document's worth."""
    draw = np.random.default_rng(seed)
    worth, direction = draw.normal(size=docs), draw.normal(size=width)
    common, sides = draw.normal(size=(docs, width)) * noise, []
    for sign in (1, -1):
        sides.append(torch.from_numpy(sign * np.outer(worth, direction) + common + 5 * draw.normal(size=width)))
    return sides, worth


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_direction_is_recovered_up_to_its_sign(seed):
    sides, worth = planted(seed=seed)
    scores = consistent_scores(*sides).numpy()
    assert abs(np.corrcoef(scores, worth)[0, 1]) > 0.99


def test_what_all_statements_share_and_the_scale_of_states_say_nothing():
    sides, _ = planted()
    moved = consistent_scores(1000 * sides[0] + 7, 1000 * sides[1] - 3)
    torch.testing.assert_close(moved, consistent_scores(*sides), atol=1e-6, rtol=0)


def test_exchanged_sides_exchange_the_ends_alone():
    sides, _ = planted()
    first, second = consistent_scores(*sides).numpy(), consistent_scores(*sides[::-1]).numpy()
    assert abs(np.corrcoef(first, second)[0, 1]) == pytest.approx(1.0)


def test_equal_documents_tie_and_nothing_to_tell_is_zero():
    sides, _ = planted(docs=3)
    doubled = consistent_scores(*(torch.cat([side, side]) for side in sides))
    assert torch.equal(doubled[:3], doubled[3:])
    assert consistent_scores(torch.ones(4, 3), torch.zeros(4, 3)).tolist() == [0.0] * 4
    assert consistent_scores(torch.ones(1, 3), torch.zeros(1, 3)).tolist() == [0.0]
    assert consistent_scores(torch.empty(0, 3), torch.empty(0, 3)).tolist() == []


def test_the_margin_sets_how_far_documents_lie_apart():
    sides, _ = planted(docs=6)
    near, far = (consistent_scores(*sides, margin=margin) for margin in (0.5, 2.0))
    assert far.std() > 2 * near.std() > 0
