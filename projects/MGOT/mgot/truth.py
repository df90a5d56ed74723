"""Ground-truth identities: for diagnosis, and for parts whose type says that they are oracles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Truth(NamedTuple):
    """Ground-truth identities of both modalities.

    Attributes:
        visible: (N_v,) of the images, or (K_v,) of the clusters by majority.
        infrared: (N_r,) or (K_r,).
    """

    visible: np.ndarray
    infrared: np.ndarray
