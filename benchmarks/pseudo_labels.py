"""Pseudo labels: mgot.clustering beside the dense reference, on generated features."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks._features import DIFFICULTIES, describe, generate
from benchmarks._measure import Measured, in_fresh_process
from mgot.arguments import fraction, whole
from mgot.clustering import Clustering, cluster
from mgot.errors import UserError
from mgot.neighbours import SEARCHES
from mgot.ranges import between

COMPARED_PAIRS = 200_000
WARM_UP = 100
PRODUCT = 2048
PAGE_GB = 4.096e-6  # less than a page is not measured


class Job(NamedTuple):
    """What a measuring process is told: the folder with features.npy, and the settings."""

    folder: str
    settings: dict[str, Any]
    search: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add = parser.add_argument
    add("--n", type=whole(2, 10**7), nargs="+", default=[22258], help="features; several numbers make a table")
    add("--dim", type=whole(1, 65536), default=2048, help="dimension (%(default)s)")
    add("--difficulty", choices=sorted(DIFFICULTIES), default="easy", help="of the features (%(default)s)")
    add("--per-identity", type=whole(1), default=50, help="images of an identity, on average (%(default)s)")
    add("--against", choices=["dense"], help="also run the dense reference and compare labels")
    add("--search", choices=["auto", *SEARCHES], default="auto", help="of neighbours (%(default)s)")
    add("--k1", type=whole(2), default=30, help="(%(default)s)")
    add("--k2", type=whole(1), default=6, help="(%(default)s)")
    add("--eps", type=fraction(between(0, 1)), default=0.6, help="(%(default)s)")
    add("--min-samples", type=whole(1), default=4, help="(%(default)s)")
    add("--seed", type=whole(0), default=0, help="of the features (%(default)s)")


def _prepare(job: Job) -> tuple[Job, np.ndarray]:
    """Load the features, and run both codes once on few of them: neither compiling nor loading is measured."""
    features = np.load(Path(job.folder) / "features.npy")
    cluster(features[:WARM_UP], search=job.search)
    return job, features


def _ours(prepared: tuple[Job, np.ndarray]) -> Clustering:
    job, features = prepared
    return cluster(features, **job.settings, search=job.search)


def _after_ours(prepared: tuple[Job, np.ndarray], result: Clustering) -> Clustering:
    """Leave some near pairs with their distances for the reference to compare."""
    from mgot.clustering.jaccard import pairs_within
    from mgot.neighbours.encoding import encode, expand
    from mgot.neighbours.features import check_features
    from mgot.neighbours.search import nearest

    job, features = prepared
    checked = check_features(features)
    neighbours = nearest(checked, job.settings["k1"], job.search)
    weights = encode(checked, neighbours, int(np.around(job.settings["k1"] / 2)) + 1)
    rows, columns, distances = [], [], []
    for pairs in pairs_within(expand(weights, neighbours, job.settings["k2"]), 0.95):
        rows.append(pairs.first + np.repeat(np.arange(len(pairs.ends)), np.diff(pairs.ends, prepend=0)))
        columns.append(pairs.columns)
        distances.append(pairs.distances)
    found = np.concatenate(distances)
    chosen = np.random.default_rng(0).permutation(len(found))[:COMPARED_PAIRS]
    np.savez(
        Path(job.folder) / "pairs.npz",
        rows=np.concatenate(rows)[chosen],
        columns=np.concatenate(columns)[chosen],
        distances=found[chosen],
    )
    return result


def _prepare_dense(job: Job) -> tuple[Job, np.ndarray]:
    from benchmarks._dense import dense_pseudo_labels

    features = np.load(Path(job.folder) / "features.npy")
    dense_pseudo_labels(features[:WARM_UP], **job.settings)
    return job, features


def _dense(prepared: tuple[Job, np.ndarray]) -> Any:
    from benchmarks._dense import dense_pseudo_labels

    job, features = prepared
    return dense_pseudo_labels(features, **job.settings)


def _after_dense(prepared: tuple[Job, np.ndarray], result: Any) -> tuple[np.ndarray, dict[str, float], float]:
    with np.load(Path(prepared[0].folder) / "pairs.npz") as pairs:
        gap = np.abs(result.distances[pairs["rows"], pairs["columns"]] - pairs["distances"]).max()
    return result.labels, result.seconds, float(gap)


def _nothing(_: Any, result: Any) -> Any:
    return result


def product_rates(dimension: int) -> dict[str, float]:
    """Measured GFLOP/s of matrix products here, in float32 and bfloat16."""
    rates = {}
    for name in ("float32", "bfloat16"):
        a = torch.randn(PRODUCT, dimension).to(getattr(torch, name))
        _ = a @ a.T
        seconds = []
        for _ in range(5):
            start = perf_counter()
            _ = a @ a.T
            seconds.append(perf_counter() - start)
        rates[name] = 2 * PRODUCT**2 * dimension / min(seconds) / 1e9
    return rates


def _print_stages(name: str, seconds: dict[str, float], measured: Measured) -> None:
    stages = "  ".join(f"{stage} {value:.2f}" for stage, value in seconds.items())
    device = f" and {measured.device_gb:.2f} GB on the GPU" if measured.device_gb else ""
    print(f"  {name}: {measured.seconds:.2f} s, peak {measured.peak_gb:.3f} GB above the features{device}  ({stages})")


def _run_one(n: int, args: argparse.Namespace) -> dict[str, Any]:
    settings = {name: getattr(args, name) for name in ("k1", "k2", "eps", "min_samples")}
    difficulty = DIFFICULTIES[args.difficulty]
    features, identities = generate(n, args.dim, difficulty, per_identity=args.per_identity, seed=args.seed)
    print(f"N = {n:,}, D = {args.dim}, {args.difficulty}: {describe(features, identities)}; {difficulty}")
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "features.npy", features)
        del features
        job = Job(folder, settings, args.search)
        after = _after_ours if args.against else _nothing
        ours = in_fresh_process(_prepare, _ours, after, job)
        found: Clustering = ours.result
        outliers = float((found.labels < 0).mean())
        _print_stages("ours ", found.seconds, ours)
        print(f"  {found.n_clusters:,} clusters, {100 * outliers:.1f}% outliers")
        row: dict[str, Any] = {
            "n": n,
            "dim": args.dim,
            "difficulty": args.difficulty,
            "seconds": ours.seconds,
            "peak_gb": ours.peak_gb,
            "device_gb": ours.device_gb,
            "stages": found.seconds,
            "clusters": found.n_clusters,
            "outliers": outliers,
        }
        if args.against:
            row |= _compare(in_fresh_process(_prepare_dense, _dense, _after_dense, job), ours)
    return row


def _compare(reference: Measured, ours: Measured) -> dict[str, Any]:
    labels, stages, gap = reference.result
    reference = reference._replace(seconds=reference.seconds - stages["order"])
    _print_stages("dense", stages, reference)
    differing = int((labels != ours.result.labels).sum())
    memory = ours.peak_gb / max(reference.peak_gb, PAGE_GB)
    ratios = {"time_ratio": ours.seconds / reference.seconds, "memory_ratio": memory}
    print(f"  ours / dense: time {ratios['time_ratio']:.3f}, memory {ratios['memory_ratio']:.3f}")
    print(f"  labels {'identical' if differing == 0 else f'differ in {differing} rows'}; distances within {gap:.1e}")
    return {**ratios, "identical": differing == 0, "distance_gap": gap}


def _print_floor(n: int, dimension: int, row: dict[str, Any]) -> None:
    rates = product_rates(dimension)
    best = max(rates, key=lambda name: rates[name])
    floor = n * n * dimension / rates[best] / 1e9
    listed = ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in rates.items())
    print(
        f"  floor: N^2 D = {n * n * dimension / 1e12:.2f} TFLOP of products, half of 2 N^2 D by symmetry; {listed}: "
        f"{floor:.2f} s, {100 * floor / row['seconds']:.0f}% of our total"
    )
    row["floor_seconds"] = floor


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure each N; the row of the last, and all of them under `rows` where there are several."""
    if args.k2 > args.k1:
        raise UserError(f"--k2 must be between 1 and --k1 ({args.k1}), not {args.k2}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"{torch.get_num_threads()} threads; GPU: {gpu}")
    rows = []
    for n in args.n:
        rows.append(_run_one(n, args))
        if not torch.cuda.is_available():
            _print_floor(n, args.dim, rows[-1])
    return rows[-1] | ({"rows": rows} if len(rows) > 1 else {})
