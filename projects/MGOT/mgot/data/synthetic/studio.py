"""Pictures of numbered people: the only place that uses seeds.

Each person, each place and each picture has its own random stream, keyed by (seed, what it is, numbers). So no picture
depends on how many others were made, in which order, or by how many processes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from mgot.data.synthetic.camera import take_picture
from mgot.data.synthetic.contrast import set_apart
from mgot.data.synthetic.settings import Settings
from mgot.data.synthetic.styles import STYLES

_PERSON, _PICTURE, _PLACE = range(3)
PANORAMA_WIDTHS = 8


@lru_cache(maxsize=16)
def _panorama(seed: int, style: str, place: str, width: int) -> np.ndarray:
    rng = np.random.default_rng([seed, _PLACE, STYLES[style].places.index(place)])
    return STYLES[style].backdrop(place, rng, 2 * width, PANORAMA_WIDTHS * width)


@lru_cache(maxsize=64)
def person(settings: Settings, identity: int) -> Any:
    """The person with that number, in the settings' style: a `people.Person` or a `figures.Figure`."""
    rng = np.random.default_rng([settings.seed, _PERSON, identity])
    sample = STYLES[settings.style].sample
    return sample(rng, residue=settings.residue, luminance_share=settings.luminance_share, law=settings.law)


def picture(settings: Settings, identity: int, camera: int, number: int) -> np.ndarray:
    """Picture `number` of a person by one of the six cameras: uint8 (2 width, width, 3). KeyError on another camera."""
    style = STYLES[settings.style]
    model = set_apart(style.cameras[camera], camera, settings.camera_contrast)
    panorama = _panorama(settings.seed, settings.style, model.place, settings.width)
    rng = np.random.default_rng([settings.seed, _PICTURE, identity, camera, number])
    who = person(settings, identity)
    return take_picture(
        lambda canvas, pose: style.draw(canvas, who, pose), model, panorama, rng, settings.nuisance, settings.width
    )
