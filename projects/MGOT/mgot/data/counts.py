"""Is this the published data set? Compares image counts with the published ones, without opening an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from mgot.data.items import Item, Lists, cameras, identities
from mgot.evaluation.protocols import Protocol, valid_queries
from mgot.truth import UNKNOWN_IDENTITY

_NONE: Mapping[str, int] = MappingProxyType({})
NO_CAUSES: Mapping[tuple[str, int], str] = MappingProxyType({})


class Expected(NamedTuple):
    """What a complete copy holds; empty if nothing was published.

    Attributes:
        counts: name of a count, as in :func:`count` -> the published number.
        causes: (name of a count, number found) -> what is known to make a copy so.
        searches: name of a count, as in :func:`count_searches` -> the published number.
        of_all_splits: name of a count of all splits together -> the published number.
    """

    counts: Mapping[str, int] = _NONE
    causes: Mapping[tuple[str, int], str] = NO_CAUSES
    searches: Mapping[str, int] = _NONE
    of_all_splits: Mapping[str, int] = _NONE


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


def count_identities(items: Iterable[Item]) -> int:
    """Number of distinct identities, without the unknown one."""
    return len({item.identity for item in items} - {UNKNOWN_IDENTITY})


def count_searches(protocols: Iterable[Protocol], pool: list[Item]) -> dict[str, int]:
    """Gallery images and valid queries of each protocol's first trial."""
    found, ids, cams = {}, identities(pool), cameras(pool)
    for protocol in protocols:
        trial = protocol.trials[0]
        found[f"gallery images of {protocol.name}"] = len(trial.gallery)
        found[f"valid queries of {protocol.name}"] = int(valid_queries(trial, protocol.drop, ids, cams).sum())
    return found


def differences(
    found: Mapping[str, int], published: Mapping[str, int], causes: Mapping[tuple[str, int], str] = NO_CAUSES
) -> list[str]:
    """One line for each published count that differs, with its likely cause."""
    lines = []
    for name, number in published.items():
        if found[name] != number:
            cause = causes.get((name, found[name]), "the copy is incomplete, or is another data set in this layout")
            lines.append(f"{name}: {found[name]:,} instead of {number:,}: {cause}")
    return lines
