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
        source: where it comes from, or what to do if it is missing; the end of a sentence.
        required: files that a complete copy has, below the folder -> where they come from.
        own_keys: keys that the config gets for it below MGOT.DATA, with their defaults.
        split_key: the key that chooses the split, if there are several.
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
        """The lists of ``<root>/<folder>``; a list may be empty if the data set allows it.

        Raises:
            UserError: naming the file or folder that is missing or malformed.
        """

    @abstractmethod
    def protocols(self, root: str | Path, lists: Lists) -> list[Protocol]:
        """The searches that the options choose, over ``lists.pool``.

        Raises:
            UserError: the options cannot be met.
        """

    @property
    def expected(self) -> Expected:
        """What was published about it; by default nothing."""
        return Expected()

    @property
    def split(self) -> int | str | None:
        """Its number, if it is one of several splits; other splits train on its test people.

        None if there is only one.
        """
        return None

    def splits(self) -> Sequence[TwoModalityDataset]:
        """The data set at each of its splits."""
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
        """More arguments, which put the validation people in place of the test people.

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
    """Class decorator: register a data set under ``name``, here and with everything that listens.

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
    """Call ``tell`` with the name and class of each registered data set, now and in future.

    This adds them to fast-reid's registry, although no data set imports fast-reid.
    """
    for name, cls in DATASETS.items():
        tell(name, cls)
    _listeners.append(tell)
