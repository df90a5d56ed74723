"""A small software painter: soft-edged shapes that paint reflectance, with the cloth coordinates of each point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mgot.data.synthetic.materials import BANDS


class Patch(NamedTuple):
    """A shape on the canvas: its window, and for each point of it, (h, w): coverage in [0, 1], cloth coordinates u, v.

    u runs across, -1 to 1 between the shape's edges; v runs down from its start, in half-widths of the shape.
    """

    window: tuple[slice, slice]
    coverage: np.ndarray
    u: np.ndarray
    v: np.ndarray


class Canvas:
    """Reflectance (height, width, 4) and relief (height, width; 1 = lit straight on), both float32."""

    def __init__(self, backdrop: np.ndarray) -> None:
        self.reflectance = backdrop.astype(np.float32).copy()
        self.height, self.width = backdrop.shape[:2]
        self.relief = np.ones((self.height, self.width), dtype=np.float32)
        self.body = np.zeros((self.height, self.width), dtype=np.float32)
        self._y, self._x = np.mgrid[: self.height, : self.width].astype(np.float32)

    def _window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        rows = slice(max(0, int(top) - 1), max(0, min(self.height, int(bottom) + 2)))
        columns = slice(max(0, int(left) - 1), max(0, min(self.width, int(right) + 2)))
        return rows, columns

    def profile(
        self, centre: float, top: float, bottom: float, shape: list[tuple[float, float]], lean: float = 0.0
    ) -> Patch:
        """An upright shape given by half-widths: `shape` lists (share of the way down, half-width in pixels)."""
        stops, widths = zip(*shape, strict=True)
        reach = max(widths) + abs(lean) * (bottom - top)
        window = self._window(centre - reach, top, centre + reach, bottom)
        x, y = self._x[window], self._y[window]
        down = (y[:, :1] - top) / max(bottom - top, 1e-6)
        half = np.interp(down, stops, widths).astype(np.float32)
        across = x - (centre + lean * (y - top))
        edge = np.minimum(np.minimum(y - top, bottom - y) + 0.5, half - np.abs(across) + 0.5)
        mean_half = max(float(np.max(widths)), 1e-6)
        return Patch(window, np.clip(edge, 0.0, 1.0), across / np.maximum(half, 0.5), (y - top) / mean_half)

    def limb(self, start: tuple[float, float], end: tuple[float, float], radius: float, end_radius: float) -> Patch:
        """A tapered capsule between two points (x, y)."""
        (x0, y0), (x1, y1) = start, end
        reach = max(radius, end_radius)
        window = self._window(min(x0, x1) - reach, min(y0, y1) - reach, max(x0, x1) + reach, max(y0, y1) + reach)
        x, y = self._x[window] - x0, self._y[window] - y0
        length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
        along = (x * (x1 - x0) + y * (y1 - y0)) / length
        across = (x * (y1 - y0) - y * (x1 - x0)) / length
        share = np.clip(along / length, 0.0, 1.0)
        local = radius + (end_radius - radius) * share
        distance = np.hypot(across, along - share * length)
        return Patch(window, np.clip(local - distance + 0.5, 0.0, 1.0), across / np.maximum(local, 0.5), along / reach)

    def ellipse(self, centre: tuple[float, float], half_width: float, half_height: float) -> Patch:
        """An upright ellipse."""
        cx, cy = centre
        window = self._window(cx - half_width, cy - half_height, cx + half_width, cy + half_height)
        u, v = (self._x[window] - cx) / half_width, (self._y[window] - cy) / half_height
        edge = (1.0 - np.hypot(u, v)) * min(half_width, half_height)
        return Patch(window, np.clip(edge + 0.5, 0.0, 1.0), u, v + 1.0)

    def paint(
        self, patch: Patch, reflectance: np.ndarray, *, round_off: float = 0.35, gain: np.ndarray | float = 1.0
    ) -> None:
        """Paint `reflectance` ((4,) or (h, w, 4)) over the patch; `round_off` darkens it towards its sides."""
        if patch.coverage.size == 0:
            return
        cover = patch.coverage
        layer = self.reflectance[patch.window]
        layer += cover[..., None] * (
            np.asarray(reflectance, dtype=np.float32).reshape(*_shape(reflectance), BANDS) - layer
        )
        relief = self.relief[patch.window]
        lit = (1.0 - round_off * np.clip(np.abs(patch.u), 0.0, 1.0) ** 2 + 0.12 * np.clip(patch.u, -1.0, 1.0)) * gain
        relief += cover * (lit - relief)
        body = self.body[patch.window]
        np.maximum(body, cover, out=body)


def _shape(reflectance: np.ndarray) -> tuple[int, ...]:
    return (1, 1) if reflectance.ndim == 1 else reflectance.shape[:2]
