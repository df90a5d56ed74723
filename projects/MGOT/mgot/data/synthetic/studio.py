"""Pictures of numbered people: the one place where seeds are spent.

Each person, each place and each picture has a random stream of its own, keyed by (seed, what it is, numbers), so that
no picture depends on how many others were made, in which order, or by how many processes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mgot.data.synthetic.camera import CAMERAS, make_backdrop, take_picture
from mgot.data.synthetic.people import Person, sample_person
from mgot.data.synthetic.settings import Settings

_PERSON, _PICTURE, _PLACE = range(3)
PLACES = ("corridor", "hall", "street", "park")
PANORAMA_WIDTHS = 8


@lru_cache(maxsize=16)
def _panorama(seed: int, place: str, width: int) -> np.ndarray:
    rng = np.random.default_rng([seed, _PLACE, PLACES.index(place)])
    return make_backdrop(place, rng, 2 * width, PANORAMA_WIDTHS * width)


@lru_cache(maxsize=64)
def person(settings: Settings, identity: int) -> Person:
    """The person of that number."""
    rng = np.random.default_rng([settings.seed, _PERSON, identity])
    return sample_person(rng, residue=settings.residue, luminance_share=settings.luminance_share, law=settings.law)


def picture(settings: Settings, identity: int, camera: int, number: int) -> np.ndarray:
    """Picture `number` of a person by one of CAMERAS: uint8 (2 width, width, 3). KeyError on an unknown camera."""
    model = CAMERAS[camera]
    panorama = _panorama(settings.seed, model.place, settings.width)
    rng = np.random.default_rng([settings.seed, _PICTURE, identity, camera, number])
    return take_picture(person(settings, identity), model, panorama, rng, settings.nuisance, settings.width)
