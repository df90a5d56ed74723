"""Matching by the votes of single images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgot.matching.base import (
    UNMATCHED,
    Matching,
    Members,
    Prototypes,
    SupplyMatcher,
    correspondence,
    register_matcher,
)

_BLOCK = 8192


@register_matcher("vote")
@dataclass(frozen=True)
class Vote(SupplyMatcher):
    """Greedy matching by instance votes.

        W_ij = |images of visible cluster i whose nearest infrared prototype is j|
             + |images of infrared cluster j whose nearest visible prototype is i|

    The pair of free clusters with the most votes is matched first; of equal pairs, the more similar one. This ends when
    no pair of free clusters has a vote. A cluster that is left over takes the one with which it shares the most votes,
    free or not. Source: [field], ADCA's idea of count priority. Votes of both modalities are [ours].

    Args:
        supply: the other modality's clusters index the shared label space.

    A side without clusters leaves the other UNMATCHED; otherwise every cluster of both sides is matched.

    Raises:
        UserError: the prototypes come without their members.
    """

    def match(self, prototypes: Prototypes) -> Matching:
        votes = instance_votes(prototypes.visible, prototypes.infrared, prototypes.members_for("vote"))
        v2r, r2v = _greedy(votes, prototypes.similarity)
        return correspondence(v2r, r2v, votes.astype(np.float64), self.supply)


def instance_votes(phi_v: np.ndarray, phi_r: np.ndarray, members: Members) -> np.ndarray:
    """W, (K_v, K_r) int64; (K_v, D), (K_r, D) prototypes, at least one of each. Outliers do not vote."""
    votes = np.zeros((len(phi_v), len(phi_r)), dtype=np.int64)
    for (own, nearest), table in (
        (_ballots(members.f_v, members.y_v, phi_r), votes),
        (_ballots(members.f_r, members.y_r, phi_v), votes.T),
    ):
        np.add.at(table, (own, nearest), 1)
    return votes


def _ballots(f: np.ndarray, y: np.ndarray, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cluster, nearest prototype) of each image that is no outlier."""
    voters = np.flatnonzero(y >= 0)
    blocks = np.split(voters, range(_BLOCK, len(voters), _BLOCK))
    return y[voters], np.concatenate([(f[block] @ phi.T).argmax(axis=1) for block in blocks])


def most_votes_first(votes: np.ndarray, similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(v2r, r2v), one to one: the free pair with the most votes first, of equals the more similar; else UNMATCHED."""
    v2r, r2v = np.full(votes.shape[0], UNMATCHED), np.full(votes.shape[1], UNMATCHED)
    rows, columns = np.nonzero(votes)
    for k in np.lexsort((-similarity[rows, columns], -votes[rows, columns])):
        i, j = rows[k], columns[k]
        if v2r[i] == UNMATCHED and r2v[j] == UNMATCHED:
            v2r[i], r2v[j] = j, i
    return v2r, r2v


def _greedy(votes: np.ndarray, similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    v2r, r2v = most_votes_first(votes, similarity)
    preference = votes + (similarity + 1.0) / 4.0  # below one vote: similarity decides only between equal votes
    v2r = np.where(v2r == UNMATCHED, preference.argmax(axis=1), v2r)
    return v2r, np.where(r2v == UNMATCHED, preference.argmax(axis=0), r2v)
