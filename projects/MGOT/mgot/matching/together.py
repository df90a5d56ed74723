"""Matching by a clustering of both modalities' images together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from mgot.clustering import cluster
from mgot.errors import UserError
from mgot.matching.base import UNMATCHED, Matching, Prototypes, SupplyMatcher, correspondence, register_matcher


@register_matcher("together")
@dataclass(frozen=True)
class Together(SupplyMatcher):
    """Clusters match if their images fall into the same clusters when all images are clustered together.

        g     = the clusters of all images, each modality's mean subtracted from its features
        W_ij  = sum over g of |images of visible cluster i in g| |images of infrared cluster j in g| / (n_i n_j)

    with n_i and n_j the images of i and j that take part. Each cluster of both modalities takes its best by W; of equal
    ones, the more similar. One that meets no image of the other modality in any g stays UNMATCHED. Source: [BMIL], the
    clustering of all images. There the distance corrects for the modality in a way that its released code does not
    show; the subtracted means and W are [ours].

    Args:
        joint_eps: largest Jaccard distance of neighbours in the common clustering.
        joint_k1: its neighbours, oneself included.
        visible_share: share of the visible images that take part, evenly spread over their list. BMIL draws a half.
        supply: the other modality's clusters index the shared label space.

    Raises:
        UserError: the prototypes come without their members, or a number is out of its range.
    """

    joint_eps: float = 0.6
    joint_k1: int = 30
    visible_share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.visible_share <= 1:
            raise UserError(f"the share of visible images must be above 0 and at most 1, not {self.visible_share}")

    def match(self, prototypes: Prototypes) -> Matching:
        if prototypes.members is None:
            raise UserError("MGOT.MATCHER.NAME 'together' needs the members of the clusters: pass Prototypes.members")
        f_v, f_r, y_v, y_r = prototypes.members
        taken = np.linspace(0, len(f_v) - 1, max(1, round(self.visible_share * len(f_v)))).astype(np.int64)
        rows = torch.cat([_centred(f_v[taken]), _centred(f_r)])
        groups, n_groups, _ = cluster(rows, k1=self.joint_k1, k2=min(6, self.joint_k1), eps=self.joint_eps)
        shape = prototypes.similarity.shape
        in_v = _shares(y_v[taken], groups[: len(taken)], (shape[0], n_groups))
        in_r = _shares(y_r, groups[len(taken) :], (shape[1], n_groups))
        together = in_v @ in_r.T
        similarity = prototypes.similarity
        return correspondence(_best(together, similarity), _best(together.T, similarity.T), together, self.supply)


def _centred(f: np.ndarray) -> torch.Tensor:
    rows = torch.as_tensor(f, dtype=torch.float32)
    return F.normalize(rows - rows.mean(dim=0), dim=1)


def _shares(y: np.ndarray, groups: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(K, G) share of each cluster's images in each group; outliers of either kind are in none."""
    counts = np.zeros(shape)
    both = (y >= 0) & (groups >= 0)
    np.add.at(counts, (y[both], groups[both]), 1.0)
    sizes = np.bincount(y[y >= 0], minlength=shape[0])
    return counts / np.maximum(sizes, 1)[:, None]


def _best(scores: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    most = scores.max(axis=1, keepdims=True)
    return np.where(most[:, 0] > 0, np.where(scores == most, similarity, -np.inf).argmax(axis=1), UNMATCHED)
