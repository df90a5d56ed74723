"""From the config to what labels and matches an epoch, and where the ground truth comes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
from fastreid.config import CfgNode
from torch import Tensor

from mgot.clustering import Clustering, cluster
from mgot.errors import UserError
from mgot.matching import MATCHERS, Belief, Matcher, Matching, Prototypes, believe

Believer = Callable[[Prototypes, Matching], Belief]
"""Prototypes and their matching to the belief in each match."""

MODES = ("unsupervised", "supervised", "intra_only")
_KEY_OF_FIELD = {"sharpness": "LAMBDA"}

Clusterer = Callable[[Tensor, np.ndarray], Clustering]
"""(N, D) features and (N,) ground-truth identities to clusters; only :func:`true_clusters` looks at the identities."""


def true_clusters(features: Tensor, identities: np.ndarray) -> Clustering:
    """One cluster for each ground-truth identity: the supervised upper bound, never a result of the method [ours]."""
    names, labels = np.unique(identities, return_inverse=True)
    return Clustering(labels, len(names), {})


def _clusters_of_features(features: Tensor, identities: np.ndarray, **options: Any) -> Clustering:
    return cluster(features, **options)


def build_clusterer(cfg: CfgNode) -> Clusterer:
    """DBSCAN with the keys of MGOT.CLUSTER, or the ground truth where MGOT.MODE is supervised."""
    if cfg.MGOT.MODE == "supervised":
        return true_clusters
    keys = cfg.MGOT.CLUSTER
    return partial(
        _clusters_of_features, k1=keys.K1, k2=keys.K2, eps=keys.EPS, min_samples=keys.MIN_SAMPLES, search=keys.SEARCH
    )


def matcher_keys(matcher: type) -> dict[str, str]:
    """Field to key below MGOT.MATCHER of a registered matcher; none where it is no dataclass."""
    if not is_dataclass(matcher):
        return {}
    return {field.name: _KEY_OF_FIELD.get(field.name, field.name.upper()) for field in fields(matcher)}


def add_matcher_keys(cfg: CfgNode) -> None:
    """Give the fields of matchers from outside keys of their own, in place; one of a known key's name shares that key.

    Raises:
        UserError: a field has no plain default.
    """
    for name, matcher in MATCHERS.items():
        for field, key in matcher_keys(matcher).items():
            if key in cfg.MGOT.MATCHER:
                continue
            if not hasattr(matcher, field):
                raise UserError(f"matcher '{name}': give the field '{field}' a default, so that it can be a key")
            cfg.MGOT.MATCHER[key] = getattr(matcher, field)


def build_matcher(cfg: CfgNode) -> Matcher:
    """The matcher that MGOT.MATCHER.NAME names, with the keys of its fields; by identity where MGOT.MODE is supervised.

    Two clusters of one identity are the oracle's match, so that the supervised mode needs no matcher of its own.
    """
    cls = MATCHERS["oracle" if cfg.MGOT.MODE == "supervised" else cfg.MGOT.MATCHER.NAME]
    return cls(**{name: cfg.MGOT.MATCHER[key] for name, key in matcher_keys(cls).items()})


def build_believer(cfg: CfgNode) -> Believer:
    """The belief that MGOT.BELIEF.NAME names; every match in full where MGOT.MODE is supervised."""
    name = "full" if cfg.MGOT.MODE == "supervised" else cfg.MGOT.BELIEF.NAME
    return partial(believe, name, temperature=cfg.MGOT.LOSS.TEMPERATURE, power=cfg.MGOT.BELIEF.POWER)


GROWTHS = ("epochs", "belief")


def cross_weight(
    epoch: int, belief: float, *, start: int, growth: str, ramp_epochs: int, ramp_from: float, belief_goal: float
) -> float | None:
    """What the cross-modality terms are multiplied by in an epoch, None before the cross stage. [ours]

        epochs: even steps from ramp_from in the stage's first epoch to 1 after ramp_epochs; at once after none
        belief: min(belief / belief_goal, 1)^2, so that a cold matching earns its weight and a warm one has it

    Args:
        epoch: its number.
        belief: the mean belief in this epoch's matches, in [0, 1].
        start: first epoch of the cross stage.
        growth: "epochs" or "belief".
        ramp_epochs, ramp_from, belief_goal: as above.
    """
    if epoch < start:
        return None
    if growth == "belief":
        return min(belief / belief_goal, 1.0) ** 2
    grown = 1.0 if ramp_epochs == 0 else min((epoch - start) / ramp_epochs, 1.0)
    return ramp_from + (1.0 - ramp_from) * grown


def cross_start_epoch(cfg: CfgNode) -> int:
    """First epoch of the cross-modality stage; past the last one where MGOT.MODE is intra_only."""
    return cfg.SOLVER.MAX_EPOCH if cfg.MGOT.MODE == "intra_only" else cfg.MGOT.CROSS_START_EPOCH


def ground_truth_used(cfg: CfgNode) -> str:
    """What training takes from the ground truth: "clusters and matches", "matches", or "" for nothing."""
    if cfg.MGOT.MODE == "supervised":
        return "clusters and matches"
    trains_on_matches = cross_start_epoch(cfg) < cfg.SOLVER.MAX_EPOCH
    return "matches" if cfg.MGOT.MATCHER.NAME == "oracle" and trains_on_matches else ""
