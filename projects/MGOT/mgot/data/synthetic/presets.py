"""Named grounds to try the method on: what each changes of the defaults. [ours]

warm: the defaults. A good part of infrared follows from luminance, and the first matching is good.
split: visible cameras so unlike each other that a person is two visible clusters; infrared as in warm. The nearest
infrared clusters of many of them are the same few.
cold: other bodies and places, a law of colour that bends nothing from luminance; the first matching is nearly blind.
harmless: other bodies and places, infrared independent of colour. There is nothing to learn; is harm done?
"""

from __future__ import annotations

import dataclasses
from typing import Any

from mgot.data.synthetic.settings import Settings
from mgot.errors import UserError

PRESETS: dict[str, dict[str, Any]] = {
    "warm": {},
    "split": {"train_identities": 100, "visible_per_camera": 8, "camera_contrast": 1.0},
    "cold": {"style": "figures", "law": "curve", "luminance_share": 0.0},
    "harmless": {"style": "figures", "law": "own"},
}


def preset(name: str, **changes: Any) -> Settings:
    """The settings of that name, with changes on top. Raises UserError where there is none, or on a wrong change."""
    if name not in PRESETS:
        raise UserError(f"preset: there is no {name!r}; choose from {', '.join(PRESETS)}")
    return dataclasses.replace(Settings(**PRESETS[name]), **changes)
