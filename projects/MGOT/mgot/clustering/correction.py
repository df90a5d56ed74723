"""Clusters whose images move to the cluster that they are nearest to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.clustering.base import OUTLIER, Clusterer, Clustering
from mgot.errors import UserError

PAIRS = 2**22  # of features and centres, or of features of a cluster, that are compared at once


@dataclass(frozen=True)
class Corrected:
    """The clusters of ``clusterer``, corrected by the ``densest`` images of each: :func:`corrected`."""

    clusterer: Clusterer
    densest: int

    def __call__(self, features: Tensor) -> Clustering:
        """Clusters of the (N, D) features of one modality."""
        found = self.clusterer(features)
        labels = corrected(features, torch.as_tensor(found.labels), self.densest)
        return Clustering(labels, int(labels.max(initial=OUTLIER)) + 1, found.seconds)


def corrected(features: Tensor, labels: Tensor, densest: int) -> np.ndarray:
    """Each image in the cluster whose centre is nearest to it. The centre is the mean of a cluster's densest images.

        rho_i = sum over j in the cluster of i, itself too, of sign(f_i . f_j - 1/2)
        c_k   = mean of the f_i of the `densest` largest rho_i in cluster k, the first of equal ones
        y_i   = argmax_k f_i . c_k / |c_k|

    Outliers stay outliers. A cluster that loses all its images is no more, and those after it move up.

    Source: [RPNR], train_sysu.py, generate_cluster_features_corr and correct_label. There the memories are built from
    the labels before the correction, so they keep a row for a cluster without images.

    Args:
        features: (N, D) L2-normalised features.
        labels: (N,) int64, -1 or 0 .. K - 1, all of which occur.
        densest: images that a centre is the mean of, at least 1; a smaller cluster has all of its own.

    Returns:
        (N,) int64 labels.

    Raises:
        UserError: a cluster has no image.
    """
    kept = torch.nonzero(labels >= 0).flatten()
    result = np.full(len(labels), OUTLIER, dtype=np.int64)
    if len(kept) == 0:
        return result
    order = kept[torch.argsort(labels[kept], stable=True)]
    sizes = torch.bincount(labels[kept]).tolist()
    if 0 in sizes:
        raise UserError(f"cluster {sizes.index(0)} has no image: renumber the labels so that 0..{len(sizes) - 1} occur")
    members = torch.split(order, sizes)
    centres = F.normalize(torch.stack([_centre(features[rows], densest) for rows in members]), dim=1)
    runs = kept.split(max(1, PAIRS // len(sizes)))
    nearest = torch.cat([(features[rows] @ centres.T).argmax(dim=1) for rows in runs])
    result[kept.numpy()] = np.unique(nearest.numpy(), return_inverse=True)[1]
    return result


def _centre(f: Tensor, densest: int) -> Tensor:
    """(D,) mean of the densest of the (n, D) features of a cluster."""
    rho = torch.cat([torch.sign(rows @ f.T - 0.5).sum(dim=1) for rows in f.split(max(1, PAIRS // len(f)))])
    return f[torch.argsort(rho, descending=True, stable=True)[:densest]].mean(dim=0)
