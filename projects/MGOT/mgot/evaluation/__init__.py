"""Scoring as a library: SYSU-MM01, RegDB and LLCM exactly as their authors score them, without fast-reid.

Any project that has features of the test images can use it::

    from mgot.data.items import cameras, identities
    from mgot.data.sets.sysu import SYSUMM01
    from mgot.evaluation import score_protocols

    data = SYSUMM01()
    lists = data.read("datasets")                               # datasets/SYSU-MM01, as downloaded
    pool = lists.pool                                           # infrared queries, then visible gallery images
    features = extract([item.path for item in pool])            # (N, D), yours
    protocols = data.protocols("datasets", lists)
    for row in score_protocols(protocols, identities(pool), cameras(pool), features=features):
        print(row["protocol"], row["draws"], row["rank1"], row["rank1_std"], row["mAP"], row["mINP"])

or one search at a time, from distances of your own::

    from mgot.evaluation import score_search

    scores = score_search(distances, query_ids, gallery_ids, query_cameras, gallery_cameras, drop="sysu-same-place")
    print(scores.rank, scores.mAP, scores.mINP, scores.n_valid_queries)
"""

from mgot.evaluation.draws import OfficialDraws, read_official_draws
from mgot.evaluation.expand import Expansion, expanded_features
from mgot.evaluation.one_search import RANKS, SearchScores, score_queries, score_search
from mgot.evaluation.protocols import (
    DIRECTIONS,
    DROP_RULES,
    Protocol,
    Trial,
    blocks,
    both_ways,
    grouped,
    seeded_gallery,
)
from mgot.evaluation.rerank import Reranking, reranked_distances
from mgot.evaluation.roc import Curve, roc_curve, roc_figures
from mgot.evaluation.scoring import FIGURES, score_expanded, score_protocol, score_protocols, score_reranked

__all__ = [
    "DIRECTIONS",
    "DROP_RULES",
    "FIGURES",
    "RANKS",
    "Curve",
    "Expansion",
    "OfficialDraws",
    "Protocol",
    "Reranking",
    "SearchScores",
    "Trial",
    "blocks",
    "both_ways",
    "expanded_features",
    "grouped",
    "read_official_draws",
    "reranked_distances",
    "roc_curve",
    "roc_figures",
    "score_expanded",
    "score_protocol",
    "score_protocols",
    "score_queries",
    "score_reranked",
    "score_search",
    "seeded_gallery",
]
