"""Who is trained on: a data set's training items, after MGOT.DATA has removed and replaced some."""

from __future__ import annotations

import logging

from fastreid.config import CfgNode

from mgot.data.items import Item, identities
from mgot.data.overlap import incomplete_overlap
from mgot.data.registered import FastreidDataset, visible_people
from mgot.data.replaced import replace_identities
from mgot.errors import UserError
from mgot.truth import all_known

logger = logging.getLogger("mgot")


def training_people(cfg: CfgNode, data: FastreidDataset, root: str) -> tuple[list[Item], list[Item]]:
    """Visible and infrared training items by MGOT.DATA: OVERLAP first, then REPLACED among those that are left.

    Args:
        cfg: the keys of MGOT.DATA and MGOT.TEST.
        data: the training set.
        root: the folder of the data sets, for the strangers.

    Raises:
        UserError: a modality would be left without an image, the strangers are missing, too few, or the training set's
            own people; or a key needs identities and the training set does not have them.
    """
    _require_identities(cfg, data)
    visible, infrared = _overlapping(cfg, data)
    return _with_strangers(cfg, data, visible, root), infrared


def _require_identities(cfg: CfgNode, data: FastreidDataset) -> None:
    """Refuse keys that need the identities of the training images if some are unknown."""
    asks = {
        "MGOT.MODE": cfg.MGOT.MODE == "supervised",
        "MGOT.CLUSTER.NAME": cfg.MGOT.CLUSTER.NAME == "oracle",
        "MGOT.MATCHER.NAME": cfg.MGOT.MATCHER.NAME == "oracle",
        "MGOT.DATA.OVERLAP": cfg.MGOT.DATA.OVERLAP < 1,
        "MGOT.DATA.REPLACED": cfg.MGOT.DATA.REPLACED > 0,
    }
    asking = [key for key, asked in asks.items() if asked]
    if asking and not all_known(identities([*data.visible, *data.infrared])):
        raise UserError(
            f"{asking[0]} needs identities, and {data.dataset.name} does not have them for every training image: leave"
            " the key at its default"
        )


def _overlapping(cfg: CfgNode, data: FastreidDataset) -> tuple[list[Item], list[Item]]:
    """Training items of both modalities by MGOT.DATA.OVERLAP, with a line about what was left out."""
    keys = cfg.MGOT.DATA
    if keys.OVERLAP == 1:
        return data.visible, data.infrared
    kept = incomplete_overlap(data.visible, data.infrared, keys.OVERLAP, keys.OVERLAP_DROPS, keys.OVERLAP_SEED)
    before, after = ({item.identity for item in v} & {item.identity for item in r} for v, r in (data.lists[:2], kept))
    logger.info(
        f"MGOT.DATA.OVERLAP {keys.OVERLAP}: {len(after)} of {len(before)} identities keep both modalities;"
        f" {len(data.visible) - len(kept[0])} visible and {len(data.infrared) - len(kept[1])} infrared images left out"
    )
    return kept


def _with_strangers(cfg: CfgNode, data: FastreidDataset, visible: list[Item], root: str) -> list[Item]:
    """Visible training items by MGOT.DATA.REPLACED, with a line about who is new."""
    keys = cfg.MGOT.DATA
    if keys.REPLACED == 0:
        return visible
    if cfg.DATASETS.NAMES[0] == keys.STRANGERS:
        raise UserError(f"MGOT.DATA.STRANGERS: '{keys.STRANGERS}' is the training set itself: choose another")
    strangers = visible_people(keys.STRANGERS, root, cfg.MGOT)
    first = 1 + max(item.identity for items in data.lists[:4] for item in items)
    items = replace_identities(visible, strangers, keys.REPLACED, keys.OVERLAP_SEED, first)
    came, remain = {item.identity for item in items if item.identity >= first}, {item.identity for item in visible}
    logger.info(
        f"MGOT.DATA.REPLACED {keys.REPLACED}: {len(came)} of {len(remain)} visible identities are people of"
        f" {keys.STRANGERS}, {sum(item.identity >= first for item in items)} of {len(items)} images"
    )
    return items
