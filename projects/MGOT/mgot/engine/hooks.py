"""The hooks of an epoch. They say when something happens; :mod:`mgot.engine.epoch` and the core say how.

Their order, and what each needs and gives, is in :meth:`mgot.engine.trainer.MGOTTrainer.build_hooks`. They pass things
on in ``trainer.state``, a :class:`mgot.engine.epoch.RunState`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.engine.hooks import PeriodicWriter
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch import Tensor
from tqdm import tqdm

from mgot.clustering import Clusterer, OracleClusterer
from mgot.data.image_set import ImageSet
from mgot.data.items import identities
from mgot.data.loaders import build_ordered_loader, my_run
from mgot.data.transforms import draw_laws, under_laws_each
from mgot.distributed import average_buffers, gather_rows, on_main
from mgot.engine.config.builders import Believer, build_believer, build_clusterer, build_matcher
from mgot.engine.epoch import EpochState, MemoryRules, RunState, build_bank, describe_epoch, label_epoch, match_epoch
from mgot.engine.resume.output import trim_metrics
from mgot.engine.schedule.cross import cross_start_epoch, cross_weight
from mgot.matching import Matcher, Matching, OracleMatcher
from mgot.modeling.extraction import extract


class ClusteringHook(HookBase):
    """At each epoch's start: extract both training sets, cluster each modality, build its prototypes.

    Args:
        clusterer: features to clusters.
        batch_size: images of one extraction batch.
        num_workers: decoding processes of the extraction.
        spectral_too: extract the visible images under random laws of colour too, for the matcher.
    """

    in_checkpoint = True

    def __init__(
        self,
        clusterer: Clusterer | OracleClusterer,
        batch_size: int,
        num_workers: int,
        *,
        spectral_too: bool = False,
    ) -> None:
        self._clusterer, self._spectral_too = clusterer, spectral_too
        self._batch_size, self._num_workers = batch_size, num_workers

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ClusteringHook:
        """The hook that MGOT.MODE, MGOT.CLUSTER and MGOT.MATCHER.VIEW describe."""
        return cls(
            build_clusterer(cfg),
            cfg.TEST.IMS_PER_BATCH,
            cfg.DATALOADER.NUM_WORKERS,
            spectral_too=cfg.MGOT.MATCHER.VIEW != "colour",
        )

    def before_epoch(self) -> None:
        state: RunState = self.trainer.state
        state.epoch_before, state.epoch = state.epoch, self.label(self.trainer.epoch)

    def label(self, epoch: int) -> EpochState:
        """Clusters and prototypes by the current weights, as that epoch starts with them.

        A modality without clusters keeps the current labels, and so does one that falls from several to one. Every
        process must call this. Only the first one gets features.
        """
        trainer = self.trainer
        start = time.perf_counter()
        images, n_visible = trainer.data_loader.dataset, trainer.data_loader.n_visible
        loader = build_ordered_loader(images, self._batch_size, self._num_workers, device=trainer.device)
        features = gather_rows(extract(trainer.network, loader, desc=f"epoch {epoch}: extract"))
        spectral = self._spectral(epoch, images, n_visible) if self._spectral_too else None
        seconds = time.perf_counter() - start
        truth = identities(images.items)
        state = on_main(
            lambda: label_epoch(
                epoch,
                features[:n_visible],
                features[n_visible:],
                truth[:n_visible],
                truth[n_visible:],
                trainer.state.epoch,
                self._clusterer,
            ),
            send=EpochState.without_features,
        )
        state.seconds["extract"], state.spectral_v = seconds, spectral
        return state

    def _spectral(self, epoch: int, images: ImageSet, n_visible: int) -> Tensor:
        """(N_v, D) features of the visible images, each under a law of colour that the seed and the epoch fix."""
        trainer = self.trainer
        loader = build_ordered_loader(
            images, self._batch_size, self._num_workers, device=trainer.device, first=n_visible
        )
        generator = torch.Generator().manual_seed(trainer.cfg.SEED + 1009 * (epoch + 1))
        laws = draw_laws(n_visible, generator)
        run = my_run(n_visible)
        views = under_laws_each(loader, laws.run(run.start, run.stop), trainer.device)
        return gather_rows(extract(trainer.network, views, desc=f"epoch {epoch}: extract"))


class MatchingHook(HookBase):
    """At each epoch's start, after the clustering: match the clusters, fill the memories, start the loader.

    The matching is computed in the intra-modality stage too, but only for the log.

    Args:
        matcher: prototypes to matching.
        believer: prototypes and matching to the belief in each match.
        weigh: (epoch, mean belief) -> weight of the cross-modality terms, None before their stage.
        rules: of the memories.
        temperature: tau, for the diagnostics.
        view: what the matcher sees, MGOT.MATCHER.VIEW.
        cross_start: first epoch of the cross stage.
    """

    in_checkpoint = True

    def __init__(
        self,
        matcher: Matcher | OracleMatcher,
        believer: Believer,
        *,
        weigh: Callable[[int, float], float | None],
        rules: MemoryRules,
        temperature: float,
        view: str = "colour",
        cross_start: int = 0,
    ) -> None:
        self._matcher, self._believer, self._weigh, self._view = matcher, believer, weigh, view
        self._rules, self._temperature, self._cross_start = rules, temperature, cross_start

    @classmethod
    def from_config(cls, cfg: CfgNode) -> MatchingHook:
        """The hook that MGOT.MATCHER, MGOT.BELIEF, MGOT.LOSS and MGOT.CROSS_STAGE describe."""
        stage, start = cfg.MGOT.CROSS_STAGE, cross_start_epoch(cfg)
        return cls(
            build_matcher(cfg),
            build_believer(cfg),
            weigh=partial(
                cross_weight,
                start=start,
                growth=stage.GROWTH,
                belief_goal=stage.BELIEF_GOAL,
                ramp_epochs=stage.RAMP_EPOCHS,
                ramp_from=stage.RAMP_FROM,
            ),
            rules=MemoryRules.from_config(cfg),
            temperature=cfg.MGOT.LOSS.TEMPERATURE,
            view=cfg.MGOT.MATCHER.VIEW,
            cross_start=start,
        )

    def match(self, state: EpochState) -> Matching:
        """Match the clusters of a state, in place: :class:`mgot.engine.epoch.Matched`."""
        matched = on_main(lambda: match_epoch(state, self._matcher, self._believer, self._view))
        for name, value in matched._asdict().items():
            setattr(state, name, value)
        return matched.matching

    def before_epoch(self) -> None:
        trainer = self.trainer
        state: EpochState = trainer.state.epoch
        self.match(state)
        assert state.belief is not None
        weight = self._weigh(trainer.epoch, state.belief.mean())
        trainer.state.bank = build_bank(
            state, self._rules, cross_weight=weight, device=trainer.device, cross_start=self._cross_start
        )
        trainer.start_batches()
        truth, n_visible = identities(trainer.data_loader.dataset.items), trainer.data_loader.n_visible
        scalars = on_main(
            lambda: describe_epoch(
                state, trainer.state.epoch_before, truth[:n_visible], truth[n_visible:], self._temperature
            )
        )
        trainer.storage.iter = trainer.iter  # between epochs fast-reid's storage is still at the last step
        trainer.storage.put_scalars(**scalars, smoothing_hint=False)


class MemoryUpdateHook(HookBase):
    """After each step: move the memories by all processes' features, outside autograd (docs/method.md section 4)."""

    def after_step(self) -> None:
        state: RunState = self.trainer.state
        step, state.step = state.step, None
        if step is not None:
            assert state.bank is not None
            state.bank.update(*step)


class GatherHook(HookBase):
    """At each epoch's end: copy the losses of its steps to the CPU, and average the processes' running statistics."""

    def after_epoch(self) -> None:
        average_buffers(self.trainer.network)
        self.trainer.write_losses()


class EpochWriter(PeriodicWriter):
    """Writes metrics.json and TensorBoard, only at each epoch's end and only in the first process.

    fast-reid's hook also writes within epochs, and its writers drop values of an iteration that was written before. The
    scores of an epoch would then be lost.

    Args:
        folder: OUTPUT_DIR.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__([])
        self._folder = folder

    def before_train(self) -> None:
        if not comm.is_main_process():
            return
        trim_metrics(self._folder / "metrics.json", self.trainer.start_epoch * self.trainer.iters_per_epoch)
        self._writers = self.trainer.build_writers()

    def after_step(self) -> None:
        """Nothing: see the class."""


class ProgressHook(HookBase):
    """A progress bar over the steps of each epoch, only on a terminal."""

    _bar: Any = None

    def before_epoch(self) -> None:
        trainer = self.trainer
        self._bar = tqdm(
            total=trainer.iters_per_epoch,
            desc=f"epoch {trainer.epoch}: train",
            leave=False,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def after_step(self) -> None:
        self._bar.update()

    def after_epoch(self) -> None:
        self._bar.close()
