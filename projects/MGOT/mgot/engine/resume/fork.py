"""A cross-modality stage that starts from the intra-modality stage of another run.

[ours]: runs that differ only in the cross stage can share one intra stage. The other run is the donor.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode

from mgot.data.registered import registered
from mgot.engine.config.keys import among, changes, saved_keys, told_of_a_donor
from mgot.engine.resume.checkpoint import AtomicCheckpointer, load_tensors, progress_of
from mgot.engine.resume.content import require_content
from mgot.engine.schedule.cross import cross_start_epoch
from mgot.errors import UserError

logger = logging.getLogger("mgot")

_KEY = "MGOT.CROSS_STAGE.FROM"


def writes_intra(cfg: CfgNode) -> bool:
    """Whether a run writes model_intra.pth: the key is on, and the run trains both stages, the first one itself."""
    keys = cfg.MGOT
    return keys.CHECKPOINT.INTRA and not keys.CROSS_STAGE.FROM and 0 < cross_start_epoch(cfg) < cfg.SOLVER.MAX_EPOCH


def donor_path(cfg: CfgNode) -> Path:
    """The checkpoint named by MGOT.CROSS_STAGE.FROM.

    Raises:
        UserError: there is no such file, or it is in OUTPUT_DIR.
    """
    path = Path(cfg.MGOT.CROSS_STAGE.FROM)
    if not os.path.isfile(path):  # False too for what can be no path
        raise UserError(
            f"{_KEY} {path}: no such file: name the model_intra.pth that another run left in its OUTPUT_DIR"
        )
    if os.path.dirname(os.path.realpath(path)) == os.path.realpath(cfg.OUTPUT_DIR):
        raise UserError(
            f"{_KEY} {path} is in OUTPUT_DIR: choose another OUTPUT_DIR, or continue that run with --resume"
        )
    return path


def begin_from_donor(
    cfg: CfgNode, checkpointer: AtomicCheckpointer, images: tuple[int, int]
) -> tuple[Path, dict[str, Any]]:
    """Load model, optimiser and schedule from the end of the donor's intra stage.

    A warning lists the keys that were different in the donor's intra stage.

    Args:
        cfg: of the run that begins.
        checkpointer: of the run that begins; says which data set it is on.
        images: numbers of visible and infrared training images.

    Returns:
        The donor's checkpoint and its further content, with ``other_matcher``: whether the donor matched by other keys.

    Raises:
        UserError: the checkpoint is missing or damaged; it is not from the end of an intra stage, at the epoch where
            this run's cross stage starts; it is of another seed, data set, model or optimiser; or its clusters came
            from ground truth.
    """
    path = donor_path(cfg)
    try:
        facts = load_tensors(path, mmap=True)
        place = progress_of(facts)
        require_content(facts)
        donor = saved_keys(facts)
        _check_place(cfg, donor, *place)
        _check_origin(cfg, donor, facts.get("about", {}), checkpointer.about)
        check_images(facts, images)
        content = checkpointer.take_up(path)
    except UserError as error:
        raise UserError(f"{_KEY} {path}: {str(error).removeprefix(f'{path}: ')}") from None
    now = saved_keys({"config": cfg.dump()})
    _tell_differences(path, donor, now)
    matcher = [key for key in now if among(key, ("MGOT.MATCHER.",))]
    content["other_matcher"] = any(donor.get(key) != now[key] for key in matcher)
    return path, content


def _check_place(cfg: CfgNode, donor: Mapping[str, Any], epochs: int, step: int) -> None:
    begin, end = cross_start_epoch(cfg), cfg.SOLVER.MAX_EPOCH
    if not 0 < begin < end:
        raise UserError(
            f"this run has no cross stage after an intra stage: MGOT.CROSS_START_EPOCH is {cfg.MGOT.CROSS_START_EPOCH},"
            f" SOLVER.MAX_EPOCH {end}, MGOT.MODE {cfg.MGOT.MODE}; change them, or leave {_KEY} empty"
        )
    if (epochs, step) != (begin, 0):
        where = f"step {step} of epoch {epochs}" if step else f"the end of epoch {epochs - 1}"
        raise UserError(
            f"the checkpoint is from {where}, and MGOT.CROSS_START_EPOCH is {begin}: name one of the end of epoch"
            f" {begin - 1}, such as model_intra.pth, or set MGOT.CROSS_START_EPOCH as the other run had it"
        )
    began = donor.get("MGOT.CROSS_START_EPOCH", begin)
    if began < begin and donor.get("MGOT.MODE") != "intra_only":
        raise UserError(
            f"the checkpoint is from the end of epoch {epochs - 1}, within the cross stage of its run, which had"
            f" MGOT.CROSS_START_EPOCH {began}: name that run's model_intra.pth and set MGOT.CROSS_START_EPOCH {began}"
        )


def _check_origin(cfg: CfgNode, donor: Mapping[str, Any], about: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    seed = donor.get("SEED", cfg.SEED)
    if seed != cfg.SEED:
        raise UserError(
            f"its run had SEED {seed}, this one has SEED {cfg.SEED}: set SEED {seed}, or -1 to take it over"
        )
    keys = " and ".join(filter(None, ("DATASETS.NAMES", registered(cfg.DATASETS.NAMES[0]).split_key)))
    for key in ("dataset", "split"):
        if about.get(key) != own.get(key):
            raise UserError(
                f"it was trained on {key} {about.get(key)}, and this run is on {key} {own.get(key)}: name a checkpoint"
                f" of the same data, or set {keys} to what its run had"
            )
    if "clusters" in about.get("ground_truth", "") and "clusters" not in own.get("ground_truth", ""):
        raise UserError(
            "its clusters came from the ground truth (MGOT.MODE supervised or MGOT.CLUSTER.NAME oracle), which no"
            " unsupervised run may begin with: name another checkpoint, or set the key as its run had it"
        )


def check_images(content: Mapping[str, Any], images: tuple[int, int]) -> None:
    """UserError where a checkpoint's labels are of other numbers of visible and infrared images."""
    labels = content["labels"]
    if labels is None:
        return
    found = tuple(len(labels["labels"][name]) for name in ("visible", "infrared"))
    if found != images:
        raise UserError(
            f"it was trained on {found[0]} visible and {found[1]} infrared images, and this run has {images[0]} and"
            f" {images[1]}: set FASTREID_DATASETS and the keys of MGOT.DATA as its run had them"
        )


def _tell_differences(path: Path, donor: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    asked = {key: value for key, value in now.items() if told_of_a_donor(key)}
    changed = changes(donor, asked)
    if changed:
        logger.warning(f"{_KEY} {path}: the intra stage was trained with other keys: {', '.join(changed)}")
    unknown = [f"{key} {value}" for key, value in asked.items() if donor and key not in donor]
    if unknown:
        logger.warning(f"{_KEY} {path}: it was trained before these keys were there: {', '.join(unknown)}")
