"""Candidates found by other libraries: PyTorch on a device, faiss exact and approximate."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
from typing import Any

import numpy as np
import torch

from mgot.errors import UserError
from mgot.neighbours.exact import rounding_error
from mgot.neighbours.features import Features
from mgot.neighbours.ranking import Candidates, vouch

logger = logging.getLogger("mgot")

SPARE = 32
SPARE_LOW = 128
DEVICE_SCORES_AT_ONCE = 1 << 27
ROWS_AT_ONCE = 1 << 14
TF32_ERROR = 2.0**-9  # of a product of two vectors: each entry may be cut to 10 bits, 2^-10 of it


def on_device(features: Features, k: int, device: str) -> Candidates:
    """Candidates by matrix products of PyTorch, on any device.

    The features are centred as in `symmetric.centre`. The user may have set PyTorch to TF32, so the error bound
    includes it. Device memory: 4 N D bytes and about 1.5 GB.
    """
    total, dimension = features.rows.shape
    x = torch.from_numpy(features.rows).to(device, copy=True)
    x /= torch.from_numpy(features.norms).to(device)[:, None]
    x -= sum(part.sum(dim=0, dtype=torch.float64) for part in x.split(ROWS_AT_ONCE)) / total
    length = torch.cat([part.double().norm(dim=1) for part in x.split(ROWS_AT_ONCE)])
    half_squares = (length**2 / 2).float()
    error = (TF32_ERROR + rounding_error(dimension)) * length * length.max() + 2.0**-19
    wide = min(total, k + 1 + SPARE_LOW)
    index = np.empty((total, wide), dtype=np.int32)
    rough = np.empty((total, wide), dtype=np.float32)
    block = max(1, DEVICE_SCORES_AT_ONCE // total)
    for start in range(0, total, block):
        part = slice(start, start + block)
        best = (x[part] @ x.T).sub_(half_squares).topk(wide, dim=1)
        index[part] = best.indices.int().cpu().numpy()
        rough[part] = (1 + best.values - half_squares[part, None]).cpu().numpy()
    return vouch(index, rough, error.float().cpu().numpy(), k, complete=wide == total)


def require_faiss(asked_by: str, remedy: str = "") -> Any:
    """The module faiss, from faiss-cpu or faiss-gpu.

    If neither is installed, UserError; the message names ``asked_by``.

    If both are installed, there is one warning: they overwrite each other's files.
    """
    try:
        import faiss
    except ImportError:
        raise UserError(
            f"{asked_by}: faiss is not installed: type `pip install faiss-cpu`, or on a GPU `pip install faiss-gpu`"
            f"{remedy}"
        ) from None
    _warn_of_two()
    return faiss


@functools.cache
def _warn_of_two() -> None:
    installed = {
        (found.metadata["Name"] or "").lower().replace("_", "-") for found in importlib.metadata.distributions()
    }
    if {"faiss-cpu", "faiss-gpu"} <= installed:
        logger.warning(
            "faiss-cpu and faiss-gpu are both installed, and one has overwritten the other: type "
            "`pip uninstall -y faiss-cpu faiss-gpu`, then install the one that you want"
        )


def _faiss(key: str) -> Any:
    return require_faiss(f"search = {key}", ", or choose search = auto, which does not need it")


def _unit_rows(features: Features) -> np.ndarray:
    return np.divide(features.rows, features.norms[:, None], out=np.empty_like(features.rows), casting="same_kind")


def _search(index: Any, rows: np.ndarray, wide: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [index.search(rows[i : i + ROWS_AT_ONCE], wide) for i in range(0, len(rows), ROWS_AT_ONCE)]
    return np.concatenate([part[1] for part in parts]), np.concatenate([part[0] for part in parts])


def by_faiss(features: Features, k: int, gpu: bool = False) -> Candidates:
    """Candidates by faiss's flat inner product, on the CPU or on all GPUs."""
    faiss = _faiss("faiss-gpu" if gpu else "faiss")
    total, dimension = features.rows.shape
    index = faiss.IndexFlatIP(dimension)
    if gpu:
        if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
            raise UserError(
                "search = faiss-gpu: this faiss sees no GPU: replace faiss-cpu with faiss-gpu, or choose"
                " search = torch or auto"
            )
        index = faiss.index_cpu_to_all_gpus(index)
    rows = _unit_rows(features)
    index.add(rows)
    wide = min(total, k + 1 + SPARE)
    found, rough = _search(index, rows, wide)
    error = np.full(total, rounding_error(dimension), dtype=np.float32)
    return vouch(found, rough, error, k, complete=wide == total)


def by_cells(features: Features, k: int) -> Candidates:
    """Approximate candidates, from :func:`cell_index`."""
    rows = _unit_rows(features)
    return _unchecked(cell_index(rows), rows, k)


def cell_index(rows: np.ndarray) -> Any:
    """faiss's inverted file over unit rows (N, D): 4 sqrt(N) cells, of which 1/8 and at least 16 are searched."""
    faiss = _faiss("ivf")
    total, dimension = rows.shape
    cells = max(1, min(int(4 * np.sqrt(total)), total // 40))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 10
    index.nprobe = min(cells, max(16, cells // 8))
    index.train(rows)
    index.add(rows)
    return index


def by_graph(features: Features, k: int) -> Candidates:
    """Approximate candidates: faiss's hierarchical navigable small-world graph, 32 links a row."""
    faiss = _faiss("hnsw")
    index = faiss.IndexHNSWFlat(features.rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    index.hnsw.efSearch = 4 * (k + 1)
    rows = _unit_rows(features)
    index.add(rows)
    return _unchecked(index, rows, k)


def _unchecked(index: Any, rows: np.ndarray, k: int) -> Candidates:
    found, rough = _search(index, rows, min(len(rows), k + 1 + SPARE))
    return vouch(found, rough, np.full(len(rows), 1.0, dtype=np.float32), k, complete=True)
