"""From the config to the clusterer, matcher and belief of an epoch, and whether they use ground truth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastreid.config import CfgNode

from mgot.clustering import CLUSTERERS, Clusterer, Corrected, OracleClusterer
from mgot.engine.schedule.cross import cross_start_epoch
from mgot.losses import add_loss_keys
from mgot.matching import MATCHERS, Belief, Matcher, Matching, OracleMatcher, Prototypes, believe
from mgot.registry import Part, add_keys, made

Believer = Callable[[Prototypes, Matching], Belief]
"""Prototypes and their matching to the belief in each match."""

_ORACLE = "oracle"


def add_part_keys(cfg: CfgNode) -> None:
    """Add the keys of clusterers, matchers and losses from outside, in place; existing keys stay.

    Raises:
        UserError: a field of one has no plain default.
    """
    for group, parts in ((cfg.MGOT.CLUSTER, CLUSTERERS), (cfg.MGOT.MATCHER, MATCHERS)):
        for name, part in parts.items():
            add_keys(group, part, f"{parts.kind} '{name}'")
    add_loss_keys(cfg.MGOT.LOSS)


def build_clusterer(cfg: CfgNode) -> Clusterer | OracleClusterer:
    """The clusterer of MGOT.CLUSTER.NAME, with the keys of its fields; the oracle if MGOT.MODE is supervised.

    With MGOT.CLUSTER.CORRECTION its clusters are corrected, unless they are ground truth.
    """
    clusterer = made(_clusterer(cfg), cfg.MGOT.CLUSTER)
    densest = cfg.MGOT.CLUSTER.CORRECTION
    return clusterer if densest == 0 or isinstance(clusterer, OracleClusterer) else Corrected(clusterer, densest)


def build_matcher(cfg: CfgNode) -> Matcher | OracleMatcher:
    """The matcher of MGOT.MATCHER.NAME, with the keys of its fields; by identity if MGOT.MODE is supervised.

    The oracle matches clusters of the same identity, so the supervised mode needs no other matcher.
    """
    return made(_matcher(cfg), cfg.MGOT.MATCHER)


def _clusterer(cfg: CfgNode) -> Part:
    return CLUSTERERS[_ORACLE if cfg.MGOT.MODE == "supervised" else cfg.MGOT.CLUSTER.NAME]


def _matcher(cfg: CfgNode) -> Part:
    return MATCHERS[_ORACLE if cfg.MGOT.MODE == "supervised" else cfg.MGOT.MATCHER.NAME]


def build_believer(cfg: CfgNode) -> Believer:
    """The belief of MGOT.BELIEF.NAME; `full` if MGOT.MODE is supervised."""
    name = "full" if cfg.MGOT.MODE == "supervised" else cfg.MGOT.BELIEF.NAME
    return partial(believe, name, temperature=cfg.MGOT.LOSS.TEMPERATURE, power=cfg.MGOT.BELIEF.POWER)


def ground_truth_used(cfg: CfgNode) -> str:
    """What training uses of the ground truth: "clusters and matches", one of the two, or "" for nothing.

    The types of the clusterer and the matcher decide this, so an oracle from outside is marked too.
    """
    if cfg.MGOT.MODE == "supervised":
        return "clusters and matches"
    trains_on_matches = cross_start_epoch(cfg) < cfg.SOLVER.MAX_EPOCH
    taken = {"clusters": _is_oracle(_clusterer(cfg)), "matches": _is_oracle(_matcher(cfg)) and trains_on_matches}
    return " and ".join(what for what, used in taken.items() if used)


def _is_oracle(part: Part) -> bool:
    return isinstance(part, type) and issubclass(part, OracleClusterer | OracleMatcher)
