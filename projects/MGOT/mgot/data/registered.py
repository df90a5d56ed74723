"""The data sets in the host's registry: thin classes over the host-free readers.

The host builds them as ``DATASET_REGISTRY.get(name)(root=..., **options)``; a class keeps the reader's lists and knows
the protocols of its pool, ``query + gallery``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from mgot.data import llcm, regdb, sysu
from mgot.data.counts import Expected, differences
from mgot.data.items import VISIBLE, Item, Lists
from mgot.errors import UserError
from mgot.evaluation.protocols import DIRECTIONS, Protocol

# The host's own reader of SYSU-MM01, whose items do not say which modality they are.
_UNMARKED = ("SYSU_mm",)


class TwoModalityDataset(ImageDataset):
    """A data set of two modalities.

    Attributes:
        visible: training images of the visible modality.
        infrared: training images of the infrared modality.
        train: both, visible first.
        query, gallery: the test pool: all infrared images, then all visible ones.
        remarks: what the reader passed over, one line each.
    """

    dataset_name = ""
    expected: Expected

    def __init__(self, lists: Lists, **kwargs: Any) -> None:
        self.lists = lists
        self.visible: list[Item] = lists.visible
        self.infrared: list[Item] = lists.infrared
        self.remarks: list[str] = lists.remarks
        super().__init__(lists.visible + lists.infrared, lists.query, lists.gallery, **kwargs)

    @classmethod
    def options(cls, keys: Any) -> dict[str, Any]:
        """Keyword arguments of the class, from the config's node MGOT.TEST."""
        raise NotImplementedError

    @classmethod
    def validation_options(cls) -> dict[str, Any]:
        """Further keyword arguments that put the validation people in the place of the test people.

        Raises:
            UserError: the data set names no validation people.
        """
        raise UserError(
            f"MGOT.DATA.VALIDATION: {cls.__name__} names no validation people, as SYSUMM01 does: set it to False"
        )

    def counts(self) -> dict[str, int]:
        """The counts that ``expected`` holds."""
        raise NotImplementedError

    def count_warnings(self) -> list[str]:
        """One line for each count that differs from the published data set's, with its likely cause; opens no image."""
        return [f"{type(self).__name__}: {line}" for line in differences(self.counts(), self.expected)]

    def combine_all(self) -> None:
        """Refused: the host would add the test identities to the training images."""
        raise UserError("DATASETS.COMBINEALL would train on the test identities: set it to False")

    def protocols(self) -> list[Protocol]:
        """The protocols asked for, over the pool ``query + gallery``."""
        raise NotImplementedError


@DATASET_REGISTRY.register()
class SYSUMM01(TwoModalityDataset):
    """SYSU-MM01; format, counts and citation in :mod:`mgot.data.sysu`, options in its ``protocols``."""

    dataset_dir = sysu.FOLDER
    dataset_name = "sysumm01"
    expected = sysu.EXPECTED

    def __init__(
        self,
        root: str = "datasets",
        *,
        modes: Sequence[str] = ("all", "indoor"),
        shots: Sequence[int] = (1, 10),
        draws: str = "auto",
        trials: int = 10,
        validation: bool = False,
        **kwargs: Any,
    ) -> None:
        self.root, self.modes, self.shots, self.draws, self.trials = root, modes, shots, draws, trials
        self.validation = validation
        super().__init__(sysu.read_sysu(root, validation=validation), **kwargs)

    @classmethod
    def options(cls, keys: Any) -> dict[str, Any]:
        return {"modes": keys.SYSU_MODES, "shots": keys.SYSU_SHOTS, "draws": keys.DRAWS, "trials": keys.TRIALS}

    @classmethod
    def validation_options(cls) -> dict[str, Any]:
        return {"validation": True}

    def counts(self) -> dict[str, int]:
        return sysu.counts(self.lists)

    def count_warnings(self) -> list[str]:
        """None where the validation people are scored: what is published counts them among the training people."""
        return [] if self.validation else super().count_warnings()

    def protocols(self) -> list[Protocol]:
        return sysu.protocols(
            self.root, self.lists, modes=self.modes, shots=self.shots, draws=self.draws, trials=self.trials
        )


@DATASET_REGISTRY.register()
class RegDB(TwoModalityDataset):
    """One split of RegDB; format, counts and citation in :mod:`mgot.data.regdb`, options in its functions."""

    dataset_dir = regdb.FOLDER
    dataset_name = "regdb"
    expected = regdb.EXPECTED

    def __init__(
        self, root: str = "datasets", *, split: int = 1, directions: Sequence[str] = DIRECTIONS, **kwargs: Any
    ) -> None:
        self.split, self.directions = split, directions
        super().__init__(regdb.read_regdb(root, split), **kwargs)

    @classmethod
    def options(cls, keys: Any) -> dict[str, Any]:
        return {"split": keys.REGDB_TRIAL, "directions": keys.DIRECTIONS}

    def counts(self) -> dict[str, int]:
        return regdb.counts(self.lists)

    def protocols(self) -> list[Protocol]:
        return regdb.protocols(self.lists, split=self.split, directions=self.directions)


@DATASET_REGISTRY.register()
class LLCM(TwoModalityDataset):
    """LLCM; format, counts and citation in :mod:`mgot.data.llcm`, options in its ``protocols``."""

    dataset_dir = llcm.FOLDER
    dataset_name = "llcm"
    expected = llcm.EXPECTED

    def __init__(
        self, root: str = "datasets", *, directions: Sequence[str] = DIRECTIONS, trials: int = 10, **kwargs: Any
    ) -> None:
        self.directions, self.trials = directions, trials
        super().__init__(llcm.read_llcm(root), **kwargs)

    @classmethod
    def options(cls, keys: Any) -> dict[str, Any]:
        return {"directions": keys.DIRECTIONS, "trials": keys.TRIALS}

    def counts(self) -> dict[str, int]:
        return llcm.counts(self.lists)

    def protocols(self) -> list[Protocol]:
        return llcm.protocols(self.lists, directions=self.directions, trials=self.trials)


def visible_people(name: str, root: str, keys: Any) -> list[Item]:
    """Visible training items of any registered data set, by path: ours, or one of the host's, of visible images alone.

    Args:
        name: in the host's registry.
        root: the folder of the data sets.
        keys: the config's node MGOT.TEST.

    Returns:
        Items whose identities, numbered from 0 where the host names them otherwise, count within that set. The host
        lists files as the disk gives them; the order here is always the same.

    Raises:
        UserError: no such data set is registered, its files are not there, or it mixes modalities unmarked.
    """
    if name in _UNMARKED:
        raise UserError(f"MGOT.DATA.STRANGERS: '{name}' mixes both modalities unmarked: choose LLCM or Market1501, say")
    try:
        cls = DATASET_REGISTRY.get(name)
    except KeyError:
        raise UserError(
            f"MGOT.DATA.STRANGERS: no data set named '{name}' is registered: choose LLCM or Market1501, say"
        ) from None
    if issubclass(cls, TwoModalityDataset):
        return sorted(cls(root=root, **cls.options(keys)).visible)
    try:
        listed = sorted(cls(root=root).train)
    except (RuntimeError, AssertionError, OSError) as error:
        raise UserError(
            f"MGOT.DATA.STRANGERS: {name} cannot be read under {root} ({error}): set FASTREID_DATASETS to its folder"
        ) from error
    numbers = {person: number for number, person in enumerate(sorted({entry[1] for entry in listed}))}
    return [Item(path, numbers[person], 0, VISIBLE) for path, person, _ in listed]
