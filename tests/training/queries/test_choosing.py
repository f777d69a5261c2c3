"""Which documents stand for a corpus: near duplicates, lengths, clusters, quotas, draws, diversity."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.training.queries import (
    k_means,
    long_enough,
    mmr,
    near_centroid,
    quotas,
    representatives,
    without_near_duplicates,
)


def blobs(sizes=(40, 25, 10, 5), seed=0):
    """Clusters of points far from one another, in an order of chance; and which is whose."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = 20 * np.eye(len(sizes), 6)
    return centres[owner] + rng.normal(size=(len(owner), 6)), owner


# ------------------------------------------------------------------ documents


@pytest.mark.parametrize(
    ("texts", "stays"),
    [
        (["A text. And more.", "a TEXT"], [True, False]),  # how another begins
        (["and more", "A text. And more."], [False, True]),  # how another ends
        (["same text", "Same text!", "same  text"], [True, False, False]),  # the first of equals
        (["one", "one two", "one two three"], [False, False, True]),
        (["one", "another"], [True, True]),
        (["", "...", "a"], [False, False, True]),
        ([], []),
    ],
)
def test_a_text_that_another_contains_goes(texts, stays):
    assert without_near_duplicates(texts).tolist() == stays


def test_only_the_next_neighbours_are_looked_at():
    between = [f"n{letter}n" for letter in "abcdefghij"]  # ten, in either order
    texts = ["m", *between, "z m z"]
    assert without_near_duplicates(texts, neighbours=9)[0]
    assert without_near_duplicates(texts, neighbours=10)[0]
    assert without_near_duplicates(texts, neighbours=11).tolist() == [False] + [True] * 11


def test_lengths_count_characters():
    assert long_enough(["abc", "ab", ""], characters=3).tolist() == [True, False, False]
    with pytest.raises(ConfigurationError, match="neighbours=0"):
        without_near_duplicates(["a"], neighbours=0)


# ------------------------------------------------------------------ clusters


@pytest.mark.parametrize("seed", range(5))
def test_clusters_that_are_far_apart_are_found(seed):
    points, owner = blobs()
    found = k_means(points, 4, seed=seed)
    assert sorted(found.sizes) == [5, 10, 25, 40]
    assert all(len(set(owner[found.labels == cluster])) == 1 for cluster in range(4))
    means = [points[found.labels == cluster].mean(axis=0) for cluster in range(4)]
    assert np.allclose(found.centroids, means)


def test_clusters_depend_on_the_seed_alone():
    points = np.random.default_rng(1).normal(size=(200, 5))
    one, again, other = (k_means(points, 12, seed=seed) for seed in (0, 0, 1))
    assert (one.labels == again.labels).all()
    assert (one.labels != other.labels).any()


def test_more_iterations_never_make_documents_farther_from_their_centres():
    points = np.random.default_rng(2).normal(size=(300, 4))
    spreads = []
    for iterations in (1, 2, 4, 8, 100):
        found = k_means(points, 10, iterations=iterations)
        means = np.stack([points[found.labels == cluster].mean(axis=0) for cluster in range(10)])
        spreads.append(((points - means[found.labels]) ** 2).sum())
    assert all(after <= before + 1e-9 for before, after in pairwise(spreads))
    assert spreads[-1] < spreads[0]


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.repeat(np.eye(2), [4, 1], axis=0), np.eye(5)])
def test_no_cluster_is_empty(points):
    assert k_means(points, 5).sizes.tolist() == [1] * 5
    assert k_means(points, 3).sizes.min() >= 1


def test_blocks_do_not_change_clusters(monkeypatch):
    points, _ = blobs()
    whole = k_means(points, 7)
    monkeypatch.setattr("pyterrier_llmrank.training.queries.clusters.BLOCK", 3)
    assert (k_means(points, 7).labels == whole.labels).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: k_means(np.eye(3), 4), InputError, "3 documents do not make 4 clusters; ask for at most 3"),
        (lambda: k_means(np.eye(3), 0), ConfigurationError, "k=0"),
        (lambda: k_means(np.eye(3), 1, iterations=0), ConfigurationError, "iterations=0"),
        (lambda: k_means(np.ones(3), 1), InputError, r"shape \(3,\)"),
        (lambda: k_means([[1.0], [np.nan]], 1), InputError, "1 of 2 vectors are not finite"),
    ],
)
def test_bad_vectors_and_numbers_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ------------------------------------------------------------------ quotas


def test_quotas_are_one_and_a_part_by_size():
    assert quotas([60, 30, 10], 13).tolist() == [1 + 6, 1 + 3, 1 + 1]


def test_what_is_left_over_goes_to_the_largest():
    assert quotas([50, 30, 20], 8).tolist() == [1 + 2 + 1, 1 + 1, 1 + 1]  # floor(2.5), floor(1.5), floor(1.0)


def test_no_cluster_gives_more_than_it_has():
    assert quotas([10, 1, 1], 12).tolist() == [10, 1, 1]
    assert quotas([5, 5, 1], 10).tolist() == [5, 4, 1]


@pytest.mark.parametrize("seed", range(20))
def test_quotas_add_up_and_fit(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(0.1, size=rng.integers(1, 30))
    for n in {len(sizes), int(sizes.sum()), int(rng.integers(len(sizes), sizes.sum() + 1))}:
        given = quotas(sizes, n)
        assert given.sum() == n
        assert (given >= 1).all()
        assert (given <= sizes).all()


@pytest.mark.parametrize("n", [2, 9])
def test_quotas_out_of_range_are_named(n):
    with pytest.raises(InputError, match=f"3 clusters of 8 documents in all give 3 to 8 documents, not {n}"):
        quotas([3, 3, 2], n)


def test_empty_clusters_are_named():
    with pytest.raises(InputError, match="1 of 2 clusters are empty"):
        quotas([3, 0], 2)


# ------------------------------------------------------------------ draws


def test_a_low_temperature_takes_the_nearest():
    points = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.1], [1.0, 1.0]])
    for seed in range(10):
        assert near_centroid(points, [1.0, 0.0], 3, temperature=1e-3, seed=seed) == [1, 2, 3]


def test_draws_follow_the_softmax_of_cosines():
    points = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    expected = np.exp([1.0, 0.0, -1.0]) / np.exp([1.0, 0.0, -1.0]).sum()
    first = [near_centroid(points, [3.0, 0.0], 1, seed=seed)[0] for seed in range(4000)]
    assert np.allclose(np.bincount(first) / 4000, expected, atol=0.025)


def test_no_document_is_drawn_twice_and_none_beyond_what_there_is():
    points, _ = blobs((9,))
    drawn = near_centroid(points, points.mean(axis=0), 20)
    assert sorted(drawn) == list(range(9))
    assert near_centroid(points, points[0], 0) == []
    assert sorted(near_centroid(np.zeros((3, 2)), [0.0, 0.0], 2)) != []


def test_mmr_without_diversity_goes_by_nearness():
    points = np.array([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0], [1.0, 0.2]])
    assert mmr(points, [1.0, 0.0], 4) == [0, 1, 3, 2]
    assert mmr(points, [1.0, 0.0], 9) == [0, 1, 3, 2]


def test_mmr_with_diversity_leaves_out_what_is_alike():
    points = np.array([[1.0, 0.0], [1.0, 0.01], [0.8, 0.6]])
    assert mmr(points, [1.0, 0.1], 2) == [1, 0]
    assert mmr(points, [1.0, 0.1], 2, relevance=0.3) == [1, 2]


def test_mmr_equals_its_definition():
    points = np.random.default_rng(3).normal(size=(12, 4))
    target = points.sum(axis=0)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    near, chosen = unit @ (target / np.linalg.norm(target)), []
    while len(chosen) < 6:
        left = [place for place in range(12) if place not in chosen]
        worth = {
            place: 0.6 * near[place] - 0.4 * max(unit[place] @ unit[other] for other in chosen)
            if chosen
            else near[place]
            for place in left
        }
        chosen.append(max(left, key=worth.__getitem__))
    assert mmr(points, target, 6, relevance=0.6) == chosen


def test_representatives_come_from_every_cluster_by_its_quota():
    points, owner = blobs()
    chosen = representatives(points, 12, clusters=4, seed=1)
    assert chosen == sorted(set(chosen))
    assert np.bincount(owner[chosen]).tolist() == quotas([40, 25, 10, 5], 12).tolist()
    assert representatives(points, 12, clusters=4, seed=1) == chosen
    assert representatives(points, 12, clusters=4, seed=2) != chosen
    assert representatives(points, len(points), clusters=4) == list(range(len(points)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: near_centroid(np.eye(2), [1, 0], 1, temperature=0), ConfigurationError, "temperature=0"),
        (lambda: near_centroid(np.eye(2), [1, 0], -1), ConfigurationError, "n=-1"),
        (lambda: mmr(np.eye(2), [1, 0], 1, relevance=1.1), ConfigurationError, "relevance=1.1"),
        (lambda: representatives(np.eye(2), 2, clusters=2, draws=0), ConfigurationError, "draws=0"),
        (lambda: representatives(np.eye(2), 2, clusters=3), InputError, "2 documents do not make 3 clusters"),
        (lambda: representatives(np.eye(4), 5, clusters=2), InputError, "not 5"),
    ],
)
def test_draws_out_of_range_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
