"""A figure of generated people: one column a person, visible images above, infrared below."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from mgot.data.synthetic.settings import Settings
from mgot.data.synthetic.studio import picture
from mgot.errors import UserError

CAMERA_ROWS = (1, 4, 5, 3, 6)
PEOPLE = 10
FIGURE_WIDTH = 96
GAP = 4
FIGURE_QUALITY = 72


def contact_sheet(settings: Settings, people: int = PEOPLE, width: int = FIGURE_WIDTH) -> np.ndarray:
    """The first `people` identities seen by CAMERA_ROWS, each picture `width` x 2 `width`: uint8 (height, width, 3)."""
    large = dataclasses.replace(settings, width=width)
    tall = 2 * width
    sheet = np.full((len(CAMERA_ROWS) * (tall + GAP) - GAP, people * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for column in range(people):
        for row, camera in enumerate(CAMERA_ROWS):
            y, x = row * (tall + GAP), column * (width + GAP)
            sheet[y : y + tall, x : x + width] = picture(large, column + 1, camera, number=1)
    return sheet


def write_contact_sheet(path: Path, settings: Settings, people: int = PEOPLE) -> Path:
    """Write the figure. Raises UserError if it cannot be written, or if its suffix is not an image format."""
    image = Image.fromarray(contact_sheet(settings, people))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, optimize=True, quality=FIGURE_QUALITY)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot write the figure ({error}); give a file such as people.jpg") from error
    return path
