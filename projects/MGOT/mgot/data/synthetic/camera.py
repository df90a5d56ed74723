"""Six cameras: backgrounds, light, and the way from reflectance to an eight-bit image.

Cameras 1, 2, 4, 5 see red, green and blue under room light or daylight; 3 and 6 see near-infrared under their own
lamp. 2 and 3 look at the same place, as in SYSU-MM01. A visible image is reflectance * relief * light * cast; an
infrared one is reflectance * sqrt(relief) * lamp, the lamp strongest at the centre and weak behind the person; both
then pass a tone curve, blur and noise. [ours]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mgot.data.synthetic.canvas import Canvas
from mgot.data.synthetic.materials import BANDS, INFRARED_BAND, painted
from mgot.data.synthetic.people import Pose, sample_pose

BLUR_RANGE = (0.35, 1.0)
# An infrared sensor's own look, the same in all its images: light that spreads in the glass, lines read out unevenly.
BLOOM = 0.25
LINES = 0.06


@dataclass(frozen=True)
class CameraModel:
    """The fixed traits of one camera: place, cast per band, exposure, light's side (-1 left, 1 right) and grain."""

    place: str
    infrared: bool
    cast: tuple[float, float, float]
    exposure: float
    side: float
    grain: float


CAMERAS: dict[int, CameraModel] = {
    1: CameraModel("corridor", False, (1.08, 1.00, 0.86), 1.05, -0.5, 0.020),
    2: CameraModel("hall", False, (0.92, 1.00, 1.08), 0.90, 0.4, 0.030),
    3: CameraModel("hall", True, (1.0, 1.0, 1.0), 1.00, 0.0, 0.020),
    4: CameraModel("street", False, (1.00, 1.00, 1.04), 1.10, 0.6, 0.015),
    5: CameraModel("park", False, (0.98, 1.06, 0.92), 0.80, -0.3, 0.025),
    6: CameraModel("park", True, (1.0, 1.0, 1.0), 1.10, 0.0, 0.024),
}


@dataclass(frozen=True)
class Nuisance:
    """How much of a person one image hides; 0 switches a part off.

    `wobble` scales how badly the person is framed, `light` exposure, shadow and cast, `noise` the grain and `blur` the
    blur's width; `occlusion` is the probability that something is in front.
    """

    wobble: float = 0.9
    light: float = 1.0
    occlusion: float = 0.22
    noise: float = 0.7
    blur: float = 1.0


def make_backdrop(place: str, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A panorama (height, width, 4) of one place, in reflectance; `rng` places the things."""
    unit = height / 128.0
    horizon = int(height * rng.uniform(0.5, 0.65))
    wall, floor = (painted(rng) * 0.4 + 0.3 for _ in range(2))
    scene = np.empty((height, width, BANDS))
    scene[:horizon], scene[horizon:] = wall, floor
    columns = np.arange(width)
    for _ in range(int(width / (22 * unit))):
        left, span = rng.integers(width), rng.uniform(4, 20) * unit
        top = int(horizon * rng.uniform(0.0, 0.6))
        foot = int(horizon * rng.uniform(0.9, 1.15)) if place != "corridor" else horizon
        inside = (columns - left) % width < span
        scene[top:foot, inside] = 0.6 * painted(rng) + 0.15
    if place in ("park", "street"):
        leaf = np.array([0.16, 0.34, 0.12, 0.75])
        field = ndimage.gaussian_filter(rng.standard_normal((height, width)), 5.0 * unit, mode="wrap")
        share = np.clip(field / field.std() * 2.0 - (0.0 if place == "park" else 2.4), 0.0, 1.0)[..., None]
        share[int(horizon * 1.1) :] *= 0.3
        scene += share * (leaf - scene)
    if place in ("hall", "corridor"):
        tile = (np.arange(height)[:, None] // (9 * unit) + columns[None, :] // (12 * unit)) % 2
        scene[horizon:] *= 0.85 + 0.3 * tile[horizon:, :, None]
    texture = ndimage.gaussian_filter(rng.standard_normal((height, width)), 0.8 * unit)
    scene *= 1.0 + 0.12 * texture[..., None] / max(float(texture.std()), 1e-6)
    return np.clip(ndimage.gaussian_filter(scene, (0.7 * unit, 0.7 * unit, 0)), 0.02, 0.98).astype(np.float32)


def take_picture(
    draw: Callable[[Canvas, Pose], object],
    camera: CameraModel,
    panorama: np.ndarray,
    rng: np.random.Generator,
    nuisance: Nuisance,
    width: int = 64,
) -> np.ndarray:
    """One image of whom `draw` paints in a pose: uint8 (panorama's height, width, 3), equal channels in infrared."""
    pose = sample_pose(rng, nuisance.wobble)
    left = int(rng.integers(panorama.shape[1] - width))
    canvas = Canvas(panorama[:, left : left + width])
    draw(canvas, pose)
    if rng.random() < nuisance.occlusion:
        _occlude(canvas, rng)
    image = (_infrared if camera.infrared else _visible)(canvas, camera, rng, nuisance)
    sigma = nuisance.blur * rng.uniform(*BLUR_RANGE) * canvas.height / 128.0
    if sigma > 0.0:
        image = ndimage.gaussian_filter(image, (sigma, sigma * rng.uniform(0.6, 1.6), 0), truncate=2.5)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + nuisance.noise * camera.grain * rng.uniform(0.5, 1.5) * noise
    pixels = np.rint(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if camera.infrared else pixels


def _visible(canvas: Canvas, camera: CameraModel, rng: np.random.Generator, nuisance: Nuisance) -> np.ndarray:
    light = camera.exposure * np.exp(nuisance.light * rng.normal(0.0, 0.22))
    ramp = 1.0 + nuisance.light * (camera.side + rng.normal(0.0, 0.3)) * 0.35 * np.linspace(-1.0, 1.0, canvas.width)
    fall = 1.0 + nuisance.light * rng.normal(0.0, 0.15) * np.linspace(-1.0, 1.0, canvas.height)
    cast = np.array(camera.cast) * np.exp(nuisance.light * rng.normal(0.0, 0.06, size=3))
    shade = (canvas.relief * ramp[None, :] * fall[:, None] * light).astype(np.float32)
    image = canvas.reflectance[..., :INFRARED_BAND] * shade[..., None] * cast.astype(np.float32)
    haze = np.float32(0.05 * nuisance.light * rng.random())
    return haze + (1.0 - haze) * np.clip(image, 0.0, 1.0) ** np.float32(np.exp(nuisance.light * rng.normal(0.0, 0.1)))


def _infrared(canvas: Canvas, camera: CameraModel, rng: np.random.Generator, nuisance: Nuisance) -> np.ndarray:
    lamp = 1.15 * camera.exposure * np.exp(nuisance.light * rng.normal(0.0, 0.10))
    x = np.linspace(-1.0, 1.0, canvas.width)[None, :] - nuisance.light * rng.normal(0.0, 0.12)
    y = np.linspace(-1.0, 1.0, canvas.height)[:, None] - nuisance.light * rng.normal(0.0, 0.12)
    spot = 1.0 / (1.0 + 0.35 * (x**2 + y**2))
    depth = 0.4 + 0.6 * canvas.body
    shade = (np.sqrt(np.maximum(canvas.relief, 0.0)) * spot * depth * lamp).astype(np.float32)
    image = canvas.reflectance[..., INFRARED_BAND] * shade
    image += BLOOM * ndimage.gaussian_filter(image, 4.0 * canvas.height / 128.0)
    image *= 1.0 + LINES * np.cos(np.pi * np.arange(canvas.height) * 128.0 / canvas.height)[:, None].astype(np.float32)
    return np.clip(image, 0.0, 1.0)[..., None] ** np.float32(0.8 * np.exp(nuisance.light * rng.normal(0.0, 0.10)))


def _occlude(canvas: Canvas, rng: np.random.Generator) -> None:
    """Something is in front of the person: a post, a box from below, or the edge of a wall."""
    thing = painted(rng) * 0.8 + 0.05
    h, w = canvas.height, canvas.width
    kind = rng.integers(3)
    if kind == 0:
        half = w * rng.uniform(0.04, 0.09)
        patch = canvas.profile(w * rng.uniform(0.15, 0.85), -2.0, h + 2.0, [(0.0, half), (1.0, half)])
    elif kind == 1:
        half = w * rng.uniform(0.2, 0.5)
        patch = canvas.profile(
            w * rng.uniform(0.2, 0.8), h * rng.uniform(0.62, 0.85), h + 2.0, [(0.0, half), (1.0, half)]
        )
    else:
        half = w * rng.uniform(0.15, 0.35)
        patch = canvas.profile(w * float(rng.integers(2)), -2.0, h + 2.0, [(0.0, half), (1.0, half)])
    canvas.paint(patch, thing, round_off=0.1)
