"""Features in the form that every later step uses, and the definition of the similarity of two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from mgot.compiled import compiled, over_rows
from mgot.errors import UserError

NAMED_ROWS = 5


class Features(NamedTuple):
    """Checked features.

    Attributes:
        rows: (N, D) float32, contiguous, of any length.
        norms: (N,) float64, their lengths, all positive and finite.
    """

    rows: np.ndarray
    norms: np.ndarray


@compiled(fastmath={"reassoc", "contract"})
def dot(a: np.ndarray, b: np.ndarray) -> float:
    """sum_d a_d b_d of two float32 vectors in double, in vector lanes; the order is the same for (a, b) and (b, a)."""
    total = 0.0
    for d in range(a.shape[0]):
        total += np.float64(a[d]) * np.float64(b[d])
    return total


@compiled()
def cosine(a: Features, i: int, b: Features, j: int) -> np.float32:
    """cos(a_i, b_j) = a_i . b_j / (|a_i| |b_j|), computed in double and rounded to single.

    Another order of the sum in double gives the same single, and equal rows have equal similarities. So the order of
    neighbours does not depend on the blocks of a matrix product.
    """
    return np.float32(dot(a.rows[i], b.rows[j]) / (a.norms[i] * b.norms[j]))


@compiled()
def _norms(rows: np.ndarray, norms: np.ndarray, start: int, stop: int) -> None:
    for i in range(start, stop):
        norms[i] = np.sqrt(dot(rows[i], rows[i]))


def check_features(features: np.ndarray | torch.Tensor, names: Sequence[str] | None = None) -> Features:
    """Features with their lengths, checked.

    Args:
        features: (N, D), N and D at least 1, torch (any device, with or without gradient) or numpy, of a real type.
            Contiguous float32 on the CPU is not copied.
        names: (N,), names of the rows in errors, such as the paths of the images.

    Raises:
        UserError: not a matrix, nothing in it, rows that are NaN, infinite or zero (which have no direction).
    """
    if isinstance(features, torch.Tensor):
        features = features.detach().to("cpu", torch.float32).numpy()
    rows = np.ascontiguousarray(features, dtype=np.float32)
    if rows.ndim != 2 or 0 in rows.shape:
        raise UserError(f"features must be (N, D) with N and D at least 1, not of shape {rows.shape}")
    norms = np.empty(len(rows))
    over_rows(lambda start, stop: _norms(rows, norms, start, stop), len(rows))
    _refuse(~np.isfinite(norms), "NaN or infinite", "lower the learning rate or switch mixed precision off", names)
    _refuse(norms == 0, "zero", "a zero vector cannot be compared; check the network's last layer", names)
    return Features(rows, norms)


def _refuse(bad: np.ndarray, what: str, remedy: str, names: Sequence[str] | None) -> None:
    count = int(bad.sum())
    if count == 0:
        return
    shown = [str(names[i]) if names is not None else str(i) for i in np.flatnonzero(bad)[:NAMED_ROWS]]
    more = f" and {count - NAMED_ROWS} more" if count > NAMED_ROWS else ""
    kind = "features of" if names is not None else "features in rows"
    raise UserError(f"{what} {kind} {', '.join(shown)}{more} (of {len(bad)}): {remedy}")
