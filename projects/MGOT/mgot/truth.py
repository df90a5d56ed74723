"""Ground-truth identities: for diagnosis, and for parts with the type of an oracle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mgot.errors import UserError

UNKNOWN_IDENTITY = -1


class Truth(NamedTuple):
    """Ground-truth identities of both modalities.

    Attributes:
        visible: (N_v,) of the images, or (K_v,) of the clusters by majority.
        infrared: (N_r,) or (K_r,).
    """

    visible: np.ndarray
    infrared: np.ndarray


def all_known(ids: np.ndarray) -> bool:
    """Whether none of (N,) identities is :data:`UNKNOWN_IDENTITY`."""
    return bool((ids != UNKNOWN_IDENTITY).all())


def require_known(ids: np.ndarray, oracle: str) -> None:
    """Raise UserError if an oracle, named by its key and value, is used on images without known identities."""
    if not all_known(ids):
        raise UserError(f"{oracle} needs ground-truth identities, and the training images have none: choose another")
