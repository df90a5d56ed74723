"""From the config to what labels and matches an epoch, and where the ground truth comes in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastreid.config import CfgNode

from mgot.clustering import CLUSTERERS, Clusterer, OracleClusterer
from mgot.engine.schedule.cross import cross_start_epoch
from mgot.losses import add_loss_keys
from mgot.matching import MATCHERS, Belief, Matcher, Matching, OracleMatcher, Prototypes, believe
from mgot.registry import Part, add_keys, made

Believer = Callable[[Prototypes, Matching], Belief]
"""Prototypes and their matching to the belief in each match."""

_ORACLE = "oracle"


def add_part_keys(cfg: CfgNode) -> None:
    """Give clusterers, matchers and losses from outside keys of their own, in place; keys that are there stay.

    Raises:
        UserError: a field of one has no plain default.
    """
    for group, parts in ((cfg.MGOT.CLUSTER, CLUSTERERS), (cfg.MGOT.MATCHER, MATCHERS)):
        for name, part in parts.items():
            add_keys(group, part, f"{parts.kind} '{name}'")
    add_loss_keys(cfg.MGOT.LOSS)


def build_clusterer(cfg: CfgNode) -> Clusterer | OracleClusterer:
    """What MGOT.CLUSTER.NAME names, with the keys of its fields; the ground truth where MGOT.MODE is supervised."""
    return made(_clusterer(cfg), cfg.MGOT.CLUSTER)


def build_matcher(cfg: CfgNode) -> Matcher | OracleMatcher:
    """What MGOT.MATCHER.NAME names, with the keys of its fields; by identity where MGOT.MODE is supervised.

    Two clusters of one identity are the oracle's match, so that the supervised mode needs no matcher of its own.
    """
    return made(_matcher(cfg), cfg.MGOT.MATCHER)


def _clusterer(cfg: CfgNode) -> Part:
    return CLUSTERERS[_ORACLE if cfg.MGOT.MODE == "supervised" else cfg.MGOT.CLUSTER.NAME]


def _matcher(cfg: CfgNode) -> Part:
    return MATCHERS[_ORACLE if cfg.MGOT.MODE == "supervised" else cfg.MGOT.MATCHER.NAME]


def build_believer(cfg: CfgNode) -> Believer:
    """The belief that MGOT.BELIEF.NAME names; every match in full where MGOT.MODE is supervised."""
    name = "full" if cfg.MGOT.MODE == "supervised" else cfg.MGOT.BELIEF.NAME
    return partial(believe, name, temperature=cfg.MGOT.LOSS.TEMPERATURE, power=cfg.MGOT.BELIEF.POWER)


def ground_truth_used(cfg: CfgNode) -> str:
    """What training takes from the ground truth: "clusters and matches", one of the two, or "" for nothing.

    Told by the types of the clusterer and of the matcher, so that an oracle from outside is marked too.
    """
    if cfg.MGOT.MODE == "supervised":
        return "clusters and matches"
    trains_on_matches = cross_start_epoch(cfg) < cfg.SOLVER.MAX_EPOCH
    taken = {"clusters": _is_oracle(_clusterer(cfg)), "matches": _is_oracle(_matcher(cfg)) and trains_on_matches}
    return " and ".join(what for what, used in taken.items() if used)


def _is_oracle(part: Part) -> bool:
    return isinstance(part, type) and issubclass(part, OracleClusterer | OracleMatcher)
