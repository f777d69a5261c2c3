"""Clusters of documents' vectors: Lloyd's algorithm, seeded, in numpy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyterrier_llmrank.core import Scores
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.seeds import generator

BLOCK = 4096  # documents whose distances are in memory at once
SAME = 1e-12  # of the squared lengths of two vectors: a smaller squared distance is rounding


class Clusters(NamedTuple):
    """A partition of documents.

    Attributes:
        labels: Each document's cluster, (docs,).
        centroids: Mean vectors, (clusters, width).
    """

    labels: NDArray[np.intp]
    centroids: Scores

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Documents of each cluster, (clusters,)."""
        return np.bincount(self.labels, minlength=len(self.centroids))


def k_means(vectors: ArrayLike, k: int, *, iterations: int = 100, seed: int = 0) -> Clusters:
    """Clusters of vectors by Lloyd's algorithm, from centres that are drawn far apart (k-means++).

    No cluster is empty: one that loses all its documents begins again at the document that is farthest from its centre.

    Args:
        vectors: Of documents, (docs, width), finite.
        k: Clusters.
        iterations: At most; it ends when no document changes its cluster.
        seed: Of the draw.

    Raises:
        InputError: The vectors are no matrix of finite numbers, or ``k`` is more than there are.
        ConfigurationError: ``k`` or ``iterations`` is below 1.

    Reference:
        Lloyd, 1982; Arthur and Vassilvitskii, 2007; DUQGen (Chandradevan et al., 2024) takes 1000 clusters and 100
        iterations.
    """
    points = matrix(vectors)
    if k < 1 or iterations < 1:
        raise ConfigurationError(
            f"k_means needs a cluster and an iteration or more, got k={k}, iterations={iterations}"
        )
    if k > len(points):
        raise InputError(f"{len(points)} documents do not make {k} clusters; ask for at most {len(points)}")
    centroids = _spread(points, k, seed)
    labels, far = _nearest(points, centroids)
    for _ in range(iterations):
        labels = _filled(labels, far, k)
        centroids = _means(points, labels, k)
        before = labels
        labels, far = _nearest(points, centroids)
        if (labels == before).all():
            break
    return Clusters(_filled(labels, far, k), centroids)


def matrix(vectors: ArrayLike) -> Scores:
    """Vectors as float64.

    Raises:
        InputError: They are no matrix of finite numbers.
    """
    points = np.asarray(vectors, dtype=np.float64)
    if points.ndim != 2:
        raise InputError(f"documents' vectors are a matrix, (docs, width), got the shape {points.shape}")
    if not np.isfinite(points).all():
        lost = int((~np.isfinite(points).all(axis=1)).sum())
        raise InputError(f"{lost} of {len(points)} vectors are not finite; encode those documents again, or drop them")
    return points


def _spread(points: Scores, k: int, seed: int) -> Scores:
    """Centres, each drawn by its squared distance to the nearest of those before, (k, width)."""
    rng, norms = generator(seed, "k_means"), (points**2).sum(axis=1)
    chosen, far = [int(rng.integers(len(points)))], np.full(len(points), np.inf)
    while len(chosen) < k:
        last = chosen[-1]
        away = norms + norms[last] - 2 * (points @ points[last])
        far = np.minimum(far, np.where(away > SAME * (norms + norms[last]), away, 0.0))
        total = far.sum()
        if not total > 0:  # fewer different vectors than centres
            chosen += np.setdiff1d(np.arange(len(points)), chosen)[: k - len(chosen)].tolist()
            break
        chosen.append(int(rng.choice(len(points), p=far / total)))
    return points[chosen]


def _nearest(points: Scores, centroids: Scores) -> tuple[NDArray[np.intp], Scores]:
    """Each document's nearest centre, the first of equals, and its squared distance, (docs,) both."""
    labels, far = np.empty(len(points), dtype=np.intp), np.empty(len(points))
    norms = (centroids**2).sum(axis=1)
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        distances = norms - 2 * (block @ centroids.T)  # (block, clusters), less the document's own norm
        labels[start : start + BLOCK] = nearest = distances.argmin(axis=1)
        far[start : start + BLOCK] = distances[np.arange(len(block)), nearest] + (block**2).sum(axis=1)
    return labels, far


def _filled(labels: NDArray[np.intp], far: Scores, k: int) -> NDArray[np.intp]:
    """Labels where every empty cluster has got the farthest document that its own cluster can spare."""
    sizes, labels = np.bincount(labels, minlength=k), labels.copy()
    order = iter(np.argsort(-far, kind="stable").tolist())
    for cluster in np.flatnonzero(sizes == 0):
        place = next(place for place in order if sizes[labels[place]] > 1)
        sizes[labels[place]] -= 1
        labels[place], sizes[cluster] = cluster, 1
    return labels


def _means(points: Scores, labels: NDArray[np.intp], k: int) -> Scores:
    """The mean vector of each cluster, (k, width); none is empty."""
    order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels, minlength=k)
    sums: Scores = np.add.reduceat(points[order], np.cumsum(sizes) - sizes, axis=0)
    return sums / sizes[:, None]
