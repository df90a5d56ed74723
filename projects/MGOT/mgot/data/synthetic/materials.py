"""What cloth, skin and hair reflect in four bands: red, green, blue and near-infrared.

A grey filter would make infrared a function of luminance. Here a cloth's near-infrared reflectance follows one of
LAWS. "slope" continues the slope of the visible spectrum: if reflectance rises from blue to red, it rises further
beyond red. So a red coat is bright, and a blue coat, which looks as bright to the eye, is dark. "curve" rises with the
distance from grey, so the red coat and the blue one are both bright. Both laws are the same for all people and can be
learnt. What fibre, weave and wear add is different for each cloth and cannot be learnt. "own" has nothing to learn:
each cloth has a random reflectance. Skin and hair have tabled reflectances. [ours]

Reflectances lie in [0, 1]; the bands' order is red, green, blue, near-infrared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BANDS = 4
INFRARED_BAND = 3
LUMINANCE = np.array([0.299, 0.587, 0.114])
TREND_LEVEL = 0.42
TREND_SLOPE = 0.8
CURVE_LEVEL, CURVE_CHROMA, CURVE_GREEN, CURVE_ROUNDING = 0.2, 0.55, 0.25, 0.01
OWN_RANGE = (0.1, 0.9)
DARKEST, BRIGHTEST = 0.03, 0.97


# Red, green and blue of the dyes that cloth comes in.
DYES: dict[str, tuple[float, float, float]] = {
    "white": (0.90, 0.90, 0.88),
    "silver": (0.62, 0.63, 0.64),
    "charcoal": (0.25, 0.25, 0.26),
    "black": (0.08, 0.08, 0.09),
    "red": (0.76, 0.10, 0.12),
    "maroon": (0.42, 0.08, 0.15),
    "orange": (0.93, 0.50, 0.12),
    "yellow": (0.93, 0.83, 0.22),
    "beige": (0.80, 0.71, 0.52),
    "brown": (0.40, 0.25, 0.13),
    "olive": (0.38, 0.41, 0.17),
    "green": (0.14, 0.50, 0.22),
    "teal": (0.09, 0.48, 0.50),
    "sky": (0.50, 0.73, 0.92),
    "blue": (0.12, 0.24, 0.72),
    "navy": (0.08, 0.11, 0.30),
    "purple": (0.42, 0.18, 0.56),
    "pink": (0.93, 0.55, 0.66),
}

SKIN = ((0.90, 0.72, 0.60, 0.62), (0.78, 0.57, 0.43, 0.58), (0.55, 0.37, 0.26, 0.52), (0.35, 0.23, 0.17, 0.46))
HAIR = (
    (0.08, 0.07, 0.07, 0.16),
    (0.24, 0.15, 0.09, 0.38),
    (0.45, 0.29, 0.15, 0.50),
    (0.80, 0.66, 0.38, 0.62),
    (0.60, 0.60, 0.60, 0.40),
    (0.55, 0.22, 0.09, 0.56),
)


class Cloth(NamedTuple):
    """One material's reflectance, (4,)."""

    reflectance: np.ndarray


def luminance(reflectance: np.ndarray) -> np.ndarray:
    """Visible brightness of reflectances (..., 4) -> (...)."""
    return reflectance[..., :INFRARED_BAND] @ LUMINANCE


def trend(reflectance: np.ndarray) -> np.ndarray:
    """The near-infrared reflectance that the slope from blue to red points to: (..., 4) -> (...). [ours]"""
    return TREND_LEVEL + TREND_SLOPE * (reflectance[..., 0] - reflectance[..., 2])


def curve(reflectance: np.ndarray) -> np.ndarray:
    """A near-infrared reflectance that bends at grey: (..., 4) -> (...), in [0, 1]. [ours]

    clip(0.2 + 0.55 sqrt((R - B)^2 + 0.01) + 0.25 (1 - G)): red and blue are both bright, grey is dark.
    """
    red, green, blue = (reflectance[..., band] for band in range(INFRARED_BAND))
    chroma = np.sqrt((red - blue) ** 2 + CURVE_ROUNDING)
    return np.clip(CURVE_LEVEL + CURVE_CHROMA * chroma + CURVE_GREEN * (1.0 - green), 0.0, 1.0)


# What colour says of near-infrared; "own" does not depend on it and is only in LAWS.
COLOUR_LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"slope": trend, "curve": curve}
LAWS = (*COLOUR_LAWS, "own")


def dyed(
    dye: tuple[float, ...],
    rng: np.random.Generator,
    *,
    residue: float,
    luminance_share: float,
    law: str = "slope",
) -> Cloth:
    """A garment's material: a shade of a dye, and a near-infrared reflectance by one of LAWS.

    infrared = luminance_share * luminance + (1 - luminance_share) * colour law + residue * noise, noise uniform in
    [-1, 1]; by "own" uniform in OWN_RANGE, and the other two are ignored. Source: [ours]. The shade scales the visible
    bands; the result is clipped to [DARKEST, BRIGHTEST].
    """
    reflectance = np.zeros(BANDS)
    reflectance[:INFRARED_BAND] = np.array(dye) * rng.uniform(0.85, 1.12) + rng.uniform(-0.03, 0.03, size=INFRARED_BAND)
    if law == "own":
        reflectance[INFRARED_BAND] = rng.uniform(*OWN_RANGE)
    else:
        followed = luminance_share * luminance(reflectance) + (1.0 - luminance_share) * COLOUR_LAWS[law](reflectance)
        reflectance[INFRARED_BAND] = followed + residue * rng.uniform(-1.0, 1.0)
    return Cloth(np.clip(reflectance, DARKEST, BRIGHTEST))


def tabled(reflectance: tuple[float, ...], rng: np.random.Generator) -> Cloth:
    """Skin or hair: a slight shade of one entry of a table."""
    return Cloth(np.clip(np.array(reflectance) * rng.uniform(0.92, 1.08), DARKEST, BRIGHTEST))


def painted(rng: np.random.Generator) -> np.ndarray:
    """A wall's or a thing's reflectance (4,): the colour of a dye, and any near-infrared."""
    colour = DYES[str(rng.choice(list(DYES)))]
    return np.array([*colour, rng.uniform(0.1, 0.8)])
