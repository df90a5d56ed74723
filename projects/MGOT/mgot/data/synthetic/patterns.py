"""The share of the accent's material at each point of a garment, in [0, 1]."""

from __future__ import annotations

import numpy as np

from mgot.data.synthetic.people import Pattern


def _wave(coordinate: np.ndarray, pattern: Pattern, sharpness: float = 5.0) -> np.ndarray:
    """A square wave with soft edges, one period per `pattern.period`, high for a share `duty`."""
    cosine = np.cos(2.0 * np.pi * (coordinate / pattern.period + pattern.phase))
    edge = np.cos(np.pi * pattern.duty)
    return np.clip(0.5 + 0.5 * sharpness * (cosine - edge), 0.0, 1.0)


def accent_share(pattern: Pattern, u: np.ndarray, v: np.ndarray) -> np.ndarray | float:
    """The accent's share over cloth coordinates.

    u (...) runs across, -1 to 1 between the seams; v (...) runs down in the same unit, 0 at the collar.
    Raises ValueError on an unknown kind.
    """
    if pattern.kind == "plain":
        return 0.0
    if pattern.kind == "bands":
        return _wave(v, pattern)
    if pattern.kind == "pinstripes":
        return _wave(u, pattern)
    if pattern.kind == "checks":
        return 0.5 * (_wave(v, pattern) + _wave(u, pattern))
    if pattern.kind == "dots":
        return _dots(pattern, u, v)
    if pattern.kind == "block":
        return np.clip(0.5 + 6.0 * (v - 0.7 - 1.2 * pattern.phase), 0.0, 1.0)
    if pattern.kind == "yoke":
        return np.clip(0.5 + 6.0 * (0.35 + 0.6 * pattern.phase - v), 0.0, 1.0)
    if pattern.kind == "sash":
        slope = 1.0 if pattern.phase < 0.5 else -1.0
        return np.clip(0.5 + 6.0 * (0.35 * pattern.period + 0.1 - np.abs(v - 1.1 - slope * u) * 0.7), 0.0, 1.0)
    raise ValueError(f"unknown pattern {pattern.kind!r}: use one of people.PATTERNS")


def _dots(pattern: Pattern, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    row = np.floor(v / pattern.period)
    x = (u / pattern.period + 0.5 * row) % 1.0 - 0.5
    y = (v / pattern.period) % 1.0 - 0.5
    return np.clip(0.5 + 8.0 * (0.18 + 0.25 * pattern.duty - np.hypot(x, y)), 0.0, 1.0)


def logo_share(kind: str, u: np.ndarray, v: np.ndarray) -> np.ndarray | float:
    """The logo's share of the chest, same coordinates; centred at (0, 0.75). Raises ValueError on an unknown kind."""
    x, y = u, v - 0.75
    if kind == "none":
        return 0.0
    if kind == "disc":
        inside = 0.42 - np.hypot(x, y)
    elif kind == "ring":
        inside = 0.14 - np.abs(np.hypot(x, y) - 0.4)
    elif kind == "square":
        inside = 0.38 - np.maximum(np.abs(x), np.abs(y))
    elif kind == "bar":
        inside = np.minimum(0.75 - np.abs(x), 0.16 - np.abs(y))
    elif kind == "cross":
        inside = np.maximum(
            np.minimum(0.5 - np.abs(x), 0.14 - np.abs(y)), np.minimum(0.14 - np.abs(x), 0.5 - np.abs(y))
        )
    else:
        raise ValueError(f"unknown logo {kind!r}: use one of people.LOGOS")
    return np.clip(0.5 + 8.0 * inside, 0.0, 1.0)
