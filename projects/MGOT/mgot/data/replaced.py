"""Unpaired people: visible identities are replaced by strangers who have no infrared images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mgot.data.items import Item, identities
from mgot.errors import UserError


def replace_identities(
    visible: Sequence[Item], strangers: Sequence[Item], share: float, seed: int, first: int
) -> list[Item]:
    """Visible training items in which a share of the identities is replaced [field: SMC 2026; ours: the draw].

    Of the n visible identities, in a seeded random order, the first round(share n) are replaced, each by one stranger.
    An identity that is replaced at one share is replaced by the same images at every larger share of the same seed.
    Each image is replaced by one image, so the numbers of images and identities stay the same: m images are replaced by
    m of the stranger's, drawn without repetition. The stranger is the next one in a seeded order with m images or more.
    If none of those left has that many, it is the one with the most, and its images are used again.

    Args:
        visible: training items.
        strangers: visible items of another data set, with that set's identities.
        share: alpha, in [0, 1].
        seed: of the orders and the draws.
        first: the number of the first stranger; the next ones follow. No training identity has these numbers.

    Returns:
        As many items as `visible` holds, in its order.

    Raises:
        UserError: fewer strangers than identities to replace.
    """
    rng = np.random.default_rng(seed)
    present = rng.permutation(np.unique(identities(visible)))
    replaced = present[: round(share * len(present))].tolist()
    candidates = _shuffled(strangers, rng)
    if len(candidates) < len(replaced):
        raise UserError(
            f"MGOT.DATA.REPLACED {share} takes {len(replaced)} strangers, and MGOT.DATA.STRANGERS has"
            f" {len(candidates)}: lower REPLACED, or choose a larger data set"
        )
    places: dict[int, list[int]] = defaultdict(list)
    for place, item in enumerate(visible):
        places[item.identity].append(place)
    items = list(visible)
    for number, identity in enumerate(replaced, start=first):
        images = candidates.pop(_fitting(candidates, len(places[identity])))
        for turn, place in enumerate(places[identity]):
            items[place] = images[turn % len(images)]._replace(identity=number)
    return items


def _shuffled(strangers: Sequence[Item], rng: np.random.Generator) -> list[list[Item]]:
    """The images of each stranger in a random order, and the strangers in one."""
    by_identity: dict[int, list[Item]] = defaultdict(list)
    for item in strangers:
        by_identity[item.identity].append(item)
    people = [by_identity[identity] for identity in sorted(by_identity)]
    return [[people[who][i] for i in rng.permutation(len(people[who]))] for who in rng.permutation(len(people))]


def _fitting(candidates: Sequence[Sequence[Item]], count: int) -> int:
    """Index of the first candidate with `count` images or more; if there is none, of the first with the most."""
    sizes = [min(len(images), count) for images in candidates]
    return sizes.index(max(sizes))
