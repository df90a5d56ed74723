"""Where a run starts: at epoch 0, at its own checkpoint, or at another run's intra-modality stage."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode

from mgot.engine.epoch import EpochState
from mgot.engine.resume.checkpoint import AtomicCheckpointer
from mgot.engine.resume.fork import begin_from_donor, check_images
from mgot.engine.resume.snapshot import unpack_epoch
from mgot.errors import UserError

logger = logging.getLogger("mgot")


@dataclass(frozen=True)
class Beginning:
    """Where a run starts.

    Attributes:
        epoch: the first one to train.
        step: steps of it that are done already.
        labels: current labels and matches; None if the run starts at epoch 0.
        donor: the checkpoint of another run that this one starts from; None if it starts at epoch 0 or continues.
        content: of the checkpoint, without model, optimiser, schedule and scaler; empty at epoch 0.
    """

    epoch: int = 0
    step: int = 0
    labels: EpochState | None = None
    donor: Path | None = None
    content: Mapping[str, Any] = field(default_factory=dict)


def find_beginning(
    cfg: CfgNode, checkpointer: AtomicCheckpointer, images: tuple[int, int], *, resume: bool
) -> Beginning:
    """Continue from the newest usable checkpoint of OUTPUT_DIR, or start, with MODEL.WEIGHTS or MGOT.CROSS_STAGE.FROM.

    Model, optimiser, schedule and scaler get the state of the checkpoint. If ``resume`` finds no checkpoint, the run
    starts.

    Args:
        cfg: of the run.
        checkpointer: of the run.
        images: numbers of visible and infrared training images.
        resume: look for a checkpoint in OUTPUT_DIR.

    Raises:
        UserError: as in :meth:`mgot.engine.resume.checkpoint.AtomicCheckpointer.load`, ``resume`` and
            :func:`mgot.engine.resume.fork.begin_from_donor`.
    """
    donor: Path | None = None
    content = _newest(cfg, checkpointer, images) if resume else None
    if content is None and cfg.MGOT.CROSS_STAGE.FROM:
        donor, content = begin_from_donor(cfg, checkpointer, images)
    if content is None:
        checkpointer.load(cfg.MODEL.WEIGHTS, checkpointables=[])
        return Beginning()
    epoch, step, labels = int(content["epoch"]) + 1, int(content["step"]), unpack_epoch(content["labels"])
    if content.get("other_matcher") and labels is not None:
        labels.matching = None  # how far two matchers agree is not how stable this one is
    logger.info(f"continuing from epoch {epoch}{f', step {step}' if step else ''}{f' of {donor}' if donor else ''}")
    return Beginning(epoch, step, labels, donor, content)


def _newest(cfg: CfgNode, checkpointer: AtomicCheckpointer, images: tuple[int, int]) -> dict[str, Any] | None:
    """Content of the newest usable checkpoint of OUTPUT_DIR; None where there is no checkpoint."""
    content, skipped = checkpointer.resume()
    for line in skipped:
        logger.warning(f"--resume skips {line}")
    if content is None:
        logger.info(f"--resume: {cfg.OUTPUT_DIR} holds no checkpoint; the run begins")
        return None
    try:
        check_images(content, images)
    except UserError as error:
        raise UserError(f"--resume: the run in {cfg.OUTPUT_DIR} cannot go on: {error}") from None
    return content
