"""The data sets in fast-reid's registry, and the one that a config asks for.

fast-reid builds a data set as ``DATASET_REGISTRY.get(name)(root=..., **options)``. For each data set that is registered
with :mod:`mgot.data.dataset`, such a class is made here.
"""

from __future__ import annotations

from typing import Any

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from mgot.data import sets  # noqa: F401  registers the data sets
from mgot.data.counts import differences
from mgot.data.dataset import DATASETS, TwoModalityDataset, on_registration
from mgot.data.items import VISIBLE, Item, identities
from mgot.errors import UserError
from mgot.evaluation.protocols import Protocol
from mgot.truth import all_known

# fast-reid's own reader of SYSU-MM01, whose items do not say which modality they are.
_UNMARKED = ("SYSU_mm",)
_FASTREID_ARGUMENTS = ("transform", "mode", "combineall", "verbose")


class FastreidDataset(ImageDataset):
    """A data set in the form that fast-reid takes; it is read when it is built.

    Args:
        root: the folder of the data sets.
        options: those of the data set, and fast-reid's own.

    Attributes:
        definition: the class of the data set.
        dataset: the data set with its options.
        lists: what was read.
        visible, infrared: training images of each modality.
        train: both, visible first.
        query, gallery: the test pool: all infrared images, then all visible ones.
        remarks: what the reader skipped or noticed, one line each.

    Raises:
        UserError: as in the data set's ``read``, or ``combineall`` is on.
    """

    definition: type[TwoModalityDataset]

    def __init__(self, root: str = "datasets", **options: Any) -> None:
        theirs = {name: options.pop(name) for name in _FASTREID_ARGUMENTS if name in options}
        self.root, self.dataset = root, self.definition(**options)
        self.lists = self.dataset.read(root)
        self.visible, self.infrared, query, gallery, self.remarks = self.lists
        self.dataset_dir, self.dataset_name = self.dataset.folder, self.dataset.name.lower()
        super().__init__(self.visible + self.infrared, query, gallery, **theirs)

    def protocols(self) -> list[Protocol]:
        """The protocols asked for, over the pool ``query + gallery``."""
        return self.dataset.protocols(self.root, self.lists)

    def count_warnings(self) -> list[str]:
        """One line for each count that differs from the published one, with its likely cause. No image is opened."""
        expected, found = self.dataset.expected, self.dataset.counts(self.lists)
        return [f"{self.dataset.name}: {line}" for line in differences(found, expected.counts, expected.causes)]

    def combine_all(self) -> None:
        """Refused: fast-reid would add the test identities to the training images."""
        raise UserError("DATASETS.COMBINEALL would train on the test identities: set it to False")


def _tell_fastreid(name: str, cls: type[TwoModalityDataset]) -> None:
    if _in_fastreid(name) is not None:
        raise UserError(f"fast-reid has a data set named '{name}' already: choose another name")
    about = {"definition": cls, "__doc__": cls.__doc__, "__module__": cls.__module__}
    DATASET_REGISTRY.register(type(name, (FastreidDataset,), about))


def _in_fastreid(name: str) -> Any:
    """What fast-reid has registered under a name; None if nothing."""
    try:
        return DATASET_REGISTRY.get(name)
    except KeyError:
        return None


on_registration(_tell_fastreid)


def add_dataset_keys(cfg: CfgNode) -> None:
    """Add the data sets' own keys to the config, in place. A key that exists already is shared."""
    for cls in DATASETS.values():
        for key, default in cls.own_keys.items():
            if key not in cfg.MGOT.DATA:
                cfg.MGOT.DATA[key] = default


def registered(name: str) -> type[TwoModalityDataset]:
    """The data set of a name.

    Raises:
        UserError: there is none, or it is one of fast-reid's.
    """
    if name in DATASETS:
        return DATASETS[name]
    choice = f"choose from {', '.join(sorted(DATASETS))}"
    if _in_fastreid(name) is None:
        raise UserError(f"DATASETS.NAMES or TESTS: no data set named '{name}' is registered: {choice}")
    raise UserError(f"DATASETS: '{name}' is one of fast-reid's, without modalities: {choice}")


def configured(cfg: CfgNode, name: str) -> TwoModalityDataset:
    """The data set of a name with the config's options, not read yet; errors as of :func:`registered`."""
    cls = registered(name)
    return cls(**cls.options(cfg.MGOT))


def visible_people(name: str, root: str, keys: Any) -> list[Item]:
    """Visible training items of any registered data set, by path: ours, or one of fast-reid's, of visible images only.

    Args:
        name: in fast-reid's registry.
        root: the folder of the data sets.
        keys: the config's node MGOT.

    Returns:
        Items. Their identities are valid within that set; if fast-reid's names are not numbers, they are numbered from
        0. fast-reid lists files in the order of the disk. The order here is always the same.

    Raises:
        UserError: no such data set is registered, its files are not there, it mixes both modalities without marking
            them, or it does not say who is in an image.
    """
    if name in _UNMARKED:
        raise UserError(f"MGOT.DATA.STRANGERS: '{name}' does not mark its modalities: choose LLCM or Market1501")
    if name in DATASETS:
        return _own_visible_people(DATASETS[name], root, keys)
    theirs = _in_fastreid(name)
    if theirs is None:
        raise UserError(f"MGOT.DATA.STRANGERS: no data set named '{name}' is registered: choose LLCM or Market1501")
    try:
        listed = sorted(theirs(root=root).train)
    except (RuntimeError, AssertionError, OSError) as error:
        raise UserError(
            f"MGOT.DATA.STRANGERS: {name} cannot be read under {root} ({error}): set FASTREID_DATASETS to its folder"
        ) from error
    numbers = {person: number for number, person in enumerate(sorted({entry[1] for entry in listed}))}
    return [Item(path, numbers[person], 0, VISIBLE) for path, person, _ in listed]


def _own_visible_people(cls: type[TwoModalityDataset], root: str, keys: Any) -> list[Item]:
    visible = sorted(cls(**cls.options(keys)).read(root).visible)
    if not all_known(identities(visible)):
        raise UserError(
            f"MGOT.DATA.STRANGERS: {cls.name} does not say who is in its visible training images: choose one that"
            " does, such as LLCM"
        )
    return visible
