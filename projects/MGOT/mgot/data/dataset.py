"""The interface of a data set, and the registry that it joins.

A data set is one file below :mod:`mgot.data.sets`, or anywhere else that is imported: a class that says what is on
disk, how it is read and how it is scored. Everything else goes through this interface: the training, the scoring,
``tools/check_dataset.py`` and fast-reid's registry. Nothing of fast-reid is imported here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from mgot.data.counts import Expected, count
from mgot.data.items import Lists
from mgot.errors import UserError
from mgot.evaluation.protocols import Protocol
from mgot.registry import Registry


class TwoModalityDataset(ABC):
    """A data set of two modalities, with its options: those of its constructor, all with defaults.

    Attributes:
        name: what the registry and DATASETS.NAMES call it.
        folder: its folder below the data root.
        source: where it comes from, or what to do where it is missing; ends a sentence.
        required: files that a complete copy has, below the folder -> where they come from.
        own_keys: keys that the config gets for it below MGOT.DATA, with their defaults.
        split_key: the key that chooses the split, where there are several.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    required: ClassVar[Mapping[str, str]] = MappingProxyType({})
    own_keys: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    split_key: ClassVar[str] = ""

    @property
    @abstractmethod
    def folder(self) -> str: ...

    @abstractmethod
    def read(self, root: str | Path) -> Lists:
        """The lists of ``<root>/<folder>``; a list may be empty where a data set allows it.

        Raises:
            UserError: naming the file or folder that is missing or malformed.
        """

    @abstractmethod
    def protocols(self, root: str | Path, lists: Lists) -> list[Protocol]:
        """The searches that the options ask for, over ``lists.pool``.

        Raises:
            UserError: they cannot be had.
        """

    @property
    def expected(self) -> Expected:
        """What was published of it; by default nothing."""
        return Expected()

    @property
    def split(self) -> int | str | None:
        """Which of several splits it is, whose test people others train on; None where there is one."""
        return None

    def splits(self) -> Sequence[TwoModalityDataset]:
        """Itself at each of its splits."""
        return [self]

    def counts(self, lists: Lists) -> dict[str, int]:
        """The counts that ``expected.counts`` knows, and others."""
        return count(lists)

    def counts_of_all_splits(self, read: Sequence[Lists]) -> dict[str, int]:
        """The counts that ``expected.of_all_splits`` knows, from the lists of every split."""
        return {}

    @classmethod
    def options(cls, keys: Any) -> dict[str, Any]:
        """Arguments of the constructor, from the config's node MGOT."""
        return {}

    @classmethod
    def validation_options(cls) -> dict[str, Any]:
        """Further ones that put the validation people in the place of the test people.

        Raises:
            UserError: the data set names no validation people.
        """
        raise UserError(
            f"MGOT.DATA.VALIDATION: {cls.name} names no validation people, as SYSUMM01 does: set it to False"
        )


D = TypeVar("D", bound=type[TwoModalityDataset])
Listener = Callable[[str, type[TwoModalityDataset]], None]

DATASETS: Registry[type[TwoModalityDataset]] = Registry("data set")
_listeners: list[Listener] = []


def register_dataset(name: str) -> Callable[[D], D]:
    """Class decorator: make a data set known under ``name``, here and to whoever listens.

    Raises:
        UserError: the name is taken.
    """

    def register(cls: D) -> D:
        DATASETS.add(name, cls)
        try:
            for tell in _listeners:
                tell(name, cls)
        except UserError:
            del DATASETS[name]
            raise
        cls.name = name
        return cls

    return register


def on_registration(tell: Listener) -> None:
    """Call ``tell`` with the name and class of each data set that is registered, and of each that will be.

    It is how fast-reid's registry learns of them, though no data set knows fast-reid.
    """
    for name, cls in DATASETS.items():
        tell(name, cls)
    _listeners.append(tell)
