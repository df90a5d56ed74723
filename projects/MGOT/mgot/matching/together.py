"""Matching by a clustering of both modalities' images together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from mgot.clustering import cluster
from mgot.errors import UserError
from mgot.matching.base import (
    UNMATCHED,
    Matching,
    Prototypes,
    SupplyMatcher,
    correspondence,
    nothing_matched,
    register_matcher,
)

_ROUNDING = 1e-6  # of its length, a feature that equals the mean differs from it by less, in float32
_K2 = 6  # rows averaged over, as in the clustering of one modality


@register_matcher("together")
@dataclass(frozen=True)
class Together(SupplyMatcher):
    """Clusters match if their images fall into the same clusters when all images are clustered together.

        g     = the clusters of all images, each modality's mean subtracted from its features, half of each image's
                neighbours from its own modality and half from the other
        W_ij  = sum over g of |images of visible cluster i in g| |images of infrared cluster j in g| / (n_i n_j)

    with n_i and n_j the images of i and j that take part. Each cluster of both modalities takes its best by W; of equal
    ones, the more similar. One that meets no image of the other modality in any g stays UNMATCHED, and so do all where
    an image is at its modality's mean, as where all are one point. The clustering is that of
    :func:`mgot.clustering.cluster`, of N_v + N_r images at each matching. Source: [BMIL], the clustering of all images
    and the neighbours of both modalities. Its released code does not contain the distance; we know it from a
    description. The subtracted means and W are [ours].

    Args:
        joint_eps: largest Jaccard distance of neighbours in the common clustering.
        joint_k1: its neighbours, oneself included; it averages over 6 of them at most, and cores have 4.
        visible_share: share of the visible images that take part, drawn anew at each epoch.
        supply: the other modality's clusters index the shared label space.

    Raises:
        UserError: the prototypes come without their members, or a number is out of its range.
    """

    joint_eps: float = 0.6
    joint_k1: int = 30
    visible_share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.joint_eps < 1:
            raise UserError(f"the joint clustering's eps must be between 0 and 1, not {self.joint_eps}")
        if self.joint_k1 < 1:
            raise UserError(f"the joint clustering's k1 must be at least 1, not {self.joint_k1}")
        if not 0 < self.visible_share <= 1:
            raise UserError(f"the share of visible images must be above 0 and at most 1, not {self.visible_share}")

    def match(self, prototypes: Prototypes) -> Matching:
        f_v, f_r, y_v, y_r = prototypes.members_for("together")
        taken = drawn(len(f_v), self.visible_share, prototypes.epoch)
        rows = [_centred(f_v[taken]), _centred(f_r)]
        if not all(bool(each.any(dim=1).all()) for each in rows):  # an image at its mean has no direction
            return nothing_matched(prototypes, self.supply)
        is_visible = np.arange(len(taken) + len(f_r)) < len(taken)
        groups, n_groups, _ = cluster(
            torch.cat(rows), k1=self.joint_k1, k2=min(_K2, self.joint_k1), eps=self.joint_eps, side=is_visible
        )
        similarity = prototypes.similarity
        k_v, k_r = similarity.shape
        in_v, n_v = _counts(y_v[taken], groups[: len(taken)], k_v, n_groups)
        in_r, n_r = _counts(y_r, groups[len(taken) :], k_r, n_groups)
        # Whole numbers up to one division: equal shares are equal floats.
        together = (in_v @ in_r.T) / np.maximum(np.outer(n_v, n_r), 1.0)
        return correspondence(_best(together, similarity), _best(together.T, similarity.T), together, self.supply)


def drawn(n: int, share: float, epoch: int) -> np.ndarray:
    """Rows of n that take part in an epoch, ascending: the share of them, at least one; all for a share of 1."""
    return np.sort(np.random.default_rng(epoch).permutation(n)[: max(1, round(share * n))])


def _centred(f: np.ndarray) -> torch.Tensor:
    rows = torch.as_tensor(f, dtype=torch.float64)
    centred = rows - rows.mean(dim=0)
    centred[centred.norm(dim=1) < _ROUNDING * rows.norm(dim=1)] = 0.0
    return F.normalize(centred, dim=1).float()


def _counts(y: np.ndarray, groups: np.ndarray, n_clusters: int, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, G) images of each cluster in each group, and (K,) in all; outliers of either kind are in no group."""
    counts = np.zeros((n_clusters, n_groups))
    both = (y >= 0) & (groups >= 0)
    np.add.at(counts, (y[both], groups[both]), 1.0)
    return counts, np.bincount(y[y >= 0], minlength=n_clusters)


def _best(scores: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    most = scores.max(axis=1, keepdims=True)
    return np.where(most[:, 0] > 0, np.where(scores == most, similarity, -np.inf).argmax(axis=1), UNMATCHED)
