"""Rehearsed extraction and scoring: features of a sample, and the time that all images would take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from fastreid.evaluation.evaluator import inference_context
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from mgot.analysis.rehearsal.scene import Features, Scene, needed
from mgot.analysis.rehearsal.stand_in import repeated
from mgot.analysis.rehearsal.table import Row, duration, times
from mgot.data.image_set import ImageSet
from mgot.data.transforms import Laws, draw_laws, under_laws_each
from mgot.engine.trainer import MGOTTrainer
from mgot.engine.watch.evaluator import CrossModalityEvaluator
from mgot.modeling.extraction import embed

SECONDS_OF_EXTRACTION = 20.0  # of a sample; a batch of each modality at least
_SMALL_BATCH = 32  # of an extraction on a CPU, whose pace hardly hangs on it


def extract(scene: Scene) -> Iterator[Row]:
    """Features of the sample, as an epoch's start extracts those of all."""
    trainer, sample = needed(scene.trainer, "trainer"), needed(scene.sample, "images")
    lists = needed(scene.lists, "data")
    visible, infrared = range(sample.n_visible), range(sample.n_visible, len(sample.train))
    found = [embedded(scene, trainer, sample.train, part) for part in (visible, infrared)]
    spectral, total = None, len(lists.training)
    if scene.cfg.MGOT.MATCHER.VIEW != "colour":
        laws = draw_laws(len(found[0].features), torch.Generator().manual_seed(0))
        seen = visible[: len(found[0].features)]
        found.append(embedded(scene, trainer, sample.train, seen, laws=laws))
        spectral, total = found[2].features, total + len(lists.visible)
    scene.features = Features(found[0].features, found[1].features, spectral)
    seconds = pace([pace for each in found for pace in each.paces])
    rows = sum(len(each.features) for each in found)
    count = scene.schedule.labellings
    each = total * (with_decoding(scene, seconds, sample.seconds) if scene.decodes_while_training else seconds)
    told = f"{rows:,} of {total:,} images, {duration(seconds)} each"
    told += ", visible ones twice (MGOT.MATCHER.VIEW)" if spectral is not None else ""
    yield Row("extract", count * each, each=times(count, each), found=told)


def score(scene: Scene) -> Iterator[Row]:
    """Embed a sample of the test images, and score features of the whole pool's size by all protocols."""
    trainer, sample = needed(scene.trainer, "trainer"), needed(scene.sample, "images")
    lists, flip = needed(scene.lists, "data"), bool(scene.cfg.TEST.FLIP.ENABLED)
    features, paces = embedded(scene, trainer, sample.test, range(len(sample.test)), flip=flip)
    seconds, searching = pace(paces), 0.0
    for test in lists.tests:
        pool = repeated(features, len(test.query) + len(test.gallery), seed=2)
        evaluator = CrossModalityEvaluator(trainer.cfg, test)
        evaluator._predictions = [{"feats": pool}]
        start = time.perf_counter()
        evaluator.evaluate()
        searching += time.perf_counter() - start
    total, count = len(lists.pools), scene.schedule.scorings
    decodes = scene.cfg.DATALOADER.CACHE != "disk"  # memory is for the training images only
    each = total * (with_decoding(scene, seconds, sample.seconds) if decodes else seconds) + searching
    told = f"{len(features):,} of {total:,} images, {duration(seconds)} each; all searches in {duration(searching)}"
    yield Row("score", count * each, each=times(count, each), found=told)


class Embedded(NamedTuple):
    """(n, D) L2-normalised features, and the images and seconds of each batch."""

    features: Tensor
    paces: list[tuple[int, float]]


def embedded(
    scene: Scene, trainer: MGOTTrainer, images: ImageSet, part: range, *, flip: bool = False, laws: Laws | None = None
) -> Embedded:
    """Features of the first images of a part: all under laws of colour, otherwise as many as the time allows."""
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
    return Embedded(F.normalize(torch.cat(features), dim=1), paces)


def _extraction_batch(scene: Scene) -> int:
    asked: int = scene.cfg.TEST.IMS_PER_BATCH
    if scene.seconds_per_view is None or asked * scene.seconds_per_view < SECONDS_OF_EXTRACTION:
        return asked
    return min(asked, _SMALL_BATCH)


def pace(paces: list[tuple[int, float]]) -> float:
    """Seconds for each image. The first batch, which warms up the device, is left out if there are others."""
    kept = paces[1:] or paces
    return sum(seconds for _, seconds in kept) / sum(images for images, _ in kept)


def with_decoding(scene: Scene, seconds: float, decoding: float) -> float:
    """Seconds of work on images, decoding included: a GPU works at the same time, a CPU in turns with it."""
    beside = scene.device.type == "cuda" and scene.cfg.DATALOADER.NUM_WORKERS > 0
    decoding /= scene.side_by_side
    return max(seconds, decoding) if beside else seconds + decoding
