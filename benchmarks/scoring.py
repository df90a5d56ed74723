"""Scoring: ten trials of SYSU-MM01's all-search, 3,803 x 301, beside loops over queries of the same definition."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from benchmarks import _literal_scoring
from mgot.arguments import whole
from mgot.data.sets.sysu import sysu_protocols
from mgot.evaluation.one_search import RANKS, score_search

# Images and identities of each camera of SYSU-MM01's test set, infrared cameras first.
LAYOUT = {3: (1883, 93), 6: (1920, 96), 1: (1374, 56), 2: (1565, 56), 4: (1918, 94), 5: (1918, 95)}
NOISE = 2.0
SMALLEST_GAP = 1e-9  # percent; the loops add their means up in another order


class Search(NamedTuple):
    """One trial: (N_q, N_g) distances, and the labels of queries and gallery."""

    distances: np.ndarray
    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_cameras: np.ndarray
    gallery_cameras: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add = parser.add_argument
    add("--trials", type=whole(1, 1000), default=10, help="(%(default)s)")
    add("--repeats", type=whole(1, 1000), default=3, help="runs of each, the fastest counts (%(default)s)")
    add("--seed", type=whole(0), default=0, help="of the features (%(default)s)")


def searches(trials: int, seed: int) -> list[Search]:
    """Trials with seeded draws over the layout, on features that are noisy centres of identities."""
    identities = np.concatenate([np.sort(np.arange(images) % people) for images, people in LAYOUT.values()])
    cameras = np.concatenate([np.full(images, camera) for camera, (images, _) in LAYOUT.items()])
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((96, 64))[identities] + NOISE * rng.standard_normal((len(identities), 64))
    unit = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    (protocol,) = sysu_protocols(identities, cameras, modes=("all",), shots=(1,), trials=trials)
    return [
        Search(-(unit[q] @ unit[g].T), identities[q], identities[g], cameras[q], cameras[g]) for q, g in protocol.trials
    ]


def ours(search: Search) -> list[float]:
    """Rank-k, mAP, mINP by mgot.evaluation."""
    scores = score_search(*search, drop="sysu-same-place")
    return [*scores.rank, scores.mAP, scores.mINP]


def plain_loop(search: Search) -> list[float]:
    """The literal transcription that the tests use: queries, images and ranks in Python's own loops.

    Turning the arrays into lists is counted; it is some 3% of the time.
    """
    distances, query_ids, gallery_ids, query_cameras, gallery_cameras = (part.tolist() for part in search)
    figures = _literal_scoring.sysu(distances, query_ids, query_cameras, gallery_ids, gallery_cameras)
    assert figures is not None
    return figures.percent(RANKS)


def numpy_loop(search: Search) -> list[float]:
    """A loop over queries with NumPy inside it, as the released codes have."""
    first, precision, penalty = [], [], []
    for row, identity, camera in zip(search.distances, search.query_ids, search.query_cameras, strict=True):
        order = np.argsort(row, kind="stable")
        if camera == 3:
            order = order[search.gallery_cameras[order] != 2]
        ranked = search.gallery_ids[order]
        places = np.flatnonzero(ranked == identity) + 1
        if not len(places):
            continue
        once = ranked[np.sort(np.unique(ranked, return_index=True)[1])]
        first.append(np.flatnonzero(once == identity)[0] + 1)
        precision.append(np.mean(np.arange(1, len(places) + 1) / places))
        penalty.append(len(places) / places[-1])
    cmc = [100.0 * float(np.mean(np.array(first) <= k)) for k in RANKS]
    return [*cmc, 100.0 * float(np.mean(precision)), 100.0 * float(np.mean(penalty))]


def timed(score: Callable[[Search], list[float]], jobs: list[Search]) -> tuple[float, np.ndarray]:
    """Seconds for all trials, and their (T, 6) figures."""
    start = perf_counter()
    figures = [score(job) for job in jobs]
    return perf_counter() - start, np.array(figures)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Time ours and both loops in turns; ``time_ratio`` is ours over the plain loop's."""
    jobs = searches(args.trials, args.seed)
    ours(jobs[0])  # compiles
    candidates = {"ours": ours, "plain loop": plain_loop, "numpy loop": numpy_loop}
    seconds = dict.fromkeys(candidates, float("inf"))
    figures: dict[str, np.ndarray] = {}
    for _ in range(args.repeats):
        for name, score in candidates.items():
            taken, figures[name] = timed(score, jobs)
            seconds[name] = min(seconds[name], taken)
    n_query, n_gallery = jobs[0].distances.shape
    print(f"{args.trials} trials of {n_query:,} queries x {n_gallery} images")
    for name, taken in seconds.items():
        print(f"  {name:10s} {taken:7.3f} s   ours / this: {seconds['ours'] / taken:.4f}")
    gap = max(float(np.abs(figures["ours"] - figures[name]).max()) for name in candidates)
    print(f"  figures {'equal' if gap <= SMALLEST_GAP else 'DIFFER'} (largest difference {gap:.1e} percent)")
    return {
        "time_ratio": seconds["ours"] / seconds["plain loop"],
        "numpy_time_ratio": seconds["ours"] / seconds["numpy loop"],
        "equal": gap <= SMALLEST_GAP,
        "seconds": seconds,
        "queries": n_query,
        "gallery": n_gallery,
        "trials": args.trials,
    }
