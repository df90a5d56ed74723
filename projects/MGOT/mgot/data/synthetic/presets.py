"""Named sets of rendered people to try the method on: what each changes in the defaults. [ours]

warm: the defaults. A good part of infrared follows from luminance, and the first matching is good.
split: the visible cameras differ so much that each person forms two visible clusters; infrared as in warm. The nearest
infrared clusters of many people are the same few.
unpaired: warm, and the same number of strangers in the layout of LLCM, for MGOT.DATA.REPLACED.
cold: other bodies and places, a curved law of colour without luminance; the first matching is nearly blind.
harmless: other bodies and places, infrared independent of colour. There is nothing to learn. Does training do harm?
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from mgot.data.synthetic.camera import CAMERAS
from mgot.data.synthetic.other_layouts import LLCM_CAMERAS
from mgot.data.synthetic.settings import Settings
from mgot.errors import UserError

PRESETS: dict[str, dict[str, Any]] = {
    "warm": {},
    "split": {"train_identities": 100, "visible_per_camera": 8, "camera_contrast": 1.0},
    "unpaired": {},
    "cold": {"style": "figures", "law": "curve", "luminance_share": 0.0},
    "harmless": {"style": "figures", "law": "own"},
}

# Presets that come with strangers.
WITH_STRANGERS = ("unpaired",)
# Far from the seeds that anybody gives.
_STRANGERS_APART = 1_000_000


def preset(name: str, **changes: Any) -> Settings:
    """The settings of that name, with changes. Raises UserError if there is no such preset, or if a change is wrong."""
    if name not in PRESETS:
        raise UserError(f"preset: there is no {name!r}; choose from {', '.join(PRESETS)}")
    return dataclasses.replace(Settings(**PRESETS[name]), **changes)


def strangers(settings: Settings) -> Settings:
    """Other people, as many as the settings train on, for the layout of LLCM.

    Each has as many visible images as a training identity of the settings has, or more, so that it can replace one.
    There are only as many infrared images and test people as the layout needs.
    """
    visible = sum(not model.infrared for model in CAMERAS.values()) * settings.visible_per_camera
    return dataclasses.replace(
        settings,
        seed=settings.seed + _STRANGERS_APART,
        test_identities=1,
        visible_per_camera=math.ceil(visible / len(LLCM_CAMERAS["vis"])),
        infrared_per_camera=1,
    )
