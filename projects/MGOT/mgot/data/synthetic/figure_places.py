"""Where figures are seen: a shop, a platform, a yard and a gate, and the six cameras that look there. [ours]

As with the walkers, cameras 1, 2, 4 and 5 are visible, 3 and 6 infrared, and 2 and 3 look at the same place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from mgot.data.synthetic.camera import CameraModel
from mgot.data.synthetic.materials import BANDS, painted

FIGURE_CAMERAS: dict[int, CameraModel] = {
    1: CameraModel("shop", False, (1.12, 0.98, 0.80), 1.00, 0.2, 0.025),
    2: CameraModel("platform", False, (0.90, 1.02, 1.06), 0.95, -0.6, 0.020),
    3: CameraModel("platform", True, (1.0, 1.0, 1.0), 1.05, 0.0, 0.022),
    4: CameraModel("yard", False, (1.03, 1.00, 0.96), 1.15, -0.4, 0.020),
    5: CameraModel("gate", False, (0.94, 0.97, 1.10), 0.85, 0.5, 0.030),
    6: CameraModel("gate", True, (1.0, 1.0, 1.0), 0.95, 0.0, 0.020),
}


# How much of a place's own contrast is left, by band: figures must differ by their clothes, not by the bricks behind
# them.
CALM = np.array([0.7, 0.7, 0.7, 0.35])


def make_place(place: str, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A panorama (height, width, 4) of one place, in reflectance. Raises KeyError on an unknown place."""
    scene = np.empty((height, width, BANDS))
    scene[:] = 0.35 * painted(rng) + 0.3
    _PLACES[place](scene, rng, height / 128.0)
    grain = ndimage.gaussian_filter(rng.standard_normal((height, width)), 1.5 * height / 128.0)
    scene *= 1.0 + 0.08 * grain[..., None] / max(float(grain.std()), 1e-6)
    scene = np.clip(ndimage.gaussian_filter(scene, (0.5, 0.5, 0)), 0.02, 0.98)
    mean = scene.mean(axis=(0, 1))
    return (mean + CALM * (scene - mean)).astype(np.float32)


def _shop(scene: np.ndarray, rng: np.random.Generator, unit: float) -> None:
    """Shelves of boxes down to a shining floor."""
    height, width = scene.shape[:2]
    shelf = int(22 * unit)
    floor = int(0.78 * height)
    for top in range(0, floor - shelf // 2, shelf):
        left = 0
        while left < width:
            span = int(rng.uniform(4, 14) * unit) + 1
            tall = int(rng.uniform(0.45, 0.85) * shelf)
            scene[top + shelf - tall : top + shelf, left : left + span] = 0.55 * painted(rng) + 0.2
            left += span + int(rng.integers(0, 2))
        scene[top + shelf - max(1, int(2 * unit)) : top + shelf] = 0.75
    shine = np.linspace(0.9, 1.25, height - floor)[:, None, None]
    scene[floor:] = np.clip((0.25 * painted(rng) + 0.5) * shine, 0.0, 0.98)


def _platform(scene: np.ndarray, rng: np.random.Generator, unit: float) -> None:
    """A train with windows behind a platform with a yellow edge, and pillars."""
    height, width = scene.shape[:2]
    edge, side = int(0.7 * height), int(0.14 * height)
    scene[side:edge] = 0.6 * painted(rng) + 0.15
    for left in range(int(rng.integers(10)), width, int(30 * unit) + 1):
        scene[int(0.22 * height) : int(0.42 * height), left : left + int(20 * unit)] = 0.1
    scene[int(0.5 * height) : int(0.54 * height)] = 0.7 * painted(rng) + 0.1
    scene[edge:] = 0.2 * painted(rng) + 0.35
    scene[edge : edge + max(1, int(4 * unit))] = (0.9, 0.8, 0.2, 0.7)
    for left in rng.integers(width, size=max(1, int(width / (120 * unit)))):
        scene[:edge, left : left + int(9 * unit) + 1] = 0.6


def _yard(scene: np.ndarray, rng: np.random.Generator, unit: float) -> None:
    """A brick wall over gravel."""
    height, width = scene.shape[:2]
    foot = int(0.62 * height)
    rows, columns = np.mgrid[:height, :width]
    course = rows // max(2, int(6 * unit))
    across = columns + (course % 2) * int(7 * unit)
    brick = across // max(2, int(14 * unit))
    shade = rng.uniform(0.75, 1.25, size=(int(course.max()) + 1, int(brick.max()) + 1))[course, brick]
    mortar = (rows % max(2, int(6 * unit)) == 0) | (across % max(2, int(14 * unit)) == 0)
    scene[:] = np.array([0.55, 0.3, 0.22, 0.5]) * shade[..., None]
    scene[mortar] = 0.6
    stones = ndimage.gaussian_filter(rng.standard_normal((height, width)), 1.2 * unit)
    scene[foot:] = (0.45 + 0.16 * stones / stones.std())[foot:, :, None]


def _gate(scene: np.ndarray, rng: np.random.Generator, unit: float) -> None:
    """Bars before the sky, and a road with marks."""
    height, width = scene.shape[:2]
    foot = int(0.56 * height)
    scene[:foot] = np.linspace(0.85, 0.5, foot)[:, None, None] * np.array([0.8, 0.95, 1.1, 0.45])
    hedge = ndimage.gaussian_filter(rng.standard_normal(width), 9.0 * unit, mode="wrap")
    level = foot - (10 + 7 * hedge / hedge.std()) * unit
    scene[(np.arange(height)[:, None] > level) & (np.arange(height)[:, None] < foot)] = (0.2, 0.33, 0.14, 0.7)
    bar = painted(rng) * 0.5 + 0.05
    for left in range(0, width, int(11 * unit) + 1):
        scene[int(0.2 * height) : foot, left : left + max(1, int(2 * unit))] = bar
    scene[int(0.24 * height) : int(0.26 * height) + 1] = bar
    scene[foot:] = 0.28
    for left in range(int(rng.integers(20)), width, int(40 * unit) + 1):
        scene[int(0.8 * height) : int(0.85 * height), left : left + int(22 * unit)] = 0.8


_PLACES: dict[str, Callable[[np.ndarray, np.random.Generator, float], None]] = {
    "shop": _shop,
    "platform": _platform,
    "yard": _yard,
    "gate": _gate,
}
