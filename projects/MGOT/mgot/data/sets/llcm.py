"""LLCM, read as downloaded.

On disk::

    LLCM/idx/train_vis.txt  train_nir.txt                   lines "relative/path label"
    LLCM/idx/test_id.txt                                    one line of comma-separated IDs
    LLCM/vis/{ID:04d}/{ID:04d}_c{camera:02d}_*_vis.jpg      LLCM/nir/{ID:04d}/{ID:04d}_c{camera:02d}_*_nir.jpg
    LLCM/test_vis/cam{1..9}/{ID:04d}/*.jpg                  LLCM/test_nir/cam{1,2,4..9}/{ID:04d}/*.jpg

713 training identities, 16,946 visible and 13,975 near-infrared images; 351 test identities, 8,680 visible and 7,166
near-infrared images. Visible and near-infrared images of one camera number come from the same camera.

Source: Y. Zhang, H. Wang. Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for
Visible-Infrared Person Re-identification. CVPR 2023.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mgot.data.counts import Expected
from mgot.data.dataset import TwoModalityDataset, register_dataset
from mgot.data.items import (
    INFRARED,
    VISIBLE,
    Item,
    Lists,
    cameras,
    dataset_folder,
    identities,
    items_in_camera,
    read_ids,
    read_labelled_paths,
)
from mgot.errors import UserError
from mgot.evaluation.protocols import DIRECTIONS, Protocol, blocks, both_ways, grouped, require_positive, seeded_gallery

FOLDER = "LLCM"
SOURCE = "request it from its authors, github.com/ZYK100/LLCM"
VISIBLE_CAMERAS, INFRARED_CAMERAS = (1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 4, 5, 6, 7, 8, 9)
UNKNOWN_CAMERA = 0
_CAMERA = re.compile(r"_c(\d{1,9})_", re.ASCII)


@register_dataset("LLCM")
@dataclass(frozen=True)
class LLCM(TwoModalityDataset):
    """LLCM.

    Attributes:
        directions, trials: as of :func:`llcm_protocols`.
    """

    folder = FOLDER
    source = SOURCE
    required: ClassVar[Mapping[str, str]] = {
        "idx/train_vis.txt": SOURCE,
        "idx/train_nir.txt": SOURCE,
        "idx/test_id.txt": SOURCE,
    }
    expected = Expected(
        {
            "visible training images": 16_946,
            "infrared training images": 13_975,
            "training identities": 713,
            "infrared test images": 7_166,
            "visible test images": 8_680,
            "test identities": 351,
        }
    )
    directions: Sequence[str] = DIRECTIONS
    trials: int = 10

    @classmethod
    def options(cls, keys: Any) -> dict[str, Any]:
        return {"directions": keys.TEST.DIRECTIONS, "trials": keys.TEST.TRIALS}

    def read(self, root: str | Path) -> Lists:
        """See :func:`read_llcm`."""
        return read_llcm(root)

    def protocols(self, root: str | Path, lists: Lists) -> list[Protocol]:
        """See :func:`llcm_protocols`."""
        ids, cams = identities(lists.pool), cameras(lists.pool)
        return llcm_protocols(ids, cams, len(lists.query), directions=self.directions, trials=self.trials)


def read_llcm(root: str | Path) -> Lists:
    """The lists of ``<root>/LLCM``: training in its files' order, test in the order camera, identity, file name.

    The camera of a training image is read from its name, and is :data:`UNKNOWN_CAMERA` if the name has none.

    Raises:
        UserError: the folder or a list is missing, a line is malformed or leads to no image inside the data set, or
            there are no test images.
    """
    folder = dataset_folder(root, FOLDER, SOURCE)
    for name in ("test_vis", "test_nir"):
        if not (folder / name).is_dir():
            raise UserError(f"{folder / name} is missing: the copy is incomplete, unpack the archive again")
    remarks: list[str] = []
    test = read_ids(folder / "idx/test_id.txt", SOURCE)

    def training(name: str, modality: int) -> list[Item]:
        lines = read_labelled_paths(folder / f"idx/train_{name}.txt", folder, SOURCE, remarks)
        return [Item(str(path), label, _camera(path), modality) for path, label in lines]

    def testing(name: str, of_cameras: Iterable[int], modality: int) -> list[Item]:
        place = folder / f"test_{name}"
        return [item for camera in of_cameras for item in items_in_camera(place, camera, test, modality, remarks)]

    lists = Lists(
        training("vis", VISIBLE),
        training("nir", INFRARED),
        testing("nir", INFRARED_CAMERAS, INFRARED),
        testing("vis", VISIBLE_CAMERAS, VISIBLE),
        remarks,
    )
    lists.require_images(folder)
    return lists


def _camera(path: Path) -> int:
    found = _CAMERA.search(path.name)
    return int(found.group(1)) if found else UNKNOWN_CAMERA


def llcm_protocols(
    identities: np.ndarray,
    cameras: np.ndarray,
    n_infrared: int,
    *,
    directions: Sequence[str] = DIRECTIONS,
    trials: int = 10,
) -> list[Protocol]:
    """LLCM's protocols, named "llcm-<direction>": seeded single-shot galleries, one image of each identity and camera.

    Args:
        identities: (N,) of the pool.
        cameras: (N,) of the pool.
        n_infrared: number of infrared images, which are first in the pool; visible ones follow.
        directions: of :data:`DIRECTIONS`.
        trials: T >= 1; trial t draws as the released code does with ``random.seed(t)`` [field].
    """
    require_positive(trials=trials)
    images = blocks(n_infrared, len(identities) - n_infrared)
    groups = {modality: grouped(identities, cameras, block) for modality, block in images.items()}
    galleries = {modality: [seeded_gallery(own, t, 1) for t in range(trials)] for modality, own in groups.items()}
    rule = "same-identity-and-camera"
    return both_ways(
        "llcm", images, galleries, directions=directions, drop=rule, unique_identities=True, draws="seeded"
    )
