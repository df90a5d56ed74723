"""The first stages of a rehearsal: images, memory and weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from fastreid.config import CfgNode

from mgot.analysis.rehearsal.footprint import card_precision, footprint, seconds_per_view
from mgot.analysis.rehearsal.machine import ram_to_have
from mgot.analysis.rehearsal.scene import Lists, Sample, Scene, needed
from mgot.analysis.rehearsal.stand_in import StandIn, spread
from mgot.analysis.rehearsal.table import Row, duration
from mgot.data.disk_cache import cache_name
from mgot.data.image_set import CacheOptions, ImageSet
from mgot.data.items import Item
from mgot.data.loaders import CrossModalityLoader, build_dataset, build_train_loader, cache_options, data_root
from mgot.data.training_people import training_people
from mgot.engine.resume.checkpoint import AtomicCheckpointer
from mgot.engine.trainer import MGOTTrainer, without_pretraining
from mgot.errors import UserError
from mgot.modeling.precision import resolve_precision

SECONDS_OF_READING = 10.0  # that decoding a sample may take
SECONDS_OF_A_STEP = 20.0  # that a step on a CPU may take; a smaller one is scaled
LEAST_IMAGES = 32  # of a sample, of each modality
_RANDOM = "the stages after the weights used random weights, and their features and clusters come from these"
_TRIED = 8  # images to measure the speed
_SHARE_OF_MEMORY = 0.7  # of the RAM, that a rehearsed step may take


def read_lists(scene: Scene) -> Iterator[Row]:
    """List and count the images, and draw the galleries."""
    cfg = scene.cfg
    start = time.perf_counter()
    data = build_dataset(cfg, cfg.DATASETS.NAMES[0])
    visible, infrared = training_people(cfg, data, data_root())
    listed = time.perf_counter()
    tests = [build_dataset(cfg, name) for name in cfg.DATASETS.TESTS]
    protocols = [protocol for test in tests for protocol in test.protocols()]
    scoring = time.perf_counter() - listed
    for name, items in (("visible", visible), ("infrared", infrared)):
        if not items:
            raise UserError(f"{data.dataset.folder} holds no {name} training image: it must hold some")
    scene.notes += [*data.remarks, *(data.count_warnings() if cfg.MGOT.DATA.CHECK_COUNTS else [])]
    scene.lists = Lists(visible, infrared, tests)
    yield Row(
        "data",
        listed - start + scene.schedule.scorings * scoring,
        found=f"{len(visible):,} visible and {len(infrared):,} infrared training images,"
        f" {len(scene.lists.pools):,} test images, {len(protocols)} searches",
    )


def read_images(scene: Scene) -> Iterator[Row]:
    """Decode a sample of all images; an image that cannot be read is a failure, and another replaces it."""
    lists, cfg = needed(scene.lists, "data"), scene.cfg
    pace = _pace(lists.training, cfg.INPUT.SIZE_TRAIN)
    n_v, n_r, n_t = _shares(lists, SECONDS_OF_READING / pace)
    chosen_v, chosen_r = spread(n_v, len(lists.visible)), spread(n_r, len(lists.infrared))
    chosen = np.concatenate([chosen_v, len(lists.visible) + chosen_r])
    failure = ""
    start = time.perf_counter()
    train, broken = _decoded([lists.training[i] for i in chosen], cfg.INPUT.SIZE_TRAIN)
    pools = lists.pools
    test, broken_too = _decoded([pools[i] for i in spread(n_t, len(pools))], cfg.INPUT.SIZE_TEST)
    seconds = (time.perf_counter() - start) / (len(train) + len(test))
    scene.sample = Sample(chosen, len(chosen_v), train, test, seconds)
    problem = broken or broken_too
    if problem and not cfg.MGOT.DATA.SKIP_UNREADABLE:
        failure = f"{problem}; or set MGOT.DATA.SKIP_UNREADABLE True"
    count, how = _decoded_at_start(scene, lists)
    whole = count * seconds / scene.side_by_side
    found = f"{len(train) + len(test):,} of {len(lists.training) + len(pools):,} decoded, {duration(seconds)} each"
    yield Row("images", whole, "" if count else "-", how, found, failure)


def _pace(items: Sequence[Item], size: Sequence[int]) -> float:
    """Seconds to decode an image, from a few images after a warm-up; a broken image counts as 0."""
    few = [items[i] for i in spread(_TRIED + 1, len(items))]
    _decoded(few[:1], size)
    start = time.perf_counter()
    _decoded(few, size)
    return max(1e-5, (time.perf_counter() - start) / len(few))


def _shares(lists: Lists, n: float) -> tuple[int, int, int]:
    """Of n images, how many visible, infrared and test ones; at least a few of each."""
    parts = [len(lists.visible), len(lists.infrared), len(lists.pools)]
    v, r, t = (max(LEAST_IMAGES, int(n * part / sum(parts))) for part in parts)
    return v, r, t


def _decoded(items: Sequence[Item], size: Sequence[int]) -> tuple[ImageSet, str]:
    """The images decoded, and what is wrong with the first that cannot be read; the next one replaces it."""
    in_memory = CacheOptions("ram")
    try:
        return ImageSet(items, size, cache=in_memory), ""
    except UserError as error:
        problem = str(error)
    return ImageSet(items, size, cache=in_memory, skip_unreadable=True), problem


def _decoded_at_start(scene: Scene, lists: Lists) -> tuple[int, str]:
    """How many images a run decodes before it trains, and when."""
    cfg = scene.cfg
    if cfg.DATALOADER.CACHE == "off":
        return 0, "in the rows below"
    if cfg.DATALOADER.CACHE == "ram":
        return len(lists.training), f"{len(lists.training):,} at the start"
    missing = sum(len(items) for items, size in blocks(cfg, lists) if not on_disk(cfg, items, size))
    return missing, f"{missing:,} once for all runs"


def blocks(cfg: CfgNode, lists: Lists) -> list[tuple[list[Item], Sequence[int]]]:
    """Images and size of each block that DATALOADER.CACHE disk keeps."""
    tests = [[*test.query, *test.gallery] for test in lists.tests]
    return [(lists.training, cfg.INPUT.SIZE_TRAIN), *((items, cfg.INPUT.SIZE_TEST) for items in tests)]


def on_disk(cfg: CfgNode, items: Sequence[Item], size: Sequence[int]) -> bool:
    """Whether the disk cache has the block of these images already."""
    name = cache_name([item.path for item in items], (len(items), 3, *size))
    return (Path(cache_options(cfg).folder) / name).is_file()


def weigh_steps(scene: Scene) -> Iterator[Row]:
    """Measure small steps on the CPU, to estimate the memory of full ones."""
    cfg = scene.cfg
    start = time.perf_counter()
    on_card = card_precision(cfg)
    scene.lines["card"] = footprint(cfg, on_card)
    if scene.device.type == "cpu":
        own = resolve_precision(cfg.MGOT.PRECISION, scene.device)
        scene.lines["ram"] = scene.lines["card"] if own == on_card else footprint(cfg, own)
        scene.seconds_per_view = seconds_per_view(cfg, own)
    spent = time.perf_counter() - start
    yield Row("memory", whole="-", found=f"small steps at the true shapes on the CPU, {duration(spent)}")


def load_weights(scene: Scene) -> Iterator[Row]:
    """The starting weights. If they cannot be loaded, the later stages use random ones."""
    cfg = scene.cfg
    if cfg.MGOT.CROSS_STAGE.FROM:
        yield Row("weights", whole="-", found="those of MGOT.CROSS_STAGE.FROM, with the trainer")
        return
    start = time.perf_counter()
    scene.notes.append(_RANDOM)
    model = MGOTTrainer.build_model(without_pretraining(cfg) if cfg.MODEL.WEIGHTS else cfg)
    if cfg.MODEL.WEIGHTS:
        AtomicCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    scene.state = {name: value.cpu() for name, value in model.state_dict().items()}
    scene.notes.remove(_RANDOM)
    backbone = cfg.MODEL.BACKBONE
    fetched = backbone.PRETRAIN_PATH or f"ImageNet's, by {cfg.MGOT.WEIGHTS_SOURCE}"
    source = cfg.MODEL.WEIGHTS or (fetched if backbone.PRETRAIN else "random ones (MODEL.BACKBONE.PRETRAIN False)")
    yield Row("weights", time.perf_counter() - start, found=source)


def build_trainer(scene: Scene) -> Iterator[Row]:
    """The trainer on the real lists, with batches that are small enough for a rehearsal on this machine."""
    needed(scene.lists, "data")
    sample = needed(scene.sample, "images")
    start = time.perf_counter()
    trainer = trainer_class(scene, sample)(rehearsed_config(scene), weights_follow=True)
    if scene.state is not None:
        trainer.network.load_state_dict(scene.state)
    if scene.cfg.MGOT.CROSS_STAGE.FROM:
        trainer.resume_or_load(resume=False)
    scene.trainer = trainer
    classes, instances = _batch_in_reach(scene)
    shrink(trainer, classes, instances)
    scene.views_taken = 3 * classes * instances
    yield Row("trainer", time.perf_counter() - start, found=f"on {scene.device}, {trainer.network.precision}")


def trainer_class(scene: Scene, sample: Sample) -> type[MGOTTrainer]:
    """The run's trainer. If the run keeps its images decoded, the sample replaces them."""
    holder: Callable[..., ImageSet] = ImageSet
    if not scene.decodes_while_training:
        holder = partial(StandIn, chosen=sample.chosen, decoded=sample.train)

    class Rehearsing(MGOTTrainer):
        @classmethod
        def build_train_loader(cls, cfg: CfgNode) -> CrossModalityLoader:
            return build_train_loader(cfg, holder)

    return Rehearsing


def rehearsed_config(scene: Scene) -> CfgNode:
    """The user's config, but it writes into the rehearsal's folder, skips broken images and has enough steps."""
    cfg = scene.cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(scene.folder)
    cfg.DATALOADER.CACHE = "off"
    cfg.MGOT.DATA.SKIP_UNREADABLE = True
    cfg.MGOT.ITERS_PER_EPOCH = max(cfg.MGOT.ITERS_PER_EPOCH, scene.steps + 2)
    cfg.freeze()
    return cfg


def shrink(trainer: MGOTTrainer, classes: int, instances: int) -> None:
    """Set the pseudo classes, and images of each, of the next batches."""
    sampler = trainer.data_loader.sampler
    sampler.n_classes, sampler.n_instances = classes, instances


def _batch_in_reach(scene: Scene) -> tuple[int, int]:
    """Pseudo classes and images of each in a step: the config's, or fewer if a CPU is too slow or too small."""
    instances = scene.cfg.DATALOADER.NUM_INSTANCE
    classes = scene.cfg.SOLVER.IMS_PER_BATCH // (2 * instances)
    line = scene.lines.get("ram")
    if line is None or scene.seconds_per_view is None:
        return classes, instances
    views = SECONDS_OF_A_STEP / scene.seconds_per_view
    memory = ram_to_have()
    if memory is not None:
        views = min(views, line.room(_SHARE_OF_MEMORY * memory))
    if views < 3 * instances:
        return 1, max(2, min(instances, int(views / 3)))
    return min(classes, int(views / (3 * instances))), instances
