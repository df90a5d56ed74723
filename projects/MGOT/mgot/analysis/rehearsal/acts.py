"""The later stages of a rehearsal: epochs with the run's own parts, a checkpoint, a resumed run, scores."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.engine.train_loop import HookBase
from fastreid.evaluation.evaluator import inference_context
from fastreid.utils.events import EventStorage
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from mgot.analysis.rehearsal.machine import children_memory, wait_for
from mgot.analysis.rehearsal.material import rehearsed_config, shrink, trainer_class
from mgot.analysis.rehearsal.scene import Features, Scene, needed
from mgot.analysis.rehearsal.stand_in import repeated
from mgot.analysis.rehearsal.table import Row, duration, gigabytes, times
from mgot.clustering import Clusterer, Clustering, OracleClusterer
from mgot.clustering import cluster as search
from mgot.data.image_set import ImageSet
from mgot.data.items import identities
from mgot.data.transforms import Laws, draw_laws, under_laws_each
from mgot.engine.config.builders import build_clusterer
from mgot.engine.epoch import EpochState, label_epoch
from mgot.engine.hooks import MatchingHook, MemoryUpdateHook
from mgot.engine.schedule.cross import cross_start_epoch
from mgot.engine.trainer import MGOTTrainer
from mgot.engine.watch.evaluator import CrossModalityEvaluator
from mgot.engine.watch.guards import EpochGuardHook
from mgot.engine.watch.records import RecordHook
from mgot.errors import UserError
from mgot.evaluation.one_search import score_search
from mgot.modeling.extraction import embed

SECONDS_OF_EXTRACTION = 20.0  # of a sample; a batch of each modality at least
_SMALL_BATCH = 32  # of an extraction on a CPU, whose pace hardly hangs on it
_IMAGES_OF_A_CLUSTER = 30  # where clusters have to be made up

Hook = TypeVar("Hook", bound=HookBase)


def wake() -> None:
    """Compile the loops of clustering and scoring, which a machine does once, so that they are not timed."""
    features = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).numpy()
    people = np.arange(64) // 4
    search(features, k1=8, k2=3)
    score_search(-(features @ features.T), people, people)


def hook_of(trainer: MGOTTrainer, kind: type[Hook]) -> Hook | None:
    """The trainer's hook of that kind; None where the config leaves it out."""
    return next((hook for hook in trainer._hooks if isinstance(hook, kind)), None)


def extract(scene: Scene) -> Iterator[Row]:
    """Features of the sample, as an epoch's start extracts those of all."""
    trainer, sample = needed(scene.trainer, "trainer"), needed(scene.sample, "images")
    lists = needed(scene.lists, "data")
    visible, infrared = range(sample.n_visible), range(sample.n_visible, len(sample.train))
    found = [_embedded(scene, trainer, sample.train, part) for part in (visible, infrared)]
    spectral, total = None, len(lists.training)
    if scene.cfg.MGOT.MATCHER.VIEW != "colour":
        laws = draw_laws(len(found[0].features), torch.Generator().manual_seed(0))
        seen = visible[: len(found[0].features)]
        found.append(_embedded(scene, trainer, sample.train, seen, laws=laws))
        spectral, total = found[2].features, total + len(lists.visible)
    scene.features = Features(found[0].features, found[1].features, spectral)
    seconds = _pace([pace for each in found for pace in each.paces])
    rows = sum(len(each.features) for each in found)
    count = scene.schedule.labellings
    each = total * (_with_decoding(scene, seconds, sample.seconds) if scene.decodes_while_training else seconds)
    told = f"{rows:,} of {total:,} images, {duration(seconds)} each"
    told += ", visible ones twice (MGOT.MATCHER.VIEW)" if spectral is not None else ""
    yield Row("extract", count * each, each=times(count, each), found=told)


class _Embedded(NamedTuple):
    """(n, D) L2-normalised features, and the images and seconds of each batch."""

    features: Tensor
    paces: list[tuple[int, float]]


def _embedded(
    scene: Scene, trainer: MGOTTrainer, images: ImageSet, part: range, *, flip: bool = False, laws: Laws | None = None
) -> _Embedded:
    """Features of the first images of a part: all under laws of colour, else as many as the time allows."""
    batches: Any = DataLoader(Subset(images, part), batch_size=_extraction_batch(scene))
    batches = iter(batches if laws is None else under_laws_each(batches, laws, scene.device))
    features: list[Tensor] = []
    paces: list[tuple[int, float]] = []
    begin = time.perf_counter()
    with inference_context(trainer.network), torch.inference_mode():
        while laws is not None or time.perf_counter() - begin < SECONDS_OF_EXTRACTION / 2:
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            features.append(embed(trainer.network, batch, flip).cpu())
            paces.append((len(features[-1]), time.perf_counter() - start))
    return _Embedded(F.normalize(torch.cat(features), dim=1), paces)


def _extraction_batch(scene: Scene) -> int:
    line = scene.lines.get("ram")
    asked: int = scene.cfg.TEST.IMS_PER_BATCH
    if line is None or asked * line.seconds_per_view < SECONDS_OF_EXTRACTION:
        return asked
    return min(asked, _SMALL_BATCH)


def _pace(paces: list[tuple[int, float]]) -> float:
    """Seconds an image; the first batch, which wakes the device, is left out where there are others."""
    kept = paces[1:] or paces
    return sum(seconds for _, seconds in kept) / sum(images for images, _ in kept)


def _with_decoding(scene: Scene, seconds: float, decoding: float) -> float:
    """Seconds of work on images that are decoded as well: beside a GPU's work, in turns with a CPU's."""
    beside = scene.device.type == "cuda" and scene.cfg.DATALOADER.NUM_WORKERS > 0
    decoding /= scene.side_by_side
    return max(seconds, decoding) if beside else seconds + decoding


def cluster(scene: Scene) -> Iterator[Row]:
    """Pseudo labels of as many features as the run has; where none come about, the later stages get made-up ones."""
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
        scene.notes.append("whether the real features cluster shows only where all of them are extracted")
    yield Row("cluster", count * each, each=times(count, each), found="-" if failure else told, failure=failure)


def _labelled(scene: Scene, f_v: Tensor, f_r: Tensor, clusterer: Clusterer | OracleClusterer) -> EpochState:
    lists = needed(scene.lists, "data")
    truth = identities(lists.visible), identities(lists.infrared)  # for the run's diagnosis, as in training
    return label_epoch(0, f_v, f_r, *truth, None, clusterer)


def _made_up(features: Tensor) -> Clustering:
    """Clusters of neighbours in the list, which any features have."""
    labels = np.arange(len(features)) // min(_IMAGES_OF_A_CLUSTER, max(1, len(features) // 2))
    return Clustering(labels, int(labels.max()) + 1, {})


def begin_epoch(scene: Scene, epoch: int) -> float:
    """Match, fill the memories, record and point the loader at an epoch, with the run's own hooks; their seconds."""
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


def intra(scene: Scene) -> Iterator[Row]:
    """A few steps of the intra-modality stage."""
    if scene.schedule.intra:
        yield _steps(scene, "intra steps", 0, scene.schedule.intra)


def cross(scene: Scene) -> Iterator[Row]:
    """A few steps of the cross-modality stage."""
    if scene.schedule.cross:
        yield _steps(scene, "cross steps", cross_start_epoch(scene.cfg), scene.schedule.cross)


def _steps(scene: Scene, name: str, epoch: int, epochs: int) -> Row:
    begin_epoch(scene, epoch)
    failure = ""
    paces: list[Any] = []
    while not paces:
        try:
            paces = [step(scene) for _ in range(scene.steps)]
        except torch.cuda.OutOfMemoryError:
            failure = (
                failure or "the GPU's memory does not hold a step: set MGOT.RECOMPUTE, or lower SOLVER.IMS_PER_BATCH"
            )
            _halve(scene)
            begin_epoch(scene, epoch)
    scene.workers = max(scene.workers, children_memory())
    kept = paces[1:] or paces
    compute, waited = (sum(part) / len(kept) for part in zip(*kept, strict=True))
    share = scene.views_taken / scene.views
    images = scene.cfg.SOLVER.IMS_PER_BATCH
    each = _each_step(scene, compute / share, waited / share, images)
    count = epochs * scene.schedule.steps
    told = f"{len(kept)} step{'s' * (len(kept) > 1)} of {scene.views_taken} views"
    told += "" if share == 1 else f", scaled to {scene.views}"
    return Row(name, count * each, each=times(count, each), found=told, failure=failure)


def _each_step(scene: Scene, compute: float, waited: float, images: int) -> float:
    """Seconds of a step: the waits of a few steps tell nothing of loader processes that had a start on them."""
    if scene.decodes_while_training and scene.cfg.DATALOADER.NUM_WORKERS:
        return _with_decoding(scene, compute, images * needed(scene.sample, "images").seconds)
    return compute + waited


def step(scene: Scene) -> tuple[float, float]:
    """One training step as the trainer takes it; its seconds of computing and of waiting for the batch."""
    trainer = needed(scene.trainer, "trainer")
    waited = _Waited(trainer.training_step.batches)
    trainer.training_step.batches = waited
    start = time.perf_counter()
    trainer.run_step()
    memory = hook_of(trainer, MemoryUpdateHook)
    assert memory is not None
    memory.after_step()
    wait_for(scene.device)
    trainer.training_step.batches = waited.batches
    trainer.iter += 1
    scene.taken += 1
    return time.perf_counter() - start - waited.seconds, waited.seconds


class _Waited(Iterator[Any]):
    """Batches, and how long they were waited for."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches, self.seconds = batches, 0.0

    def __next__(self) -> Any:
        start = time.perf_counter()
        batch = next(self.batches)
        self.seconds += time.perf_counter() - start
        return batch


def _halve(scene: Scene) -> None:
    """Half the batch from now on.

    Raises:
        torch.cuda.OutOfMemoryError: it is as small as can be.
    """
    trainer = needed(scene.trainer, "trainer")
    sampler = trainer.data_loader.sampler
    if sampler.n_classes > 1:
        shrink(trainer, sampler.n_classes // 2, sampler.n_instances)
    elif sampler.n_instances > 2:
        shrink(trainer, 1, sampler.n_instances // 2)
    else:
        raise torch.cuda.OutOfMemoryError("even a step of two images does not fit")
    scene.views_taken = 3 * sampler.n_classes * sampler.n_instances
    torch.cuda.empty_cache()


def save(scene: Scene) -> Iterator[Row]:
    """A checkpoint within the epoch, as a signal or an epoch's end would leave it."""
    trainer = needed(scene.trainer, "trainer")
    needed(scene.taken or None, "intra steps or cross steps")
    name = f"model_{scene.epoch:04d}_{scene.taken:05d}"
    trainer.write_losses()
    start = time.perf_counter()
    saved = trainer.save_checkpoint(name, scene.epoch - 1, scene.taken)
    each = time.perf_counter() - start
    if not saved:
        raise UserError("a checkpoint could not be written: make room, or choose another OUTPUT_DIR")
    scene.checkpoint = (scene.folder / f"{name}.pth").stat().st_size
    count, fittest = scene.schedule.saves, scene.schedule.fittest
    whole = (count + fittest / 3) * each  # the fittest epoch's file has the weights without their two moments
    scene.next_loss = _next_loss(scene)
    yield Row("save", whole, each=times(count, each), found=f"{gigabytes(scene.checkpoint)} a checkpoint")


def resume(scene: Scene) -> Iterator[Row]:
    """A second trainer goes on from the checkpoint; its next loss is compared with the first one's."""
    first = needed(scene.trainer, "trainer")
    expected = needed(scene.next_loss, "save")
    classes, instances = first.data_loader.sampler.n_classes, first.data_loader.sampler.n_instances
    scene.trainer = None
    del first
    gc.collect()
    if scene.device.type == "cuda":
        torch.cuda.empty_cache()
    start = time.perf_counter()
    second = trainer_class(scene, needed(scene.sample, "images"))(rehearsed_config(scene), weights_follow=True)
    second.resume_or_load(resume=True)
    shrink(second, classes, instances)
    scene.trainer = second
    with EventStorage(second.iters_per_epoch * second.start_epoch + second.beginning.step) as second.storage:
        second.epoch, second.iter = second.start_epoch, second.storage.iter
        second._begin_epoch(within=True)
        seconds = time.perf_counter() - start
        found = _next_loss(scene)
    same = "the next loss is the same" if found == expected else f"the next loss differs by {abs(found - expected):.1e}"
    yield Row("resume", whole="-", each=duration(seconds), found=same)


def _next_loss(scene: Scene) -> float:
    """The total loss of one more step.

    Raises:
        UserError: it is not finite.
    """
    trainer = needed(scene.trainer, "trainer")
    trainer.write_losses()
    at = trainer.iter
    step(scene)
    trainer.write_losses()
    values = [value for value, iteration in trainer.storage.history("total_loss").values() if iteration == at]
    if not values:
        raise UserError("no loss is finite: lower SOLVER.BASE_LR, or set MGOT.PRECISION float32")
    return float(values[-1])


def score(scene: Scene) -> Iterator[Row]:
    """Embed a sample of the test images, and score features of the whole pool's size by all protocols."""
    trainer, sample = needed(scene.trainer, "trainer"), needed(scene.sample, "images")
    lists, flip = needed(scene.lists, "data"), bool(scene.cfg.TEST.FLIP.ENABLED)
    features, paces = _embedded(scene, trainer, sample.test, range(len(sample.test)), flip=flip)
    seconds, searching = _pace(paces), 0.0
    for test in lists.tests:
        pool = repeated(features, len(test.query) + len(test.gallery), seed=2)
        evaluator = CrossModalityEvaluator(trainer.cfg, test)
        evaluator._predictions = [{"feats": pool}]
        start = time.perf_counter()
        evaluator.evaluate()
        searching += time.perf_counter() - start
    total, count = len(lists.pools), scene.schedule.scorings
    decodes = scene.cfg.DATALOADER.CACHE != "disk"  # memory is for the training images only
    each = total * (_with_decoding(scene, seconds, sample.seconds) if decodes else seconds) + searching
    told = f"{len(features):,} of {total:,} images, {duration(seconds)} each; all searches in {duration(searching)}"
    yield Row("score", count * each, each=times(count, each), found=told)
