"""When a run saves a checkpoint, and what happens if it cannot be written."""

from __future__ import annotations

import logging
from typing import Any

import torch
from fastreid.engine.train_loop import HookBase
from torch import Tensor

from mgot.engine.resume.checkpoint import FINAL, INTRA, AtomicCheckpointer
from mgot.errors import UserError

logger = logging.getLogger("mgot")


class CheckpointHook(HookBase):
    """Saves at the end of each period and of the run.

    It is the last hook, so an epoch is logged and scored before it is saved.

    Args:
        period: epochs, SOLVER.CHECKPOINT_PERIOD.
        intra: epochs of the intra-modality stage; after it, one more checkpoint is saved for other runs. 0 for none.
    """

    def __init__(self, period: int, *, intra: int = 0) -> None:
        self._period, self._intra = period, intra

    def after_epoch(self) -> None:
        trainer = self.trainer
        if trainer.epoch + 1 == self._intra:
            trainer.save_checkpoint(INTRA, trainer.epoch)
        if trainer.epoch + 1 >= trainer.max_epoch:
            if not trainer.save_checkpoint(FINAL, trainer.epoch):
                raise UserError(
                    f"{trainer.cfg.OUTPUT_DIR}/{FINAL}.pth could not be written: make room and repeat the last epochs"
                    " with --resume"
                )
        elif (trainer.epoch + 1) % self._period == 0:
            trainer.save_checkpoint(f"model_{trainer.epoch:04d}", trainer.epoch)


def save_if_sound(checkpointer: AtomicCheckpointer, name: str, content: dict[str, Any]) -> bool:
    """Save a checkpoint of finite weights; returns whether it was written.

    If the disk is full, that checkpoint is skipped: an error is logged and training continues.

    Args:
        checkpointer: of the run.
        name: of the file.
        content: what is saved beside model, optimiser, schedule and scaler; with "epoch", the last finished one, and
            "step", the finished steps of the next.

    Raises:
        UserError: the weights are not finite. No run recovers from that.
    """
    broken = [key for key, value in checkpointer.model.state_dict().items() if not _is_finite(value)]
    if broken:
        raise UserError(
            f"epoch {content['epoch'] + (content['step'] > 0)}: {len(broken)} layers hold NaN or infinity"
            f" ({broken[0]}): nothing is saved; continue from the last checkpoint with --resume and a lower"
            " SOLVER.BASE_LR"
        )
    try:
        checkpointer.save(name, **content)
    except OSError as error:
        logger.error(f"{name}.pth could not be written ({error}): training continues, and earlier checkpoints stay")
        return False
    return True


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
