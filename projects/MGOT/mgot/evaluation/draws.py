"""Which images are in SYSU-MM01's galleries: the official draws, read from MATLAB's file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mgot.errors import UserError, reason
from mgot.evaluation.matlab import read_cells
from mgot.forms import fits

_VARIABLE = "rand_perm_cam"


class OfficialDraws(NamedTuple):
    """The official permutations.

    Attributes:
        source: the file they were read from.
        permutations: (camera, identity) -> (n_trials, n_images) int64, 0-based; each row is one trial's order of the
            camera's n_images of the identity, sorted by name. Pairs without images are absent.
    """

    source: str
    permutations: dict[tuple[int, int], np.ndarray]

    def drawn(self, camera: int, identity: int, n_images: int, trial: int, shots: int) -> np.ndarray:
        """0-based positions of the gallery images of one camera and identity: the first ``shots`` of the trial's row.

        Raises:
            UserError: the file has another number of images, or fewer trials.
        """
        rows = self.permutations.get((camera, identity))
        known = 0 if rows is None else rows.shape[1]
        if rows is None or known != n_images:
            raise UserError(
                f"{self.source} draws from {known} images of camera {camera}, identity {identity}, and the folder holds"
                f" {n_images}: complete the copy, or choose draws 'seeded'"
            )
        if trial >= len(rows):
            raise UserError(f"{self.source} holds {len(rows)} trials, not {trial + 1}: ask for fewer trials")
        return rows[trial, :shots]


def read_official_draws(path: str | Path) -> OfficialDraws:
    """Read ``rand_perm_cam.mat``: ``perm[camera-1][0][id-1][0]`` is (10, n), 1-based image numbers.

    Source: docs/protocols.md, SYSU-MM01; the official repository's evaluation/data_split.

    Raises:
        UserError: the file is missing, is not such a MATLAB file, or a row is not a permutation.
    """
    path = Path(path)
    try:
        cameras = read_cells(path, _VARIABLE)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: take it from evaluation/data_split of the official repository") from None
    except (OSError, ValueError) as error:
        told = reason(error)
        raise UserError(f"{path} is not a MATLAB 5 file with {_VARIABLE} ({told}): fetch it again") from None
    if not fits(cameras, [[lambda rows: isinstance(rows, np.ndarray)]]):
        raise UserError(f"{path}: {_VARIABLE} is not a column of cells, one a camera, of cells, one an identity")
    permutations = {
        (camera, identity): _permutation(rows, f"{path}: camera {camera}, identity {identity}")
        for camera, people in enumerate(cameras, start=1)
        for identity, rows in enumerate(people, start=1)
        if rows.size
    }
    return OfficialDraws(str(path), permutations)


def _permutation(numbers: np.ndarray, where: str) -> np.ndarray:
    if numbers.ndim != 2:
        raise UserError(f"{where}: expected a (trials, images) matrix of numbers, found one of {numbers.shape}")
    expected = np.arange(1, numbers.shape[1] + 1)
    if not (np.sort(numbers, axis=1) == expected).all():
        raise UserError(f"{where}: a trial's row is not a permutation of 1..{numbers.shape[1]}")
    return numbers.astype(np.int64) - 1
