"""Matching the clusters of one modality to those of the other, behind one signature and a registry.

A matcher is called with :class:`Prototypes` and returns a :class:`Matching`; MGOT.MATCHER.NAME chooses it. Ground truth
reaches only an :class:`OracleMatcher`.
"""

from mgot.matching.adca import ADCA, pair_votes
from mgot.matching.aggregation import aggregated
from mgot.matching.base import (
    MATCHERS,
    SUPPLIES,
    UNMATCHED,
    Matcher,
    Matching,
    Members,
    OracleMatcher,
    Prototypes,
    argmax_both_ways,
    correspondence,
    matching_of,
    nothing_matched,
    register_matcher,
)
from mgot.matching.belief import BELIEFS, Belief, believe, register_belief
from mgot.matching.cross import cross_labels, cross_prototypes, members_of_labels
from mgot.matching.hungarian import Hungarian
from mgot.matching.oracle import Oracle
from mgot.matching.otla import OTLA
from mgot.matching.otpa import OTPA
from mgot.matching.pgm import PGM
from mgot.matching.plain import Nearest, Sinkhorn
from mgot.matching.rpnr import RPNR
from mgot.matching.together import Together
from mgot.matching.unbalanced import Unbalanced
from mgot.matching.views import VIEWS, mutual_share, seen
from mgot.matching.vote import Vote, instance_votes

__all__ = [
    "ADCA",
    "BELIEFS",
    "MATCHERS",
    "OTLA",
    "OTPA",
    "PGM",
    "RPNR",
    "SUPPLIES",
    "UNMATCHED",
    "VIEWS",
    "Belief",
    "Hungarian",
    "Matcher",
    "Matching",
    "Members",
    "Nearest",
    "Oracle",
    "OracleMatcher",
    "Prototypes",
    "Sinkhorn",
    "Together",
    "Unbalanced",
    "Vote",
    "aggregated",
    "argmax_both_ways",
    "believe",
    "correspondence",
    "cross_labels",
    "cross_prototypes",
    "instance_votes",
    "matching_of",
    "members_of_labels",
    "mutual_share",
    "nothing_matched",
    "pair_votes",
    "register_belief",
    "register_matcher",
    "seen",
]
