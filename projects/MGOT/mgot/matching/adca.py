"""Matching by pairs of similar images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgot.errors import UserError
from mgot.matching.base import Matching, Members, Prototypes, SupplyMatcher, correspondence, register_matcher
from mgot.matching.vote import most_votes_first

_BLOCK = 1024


@register_matcher("adca")
@dataclass(frozen=True)
class ADCA(SupplyMatcher):
    """Greedy one-to-one matching by the votes of pairs of images.

        W_ij = |pairs of an image of visible cluster i and an image of infrared cluster j
                with a cosine of c or more|

    The pair of free clusters with the most votes is matched first, until no pair of free clusters has a vote. Of equal
    pairs, the one with the most similar pair of images comes first. Clusters that are left over stay UNMATCHED. Source:
    [ADCA], count priority selection.

    Args:
        min_cosine: c, in [-1, 1].
        supply: the other modality's clusters index the shared label space.

    If no pair of images is that similar, nothing is matched.

    Raises:
        UserError: the prototypes come without their members, or c is not a cosine.
    """

    min_cosine: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.min_cosine <= 1:
            raise UserError(f"the cosine of two images that vote must be in [-1, 1], not {self.min_cosine}")

    def match(self, prototypes: Prototypes) -> Matching:
        votes, closest = pair_votes(prototypes.members_for("adca"), prototypes.similarity.shape, self.min_cosine)
        return correspondence(*most_votes_first(votes, closest), votes.astype(np.float64), self.supply)


def pair_votes(members: Members, shape: tuple[int, ...], min_cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """W, (K_v, K_r) int64, and (K_v, K_r) the largest cosine of two images of each pair of clusters.

    Outliers do not vote. Memory O(N_r), never N_v x N_r; each cluster has a member.
    """
    kept = np.flatnonzero(members.y_r >= 0)
    order = kept[np.argsort(members.y_r[kept], kind="stable")]
    starts = np.searchsorted(members.y_r[order], np.arange(shape[1]))
    votes, closest = np.zeros(shape, dtype=np.int64), np.full(shape, -np.inf)
    voters = np.flatnonzero(members.y_v >= 0)
    for first in range(0, len(voters), _BLOCK):
        block = voters[first : first + _BLOCK]
        cosines = members.f_v[block] @ members.f_r[order].T
        alike = np.add.reduceat(cosines >= min_cosine, starts, axis=1, dtype=np.int64)
        np.add.at(votes, members.y_v[block], alike)
        np.maximum.at(closest, members.y_v[block], np.maximum.reduceat(cosines, starts, axis=1))
    return votes, closest
