"""Named grounds to try the method on: what each changes of the defaults. [ours]

warm: the defaults. A good part of infrared follows from luminance, and the first matching is good.
split: visible cameras so unlike each other that a person is two visible clusters; infrared as in warm. The nearest
infrared clusters of many of them are the same few.
unpaired: warm, and beside it as many strangers in the layout of LLCM, whom MGOT.DATA.REPLACED puts among the visible.
cold: other bodies and places, a law of colour that bends, no luminance in it; the first matching is nearly blind.
harmless: other bodies and places, infrared independent of colour. There is nothing to learn; is harm done?
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
    """The settings of that name, with changes on top. Raises UserError where there is none, or on a wrong change."""
    if name not in PRESETS:
        raise UserError(f"preset: there is no {name!r}; choose from {', '.join(PRESETS)}")
    return dataclasses.replace(Settings(**PRESETS[name]), **changes)


def strangers(settings: Settings) -> Settings:
    """As many other people as the settings train on, for the layout of LLCM.

    Each has as many visible images as a training identity of the settings has, or more, so that it can stand in for
    one; of infrared and of test people there are no more than the layout demands.
    """
    visible = sum(not model.infrared for model in CAMERAS.values()) * settings.visible_per_camera
    return dataclasses.replace(
        settings,
        seed=settings.seed + _STRANGERS_APART,
        test_identities=1,
        visible_per_camera=math.ceil(visible / len(LLCM_CAMERAS["vis"])),
        infrared_per_camera=1,
    )
