"""RegDB, read as downloaded.

On disk::

    RegDB/Visible/<id>/*.bmp   RegDB/Thermal/<id>/*.bmp
    RegDB/idx/{train,test}_{visible,thermal}_{1..10}.txt      lines "relative/path label"

412 identities, each with 10 visible and 10 thermal images of one camera pair. Ten splits into 206 training and 206 test
identities, 2,060 lines in each file. A model is tested only on the split that it was trained on, because test
identities of the other splits are among its training identities.

Source: D. T. Nguyen, H. G. Hong, K. W. Kim, K. R. Park. Person Recognition System Based on a Combination of Body Images
from Visible Light and Thermal Cameras. Sensors 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from mgot.data.counts import Expected
from mgot.data.dataset import TwoModalityDataset, register_dataset
from mgot.data.items import INFRARED, VISIBLE, Item, Lists, dataset_folder, read_labelled_paths
from mgot.errors import UserError
from mgot.evaluation.protocols import DIRECTIONS, Protocol, blocks, both_ways

FOLDER = "RegDB"
SOURCE = "request it from Dongguk University, Dongguk Body-based Person Recognition Database (DBPerson-Recog-DB1)"
SPLITS = tuple(range(1, 11))
VISIBLE_CAMERA, THERMAL_CAMERA = 1, 2


@register_dataset("RegDB")
@dataclass(frozen=True)
class RegDB(TwoModalityDataset):
    """One split of RegDB.

    Attributes:
        split: 1..10, trained on and tested on.
        directions: as of :func:`regdb_protocols`.
    """

    folder = FOLDER
    source = SOURCE
    required: ClassVar[Mapping[str, str]] = {
        f"idx/{part}_{modality}_{split}.txt": SOURCE
        for split in SPLITS
        for part in ("train", "test")
        for modality in ("visible", "thermal")
    }
    split_key = "MGOT.TEST.REGDB_TRIAL"
    expected = Expected(
        {
            "visible training images": 2_060,
            "infrared training images": 2_060,
            "training identities": 206,
            "infrared test images": 2_060,
            "visible test images": 2_060,
            "test identities": 206,
        },
        of_all_splits={"visible images of all splits": 4_120, "thermal images of all splits": 4_120},
    )
    split: int = 1
    directions: Sequence[str] = DIRECTIONS

    @classmethod
    def options(cls, keys: Any) -> dict[str, Any]:
        return {"split": keys.TEST.REGDB_TRIAL, "directions": keys.TEST.DIRECTIONS}

    def splits(self) -> list[RegDB]:
        return [replace(self, split=split) for split in SPLITS]

    def read(self, root: str | Path) -> Lists:
        """See :func:`read_regdb`."""
        return read_regdb(root, self.split)

    def counts_of_all_splits(self, read: Sequence[Lists]) -> dict[str, int]:
        visible = {item.path for lists in read for item in lists.visible + lists.gallery}
        thermal = {item.path for lists in read for item in lists.infrared + lists.query}
        return {"visible images of all splits": len(visible), "thermal images of all splits": len(thermal)}

    def protocols(self, root: str | Path, lists: Lists) -> list[Protocol]:
        """See :func:`regdb_protocols`."""
        return regdb_protocols(len(lists.query), len(lists.gallery), split=self.split, directions=self.directions)


def read_regdb(root: str | Path, split: int = 1) -> Lists:
    """The lists of one split of ``<root>/RegDB``, in the order of its files. Labels start from 0 in each part.

    Raises:
        UserError: no such split, the folder or a list is missing, a line is malformed or leads to no image inside the
            data set, or training and test share an image.
    """
    if split not in SPLITS:
        raise UserError(f"RegDB has splits 1 to 10, not {split!r}")
    folder = dataset_folder(root, FOLDER, SOURCE)
    remarks: list[str] = []

    def items(part: str, modality: int) -> list[Item]:
        name, camera = ("visible", VISIBLE_CAMERA) if modality == VISIBLE else ("thermal", THERMAL_CAMERA)
        lines = read_labelled_paths(folder / f"idx/{part}_{name}_{split}.txt", folder, SOURCE, remarks)
        return [Item(str(path), label, camera, modality) for path, label in lines]

    lists = Lists(
        items("train", VISIBLE), items("train", INFRARED), items("test", INFRARED), items("test", VISIBLE), remarks
    )
    shared = {item.path for item in lists.visible + lists.infrared} & {item.path for item in lists.pool}
    if shared:
        raise UserError(f"{folder / 'idx'}, split {split}: {min(shared)} is both in training and in test")
    return lists


def regdb_protocols(
    n_thermal: int, n_visible: int, *, split: int, directions: Sequence[str] = DIRECTIONS
) -> list[Protocol]:
    """RegDB's protocols, "regdb-visible-to-thermal" and "regdb-thermal-to-visible": all images search all, once.

    Args:
        n_thermal: thermal test images, which are first in the pool.
        n_visible: visible test images, which follow.
        split: 1..10, named in the rows.
        directions: of :data:`DIRECTIONS`; for RegDB, infrared means thermal.
    """
    images = blocks(n_thermal, n_visible)
    galleries = {modality: [block] for modality, block in images.items()}
    protocols = both_ways("regdb", images, galleries, directions=directions, draws=f"split {split}")
    return [replace(each, name=each.name.replace("infrared", "thermal")) for each in protocols]
