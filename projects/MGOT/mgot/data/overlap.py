"""Incomplete overlap: some identities keep only one modality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgot.data.items import Item, identities
from mgot.errors import UserError

DROPS = ("visible", "infrared", "both")


def incomplete_overlap(
    visible: Sequence[Item], infrared: Sequence[Item], share: float, drops: str, seed: int
) -> tuple[list[Item], list[Item]]:
    """Training items in which only a share of the identities has both modalities [ours].

    Of the n identities seen in both, in a seeded random order, the first round(share n) keep both; the others lose all
    their images of one modality. An identity that keeps both at one share also keeps both at every larger share of the
    same seed. Identities of a single modality stay as they are.

    Args:
        visible, infrared: training items.
        share: in [0, 1].
        drops: which modality the others lose: "visible", "infrared", or "both": they lose one or the other alternately.
        seed: of the order.

    Returns:
        The visible and the infrared items that are left, in their order.

    Raises:
        UserError: a modality would be left without an image.
    """
    shared = np.random.default_rng(seed).permutation(np.intersect1d(identities(visible), identities(infrared)))
    others = shared[round(share * len(shared)) :]
    lose_visible, lose_infrared = {
        "visible": (others, others[:0]),
        "infrared": (others[:0], others),
        "both": (others[::2], others[1::2]),
    }[drops]
    kept = _without(visible, lose_visible), _without(infrared, lose_infrared)
    for name, items in zip(("visible", "infrared"), kept, strict=True):
        if not items:
            raise UserError(
                f"MGOT.DATA.OVERLAP {share} with OVERLAP_DROPS '{drops}' leaves no {name} training image: raise it, or"
                " drop the other modality"
            )
    return kept


def _without(items: Sequence[Item], lost: np.ndarray) -> list[Item]:
    gone = set(lost.tolist())
    return [item for item in items if item.identity not in gone]
