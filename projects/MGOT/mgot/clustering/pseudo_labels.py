"""Pseudo labels by DBSCAN: features in, cluster numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mgot.clustering.base import Clustering, register_clusterer
from mgot.clustering.dbscan import dbscan
from mgot.clustering.jaccard import pairs_within
from mgot.clustering.weights import Watch, neighbour_weights
from mgot.errors import UserError


def cluster(
    features: np.ndarray | torch.Tensor,
    *,
    k1: int = 30,
    k2: int = 6,
    eps: float = 0.6,
    min_samples: int = 4,
    search: str = "auto",
    names: Sequence[str] | None = None,
    side: np.ndarray | None = None,
) -> Clustering:
    """DBSCAN on the k-reciprocal Jaccard distance of L2-normalised features.

        N(i, k)   the k nearest of i by cosine, i itself first, equal ones by ascending index
        R(i, k)   = {j in N(i, k): i in N(j, k)}
        R*(i)     = R(i, k1) united with every R(j, h), j in R(i, k1), with |R(j, h) & R(i, k1)| > 2/3 |R(j, h)|
        V[i, j]   = softmax over j in R*(i) of -(2 - 2 cos(f_i, f_j)); 0 elsewhere
        V'[i]     = (1 / k2) sum_{j in N(i, k2)} V[j]
        J(i, j)   = max(0, 1 - s / (2 - s)),  s = sum_c min(V'[i, c], V'[j, c])

    h = round(k1 / 2) + 1, rounded half to even: the released codes do not count the row itself in the half set, but
    count it in the full set. A row with min_samples rows at J <= eps, itself counted, is a core of a cluster.

    Source: docs/method.md section 3; DBSCAN per modality [paper], the distance and its defaults [field]:
    alibaba/cluster-contrast-reid, clustercontrast/utils/faiss_rerank.py, after Zhong et al., CVPR 2017. Ties and
    "itself first" are [ours]; the released codes leave them to the search library.

    Args:
        features: (N, D), torch or numpy, any length but zero; normalised here.
        k1: neighbours, oneself included; more than N counts as N. With `side`, more than twice the rows of the smaller
            side counts as twice that.
        k2: neighbours averaged over, 1 .. k1; 1 switches the averaging off.
        eps: largest Jaccard distance between neighbours, in (0, 1).
        min_samples: neighbours a core needs, itself included.
        search: backend of the neighbour search, see `search.nearest`.
        names: (N,), names of the rows in errors, such as image paths.
        side: (N,) bool, the modality of each row, for a clustering of both together. Then half of N(i, k), up to one,
            is of i's own modality and half of the other, for every k [BMIL, modality-aware Jaccard distance]; see
            `search.nearest_of_each`. None makes no difference between rows.

    Returns:
        Labels. If there are only outliers, all are -1 and n_clusters is 0. This is not an error: the caller decides
        what to do with such an epoch. One cluster of all rows is a valid result too.

    Raises:
        UserError: unusable features (named), or an argument out of its range.
    """
    _check_arguments(eps, min_samples)
    watch = Watch()
    weights = neighbour_weights(features, k1, k2, search, names, watch, side)
    labels, n_clusters = dbscan(len(weights.start) - 1, pairs_within(weights, eps), min_samples)
    watch.stage("cluster")
    return Clustering(labels, n_clusters, watch.seconds)


@register_clusterer("dbscan")
@dataclass(frozen=True)
class DBSCAN:
    """:func:`cluster` with these settings; they are explained there."""

    k1: int = 30
    k2: int = 6
    eps: float = 0.6
    min_samples: int = 4
    search: str = "auto"

    def __call__(self, features: torch.Tensor) -> Clustering:
        """Clusters of the (N, D) features of one modality."""
        return cluster(features, k1=self.k1, k2=self.k2, eps=self.eps, min_samples=self.min_samples, search=self.search)


def _check_arguments(eps: float, min_samples: int) -> None:
    if not 0.0 < np.float32(eps) < 1.0:
        raise UserError(f"eps = {eps}: must lie between 0 and 1, the range of the Jaccard distance (0.6 by default)")
    if min_samples < 1:
        raise UserError(f"min_samples = {min_samples}: must be at least 1 (4 by default)")
