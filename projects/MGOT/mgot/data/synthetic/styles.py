"""Ways to draw people and places, by name.

The law of infrared, a camera's way from reflectance to image and the layouts are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mgot.data.synthetic.camera import CAMERAS, CameraModel, make_backdrop
from mgot.data.synthetic.canvas import Canvas
from mgot.data.synthetic.drawing import draw_person
from mgot.data.synthetic.figure_drawing import draw_figure
from mgot.data.synthetic.figure_places import FIGURE_CAMERAS, make_place
from mgot.data.synthetic.figures import sample_figure
from mgot.data.synthetic.people import Pose, sample_person


class Style(NamedTuple):
    """One way to draw.

    Attributes:
        sample: (rng, residue=, luminance_share=, law=) -> a person; only `draw` reads it.
        draw: (canvas, who, pose): paints them.
        backdrop: (place, rng, height, width) -> (height, width, 4) reflectance.
        places: in the order that the seeds count them.
        cameras: models of cameras 1 to 6; which of them are infrared is the same in every style.
    """

    sample: Callable[..., Any]
    draw: Callable[[Canvas, Any, Pose], object]
    backdrop: Callable[[str, np.random.Generator, int, int], np.ndarray]
    places: tuple[str, ...]
    cameras: dict[int, CameraModel]


STYLES: dict[str, Style] = {
    "walkers": Style(sample_person, draw_person, make_backdrop, ("corridor", "hall", "street", "park"), CAMERAS),
    "figures": Style(sample_figure, draw_figure, make_place, ("shop", "platform", "yard", "gate"), FIGURE_CAMERAS),
}
