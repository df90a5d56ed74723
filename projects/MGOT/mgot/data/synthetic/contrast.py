"""Visible cameras that show one coat in two colours, like the indoor and outdoor cameras of SYSU-MM01. [ours]

Cameras 1 and 2 are under dim pinkish lamps, 4 and 5 under dim green ones. A person seen by all four then forms two
clusters, one for each pair. The lamps hide most of the clothes, so many of these clusters look the same to infrared.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from mgot.data.synthetic.camera import CameraModel


class Shift(NamedTuple):
    """What a contrast of 1 adds to the logarithms of a camera's cast (red, green, blue) and of its exposure."""

    cast: tuple[float, float, float]
    exposure: float


SHIFTS = {
    1: Shift((0.4, -0.6, 0.2), -1.0),
    2: Shift((0.4, -0.6, 0.2), -1.0),
    4: Shift((-1.1, 0.4, -1.1), -1.3),
    5: Shift((-1.1, 0.4, -1.1), -1.3),
}


def set_apart(model: CameraModel, camera: int, contrast: float) -> CameraModel:
    """The model of that camera number, shifted by `contrast` >= 0; infrared cameras do not change."""
    if camera not in SHIFTS or contrast == 0.0:
        return model
    shift = SHIFTS[camera]
    red, green, blue = (float(c * np.exp(contrast * s)) for c, s in zip(model.cast, shift.cast, strict=True))
    exposure = float(model.exposure * np.exp(contrast * shift.exposure))
    return dataclasses.replace(model, cast=(red, green, blue), exposure=exposure)
