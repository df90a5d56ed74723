"""What every matcher shares: what it may use, what it returns, and the registry of matchers.

A matcher does not get ground truth; only an :class:`OracleMatcher` does.

Notation: Phi prototypes (K, D); S = Phi_v Phi_r^T; P = (S+1)/2; Q transport plan; v visible, r infrared. *Supply* is
the modality that moves first, *demand* the one that receives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from mgot.errors import UserError
from mgot.registry import Part, Registry
from mgot.transport import TransportPlan, probability
from mgot.truth import Truth

UNMATCHED = -1
SUPPLIES = ("visible", "infrared")


class Members(NamedTuple):
    """The images behind the prototypes.

    Attributes:
        f_v, f_r: (N_v, D), (N_r, D) L2-normalised features.
        y_v, y_r: (N_v,), (N_r,) cluster of each image, -1 = outlier.
    """

    f_v: np.ndarray
    f_r: np.ndarray
    y_v: np.ndarray
    y_r: np.ndarray

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """(K_v,), (K_r,) number of images in each cluster."""
        return np.bincount(self.y_v[self.y_v >= 0]), np.bincount(self.y_r[self.y_r >= 0])


class Prototypes(NamedTuple):
    """What a matcher may use.

    Attributes:
        visible: (K_v, D) L2-normalised prototypes.
        infrared: (K_r, D) L2-normalised prototypes.
        members: the images of the clusters, if the caller has them.
        epoch: for a matcher that draws at random, so that a resumed run draws the same.
    """

    visible: np.ndarray
    infrared: np.ndarray
    members: Members | None = None
    epoch: int = 0

    @property
    def similarity(self) -> np.ndarray:
        """S, (K_v, K_r)."""
        return self.visible @ self.infrared.T

    def members_for(self, matcher: str) -> Members:
        """The members, for a matcher of this name, which cannot do without. Raises UserError if there are none."""
        if self.members is None:
            raise UserError(f"MGOT.MATCHER.NAME '{matcher}' needs the members of the clusters: pass Prototypes.members")
        return self.members


class Matching(NamedTuple):
    """A correspondence of clusters.

    Attributes:
        v2r: (K_v,) int64 infrared cluster of each visible one, UNMATCHED if there is none.
        r2v: (K_r,) int64 visible cluster of each infrared one, UNMATCHED if there is none.
        scores: (K_v, K_r) what the choice is based on: the plan, P, or votes.
        supply: "visible" or "infrared"; the other side's clusters index the shared label space.
        unassigned: (n,) demand clusters that no supply cluster took.
        transport: the plan with its errors, if a transport was solved.
    """

    v2r: np.ndarray
    r2v: np.ndarray
    scores: np.ndarray
    supply: str
    unassigned: np.ndarray
    transport: TransportPlan | None = None


class Matcher(Protocol):
    """Anything that turns prototypes into a matching; see :data:`MATCHERS`."""

    def __call__(self, prototypes: Prototypes) -> Matching: ...


class OracleMatcher(ABC):
    """A matcher that gets ground truth: for diagnosis, never a result of the method.

    No other matcher sees an identity, and a run with one is marked in its results.
    """

    @abstractmethod
    def __call__(self, prototypes: Prototypes, truth: Truth) -> Matching:
        """The matching of prototypes whose clusters have these majority identities, (K_v,) and (K_r,)."""


MATCHERS: Registry[Part] = Registry("matcher")
register_matcher = MATCHERS.register
"""Decorator: register a matcher under a name, the value of the key MGOT.MATCHER.NAME.

The fields of a matcher that is a dataclass become keys: ``min_size`` is set by MGOT.MATCHER.MIN_SIZE.
"""


def matching_of(matcher: Matcher | OracleMatcher, prototypes: Prototypes, truth: Truth) -> Matching:
    """The matching of prototypes; only an oracle gets the truth."""
    return matcher(prototypes, truth) if isinstance(matcher, OracleMatcher) else matcher(prototypes)


def correspondence(
    v2r: np.ndarray, r2v: np.ndarray, scores: np.ndarray, supply: str, transport: TransportPlan | None = None
) -> Matching:
    """The matching of two tables, with the demand clusters that no supply cluster took."""
    forward, backward = (v2r, r2v) if supply == "visible" else (r2v, v2r)
    return Matching(v2r, r2v, scores, supply, np.setdiff1d(np.arange(len(backward)), forward), transport)


def argmax_both_ways(scores: np.ndarray, supply: str, transport: TransportPlan | None = None) -> Matching:
    """Each cluster takes its best one of the other modality by (K_v, K_r) scores, independently of the others."""
    return correspondence(scores.argmax(axis=1), scores.argmax(axis=0), scores, supply, transport)


def nothing_matched(prototypes: Prototypes, supply: str) -> Matching:
    """The matching if a modality has no cluster: all clusters of the other one are UNMATCHED."""
    scores = probability(prototypes.similarity)
    n_v, n_r = scores.shape
    return correspondence(np.full(n_v, UNMATCHED), np.full(n_r, UNMATCHED), scores, supply)


@dataclass(frozen=True)
class Supplied:
    """A supply, which the matchers here share.

    Args:
        supply: "visible" or "infrared"; the other modality's clusters index the shared label space.

    Raises:
        UserError: the supply is not a modality.
    """

    supply: str = field(default="visible", kw_only=True)

    def __post_init__(self) -> None:
        if self.supply not in SUPPLIES:
            raise UserError(f"the supply must be one of {SUPPLIES}, not '{self.supply}'")


@dataclass(frozen=True)
class SupplyMatcher(Supplied):
    """A matcher with a supply, and with the result if a modality has no cluster. Subclasses define :meth:`match`."""

    def __call__(self, prototypes: Prototypes) -> Matching:
        """The matching; a modality without clusters leaves the other's UNMATCHED."""
        if not prototypes.similarity.size:
            return nothing_matched(prototypes, self.supply)
        return self.match(prototypes)

    def match(self, prototypes: Prototypes) -> Matching:
        """The matching of prototypes of which each modality has one."""
        raise NotImplementedError
