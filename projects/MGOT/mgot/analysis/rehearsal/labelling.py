"""Rehearsed epochs, up to their first step: pseudo labels, matches, memories, with the hooks of the run itself."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from fastreid.engine.train_loop import HookBase
from torch import Tensor

from mgot.analysis.rehearsal.scene import Scene, needed
from mgot.analysis.rehearsal.stand_in import repeated
from mgot.analysis.rehearsal.table import Row, times
from mgot.clustering import Clusterer, Clustering, OracleClusterer
from mgot.clustering import cluster as search
from mgot.data.items import identities
from mgot.engine.config.builders import build_clusterer
from mgot.engine.epoch import EpochState, label_epoch
from mgot.engine.hooks import MatchingHook
from mgot.engine.schedule.cross import cross_start_epoch
from mgot.engine.trainer import MGOTTrainer
from mgot.engine.watch.guards import EpochGuardHook
from mgot.engine.watch.records import RecordHook
from mgot.errors import UserError
from mgot.evaluation.one_search import score_search

_IMAGES_OF_A_CLUSTER = 30  # if clusters have to be made up

Hook = TypeVar("Hook", bound=HookBase)


def wake() -> None:
    """Compile the loops of clustering and scoring. A machine does this once, so it is not timed."""
    features = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).numpy()
    people = np.arange(64) // 4
    search(features, k1=8, k2=3)
    score_search(-(features @ features.T), people, people)


def hook_of(trainer: MGOTTrainer, kind: type[Hook]) -> Hook | None:
    """The trainer's hook of that kind; None if the config leaves it out."""
    return next((hook for hook in trainer._hooks if isinstance(hook, kind)), None)


def cluster(scene: Scene) -> Iterator[Row]:
    """Pseudo labels of as many features as the run has. If there are no clusters, the later stages get made-up ones."""
    lists, sampled = needed(scene.lists, "data"), needed(scene.features, "extract")
    whole = len(sampled.visible) + len(sampled.infrared) == len(lists.training)
    f_v = repeated(sampled.visible, len(lists.visible), seed=0)
    f_r = repeated(sampled.infrared, len(lists.infrared), seed=1)
    failure = ""
    start = time.perf_counter()
    try:
        state = _labelled(scene, f_v, f_r, build_clusterer(scene.cfg))
    except UserError as error:
        failure = str(error)
    each = time.perf_counter() - start
    if failure:
        state = _labelled(scene, f_v, f_r, _made_up)
    scene.labels = state
    if sampled.spectral is not None:
        state.spectral_v = repeated(sampled.spectral, len(lists.visible), seed=0)  # of the same people, by the seed
    count = scene.schedule.labellings
    told = f"{len(state.phi_v):,} and {len(state.phi_r):,} clusters of {len(f_v):,} and {len(f_r):,} features"
    if not whole:
        told += ", the sample's repeated with noise"
        scene.notes.append("a sample cannot show whether the real features form clusters")
    yield Row("cluster", count * each, each=times(count, each), found="-" if failure else told, failure=failure)


def _labelled(scene: Scene, f_v: Tensor, f_r: Tensor, clusterer: Clusterer | OracleClusterer) -> EpochState:
    lists = needed(scene.lists, "data")
    truth = identities(lists.visible), identities(lists.infrared)  # for the run's diagnosis, as in training
    return label_epoch(0, f_v, f_r, *truth, None, clusterer)


def _made_up(features: Tensor) -> Clustering:
    """Clusters of neighbours in the list, which work for any features."""
    labels = np.arange(len(features)) // min(_IMAGES_OF_A_CLUSTER, max(1, len(features) // 2))
    return Clustering(labels, int(labels.max()) + 1, {})


def begin_epoch(scene: Scene, epoch: int) -> float:
    """Match, fill the memories, write the record and prepare the loader, with the run's hooks; their seconds."""
    trainer, labels = needed(scene.trainer, "trainer"), needed(scene.labels, "cluster")
    trainer.epoch, scene.epoch, scene.taken = epoch, epoch, 0
    trainer.iter = trainer.start_iter = epoch * trainer.iters_per_epoch
    trainer.state.epoch_before, trainer.state.epoch = trainer.state.epoch, dataclasses.replace(labels, epoch=epoch)
    record = hook_of(trainer, RecordHook)
    if record is not None and trainer.state.epoch_before is None:
        record.before_train()
    start = time.perf_counter()
    kinds: tuple[type[HookBase], ...] = (MatchingHook, EpochGuardHook, RecordHook)
    for kind in kinds:
        hook = hook_of(trainer, kind)
        if hook is not None:
            hook.before_epoch()
    return time.perf_counter() - start


def match(scene: Scene) -> Iterator[Row]:
    """Match the clusters, measure and record, as each epoch does after its clustering."""
    first = cross_start_epoch(scene.cfg) if not scene.schedule.intra else 0
    begin_epoch(scene, first)  # compiles and imports what an epoch needs
    each = begin_epoch(scene, first)
    state = needed(scene.trainer, "trainer").state.epoch
    assert state is not None and state.matching is not None
    k_v, k_r = state.matching.scores.shape
    before = scene.folder / "diagnostics"
    scene.record = max((path.stat().st_size for path in before.glob("*.npz")), default=0)
    count = scene.schedule.labellings
    yield Row("match", count * each, each=times(count, each), found=f"{k_v:,} x {k_r:,} prototypes, measures, record")
