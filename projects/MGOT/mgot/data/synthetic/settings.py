"""Every number that decides what the generated data looks like."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from mgot.data.synthetic.camera import Nuisance
from mgot.data.synthetic.materials import LAWS
from mgot.data.synthetic.styles import STYLES
from mgot.errors import UserError
from mgot.forms import count, number

# Raise it whenever the same settings render other pixels: trees made before are then made again.
RENDERER_VERSION = 1
LARGEST_IDENTITY = 9999
VALIDATION_SHARE = 0.1
LARGEST_SHOTS = 255  # of an identity and camera: rand_perm_cam.mat numbers its images in a byte
# Training and validation list of SYSU-MM01 name an identity each; below 16 pixels a person cannot be drawn.
LEAST = {"train_identities": 2, "test_identities": 1, "visible_per_camera": 1, "infrared_per_camera": 1, "width": 16}
# What every stamp has, also one of the first version.
STAMP_FORM = {
    **dict.fromkeys(("renderer", "seed", *LEAST), count),
    **dict.fromkeys(("residue", "luminance_share"), number),
    "nuisance": dict.fromkeys((each.name for each in dataclasses.fields(Nuisance)), number),
}


@dataclass(frozen=True)
class Settings:
    """One generated data set; equal settings give equal files.

    The last `validation_identities` of the training identities are the validation people of SYSU-MM01's layout; None
    takes a tenth, and at least one. `style`, one of `styles.STYLES`, draws people and places. `law`, one of
    `materials.LAWS`, `residue` and `luminance_share` make the infrared reflectance of cloth (`materials.dyed`).
    `camera_contrast` sets the visible cameras apart (`contrast`), 0 or more. Images are `width` x 2 `width` pixels.
    """

    seed: int = 0
    train_identities: int = 120
    test_identities: int = 80
    validation_identities: int | None = None
    visible_per_camera: int = 5
    infrared_per_camera: int = 10
    style: str = "walkers"
    law: str = "slope"
    residue: float = 0.03
    luminance_share: float = 0.4
    camera_contrast: float = 0.0
    width: int = 64
    nuisance: Nuisance = field(default_factory=Nuisance)

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise UserError(f"{name}: {getattr(self, name)} is too few; give {least} or more")
        for name in ("visible_per_camera", "infrared_per_camera"):
            if getattr(self, name) > LARGEST_SHOTS:
                raise UserError(f"{name}: {getattr(self, name)} is too many; give {LARGEST_SHOTS} or fewer")
        if not 1 <= self.validation_people < self.train_identities:
            raise UserError(
                f"validation_identities: {self.validation_identities} of {self.train_identities} training identities"
                " leave none to train on, or are none; give 1 or more, and fewer than those"
            )
        if self.style not in STYLES:
            raise UserError(f"style: there is no {self.style!r}; choose from {', '.join(STYLES)}")
        if self.law not in LAWS:
            raise UserError(f"law: there is no {self.law!r}; choose from {', '.join(LAWS)}")
        if not 0.0 <= self.camera_contrast < math.inf:
            raise UserError(f"camera_contrast: {self.camera_contrast} is not a strength; give 0 or more")
        if self.identities > LARGEST_IDENTITY:
            raise UserError(f"{self.identities} identities do not fit the layout's four digits; ask for fewer")
        if self.seed < 0:
            raise UserError(f"seed: {self.seed} is negative; give 0 or more")

    @property
    def validation_people(self) -> int:
        """How many of the training identities are in val_id.txt."""
        if self.validation_identities is None:
            return max(1, int(VALIDATION_SHARE * self.train_identities))
        return self.validation_identities

    @property
    def identities(self) -> int:
        """Training and test identities together; the training ones are numbered first, from 1."""
        return self.train_identities + self.test_identities

    def made(self, stamp: dict[str, Any]) -> bool:
        """Whether a tree with that stamp holds these data. A field that the stamp does not have yet had its default."""
        return {**Settings().stamp(), **stamp} == self.stamp()

    def stamp(self) -> dict[str, Any]:
        """What identifies the tree, as plain JSON values."""
        return {"renderer": RENDERER_VERSION, **dataclasses.asdict(self)}
