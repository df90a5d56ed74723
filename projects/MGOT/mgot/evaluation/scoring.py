"""Protocols to rows of a results table: features in, figures in percent out, averaged over trials.

Notation: N pool size, N_q queries, N_g gallery images of a trial, D feature dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mgot.errors import UserError
from mgot.evaluation.expand import DEFAULTS as EXPANSION
from mgot.evaluation.expand import Expansion, expanded_features, normalised
from mgot.evaluation.one_search import RANKS, score_search
from mgot.evaluation.protocols import Protocol, Trial
from mgot.evaluation.rerank import DEFAULTS, Reranking, reranked_distances
from mgot.evaluation.roc import roc_curve, roc_figures
from mgot.progress import progress

FIGURES = (*(f"rank{k}" for k in RANKS), "mAP", "mINP")
_Source = Callable[[Trial], np.ndarray]


class _Pool(NamedTuple):
    identities: np.ndarray
    cameras: np.ndarray


def score_protocols(
    protocols: Sequence[Protocol],
    identities: ArrayLike,
    cameras: ArrayLike,
    *,
    features: Any = None,
    distances: ArrayLike | None = None,
    roc: bool = False,
) -> list[dict[str, Any]]:
    """Score protocols over one pool. Protocols with the same queries share one product of features.

    Args:
        protocols: from :mod:`mgot.evaluation.protocols`.
        identities: (N,) int of the pool.
        cameras: (N,) int of the pool.
        features: (N, D) floats, an array or a tensor; L2-normalised here and compared by cosine. Give these or
            ``distances``.
        distances: (N_1, N - N_1) numbers, smaller is nearer, from the pool's first N_1 images to the others. A search
            in the other direction reads them transposed.
        roc: also give points of the ROC curve, :mod:`mgot.evaluation.roc`.

    Returns:
        A row for each protocol: "protocol", "draws", "n_trials", "n_queries", "n_valid_queries", "n_gallery" (means, if
        trials differ); in percent, as means over trials, "rank1", "rank5", "rank10", "rank20", "mAP", "mINP", and each
        with "_std", the standard deviation over trials as a population; "trials", every trial's figures. With ``roc``
        also "TPR@FPR=1e-04", "1e-03" and "1e-02", as the others.

    Raises:
        UserError: shapes that do not fit, values that are not finite, or a trial without a valid query.
    """
    pool = _checked_pool(identities, cameras)
    if (features is None) == (distances is None):
        raise UserError("give either features or distances")
    if distances is not None:
        source = _given(np.asarray(distances), len(pool.identities))
        return [_row(protocol, source, pool, roc=roc) for protocol in protocols]
    unit = normalised(_checked_features(features, len(pool.identities)))
    rows: dict[str, dict[str, Any]] = {}
    for sharing in _by_queries(protocols):
        source = _cosine(unit, [trial for protocol in sharing for trial in protocol.trials])
        rows.update({protocol.name: _row(protocol, source, pool, roc=roc) for protocol in sharing})
    return [rows[protocol.name] for protocol in protocols]


def score_protocol(
    protocol: Protocol,
    identities: ArrayLike,
    cameras: ArrayLike,
    *,
    features: Any = None,
    distances: ArrayLike | None = None,
    roc: bool = False,
) -> dict[str, Any]:
    """The row of one protocol; arguments, figures and errors are those of :func:`score_protocols`."""
    return score_protocols([protocol], identities, cameras, features=features, distances=distances, roc=roc)[0]


def score_reranked(
    protocols: Sequence[Protocol],
    identities: ArrayLike,
    cameras: ArrayLike,
    features: Any,
    setting: Reranking = DEFAULTS,
    *,
    roc: bool = False,
) -> list[dict[str, Any]]:
    """Score protocols after k-reciprocal re-ranking, each trial over its own queries and gallery.

    Arguments and errors are those of :func:`score_protocols` and :func:`mgot.evaluation.rerank.reranked_distances`.

    Returns:
        Rows like those of :func:`score_protocols`, "protocol" ending in "+rerank", with "rerank", the setting.
    """
    pool = _checked_pool(identities, cameras)
    unit = normalised(_checked_features(features, len(pool.identities)))

    def source(trial: Trial) -> np.ndarray:
        return reranked_distances(unit[trial.query], unit[trial.gallery], setting)

    told = {"rerank": setting._asdict()}
    return [_named(_row(each, source, pool, roc=roc), "+rerank", told) for each in progress(protocols, "re-rank")]


def score_expanded(
    protocols: Sequence[Protocol],
    identities: ArrayLike,
    cameras: ArrayLike,
    features: Any,
    setting: Expansion = EXPANSION,
    *,
    rerank: Reranking | None = None,
    roc: bool = False,
) -> list[dict[str, Any]]:
    """Score protocols after average query expansion, each trial over its own queries and gallery.

    Arguments and errors are those of :func:`score_protocols` and :func:`mgot.evaluation.expand.expanded_features`;
    features are as the model gives them, because their lengths matter.

    Returns:
        Rows like those of :func:`score_protocols`, "protocol" ending in "+aqe", with "aqe", the setting. With
        ``rerank`` the expanded features are re-ranked, as fast-reid does where both are on: "+aqe+rerank".
    """
    pool = _checked_pool(identities, cameras)
    rows = _checked_features(features, len(pool.identities))

    def source(trial: Trial) -> np.ndarray:
        query, gallery = map(normalised, expanded_features(rows[trial.query], rows[trial.gallery], setting))
        return -(query @ gallery.T) if rerank is None else reranked_distances(query, gallery, rerank)

    told: dict[str, Any] = {"aqe": setting._asdict(), **({} if rerank is None else {"rerank": rerank._asdict()})}
    name = "".join(f"+{key}" for key in told)
    return [_named(_row(each, source, pool, roc=roc), name, told) for each in progress(protocols, "expand")]


def _named(row: dict[str, Any], ending: str, told: dict[str, Any]) -> dict[str, Any]:
    return {**row, "protocol": f"{row['protocol']}{ending}", **told}


def _checked_pool(identities: ArrayLike, cameras: ArrayLike) -> _Pool:
    pool = _Pool(np.asarray(identities), np.asarray(cameras))
    if pool.identities.ndim != 1 or pool.identities.shape != pool.cameras.shape:
        raise UserError(f"identities {pool.identities.shape} and cameras {pool.cameras.shape} must both be (N,)")
    return pool


def _checked_features(features: Any, n_pool: int) -> np.ndarray:
    """(N, D) float32 rows, from an array or a tensor."""
    if hasattr(features, "detach"):
        features = features.detach().cpu().float().numpy()
    features = np.asarray(features, dtype=np.float32)
    if features.ndim != 2 or len(features) != n_pool:
        raise UserError(f"features {features.shape} must be an (N, D) matrix for a pool of N = {n_pool} images")
    if not np.isfinite(features).all():
        raise UserError("features hold NaN or infinity: the training has diverged, or the checkpoint is damaged")
    return features


def _by_queries(protocols: Sequence[Protocol]) -> list[list[Protocol]]:
    """Protocols gathered by their queries."""
    shared: dict[bytes, list[Protocol]] = {}
    for protocol in protocols:
        queries = {np.asarray(trial.query, dtype=np.int64).tobytes() for trial in protocol.trials}
        if len(queries) != 1:
            raise UserError(f"protocol {protocol.name}: its trials must share their queries")
        shared.setdefault(queries.pop(), []).append(protocol)
    return list(shared.values())


def _cosine(unit: np.ndarray, trials: Sequence[Trial]) -> _Source:
    """Distances of trials that share their queries, from one product with the images of all galleries.

    Distances are minus the cosines: 1 - cosine would round near ones to ties.
    """
    drawn = np.unique(np.concatenate([trial.gallery for trial in trials]))
    table = -(unit[trials[0].query] @ unit[drawn].T)
    return lambda trial: np.take(table, np.searchsorted(drawn, trial.gallery), axis=1)


def _given(distances: np.ndarray, n_pool: int) -> _Source:
    """Distances of trials, from a matrix between the two parts of the pool."""
    if distances.ndim != 2 or sum(distances.shape) != n_pool:
        raise UserError(f"distances {distances.shape} must be (N_1, N - N_1) for a pool of N = {n_pool} images")
    n_first = len(distances)

    def source(trial: Trial) -> np.ndarray:
        query, gallery = trial
        if (query < n_first).all() and (gallery >= n_first).all():
            return distances[np.ix_(query, gallery - n_first)]
        if (query >= n_first).all() and (gallery < n_first).all():
            return distances.T[np.ix_(query - n_first, gallery)]
        raise UserError(f"distances {distances.shape} do not hold a search within one part of the pool: give features")

    return source


def _row(protocol: Protocol, source: _Source, pool: _Pool, *, roc: bool) -> dict[str, Any]:
    trials = [_score_trial(trial, protocol, source(trial), pool, roc=roc) for trial in protocol.trials]
    valid = [trial["n_valid_queries"] for trial in trials]
    row: dict[str, Any] = {
        "protocol": protocol.name,
        "draws": protocol.draws,
        "n_trials": len(trials),
        "n_queries": len(protocol.trials[0].query),
        "n_valid_queries": _plain_mean(valid),
        "n_gallery": _plain_mean([len(trial.gallery) for trial in protocol.trials]),
    }
    names = [name for name in trials[0] if name != "n_valid_queries"]
    figures = np.array([[trial[name] for name in names] for trial in trials])
    for name, mean, deviation in zip(names, figures.mean(axis=0), figures.std(axis=0), strict=True):
        row[name], row[f"{name}_std"] = float(mean), float(deviation)
    return {**row, "trials": trials}


def _score_trial(trial: Trial, protocol: Protocol, distances: np.ndarray, pool: _Pool, *, roc: bool) -> dict[str, Any]:
    """Figures of one trial in percent, with those of the curve if ``roc``, and its number of valid queries."""
    query, gallery = trial
    ids, cams = pool
    labels = ids[query], ids[gallery], cams[query], cams[gallery]
    try:
        scores = score_search(distances, *labels, drop=protocol.drop, unique_identities=protocol.unique_identities)
        points = roc_figures(roc_curve(distances, *labels, drop=protocol.drop)) if roc else {}
    except UserError as error:
        raise UserError(f"{protocol.name}: {error}") from None
    figures = dict(zip(FIGURES, map(float, (*scores.rank, scores.mAP, scores.mINP)), strict=True))
    return {**figures, **points, "n_valid_queries": scores.n_valid_queries}


def _plain_mean(numbers: list[int]) -> int | float:
    """The mean; an int if all are the same."""
    return numbers[0] if len(set(numbers)) == 1 else float(np.mean(numbers))
