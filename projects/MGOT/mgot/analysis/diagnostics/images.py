"""images.json and rankings.json: which images a run's records are about, and what some queries found."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgot.analysis.diagnostics.record import FOLDER, RANKINGS
from mgot.data.items import Item, cameras, identities
from mgot.errors import UserError, reason
from mgot.evaluation.expand import normalised
from mgot.evaluation.one_search import score_queries
from mgot.evaluation.protocols import DROP_RULES, Protocol
from mgot.evaluation.roc import roc_curve, thinned
from mgot.files import require_regular, write_atomically
from mgot.forms import fits, flag, number, parsed, share, text, whole

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


def _one_by_one(modality: Any) -> bool:
    form = {"paths": [text], "identities": [whole]}
    return fits(modality, form) and len(modality["paths"]) == len(modality["identities"])


def _curve(roc: Any) -> bool:
    rates = fits(roc, {"fpr": [share], "tpr": [share]}) and len(roc["fpr"]) == len(roc["tpr"])
    return rates and any(rate > 0 for rate in roc["fpr"])


_FOUND = {"path": text, "identity?": whole, "camera?": whole}
_HIT = {**_FOUND, "distance": number, "right": flag}
_QUERY = {**_FOUND, "ap?": number, "found": [_HIT]}
_RANKING = {"protocol": text, "queries": [_QUERY], "worst?": [_QUERY], "roc?": _curve}
_IMAGES = {"root?": text, "versions?": {...: text}, "visible": _one_by_one, "infrared": _one_by_one}
_RANKINGS = {...: lambda rankings: bool(rankings) and fits(rankings, [_RANKING])}


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


def read_images(run: Path) -> dict[str, Any]:
    """What :func:`write_images` wrote.

    Raises:
        UserError: the file is missing or is not what a run writes.
    """
    return _read(run / FOLDER / "images.json", _IMAGES)


def read_rankings(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Stage -> rankings, one a protocol, in the order of the stages; {} where there is no such file.

    Raises:
        UserError: the file is not what a run writes.
    """
    path = run / FOLDER / RANKINGS
    return _read(path, _RANKINGS) if path.is_file() else {}


def _read(path: Path, form: Any) -> Any:
    try:
        require_regular(path)
        content = parsed(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): it comes with the records of a run") from None
    if not fits(content, form):
        raise UserError(f"{path} cannot be read (other JSON than a run writes): it comes with the records of a run")
    return content


def add_rankings(run: Path, stage: str, rankings: Sequence[dict[str, Any]]) -> None:
    """Put the rankings of a stage beside those of others, in place of earlier ones of that stage."""
    _write(run / FOLDER / RANKINGS, {**read_rankings(run), stage: list(rankings)})


def rank_some(
    protocol: Protocol,
    pool: Sequence[Item],
    features: np.ndarray,
    root: str,
    *,
    queries: int = QUERIES,
    depth: int = DEPTH,
    roc: bool = False,
) -> dict[str, Any]:
    """What a few queries find in the protocol's first gallery, and those that find their person worst.

    The few are drawn with a fixed seed from the queries that have a true match, so they are the same at every scoring.

    Args:
        protocol: says who searches what, and what does not count.
        pool: (N,) test images.
        features: (N, D) floats; L2-normalised here.
        root: the data root; paths are relative to it.
        queries: how many of each kind at most.
        depth: gallery images of each.
        roc: also give the ROC curve of this search.

    Returns:
        "protocol"; "queries", and "worst", those of the smallest average precision, smallest first: each with "path",
        "identity", "camera", "ap" in percent and "found", its nearest gallery images first, each with "path",
        "identity", "camera", "distance" (1 - cosine) and "right". With ``roc`` "roc", a curve's "fpr" and "tpr".
    """
    search = _first_search(protocol, pool, features)
    precision = score_queries(-search.cosines, *search.labels, drop=protocol.drop)[:, 1]

    def listed(chosen: np.ndarray) -> list[dict[str, Any]]:
        valid = [int(n) for n in chosen if precision[n] > 0][:queries]
        return [{**_ranking(search, n, pool, root, depth), "ap": round(100.0 * float(precision[n]), 2)} for n in valid]

    drawn = np.random.default_rng(_SEED).permutation(len(precision))
    worst = np.argsort(precision, kind="stable")
    content: dict[str, Any] = {"protocol": protocol.name, "queries": listed(drawn), "worst": listed(worst)}
    if roc:
        curve = thinned(roc_curve(-search.cosines, *search.labels, drop=protocol.drop))
        content["roc"] = {name: np.round(rates, 6).tolist() for name, rates in curve._asdict().items()}
    return content


class _Search(NamedTuple):
    """One search.

    Attributes:
        query, gallery: (N_q,) and (N_g,) indices into the pool.
        cosines: (N_q, N_g).
        labels: identities of queries and gallery, then cameras of queries and gallery.
        hidden: (N_q, N_g), what a query does not see.
    """

    query: np.ndarray
    gallery: np.ndarray
    cosines: np.ndarray
    labels: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    hidden: np.ndarray


def _first_search(protocol: Protocol, pool: Sequence[Item], features: np.ndarray) -> _Search:
    query, gallery = protocol.trials[0]
    unit, ids, cams = normalised(features), identities(pool), cameras(pool)
    labels = ids[query], ids[gallery], cams[query], cams[gallery]
    hidden = DROP_RULES[protocol.drop](labels[0][:, None], labels[2][:, None], labels[1], labels[3])
    cosines = unit[query] @ unit[gallery].T
    return _Search(query, gallery, cosines, labels, np.broadcast_to(hidden, cosines.shape))


def _ranking(search: _Search, n: int, pool: Sequence[Item], root: str, depth: int) -> dict[str, Any]:
    """The n-th query and its nearest gallery images, of those that it sees."""
    seen = np.flatnonzero(~search.hidden[n])
    nearest = seen[np.argsort(-search.cosines[n, seen], kind="stable")[:depth]]
    found = [
        {
            **_told(pool[search.gallery[g]], root),
            "distance": round(1.0 - float(search.cosines[n, g]), 4),
            "right": bool(search.labels[1][g] == search.labels[0][n]),
        }
        for g in nearest
    ]
    return {**_told(pool[search.query[n]], root), "found": found}


def _told(item: Item, root: str) -> dict[str, Any]:
    return {"path": relative_path(item.path, root), "identity": int(item.identity), "camera": int(item.camera)}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content) + "\n")
