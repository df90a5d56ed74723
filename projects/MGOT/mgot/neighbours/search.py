"""k nearest neighbours by cosine similarity: several ways to find candidates, and one exact ranking of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch

from mgot.errors import UserError
from mgot.neighbours.exact import search_rows
from mgot.neighbours.external import by_cells, by_faiss, by_graph, on_device
from mgot.neighbours.features import Features
from mgot.neighbours.ranking import EMPTY, Candidates, Neighbours, rank
from mgot.neighbours.symmetric import candidates as symmetric

logger = logging.getLogger(__name__)

SAMPLE = 1000
APPROXIMATE = ("ivf", "hnsw")


def _torch_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


SEARCHES: dict[str, Callable[[Features, int], Candidates]] = {
    "symmetric": symmetric,
    "torch": lambda features, k: on_device(features, k, _torch_device()),
    "faiss": by_faiss,
    "faiss-gpu": lambda features, k: by_faiss(features, k, gpu=True),
    "ivf": by_cells,
    "hnsw": by_graph,
}


def nearest(features: Features, k: int, search: str = "auto") -> Neighbours:
    """The k nearest rows of each row by `features.cosine`, itself first, equal ones by ascending index.

    All backends except the approximate ones return the same neighbours, for any precision. They give candidates with an
    error bound, which are ranked by exact cosines. If the bound is not enough for a row, it is compared with all rows.
    The recall of the approximate ones is measured on a sample of rows and logged.

    Args:
        features: (N, D).
        k: 1 .. N.
        search: "symmetric", half of the similarity matrix on the CPU, in bfloat16 if that is faster; "torch", on the
            GPU if there is one; "faiss" and "faiss-gpu", the flat index of faiss; "ivf" and "hnsw", its approximate
            indices, for sets above some hundred thousand rows; "auto", torch with a GPU, otherwise symmetric.

    Raises:
        UserError: no such backend, or the library that it needs is missing.
    """
    total = len(features.norms)
    if search == "auto":
        search = "torch" if torch.cuda.is_available() else "symmetric"
    if search not in SEARCHES:
        raise UserError(f"search = {search}: no such backend; choose auto, {', '.join(SEARCHES)}")
    if k == 1:
        return Neighbours(np.arange(total, dtype=np.int32)[:, None], np.ones((total, 1), dtype=np.float32))
    candidates = SEARCHES[search](features, k - 1)
    neighbours = rank(features, candidates, k)
    missing = np.flatnonzero(candidates.held == EMPTY)
    del candidates
    if len(missing):
        logger.info(
            "%d of %d rows have too many near neighbours for low precision: searched again", len(missing), total
        )
        found = search_rows(features, None, missing, k)
        neighbours.ids[missing], neighbours.similarity[missing] = found
    if search in APPROXIMATE:
        share = recall(features, neighbours)
        logger.info("search = %s finds %.2f%% of the %d nearest (%d rows)", search, 100 * share, k, min(SAMPLE, total))
    return neighbours


def nearest_of_each(features: Features, side: np.ndarray, k: int, search: str = "auto") -> Neighbours:
    """The k / 2 nearest rows of each row's own side and the k / 2 nearest of the other, by turns.

    Row i's list is i itself, the nearest of the other side, the nearest of its own, the second of the other, and so on.
    So every beginning of a list has as many of both sides, up to one. A list of k nearest rows of both sides together
    would have none of the other if one's own are more similar.

    Args:
        features: (N, D).
        side: (N,) bool, the side of each row; both must occur.
        k: at least 1; the lists are shorter where the smaller side has fewer rows than half of it.
        search: of the own side, as in :func:`nearest`. The other side is searched exactly.

    Returns:
        Lists of min(k, 2 n) rows, n the rows of the smaller side; not ordered by similarity.

    Raises:
        UserError: a side without rows, or not one entry for each row.
    """
    if side.shape != features.norms.shape or side.dtype != bool:
        raise UserError(f"side must be {len(features.norms)} times True or False, not {side.dtype} {side.shape}")
    sides = [np.flatnonzero(side == each) for each in (False, True)]
    if not all(map(len, sides)):
        raise UserError("neighbours of each side need rows of both sides")
    k = min(k, 2 * min(map(len, sides)))
    ids = np.empty((len(side), k), dtype=np.int32)
    similarity = np.empty((len(side), k), dtype=np.float32)
    parts = [Features(features.rows[rows], features.norms[rows]) for rows in sides]
    for own, other in ((0, 1), (1, 0)):
        found = [nearest(parts[own], (k + 1) // 2, search)]
        if k > 1:
            found.append(search_rows(parts[own], parts[other], np.arange(len(sides[own])), k // 2))
        for place, (rows, each) in enumerate(zip((sides[own], sides[other]), found, strict=False)):
            ids[sides[own], place::2] = rows[each.ids]
            similarity[sides[own], place::2] = each.similarity
    return Neighbours(ids, similarity)


def recall(features: Features, neighbours: Neighbours, seed: int = 0) -> float:
    """Share of the exact neighbours that are found, without the row itself, on SAMPLE rows drawn with the seed."""
    total, k = neighbours.ids.shape
    chosen = np.random.default_rng(seed).permutation(total)[:SAMPLE]
    exact = search_rows(features, None, chosen, k).ids
    hits = sum(len(np.intersect1d(a[1:], b[1:])) for a, b in zip(neighbours.ids[chosen], exact, strict=True))
    return hits / max(1, len(chosen) * (k - 1))
