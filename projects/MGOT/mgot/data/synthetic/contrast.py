"""Visible cameras that see one coat in two colours, as the indoor and the outdoor cameras of SYSU-MM01 do. [ours]

Cameras 1 and 2 hang under dim pinkish lamps, 4 and 5 under dim green ones. Whoever was seen by all four then falls into
two clusters, one for each pair; what little the lamps leave of the clothes makes many of these look alike to infrared.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from mgot.data.synthetic.camera import CameraModel


class Shift(NamedTuple):
    """What a contrast of 1 adds to the logarithms of a camera's cast (red, green, blue) and exposure."""

    cast: tuple[float, float, float]
    exposure: float


SHIFTS = {
    1: Shift((0.4, -0.6, 0.2), -1.0),
    2: Shift((0.4, -0.6, 0.2), -1.0),
    4: Shift((-1.1, 0.4, -1.1), -1.3),
    5: Shift((-1.1, 0.4, -1.1), -1.3),
}


def set_apart(model: CameraModel, camera: int, contrast: float) -> CameraModel:
    """The model of that camera number, shifted by `contrast` >= 0; infrared cameras and a contrast of 0 stay as is."""
    if camera not in SHIFTS or contrast == 0.0:
        return model
    shift = SHIFTS[camera]
    red, green, blue = (float(c * np.exp(contrast * s)) for c, s in zip(model.cast, shift.cast, strict=True))
    exposure = float(model.exposure * np.exp(contrast * shift.exposure))
    return dataclasses.replace(model, cast=(red, green, blue), exposure=exposure)
