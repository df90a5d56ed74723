"""Hooks of the host's trainer: they say when; :mod:`mgot.engine.epoch` and the core say how."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from fastreid.engine.hooks import PeriodicWriter
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch import Tensor
from tqdm import tqdm

from mgot.analysis.diagnostics.images import add_rankings
from mgot.clustering import Clusterer, OracleClusterer
from mgot.data.image_set import ImageSet
from mgot.data.items import identities
from mgot.data.loaders import build_ordered_loader, my_run
from mgot.data.transforms import draw_laws, under_laws_each
from mgot.distributed import average_buffers, gather_rows, on_main
from mgot.engine.builders import Believer
from mgot.engine.epoch import EpochState, build_bank, describe_epoch, label_epoch, match_epoch
from mgot.engine.resume.output import trim_metrics
from mgot.evaluation.results import ResultsFile, format_rows
from mgot.matching import Matcher, OracleMatcher
from mgot.modeling.extraction import extract

logger = logging.getLogger("mgot")


class ClusteringHook(HookBase):
    """At each epoch's start: extract both training sets, cluster each modality, build its prototypes.

    Args:
        clusterer: features to clusters.
        batch_size: images of one extraction batch.
        num_workers: decoding processes of the extraction.
        spectral_too: extract the visible images under random laws of colour too, for the matcher.
    """

    labels_epoch = True

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

    def before_epoch(self) -> None:
        trainer = self.trainer
        start = time.perf_counter()
        images, n_visible = trainer.data_loader.dataset, trainer.data_loader.n_visible
        loader = build_ordered_loader(images, self._batch_size, self._num_workers, device=trainer.device)
        features = gather_rows(extract(trainer.network, loader, desc=f"epoch {trainer.epoch}: extract"))
        spectral = self._spectral(images, n_visible) if self._spectral_too else None
        seconds = time.perf_counter() - start
        truth = identities(images.items)
        state = on_main(
            lambda: label_epoch(
                trainer.epoch,
                features[:n_visible],
                features[n_visible:],
                truth[:n_visible],
                truth[n_visible:],
                trainer.epoch_state,
                self._clusterer,
            ),
            send=EpochState.without_features,
        )
        state.seconds["extract"], state.spectral_v = seconds, spectral
        trainer.previous_state, trainer.epoch_state = trainer.epoch_state, state

    def _spectral(self, images: ImageSet, n_visible: int) -> Tensor:
        """(N_v, D) features of the visible images, each under a law of colour that the seed and the epoch fix."""
        trainer = self.trainer
        loader = build_ordered_loader(
            images, self._batch_size, self._num_workers, device=trainer.device, first=n_visible
        )
        generator = torch.Generator().manual_seed(trainer.cfg.SEED + 1009 * (trainer.epoch + 1))
        laws = draw_laws(n_visible, generator)
        run = my_run(n_visible)
        views = under_laws_each(loader, laws.run(run.start, run.stop), trainer.device)
        return gather_rows(extract(trainer.network, views, desc=f"epoch {trainer.epoch}: extract"))


class MatchingHook(HookBase):
    """At each epoch's start, after the clustering: match the clusters, fill the memories, point the loader at them.

    The matching is computed in the intra-modality stage too, where only the log looks at it.

    Args:
        matcher: prototypes to matching.
        believer: prototypes and matching to the belief in each match.
        weigh: epoch and mean belief to the weight of the cross-modality terms, None before their stage.
        momentum: m of the memories.
        temperature: tau, for the diagnostics.
        view: what the matcher sees, MGOT.MATCHER.VIEW.
        paired: draw the same cross labels for both modalities in the cross stage.
    """

    labels_epoch = True

    def __init__(
        self,
        matcher: Matcher | OracleMatcher,
        believer: Believer,
        *,
        weigh: Callable[[int, float], float | None],
        momentum: float,
        temperature: float,
        paired: bool,
        view: str = "colour",
    ) -> None:
        self._matcher, self._believer, self._weigh, self._view = matcher, believer, weigh, view
        self._momentum, self._temperature, self._paired = momentum, temperature, paired

    def before_epoch(self) -> None:
        trainer = self.trainer
        state: EpochState = trainer.epoch_state
        matched = on_main(lambda: match_epoch(state, self._matcher, self._believer, self._view))
        vars(state).update(matched._asdict())
        assert state.belief is not None
        weight = self._weigh(trainer.epoch, state.belief.mean())
        trainer.heads.bank = build_bank(state, momentum=self._momentum, cross_weight=weight, device=trainer.device)
        assert state.matching is not None
        pairing = weight is not None and self._paired
        paired = (state.matching.v2r, state.matching.r2v) if pairing else (None, None)
        trainer.start_batches(state.labels, *paired)
        truth, n_visible = identities(trainer.data_loader.dataset.items), trainer.data_loader.n_visible
        scalars = on_main(
            lambda: describe_epoch(
                state, trainer.previous_state, truth[:n_visible], truth[n_visible:], self._temperature
            )
        )
        trainer.storage.iter = trainer.iter  # between epochs the host's storage still stands at the last step
        trainer.storage.put_scalars(**scalars, smoothing_hint=False)


class MemoryUpdateHook(HookBase):
    """After each step: move the memories by the features of all ranks, outside autograd (docs/method.md section 4)."""

    def after_step(self) -> None:
        heads = self.trainer.heads
        step, heads.step = heads.step, None
        if step is not None:
            heads.bank.update(*step)


class GatherHook(HookBase):
    """At each epoch's end: the losses of its steps leave the device, and processes agree on running statistics."""

    def after_epoch(self) -> None:
        average_buffers(self.trainer.network)
        self.trainer._trainer.write_losses(self.trainer.storage)


class StageResultsHook(HookBase):
    """Scores the model before training, after the intra-modality stage, at each period and at the end.

    A run that begins at another run's intra-modality stage takes over the rows of the first two.

    Args:
        results: where the rows go.
        cross_start: first epoch of the cross-modality stage.
        period: TEST.EVAL_PERIOD; 0 scores at the stages' ends alone.
        stages: of "initial", "intra" and "final", those to score.
    """

    def __init__(self, results: ResultsFile, *, cross_start: int, period: int, stages: Sequence[str]) -> None:
        self._results = results
        self._cross_start, self._period, self._stages = cross_start, period, stages
        self._stage_began = time.perf_counter()

    def before_train(self) -> None:
        donor = self.trainer.donor
        if donor is not None:
            shared = [stage for stage in self._stages if stage in ("initial", "intra")]
            self._results.take_over(donor.parent / "results.json", shared, write=comm.is_main_process())
        elif self.trainer.start_iter == 0:
            self._results.clear()
            self._score("initial")
        self._stage_began = time.perf_counter()

    def after_epoch(self) -> None:
        done = self.trainer.epoch + 1
        if done >= self.trainer.max_epoch:
            self._score("final")
        elif done == self._cross_start:
            self._score("intra")
        elif self._period > 0 and done % self._period == 0:
            rows = self.trainer.score()
            table = format_rows(rows, self._results.content["ground_truth"])
            logger.info(f"epoch {self.trainer.epoch:3d} scored\n{table}")

    def _score(self, stage: str) -> None:
        if stage not in self._stages:
            return
        rows = self.trainer.score()
        now = time.perf_counter()
        if comm.is_main_process():
            self._results.add(stage, rows, now - self._stage_began)
        if self.trainer.rankings:
            add_rankings(self._results.path.parent, stage, self.trainer.rankings)
        self._stage_began = now
        logger.info(format_rows([{"stage": stage, **row} for row in rows], self._results.content["ground_truth"]))


class EpochWriter(PeriodicWriter):
    """Writes metrics.json and TensorBoard at each epoch's end alone.

    The host's writers drop whatever is put at an iteration that they have written before, and the host's hook writes
    within epochs too: the scores of an epoch whose last step was written would be lost.

    Args:
        folder: OUTPUT_DIR.
        build: makes the writers, which open their files.
    """

    def __init__(self, folder: Path, build: Callable[[], list[Any]]) -> None:
        super().__init__([])
        self._folder, self._build = folder, build

    def before_train(self) -> None:
        trim_metrics(self._folder / "metrics.json", self.trainer.start_epoch * self.trainer.iters_per_epoch)
        self._writers = self._build()

    def after_step(self) -> None:
        """Nothing: see the class."""


class ProgressHook(HookBase):
    """A bar over the steps of each epoch, on a terminal only."""

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
