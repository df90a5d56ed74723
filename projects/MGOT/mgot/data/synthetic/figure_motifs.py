"""The share of the accent's material on a figure's cloth, in [0, 1].

u (...) runs across, -1 to 1 between the seams; v (...) runs down in the same unit, 0 at the collar.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mgot.data.synthetic.figures import Motif

_EDGE = 5.0
_PATCH_TABLE = 16


def _soft(inside: np.ndarray) -> np.ndarray:
    """0 to 1 across a soft edge where `inside`, in half-widths, changes sign."""
    return np.clip(0.5 + _EDGE * inside, 0.0, 1.0)


def _stripes(coordinate: np.ndarray, motif: Motif) -> np.ndarray:
    """Stripes of equal width along a coordinate, two to a `size`."""
    saw = np.abs((coordinate / motif.size + motif.phase) % 1.0 - 0.5)
    return _soft((saw - 0.25) * motif.size)


def _chevrons(motif: Motif, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _stripes(v - 0.9 * np.abs(u), motif)


def _waves(motif: Motif, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _stripes(v + 0.2 * np.sin(5.0 * u + 6.0 * motif.phase), motif)


def _lattice(motif: Motif, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = ((c / motif.size + shift) % 1.0 - 0.5 for c, shift in ((u, 0.5), (v, motif.phase)))
    return _soft((0.32 - np.abs(x) - np.abs(y)) * motif.size)


def _slashes(motif: Motif, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _stripes(v + (u if motif.phase < 0.5 else -u), motif)


def _patches(motif: Motif, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    table = np.random.default_rng(motif.cells).random((_PATCH_TABLE, _PATCH_TABLE)) < 0.5
    row, column = (np.floor(c / (0.6 * motif.size) + motif.phase).astype(int) % _PATCH_TABLE for c in (v, u))
    return table[row, column].astype(np.float32)


def _halves(motif: Motif, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _soft(u - 0.6 * (motif.phase - 0.5))


def _hoop(motif: Motif, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _soft(0.35 * motif.size - np.abs(v - 0.8 - 1.2 * motif.phase))


def _rings(motif: Motif, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _stripes(np.hypot(u, v - 1.2), motif)


_SHARES: dict[str, Callable[[Motif, np.ndarray, np.ndarray], np.ndarray]] = {
    "chevrons": _chevrons,
    "waves": _waves,
    "lattice": _lattice,
    "slashes": _slashes,
    "patches": _patches,
    "halves": _halves,
    "hoop": _hoop,
    "rings": _rings,
}


def motif_share(motif: Motif, u: np.ndarray, v: np.ndarray) -> np.ndarray | float:
    """The accent's share over cloth coordinates; 0 for "plain". Raises ValueError on an unknown kind."""
    if motif.kind == "plain":
        return 0.0
    if motif.kind not in _SHARES:
        raise ValueError(f"unknown motif {motif.kind!r}: use one of figures.MOTIFS")
    return _SHARES[motif.kind](motif, u, v)
