"""Is this the data set that everybody else has? Image counts against the published ones, without opening an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mgot.data.items import Item, Lists


class Expected(NamedTuple):
    """What a complete copy holds.

    Attributes:
        counts: name of a count, as in :func:`count` -> the published number.
        causes: (name of a count, number found) -> what is known to make a copy so.
    """

    counts: Mapping[str, int]
    causes: Mapping[tuple[str, int], str]


def count(lists: Lists) -> dict[str, int]:
    """Images and identities of training and test."""
    return {
        "visible training images": len(lists.visible),
        "infrared training images": len(lists.infrared),
        "training identities": count_identities(lists.visible + lists.infrared),
        "infrared test images": len(lists.query),
        "visible test images": len(lists.gallery),
        "test identities": count_identities(lists.pool),
    }


def count_identities(items: list[Item]) -> int:
    """Distinct identities."""
    return len({item.identity for item in items})


def differences(found: Mapping[str, int], expected: Expected) -> list[str]:
    """One line for each count that differs, with its likely cause."""
    lines = []
    for name, number in expected.counts.items():
        if found[name] != number:
            cause = expected.causes.get((name, found[name]), "the copy is incomplete, or is another set of that layout")
            lines.append(f"{name}: {found[name]:,} instead of {number:,}: {cause}")
    return lines
