"""Images of your own, in folders.

On disk, where FOLDER is the value of MGOT.DATA.FOLDER::

    FOLDER/visible/train/ID/*.jpg      or, if the people are not known,   FOLDER/visible/train/*.jpg
    FOLDER/visible/query/ID/*.jpg      FOLDER/visible/gallery/ID/*.jpg
    FOLDER/infrared/...                the same three

Images are jpg, jpeg, png or bmp. An ID is any name, and the same name is the same person everywhere. A file name that
begins with c and a number, as in c3_0001.jpg, is of that camera; others are of camera 0. Training uses no ID; the IDs
of train/ are for the diagnosis of a run. Queries of one modality search the gallery of the other, in each direction
that has both. Nothing is dropped from a ranking, and the CMC counts each image.

Nothing was published, so there are no counts to compare with. Source: [ours].
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mgot.data.dataset import TwoModalityDataset, register_dataset
from mgot.data.items import INFRARED, VISIBLE, Item, Lists, dataset_folder, images_in, leads_out, require_inside
from mgot.errors import UserError
from mgot.evaluation.protocols import DIRECTIONS, Protocol, both_ways, ends
from mgot.truth import UNKNOWN_IDENTITY

USUAL = "my-data"
SOURCE = "MGOT.DATA.FOLDER names it, docs/data.md shows its layout"
MODALITIES = {"visible": VISIBLE, "infrared": INFRARED}
PARTS = ("train", "query", "gallery")
OTHER_CAMERA = 0
_CAMERA = re.compile(r"c(\d{1,9})_", re.ASCII)


@register_dataset("Folder")
@dataclass(frozen=True)
class Folder(TwoModalityDataset):
    """Images of your own.

    Attributes:
        folder: below the data root.
        directions: the directions to score, if the folder has them.

    Raises:
        UserError: the folder is not below the data root.
    """

    # The folder that holds visible/ and infrared/, below the data root [ours].
    own_keys: ClassVar[Mapping[str, Any]] = {"FOLDER": USUAL}
    source = SOURCE
    folder: str = USUAL
    directions: Sequence[str] = DIRECTIONS

    def __post_init__(self) -> None:
        if not self.folder.strip("./\\ ") or leads_out(self.folder):
            raise UserError(f"MGOT.DATA.FOLDER must name a folder below the data root, not {self.folder!r}")

    @classmethod
    def options(cls, keys: Any) -> dict[str, Any]:
        return {"folder": keys.DATA.FOLDER, "directions": keys.TEST.DIRECTIONS}

    def read(self, root: str | Path) -> Lists:
        """See :func:`read_folder`."""
        return read_folder(root, self.folder)

    def protocols(self, root: str | Path, lists: Lists) -> list[Protocol]:
        """Those of the directions that have queries and a gallery, named "folder-<direction>".

        Raises:
            UserError: none of the directions has both.
        """
        queries, galleries = (_places(lists.pool, part) for part in ("query", "gallery"))
        there = [each for each in self.directions if len(queries[ends(each)[0]]) and len(galleries[ends(each)[1]])]
        if not there:
            raise UserError(
                f"{Path(root) / self.folder} has queries and a gallery for none of {', '.join(self.directions)}: put"
                " images into visible/query/ID and infrared/gallery/ID, or infrared/query/ID and visible/gallery/ID; to"
                " train without a scoring set DATASETS.TESTS ()"
            )
        one_trial = {modality: [gallery] for modality, gallery in galleries.items()}
        return both_ways("folder", queries, one_trial, directions=there, draws="whole gallery")


def _places(pool: Sequence[Item], part: str) -> dict[str, np.ndarray]:
    """ "visible" and "infrared" -> indices of the pool's images in query/ or gallery/."""
    inside = np.array([Path(item.path).parts[-3] == part for item in pool], dtype=bool)
    codes = np.array([item.modality for item in pool], dtype=np.int64)
    return {modality: np.flatnonzero(inside & (codes == code)) for modality, code in MODALITIES.items()}


class _Image(NamedTuple):
    path: str
    person: str  # empty if it is not given
    modality: str
    part: str


def read_folder(root: str | Path, folder: str) -> Lists:
    """The lists of ``<root>/<folder>``: training by person and name, test by camera, person and name.

    A folder may have images only for training, or only for scoring, so lists may be empty. The remarks name what is
    missing for a training, what is skipped, and people who are in training and in test.

    Raises:
        UserError: the folder or that of a modality is missing, or a link leads out of it.
    """
    tree = dataset_folder(root, folder, SOURCE)
    for modality in MODALITIES:
        if not (tree / modality).is_dir():
            raise UserError(f"{tree / modality} is missing: {tree} must hold the folders visible and infrared")
    remarks: list[str] = []
    images = [each for modality in MODALITIES for part in PARTS for each in _images(tree, modality, part, remarks)]
    remarks += [*_remarks_on_training(tree, images), *_remarks_on_people(tree, images)]
    numbers = {person: number for number, person in enumerate(sorted({each.person for each in images} - {""}))}

    def items(modality: str, *parts: str) -> list[Item]:
        own = [each for each in images if each.modality == modality and each.part in parts]
        return [
            Item(i.path, numbers.get(i.person, UNKNOWN_IDENTITY), _camera(i.path), MODALITIES[modality]) for i in own
        ]

    infrared, visible = (
        sorted(items(name, "query", "gallery"), key=_order_of_galleries) for name in ("infrared", "visible")
    )
    return Lists(items("visible", "train"), items("infrared", "train"), infrared, visible, remarks)


def _images(tree: Path, modality: str, part: str, remarks: list[str]) -> Iterator[_Image]:
    """The images of one part: those right in it, then person by person."""
    place = tree / modality / part
    loose = _images_inside(place, tree)
    if loose and part != "train":
        remarks.append(f"{place}: {len(loose)} images are not in a person's folder and are skipped")
        loose = []
    yield from (_Image(path, "", modality, part) for path in loose)
    for person in sorted(os.listdir(place)) if place.is_dir() else []:
        if person.startswith(".") or not (place / person).is_dir():
            continue
        own = _images_inside(place / person, tree)
        if not own:
            remarks.append(f"{place / person} holds no image")
        yield from (_Image(path, person, modality, part) for path in own)


def _images_inside(folder: Path, tree: Path) -> list[str]:
    """Images directly in a folder; a link out of the tree is refused."""
    require_inside(folder, tree)
    images = images_in(folder)
    for path in filter(os.path.islink, images):
        require_inside(path, tree)
    return images


def _remarks_on_training(tree: Path, images: Sequence[_Image]) -> Iterator[str]:
    """What is missing for a training."""
    for modality in MODALITIES:
        place = tree / modality / "train"
        named = [bool(each.person) for each in images if (each.modality, each.part) == (modality, "train")]
        if not named:
            yield f"{place} holds no image: a training needs some there, in a folder for each person or right in it"
        elif any(named) and not all(named):
            loose = f"{named.count(False)} of {len(named)} images are not in a person's folder"
            yield f"{place}: {loose}, so the figures of {modality} below truth/ are left out"


def _remarks_on_people(tree: Path, images: Sequence[_Image]) -> Iterator[str]:
    """Who is trained on and scored."""
    trained = {each.person for each in images if each.part == "train"} - {""}
    both = sorted(trained & {each.person for each in images if each.part != "train"})
    if both:
        yield f"{tree}: of train's IDs {len(both)} are in query or gallery too, as is {both[0]!r}: rename or move them"


def _camera(path: str) -> int:
    found = _CAMERA.match(os.path.basename(path))
    return int(found.group(1)) if found else OTHER_CAMERA


def _order_of_galleries(item: Item) -> tuple[int, int, str]:
    return item.camera, item.identity, item.path
