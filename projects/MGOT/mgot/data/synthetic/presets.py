"""Named grounds to try the method on: what each changes of the defaults. [ours]

| name | what it is |
|---|---|
| warm | the defaults: half of infrared follows from luminance, the first matching is good |
| cold | a law of colour that bends, next to nothing from luminance: the first matching is nearly blind |
"""

from __future__ import annotations

import dataclasses
from typing import Any

from mgot.data.synthetic.settings import Settings
from mgot.errors import UserError

PRESETS: dict[str, dict[str, Any]] = {
    "warm": {},
    "cold": {"law": "curve", "luminance_share": 0.05},
}


def preset(name: str, **changes: Any) -> Settings:
    """The settings of that name, with changes on top. Raises UserError where there is none, or on a wrong change."""
    if name not in PRESETS:
        raise UserError(f"preset: there is no {name!r}; choose from {', '.join(PRESETS)}")
    return dataclasses.replace(Settings(**PRESETS[name]), **changes)
