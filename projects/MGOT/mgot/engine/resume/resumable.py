"""The host's trainer with a loop of its own: it saves everything, stops when asked, and goes on where it stood."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import torch
from fastreid.engine import DefaultTrainer
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import Tensor

from mgot.engine.epoch import EpochState
from mgot.engine.resume.checkpoint import FINAL, INTRA, AtomicCheckpointer
from mgot.engine.resume.fork import begin_from_donor
from mgot.engine.resume.signals import StopRequest
from mgot.engine.resume.snapshot import (
    pack_bank,
    pack_epoch,
    pack_scalars,
    random_states,
    restore_random_states,
    unpack_bank,
    unpack_epoch,
    unpack_scalars,
    versions,
)
from mgot.errors import Interrupted, UserError

logger = logging.getLogger("mgot")


class ResumableTrainer(DefaultTrainer):
    """Runs epochs from a checkpoint's epoch and step on, and saves checkpoints that allow it.

    Subclasses bring ``device``, ``heads`` with the memories, ``start_batches``, and hooks of which those with a true
    ``labels_epoch`` make the labels of an epoch, or else prepare it: a run that goes on within an epoch has what they
    made from its checkpoint.

    Attributes:
        start_step: step of the first epoch to begin with.
        epoch_state: labels and matches in force.
        donor: the checkpoint of another run that this one begins from; None where it begins at epoch 0 or goes on.
    """

    checkpointer: AtomicCheckpointer
    epoch_state: EpochState | None = None
    start_step = 0
    donor: Path | None = None
    _resumed: dict[str, Any] | None = None

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the newest usable checkpoint of OUTPUT_DIR, or begin, with MODEL.WEIGHTS or MGOT.CROSS_STAGE.FROM.

        Where ``resume`` finds no checkpoint at all, the run begins.

        Raises:
            UserError: as :meth:`mgot.engine.resume.checkpoint.AtomicCheckpointer.load`, ``resume`` and
                :func:`mgot.engine.resume.fork.begin_from_donor` have it.
        """
        content = None
        if resume:
            content, skipped = self.checkpointer.resume()
            for line in skipped:
                logger.warning(f"--resume passes over {line}")
        if content is None and resume:
            logger.info(f"--resume: {self.cfg.OUTPUT_DIR} holds no checkpoint; the run begins")
        if content is None and self.cfg.MGOT.CROSS_STAGE.FROM:
            n_visible, n = self.data_loader.n_visible, len(self.data_loader.dataset)
            self.donor, content = begin_from_donor(self.cfg, self.checkpointer, (n_visible, n - n_visible))
        if content is None:
            self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
            return
        self.start_epoch, self.start_step = int(content["epoch"]) + 1, int(content["step"])
        self.epoch_state = unpack_epoch(content["labels"])
        if content.get("other_matcher") and self.epoch_state is not None:
            self.epoch_state.matching = None  # how far two matchers agree is not how stable this one is
        self._resumed = content
        where = f", step {self.start_step}" if self.start_step else ""
        logger.info(f"going on from epoch {self.start_epoch}{where}" + (f" of {self.donor}" if self.donor else ""))

    def train(self) -> None:
        """Train to the last epoch.

        SIGTERM or SIGINT ends the run after its step, or after the epoch's scores, with a checkpoint from which
        ``--resume`` goes on bit for bit; one that comes while an epoch is being labelled, after its first step.

        Raises:
            Interrupted: a signal came.
            UserError: a mistake that shows only now, or a full disk.
        """
        self.iter = self.start_iter = self.start_epoch * self.iters_per_epoch + self.start_step
        with EventStorage(self.start_iter) as self.storage, StopRequest() as stop:
            try:
                self.before_train()
                for epoch in range(self.start_epoch, self.max_epoch):
                    self.epoch = epoch
                    self._run_epoch(stop)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise UserError(f"{error}: the disk is full; make room and go on with --resume") from None
            finally:
                self.after_train()

    def _run_epoch(self, stop: StopRequest) -> None:
        done = self.start_step if self.epoch == self.start_epoch else 0
        self._begin_epoch(within=done > 0)
        for step in range(done + 1, self.iters_per_epoch + 1):
            self.before_step()
            self.run_step()
            self.after_step()
            self.iter += 1
            if step < self.iters_per_epoch and stop.agreed(step):
                self._stop_within(step, stop.number)
        self.after_epoch()
        if self.epoch + 1 < self.max_epoch and stop.agreed(0):
            saved = self.save_checkpoint(f"model_{self.epoch:04d}", self.epoch)
            self._stop(f"the end of epoch {self.epoch}", saved, stop.number)

    def _begin_epoch(self, within: bool) -> None:
        self.storage.epoch = self.epoch
        for hook in self._hooks:
            if not (within and getattr(hook, "labels_epoch", False)):
                hook.before_epoch()
        if within:
            self._enter_epoch()

    def _enter_epoch(self) -> None:
        """Memories, batches, log and random states of an epoch that a checkpoint left in its middle."""
        assert self._resumed is not None and self.epoch_state is not None
        content, self._resumed = self._resumed, None
        self.heads.bank = unpack_bank(content["memories"], self.device)
        bank = self.heads.bank
        matches = [None if table is None else table.cpu().numpy() for table in (bank.v2r, bank.r2v)]
        paired = matches if self.cfg.MGOT.PAIRED_SAMPLING else (None, None)
        self.start_batches(self.epoch_state.labels, *paired, skip=self.start_step)
        unpack_scalars(self.storage, content["scalars"])
        states = content["random"]
        if len(states) == comm.get_world_size():
            restore_random_states(states[comm.get_rank()])
        else:
            logger.warning(f"the run had {len(states)} processes: its random numbers cannot be taken up exactly")

    def _stop_within(self, step: int, number: int) -> None:
        name = f"model_{self.epoch:04d}_{step:05d}"
        self.finish_log()
        saved = self.save_checkpoint(name, self.epoch - 1, step)
        self._stop(f"epoch {self.epoch} up to step {step}", saved, number)

    def _stop(self, where: str, saved: bool, number: int) -> None:
        last = f"{where} is saved" if saved else "the earlier checkpoints stay"
        raise Interrupted(number, f"{last} in {self.cfg.OUTPUT_DIR}; --resume goes on from there")

    def finish_log(self) -> None:
        """Put into the storage what a subclass still holds back."""

    def save_checkpoint(self, name: str, epoch: int, step: int = 0) -> bool:
        """Save all that a run stands on; every process must call this.

        A full disk costs a checkpoint and not the run: an error is logged, and the run goes on.

        Args:
            name: of the file.
            epoch: the last finished one.
            step: steps done of the next.

        Returns:
            Whether it was written; True on processes that write none.

        Raises:
            UserError: the weights are not finite, which no run recovers from.
        """
        states = comm.gather(random_states())
        if not comm.is_main_process():
            return True
        broken = [key for key, value in self.checkpointer.model.state_dict().items() if not _is_finite(value)]
        if broken:
            raise UserError(
                f"epoch {epoch + (step > 0)}: {len(broken)} layers hold NaN or infinity ({broken[0]}): nothing is"
                " saved; go on from the last checkpoint with --resume and a lower SOLVER.BASE_LR"
            )
        content = {
            "epoch": epoch,
            "step": step,
            "random": states,
            "labels": pack_epoch(self.epoch_state),
            "memories": pack_bank(self.heads.bank),
            "scalars": pack_scalars(self.storage, (epoch + 1) * self.iters_per_epoch),
            "config": self.cfg.dump(),
            "versions": versions(),
        }
        try:
            self.checkpointer.save(name, **content)
        except OSError as error:
            logger.error(f"{name}.pth could not be written ({error}): the run goes on and earlier checkpoints stay")
            return False
        return True


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


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
