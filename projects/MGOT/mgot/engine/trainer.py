"""The trainer: one class. Its loop and its order of hooks are an epoch of MGOT (docs/method.md section 1)."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.engine import DefaultTrainer
from fastreid.engine.hooks import IterationTimer
from fastreid.modeling.meta_arch import build_model
from fastreid.solver import build_lr_scheduler
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.events import EventStorage, JSONWriter, TensorboardXWriter
from torch import nn

from mgot import distributed  # noqa: F401  readies fast-reid for several processes
from mgot.data.loaders import CrossModalityLoader, build_train_loader
from mgot.engine.epoch import RunState
from mgot.engine.hooks import ClusteringHook, EpochWriter, GatherHook, MatchingHook, MemoryUpdateHook, ProgressHook
from mgot.engine.resume.beginning import Beginning, find_beginning
from mgot.engine.resume.checkpoint import AtomicCheckpointer
from mgot.engine.resume.fittest import FittestHook
from mgot.engine.resume.fork import writes_intra
from mgot.engine.resume.saving import CheckpointHook, save_if_sound
from mgot.engine.resume.signals import StopRequest
from mgot.engine.resume.snapshot import pack_process, pack_run, restore_process, unpack_bank, unpack_scalars
from mgot.engine.schedule.cross import cross_start_epoch
from mgot.engine.schedule.freeze import build_freeze_hook
from mgot.engine.schedule.order import in_order, runs
from mgot.engine.schedule.solver import StageHook, build_fused_optimizer, build_rate_hook, stages
from mgot.engine.step import TrainingStep
from mgot.engine.watch.about import describe_run, describe_training_set
from mgot.engine.watch.evaluator import ScoringHook, score_model
from mgot.engine.watch.guards import EpochGuardHook, StepGuard
from mgot.engine.watch.records import RecordHook, SummaryHook
from mgot.errors import Interrupted, UserError
from mgot.evaluation.results import ResultsFile
from mgot.matching import Matching
from mgot.modeling import DEN


class MGOTTrainer(DefaultTrainer):
    """Trains DEN by MGOT's loop.

    fast-reid's trainer builds the parts and calls the hooks. The loop is here. :meth:`build_hooks` has the hooks in
    order.

    Args:
        cfg: checked.
        weights_follow: a checkpoint will set all weights, so MODEL.BACKBONE.PRETRAIN is not used.

    Attributes:
        state: what the hooks pass to each other.
        beginning: where the run starts.
    """

    checkpointer: AtomicCheckpointer

    def __init__(self, cfg: CfgNode, *, weights_follow: bool = False) -> None:
        if weights_follow:  # fast-reid's constructor asks for the model by nothing but the config
            self.build_model = lambda cfg: type(self).build_model(without_pretraining(cfg))  # type: ignore[method-assign]
        super().__init__(cfg)
        self.iters_per_epoch = cfg.MGOT.ITERS_PER_EPOCH  # fast-reid has that of the whole data set
        self.max_iter = self.max_epoch * self.iters_per_epoch
        self.state, self.beginning = RunState(self.network.heads), Beginning()
        self.training_step = TrainingStep(
            self.model,
            self.optimizer,
            self.data_loader,
            scaled=self.network.precision == torch.float16,
            guard=StepGuard(self.network, cfg.MGOT.GUARD.MAX_SKIPPED_STEPS),
        )
        self._trainer = self.training_step  # where fast-reid looks for model, loader, optimiser and scaler
        made = self.checkpointer
        self.checkpointer = AtomicCheckpointer(
            self.model,
            cfg.OUTPUT_DIR,
            about=describe_training_set(cfg),
            keep=cfg.MGOT.CHECKPOINT.KEEP,
            save_to_disk=made.save_to_disk,
            **made.checkpointables,
            **({"grad_scaler": self.grad_scaler} if self.grad_scaler.is_enabled() else {}),
        )

    def build_hooks(self) -> list[Any]:
        """The hooks, in the order in which each phase calls them, with what each one needs -> gives.

        The phases and the things that are passed on are those of :mod:`mgot.engine.schedule.order`, which refuses a
        wrong order.
        """
        cfg, keys, out = self.cfg, self.cfg.MGOT, Path(self.cfg.OUTPUT_DIR)
        start, asked = cross_start_epoch(cfg), keys.TEST.STAGES
        results = ResultsFile(out / "results.json", describe_run(cfg))
        rate, stage = build_rate_hook(cfg, self.optimizer, self.scheduler), StageHook(stages(cfg), self.optimizer)
        freeze = build_freeze_hook(cfg, self.network, self.optimizer)
        clusters, matches = ClusteringHook.from_config(cfg), MatchingHook.from_config(cfg)

        def match_again(epoch: int) -> Matching:
            return matches.match(clusters.label(epoch))

        guard = EpochGuardHook(min_spread=keys.GUARD.MIN_SPREAD, max_ratio=keys.GUARD.MAX_CLUSTER_RATIO)
        record, line = RecordHook(out, cross_start=start), SummaryHook(cfg.SOLVER.IMS_PER_BATCH, cross_start=start)
        fittest = FittestHook(out, results, cross_start=start, match_again=match_again) if "fittest" in asked else None
        scores = ScoringHook(results, cross_start=start, period=cfg.TEST.EVAL_PERIOD, stages=asked)
        saver = CheckpointHook(cfg.SOLVER.CHECKPOINT_PERIOD, intra=start if writes_intra(cfg) else 0)
        return in_order(
            runs(IterationTimer()),
            runs(rate, after_step="optimiser -> optimiser", after_epoch="optimiser -> optimiser"),
            runs(freeze, before_step="weights -> weights"),
            runs(stage, before_epoch="optimiser -> optimiser"),
            runs(clusters, before_epoch="weights -> labels"),
            runs(matches, before_epoch="labels -> matches, memories, batches"),
            runs(guard, before_epoch="labels -> warnings"),
            runs(MemoryUpdateHook(), after_step="step, memories -> memories"),
            runs(GatherHook(), after_epoch="weights, losses -> weights, means"),
            runs(record if keys.DIAGNOSTICS else None, before_epoch="labels, matches -> record"),
            runs(ProgressHook()),
            runs(line, after_epoch="means -> line"),
            runs(fittest, before_epoch="weights, matches -> fittest", after_epoch="weights, labels, line -> scores"),
            runs(scores, before_train="weights -> scores", after_epoch="weights, line -> scores"),
            runs(EpochWriter(out), after_epoch="means, scores -> metrics"),
            runs(saver, after_epoch="weights, optimiser, labels, matches, memories, metrics -> checkpoint"),
        )

    def train(self) -> None:
        """Train to the last epoch.

        SIGTERM or SIGINT ends the run after its step, or after the epoch's scores, with a checkpoint. ``--resume``
        continues from it, bit for bit. If the signal comes while an epoch is labelled, the run ends after the first
        step.

        Raises:
            Interrupted: a signal came.
            UserError: a mistake that shows only during training, or a full disk.
        """
        self.iter = self.start_iter = self.start_epoch * self.iters_per_epoch + self.beginning.step
        with EventStorage(self.start_iter) as self.storage, StopRequest() as stop, _full_disk_told():
            try:
                self.before_train()
                for epoch in range(self.start_epoch, self.max_epoch):
                    self.epoch = epoch
                    self._train_epoch(stop)
            finally:
                self.after_train()

    def _train_epoch(self, stop: StopRequest) -> None:
        done = self.beginning.step if self.epoch == self.start_epoch else 0
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
        """Compute what an epoch needs at its start; a checkpoint from within the epoch already has it."""
        self.storage.epoch = self.epoch
        for hook in self._hooks:
            if not (within and getattr(hook, "in_checkpoint", False)):
                hook.before_epoch()
        if within:
            content = self.beginning.content
            self.state.bank = unpack_bank(content["memories"], self.device)
            self.start_batches(skip=self.beginning.step)
            unpack_scalars(self.storage, content["scalars"])
            restore_process(content["random"], self.network)

    def start_batches(self, *, skip: int = 0) -> None:
        """Draw this epoch's batches by labels and matches, without the first ``skip``, which were trained on already.

        Everything random in an epoch depends only on the seed and the epoch's number. So a resumed run does the same as
        a run without a stop.
        """
        epoch, bank = self.state.epoch, self.state.bank
        assert epoch is not None and bank is not None
        seed_all_rng(self.cfg.SEED + 1009 * (self.epoch + 1) + comm.get_rank())
        matches = (bank.v2r, bank.r2v) if self.cfg.MGOT.PAIRED_SAMPLING else (None, None)
        v2r, r2v = (None if table is None else table.numpy() for table in matches)
        self.data_loader.set_epoch(self.epoch, epoch.labels, v2r, r2v, skip=skip)
        self.training_step.batches = iter(self.data_loader)

    def run_step(self) -> None:
        """Forward, backward, optimiser."""
        self.training_step(self.iter)

    def write_losses(self) -> None:
        """Copy the losses of the steps so far to the CPU."""
        self.training_step.write_losses(self.storage)

    def resume_or_load(self, resume: bool = True) -> None:
        """See :func:`mgot.engine.resume.beginning.find_beginning`."""
        n_visible, n = self.data_loader.n_visible, len(self.data_loader.dataset)
        self.beginning = find_beginning(self.cfg, self.checkpointer, (n_visible, n - n_visible), resume=resume)
        self.start_epoch, self.state.epoch = self.beginning.epoch, self.beginning.labels

    def save_checkpoint(self, name: str, epoch: int, step: int = 0) -> bool:
        """Save everything that a resumed run needs; every process must call this.

        Args:
            name: of the file.
            epoch: the last finished one.
            step: steps done of the next.

        Returns:
            Whether it was written; True on processes that write none.

        Raises:
            UserError: the weights are not finite.
        """
        random = comm.gather(pack_process(self.network))
        if not comm.is_main_process():
            return True
        content = pack_run(self.state, self.storage, (epoch + 1) * self.iters_per_epoch)
        content.update(epoch=epoch, step=step, random=random, config=self.cfg.dump())
        return save_if_sound(self.checkpointer, name, content)

    def _stop_within(self, step: int, number: int) -> None:
        self.write_losses()
        saved = self.save_checkpoint(f"model_{self.epoch:04d}_{step:05d}", self.epoch - 1, step)
        self._stop(f"epoch {self.epoch} up to step {step}", saved, number)

    def _stop(self, where: str, saved: bool, number: int) -> None:
        last = f"{where} is saved" if saved else "the earlier checkpoints stay"
        raise Interrupted(number, f"{last} in {self.cfg.OUTPUT_DIR}; --resume continues from there")

    @property
    def network(self) -> DEN:
        """DEN itself, also if it is wrapped for several processes."""
        network = getattr(self.model, "module", self.model)
        assert isinstance(network, DEN)
        return network

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.network.device

    @property
    def donor(self) -> Path | None:
        """The checkpoint of another run that this one starts from."""
        return self.beginning.donor

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        logging.getLogger("fastreid").debug(f"Model:\n{model}")
        return model

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> CrossModalityLoader:
        return build_train_loader(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Any:
        return build_fused_optimizer(stages(cfg)[0].cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Any, iters_per_epoch: int) -> Any:
        return build_lr_scheduler(stages(cfg)[0].cfg, optimizer, cfg.MGOT.ITERS_PER_EPOCH)

    def build_writers(self) -> list[Any]:
        """metrics.json and TensorBoard, losses as medians over the epoch; the terminal gets MGOT's line per epoch."""
        out, window = Path(self.cfg.OUTPUT_DIR), self.iters_per_epoch
        return [JSONWriter(str(out / "metrics.json"), window), TensorboardXWriter(str(out), window)]

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """As fast-reid's: :func:`mgot.engine.watch.evaluator.score_model`."""
        return score_model(cfg, model)._asdict()


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{error}: the disk is full; make room and continue with --resume") from None


def without_pretraining(cfg: CfgNode) -> CfgNode:
    """The config of a model that gets its weights from a checkpoint: no pretrained ones are read or downloaded."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.freeze()
    return cfg
