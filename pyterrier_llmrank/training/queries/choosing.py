"""Documents that stand for a corpus: quotas of clusters, and draws within them. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyterrier_llmrank.core import Scores
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.seeds import derived, generator

from .clusters import k_means, matrix


def quotas(sizes: Sequence[int] | NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """How many of ``n`` documents each cluster gives: one, and of the rest a part by its size, never more than it has.

    What rounding down and small clusters leave over goes one by one to the largest clusters that have more.

    Args:
        sizes: Documents of each of K clusters, N in all; none is empty.
        n: Documents to take, from K to N.

    Returns:
        (clusters,), sum ``n``; ``1 + floor((n - K) * size / N)`` before what is left over.

    Raises:
        InputError: A cluster is empty, or ``n`` is out of range.

    Reference:
        Chandradevan et al., 2024 (DUQGen).
    """
    have = np.asarray(sizes, dtype=np.intp)
    k, total = len(have), int(have.sum())
    if (have < 1).any():
        raise InputError(f"{int((have < 1).sum())} of {k} clusters are empty; leave them out")
    if not k <= n <= total:
        raise InputError(f"{k} clusters of {total} documents in all give {k} to {total} documents, not {n}")
    given = np.minimum(1 + (n - k) * have // total, have)
    largest = sorted(range(k), key=lambda cluster: -have[cluster])
    while (left := n - int(given.sum())) > 0:
        open_ = [cluster for cluster in largest if given[cluster] < have[cluster]]
        given[open_[:left]] += 1
    return given


def near_centroid(
    vectors: ArrayLike, centroid: ArrayLike, n: int, *, temperature: float = 1.0, seed: int = 0
) -> list[int]:
    """Documents of a cluster, drawn without replacement by the softmax of their cosine to its centroid.

    Args:
        vectors: Of the cluster's documents, (docs, width).
        centroid: (width,).
        n: Documents to draw; all where there are no more.
        temperature: What cosines are divided by, above 0; small values take the nearest.
        seed: Of the draw.

    Returns:
        Places, in the order of the draw.

    Raises:
        InputError: The vectors are no matrix of finite numbers.
        ConfigurationError: ``temperature`` is not above 0, or ``n`` is below 0.

    Reference:
        Chandradevan et al., 2024 (DUQGen).
    """
    if not temperature > 0 or n < 0:
        raise ConfigurationError(f"draws take temperature > 0 and n >= 0, got temperature={temperature}, n={n}")
    points = matrix(vectors)
    noise = generator(seed, "near_centroid").gumbel(size=len(points))  # its order is a draw without replacement
    keys = _cosines(points, np.asarray(centroid, dtype=np.float64)[None])[:, 0] / temperature + noise
    places: list[int] = np.argsort(-keys, kind="stable")[:n].tolist()
    return places


def mmr(vectors: ArrayLike, target: ArrayLike, n: int, *, relevance: float = 1.0) -> list[int]:
    """Documents near a target that are unlike one another, by maximal marginal relevance.

    Args:
        vectors: Of documents, (docs, width).
        target: What they should be near, (width,).
        n: Documents to choose; all where there are no more.
        relevance: The weight of a document's cosine to the target, lambda; 1 minus it is that of its highest cosine
            to a document already chosen. 1, as in DUQGen's code, is no diversity.

    Returns:
        Places, in the order of the choice; of equals the first.

    Raises:
        InputError: The vectors are no matrix of finite numbers.
        ConfigurationError: ``relevance`` is not from 0 to 1, or ``n`` is below 0.

    Reference:
        Carbonell and Goldstein, 1998.
    """
    if not 0 <= relevance <= 1 or n < 0:
        raise ConfigurationError(f"mmr takes relevance from 0 to 1 and n >= 0, got relevance={relevance}, n={n}")
    points = matrix(vectors)
    near = _cosines(points, np.asarray(target, dtype=np.float64)[None])[:, 0]
    alike = np.full(len(points), -np.inf)  # to what is chosen
    chosen: list[int] = []
    for _ in range(min(n, len(points))):
        value = near if not chosen else relevance * near - (1 - relevance) * alike
        value = np.where(np.isin(np.arange(len(points)), chosen), -np.inf, value)
        best = int(np.argmax(value))
        chosen.append(best)
        alike = np.maximum(alike, _cosines(points, points[best : best + 1])[:, 0])
    return chosen


def representatives(
    vectors: ArrayLike,
    n: int,
    *,
    clusters: int = 1000,
    temperature: float = 1.0,
    draws: int = 5,
    relevance: float = 1.0,
    seed: int = 0,
) -> list[int]:
    """Documents that stand for a corpus, as DUQGen chooses what to write queries for.

    Of each cluster so many as its quota are drawn by ``near_centroid``, several times; of all that were drawn, ``mmr``
    chooses the quota, against the document nearest the centroid.

    Args:
        vectors: Of the corpus, (docs, width).
        n: Documents to choose, at least ``clusters``.
        clusters: See ``k_means``.
        temperature: See ``near_centroid``.
        draws: How many times.
        relevance: See ``mmr``.
        seed: Of everything that is drawn.

    Returns:
        ``n`` places, ascending.

    Raises:
        InputError: The vectors are no matrix of finite numbers, or there are fewer than asked for.
        ConfigurationError: An argument is out of range.

    Reference:
        Chandradevan et al., 2024 (DUQGen).
    """
    if draws < 1:
        raise ConfigurationError(f"documents of a cluster are drawn once or more, got draws={draws}")
    points = matrix(vectors)
    found = k_means(points, clusters, seed=seed)
    chosen: list[int] = []
    for cluster, quota in enumerate(quotas(found.sizes, n).tolist()):
        places, centroid = np.flatnonzero(found.labels == cluster), found.centroids[cluster]
        own = points[places]
        seeds = [derived(seed, "representatives", cluster, draw) for draw in range(draws)]
        drawn = [near_centroid(own, centroid, quota, temperature=temperature, seed=one) for one in seeds]
        union = sorted({place for one in drawn for place in one})
        core = own[int(np.argmax(_cosines(own, centroid[None])[:, 0]))]
        chosen += [int(places[union[place]]) for place in mmr(own[union], core, quota, relevance=relevance)]
    return sorted(chosen)


def _cosines(points: Scores, others: Scores) -> Scores:
    """(points, others); 0 for a vector of length 0."""
    left, right = (one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (points, others))
    cosines: Scores = left @ right.T
    return cosines
