"""images.json and rankings.json: which images a run's records speak of, and what some queries found."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mgot.analysis.diagnostics.record import FOLDER
from mgot.data.items import Item, cameras, identities
from mgot.evaluation.protocols import DROP_RULES, Protocol
from mgot.files import write_atomically

LIBRARIES = (
    "mgot",
    "fastreid",
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "POT",
    "faiss-cpu",
    "faiss-gpu",
)
QUERIES = 12
DEPTH = 10
_SEED = 0


def relative_path(path: str, root: str) -> str:
    """A path under the data root, with forward slashes; one outside of it as it is."""
    relative = os.path.relpath(path, root)
    return path if relative.startswith("..") else Path(relative).as_posix()


def write_images(run: Path, root: str, visible: Sequence[Item], infrared: Sequence[Item]) -> None:
    """Write the training images of both modalities, in the order of the records' labels, and versions."""
    content: dict[str, Any] = {"root": root, "versions": versions()}
    for name, items in (("visible", visible), ("infrared", infrared)):
        content[name] = {
            "paths": [relative_path(item.path, root) for item in items],
            "identities": [int(item.identity) for item in items],
        }
    _write(run / FOLDER / "images.json", content)


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that a run's figures depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def add_rankings(run: Path, stage: str, rankings: Sequence[dict[str, Any]]) -> None:
    """Put the rankings of a stage beside those of others, in place of earlier ones of that stage."""
    path = run / FOLDER / "rankings.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    _write(path, {**content, stage: list(rankings)})


def rank_some(
    protocol: Protocol,
    pool: Sequence[Item],
    features: np.ndarray,
    root: str,
    *,
    queries: int = QUERIES,
    depth: int = DEPTH,
) -> dict[str, Any]:
    """What a few queries find in the protocol's first gallery.

    The queries are drawn by a fixed seed among those that see a true match, so that they are the same at every scoring.

    Args:
        protocol: says who searches what, and what does not count.
        pool: (N,) test images.
        features: (N, D) floats; L2-normalised here.
        root: the data root, which paths are told from.
        queries: how many at most.
        depth: gallery images of each.

    Returns:
        "protocol" and "queries": each with "path", "identity", "camera" and "found", its nearest gallery images first,
        each with "path", "identity", "camera", "distance" (1 - cosine) and "right".
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    ids, cams = identities(pool), cameras(pool)
    trial, rule = protocol.trials[0], DROP_RULES[protocol.drop]
    gallery = trial.gallery

    def hidden(query: int) -> np.ndarray:
        return rule(ids[query, None], cams[query, None], ids[gallery], cams[gallery])

    def told(index: int) -> dict[str, Any]:
        path = relative_path(pool[index].path, root)
        return {"path": path, "identity": int(ids[index]), "camera": int(cams[index])}

    lists: list[dict[str, Any]] = []
    for query in np.random.default_rng(_SEED).permutation(trial.query):
        if len(lists) == queries:
            break
        seen = gallery[~hidden(query)]
        if not (ids[seen] == ids[query]).any():
            continue
        distances = 1.0 - unit[seen] @ unit[query]
        nearest = np.argsort(distances, kind="stable")[:depth]
        found = [
            {**told(seen[n]), "distance": round(float(distances[n]), 4), "right": bool(ids[seen[n]] == ids[query])}
            for n in nearest
        ]
        lists.append({**told(query), "found": found})
    return {"protocol": protocol.name, "queries": lists}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content) + "\n")
