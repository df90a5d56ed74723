"""The three principles of the objective, measured without labels, and the diagnostics that need ground truth.

Source: docs/method.md sections 0 and 8. Sharpness is a low conditional entropy H(y|x); fairness is a uniform marginal
over labels; fitness is a right matching. Nothing here is used in training.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mgot.matching import UNMATCHED, Matching

_BLOCK = 8192


def prediction_entropies(features: Tensor, prototypes: Tensor, temperature: float) -> tuple[float, float]:
    """Sharpness and fairness of softmax(f Phi^T / tau).

        sharpness = mean over x of H(y|x) in nats;   fairness = H(mean over x of p(y|x)) / log K in [0, 1]

    Args:
        features: (N, D); an empty set gives (0, 0).
        prototypes: (K, D); one prototype is as fair as can be: fairness 1.
        temperature: tau.
    """
    n, k = features.shape[0], prototypes.shape[0]
    if n == 0 or k == 0:
        return 0.0, 0.0
    conditional, marginal = 0.0, torch.zeros(k, dtype=torch.float64)
    for block in features.split(_BLOCK):
        log_p = torch.log_softmax(block.to(prototypes.device).float() @ prototypes.t() / temperature, dim=1)
        p = log_p.exp()
        conditional -= float((p * log_p).sum())
        marginal += p.sum(dim=0).double().cpu()
    marginal /= n
    fairness = 1.0 if k == 1 else float(-torch.special.xlogy(marginal, marginal).sum()) / math.log(k)
    return conditional / n, fairness


def cluster_statistics(labels: np.ndarray) -> dict[str, float]:
    """Clusters and sizes of (N,) labels.

    Returns:
        clusters: K;
        outliers: their share of the images;
        size_entropy: entropy of the cluster sizes over log K in [0, 1];
        size_median: median size in images;
        size_max_share: the largest cluster's share of the clustered images.
        If there is no cluster, all of these except outliers are 0.
    """
    sizes = np.bincount(labels[labels >= 0])
    share = sizes / max(sizes.sum(), 1)
    entropy = float(-(share[share > 0] * np.log(share[share > 0])).sum())
    return {
        "clusters": float(len(sizes)),
        "outliers": float(np.mean(labels < 0)) if len(labels) else 0.0,
        "size_entropy": entropy / math.log(len(sizes)) if len(sizes) > 1 else float(len(sizes) == 1),
        "size_median": float(np.median(sizes)) if len(sizes) else 0.0,
        "size_max_share": float(share.max(initial=0.0)),
    }


def matching_statistics(matching: Matching) -> dict[str, float]:
    """Fairness of the assignment's load and fitness of the matches, without labels.

    Returns:
        load_max: the largest number of supply clusters that took one demand cluster, over the mean of a uniform load;
            load_empty: share of demand clusters that no supply cluster took;
        load_top3: share of the matched supply clusters that the three most taken demand clusters took;
        one_to_one: share of supply clusters i with backward[forward[i]] = i;
        unmatched: share of the clusters of both modalities that have no match;
        confidence: mean over supply clusters of the largest share of their row of the scores.
        All are 0 if a side has no cluster.
    """
    visible_supplies = matching.supply == "visible"
    forward, backward = (matching.v2r, matching.r2v) if visible_supplies else (matching.r2v, matching.v2r)
    scores = matching.scores if visible_supplies else matching.scores.T
    if not scores.size:
        return dict.fromkeys(("load_max", "load_empty", "load_top3", "one_to_one", "unmatched", "confidence"), 0.0)
    matched = forward != UNMATCHED
    load = np.bincount(forward[matched], minlength=len(backward))
    mutual = matched & (backward[forward] == np.arange(len(forward)))
    row = scores.sum(axis=1)
    return {
        "load_max": float(load.max() * len(backward) / max(matched.sum(), 1)),
        "load_empty": float(np.mean(load == 0)),
        "load_top3": float(np.sort(load)[-3:].sum() / max(matched.sum(), 1)),
        "one_to_one": float(mutual.mean()),
        "unmatched": float(np.mean(np.concatenate([forward, backward]) == UNMATCHED)),
        "confidence": float(np.mean(scores.max(axis=1) / np.where(row > 0, row, 1.0))),
    }


def fitness(matching: Matching) -> float:
    """The fitness of a matching without labels: the share of one-to-one matches times the plan's mean confidence.

    In [0, 1]; 0 if a side has no cluster. Source: docs/method.md section 8, the product is [ours].
    """
    figures = matching_statistics(matching)
    return figures["one_to_one"] * figures["confidence"]


def matching_agreement(
    v2r: np.ndarray,
    y_v: np.ndarray,
    y_r: np.ndarray,
    v2r_before: np.ndarray,
    y_v_before: np.ndarray,
    y_r_before: np.ndarray,
) -> float:
    """How much this epoch's matches agree with the last epoch's, although clusters have new numbers.

    For each visible image clustered and matched in both epochs, the Jaccard index of the two sets of infrared images
    matched to it; the mean over those images, 0 if there is none. Memory O(K K'), never N x N.

    Args:
        v2r: (K_v,) matches; y_v: (N_v,), y_r: (N_r,) labels of this epoch, -1 = outlier.
        v2r_before, y_v_before, y_r_before: those of the epoch before.
    """
    shared_v = _contingency(y_v, y_v_before, len(v2r), len(v2r_before))
    k_r, k_r_before = int(y_r.max(initial=-1)) + 1, int(y_r_before.max(initial=-1)) + 1
    shared_r = _contingency(y_r, y_r_before, k_r, k_r_before)
    size = np.bincount(y_r[y_r >= 0], minlength=k_r)
    size_before = np.bincount(y_r_before[y_r_before >= 0], minlength=k_r_before)
    jaccard = shared_r / np.maximum(size[:, None] + size_before[None, :] - shared_r, 1)
    both = (v2r != UNMATCHED)[:, None] & (v2r_before != UNMATCHED)[None, :]
    weight = shared_v * both
    if weight.sum() == 0:
        return 0.0
    return float((weight * jaccard[np.ix_(v2r, v2r_before)]).sum() / weight.sum())


def majority_identities(labels: np.ndarray, identities: np.ndarray, n_clusters: int) -> np.ndarray:
    """(K,) most frequent ground-truth identity of each cluster, the smallest of equals; only for diagnosis."""
    member = labels >= 0
    names, codes = np.unique(identities, return_inverse=True)
    table = np.zeros((n_clusters, len(names)), dtype=np.int64)
    np.add.at(table, (labels[member], codes[member]), 1)
    return names[table.argmax(axis=1)] if n_clusters else np.empty(0, dtype=identities.dtype)


def clustering_quality(labels: np.ndarray, identities: np.ndarray) -> dict[str, float]:
    """ARI and NMI of (N,) labels against (N,) ground-truth identities; each outlier counts as a cluster of its own."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # here: it takes a second to import

    singletons = labels.copy()
    outlier = labels < 0
    singletons[outlier] = labels.max(initial=-1) + 1 + np.arange(outlier.sum())
    return {
        "ari": float(adjusted_rand_score(identities, singletons)),
        "nmi": float(normalized_mutual_info_score(identities, singletons)),
    }


def matching_accuracy(matching: Matching, identity_v: np.ndarray, identity_r: np.ndarray) -> float:
    """Share of clusters of both modalities whose match has their majority identity.

    An unmatched cluster is right if the other modality has no cluster of its identity, and wrong otherwise.
    """
    right = 0
    for forward, own, other in ((matching.v2r, identity_v, identity_r), (matching.r2v, identity_r, identity_v)):
        matched = forward != UNMATCHED
        right += int((own[matched] == other[forward[matched]]).sum()) + int((~np.isin(own[~matched], other)).sum())
    return right / max(len(identity_v) + len(identity_r), 1)


def _contingency(a: np.ndarray, b: np.ndarray, n_a: int, n_b: int) -> np.ndarray:
    table = np.zeros((n_a, n_b), dtype=np.int64)
    both = (a >= 0) & (b >= 0)
    np.add.at(table, (a[both], b[both]), 1)
    return table
