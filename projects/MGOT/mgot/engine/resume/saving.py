"""When a run saves what it stands on, and what becomes of a checkpoint that cannot be written."""

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
    """Saves at each period's end and at the run's; stands last, so that a checkpoint's epoch is logged and scored.

    Args:
        period: epochs, SOLVER.CHECKPOINT_PERIOD.
        intra: epochs of the intra-modality stage, after which one more checkpoint is saved for other runs; 0 for none.
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
    """Save a checkpoint of finite weights; whether it was written.

    A full disk costs a checkpoint and not the run: an error is logged, and the run goes on.

    Args:
        checkpointer: of the run.
        name: of the file.
        content: beside model, optimiser, schedule and scaler; with "epoch", the last finished one, and "step", the
            steps done of the next.

    Raises:
        UserError: the weights are not finite, which no run recovers from.
    """
    broken = [key for key, value in checkpointer.model.state_dict().items() if not _is_finite(value)]
    if broken:
        raise UserError(
            f"epoch {content['epoch'] + (content['step'] > 0)}: {len(broken)} layers hold NaN or infinity"
            f" ({broken[0]}): nothing is saved; go on from the last checkpoint with --resume and a lower"
            " SOLVER.BASE_LR"
        )
    try:
        checkpointer.save(name, **content)
    except OSError as error:
        logger.error(f"{name}.pth could not be written ({error}): the run goes on and earlier checkpoints stay")
        return False
    return True


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
