"""The last rows of the table: GPU memory, RAM, disk and /dev/shm, needed and available."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from fastreid.config import CfgNode

from mgot.analysis.rehearsal.footprint import Footprint, card_precision, footprint, on_cpu
from mgot.analysis.rehearsal.machine import (
    GB,
    card_peak,
    free_disk,
    free_shared_memory,
    ram_peak,
    ram_to_have,
)
from mgot.analysis.rehearsal.material import blocks, on_disk
from mgot.analysis.rehearsal.scene import Scene, needed
from mgot.analysis.rehearsal.table import Row, gigabytes
from mgot.data.loaders import cache_options
from mgot.engine.resume.output import traces_of_a_run
from mgot.engine.trainer import MGOTTrainer, without_pretraining
from mgot.modeling.stages import default_stages

CUDA_BYTES = 0.8 * GB  # CUDA's own on a GPU, and the workspaces of cuDNN: estimated, not measured
_PREFETCHED = 2  # batches that a loader process has ready, PyTorch's default
_LOG_BYTES = 100_000  # of an epoch, in metrics.json and TensorBoard


def card(scene: Scene) -> Iterator[Row]:
    """The GPU's memory: measured if full batches were trained on one, otherwise estimated from small steps."""
    line = needed(scene.lines.get("card"), "memory")
    need = line.at(scene.views) + CUDA_BYTES
    found = f"estimated for {scene.views} views, with {gigabytes(CUDA_BYTES)} for CUDA itself"
    peak = card_peak(scene.device)
    if peak and scene.views_taken == scene.views:
        need, found = peak + CUDA_BYTES, f"measured; estimated: {gigabytes(need)}"
    if scene.card is None:
        yield Row("GPU memory", whole=gigabytes(need), found=f"{found}; no GPU here to compare with")
        return
    failure = ""
    if need > scene.card:
        failure = f"a step needs {gigabytes(need)}, the GPU has {gigabytes(scene.card)}: {_smaller_steps(scene, line)}"
    yield Row("GPU memory", whole=_of(need, scene.card), found=found, failure=failure)


def _smaller_steps(scene: Scene, line: Footprint) -> str:
    """Which keys to change so that a step fits the card."""
    assert scene.card is not None
    told, room = "", scene.card - CUDA_BYTES
    parts = None if scene.cfg.MGOT.RECOMPUTE else _recomputable(scene)
    if parts:
        line = footprint(_with_recompute(scene.cfg, parts), card_precision(scene.cfg))
        told = f'set MGOT.RECOMPUTE "{parts}", which brings it to {gigabytes(line.at(scene.views) + CUDA_BYTES)}'
        if line.at(scene.views) <= room:
            return told
        told += "; and then "
    per_class = 2 * scene.cfg.DATALOADER.NUM_INSTANCE
    images = int(line.room(room) / 3 * 2) // per_class * per_class
    if images:
        return f"{told}lower SOLVER.IMS_PER_BATCH to {images}"
    return f"{told}lower DATALOADER.NUM_INSTANCE, or INPUT.SIZE_TRAIN"


def _recomputable(scene: Scene) -> list[str]:
    """The containers of the backbone that hold its stages."""
    model = MGOTTrainer.build_model(without_pretraining(on_cpu(scene.cfg)))
    backbone = model.get_submodule("backbone")
    names = dict.fromkeys(name.partition(".")[0] for name in default_stages(backbone))
    return [name for name in names if name and any(True for _ in backbone.get_submodule(name).parameters())]


def _with_recompute(cfg: CfgNode, parts: Sequence[str]) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MGOT.RECOMPUTE, cfg.MGOT.COMPILE = list(parts), False
    cfg.freeze()
    return cfg


def ram(scene: Scene) -> Iterator[Row]:
    """RAM: the measured peak of this process, and an estimate of what a full run needs beyond it."""
    cfg, need, beyond = scene.cfg, float(ram_peak() + scene.workers), []
    if cfg.DATALOADER.CACHE == "ram" and scene.lists is not None and scene.sample is not None:
        missing = len(scene.lists.training) - len(scene.sample.train)
        need += missing * _image_bytes(cfg.INPUT.SIZE_TRAIN)
        beyond += [f"{missing:,} more images"] if missing else []
    line = scene.lines.get("ram")
    if line is not None and scene.views_taken < scene.views:
        need += line.at(scene.views) - line.at(scene.views_taken)
        beyond.append(f"a step of {scene.views} views")
    found = "measured: this process" + (" and its loaders" if scene.workers else "")
    found += f"; estimated: {' and '.join(beyond)}" if beyond else ""
    there = ram_to_have()
    if there is None:
        yield Row("RAM", whole=gigabytes(need), found=f"{found}; this system does not say what is free")
        return
    failure = ""
    if need > there:
        failure = f"a run needs {gigabytes(need)} and {gigabytes(there)} are available: {_less_memory(scene)}"
    yield Row("RAM", whole=_of(need, there), found=found, failure=failure)


def _less_memory(scene: Scene) -> str:
    keys = scene.cfg.DATALOADER
    told = ["set DATALOADER.CACHE disk"] if keys.CACHE == "ram" else []
    if scene.device.type == "cpu":
        told.append(f'set MGOT.RECOMPUTE "{_recomputable(scene)}" or lower SOLVER.IMS_PER_BATCH')
    if keys.NUM_WORKERS:
        told.append("lower DATALOADER.NUM_WORKERS")
    return ", or ".join(told) or "free some"


def disk(scene: Scene) -> Iterator[Row]:
    """OUTPUT_DIR: whether it is free for a new run, and whether its disk has room for one."""
    cfg, plan = scene.cfg, scene.schedule
    folder = Path(cfg.OUTPUT_DIR)
    size = needed(scene.checkpoint or _estimated_checkpoint(scene), "save")
    need = plan.kept * size + plan.epochs * (scene.record + _LOG_BYTES) + 2 * bool(plan.fittest) * size / 3
    there = free_disk(folder) + sum(path.stat().st_size for path in scene.folder.rglob("*") if path.is_file())
    failures = []
    if need > there:
        failures.append(
            f"a run needs {gigabytes(need)} and {gigabytes(there)} are free at {folder}: make room, lower"
            " MGOT.CHECKPOINT.KEEP, or choose another OUTPUT_DIR"
        )
    traces = traces_of_a_run(folder)
    if traces and not cfg.MGOT.OVERWRITE:
        failures.append(
            f"{folder} holds another run ({traces[0].name}): continue it with --resume, set MGOT.OVERWRITE True, or"
            " choose another OUTPUT_DIR"
        )
    found = f"{plan.kept} checkpoints of {gigabytes(size)}, records, logs"
    yield Row("disk", whole=_of(need, there), found=found, failure="; ".join(failures))


def _estimated_checkpoint(scene: Scene) -> int:
    """The weights and two moments of each, if no checkpoint was written."""
    return 3 * sum(value.numel() * value.element_size() for value in (scene.state or {}).values())


def image_cache(scene: Scene) -> Iterator[Row]:
    """The disk of DATALOADER.CACHE disk: blocks that do not exist yet, its limit, and the free space."""
    if scene.cfg.DATALOADER.CACHE != "disk":
        return
    lists, options = needed(scene.lists, "data"), cache_options(scene.cfg)
    all_of_it = blocks(scene.cfg, lists)
    need = sum(len(items) * _image_bytes(size) for items, size in all_of_it if not on_disk(scene.cfg, items, size))
    largest = max(len(items) * _image_bytes(size) for items, size in all_of_it)
    there, limit = free_disk(Path(options.folder)), options.limit_gb * GB
    failures = []
    if largest > limit:
        failures.append(
            f"the image cache needs {gigabytes(largest)}, over DATALOADER.CACHE_LIMIT_GB {options.limit_gb:g}: raise"
            " it, or set DATALOADER.CACHE off"
        )
    if need > there:
        failures.append(
            f"the image cache needs {gigabytes(need)} and {options.folder} has {gigabytes(there)} left: set"
            " DATALOADER.CACHE_DIR to another disk, or DATALOADER.CACHE off"
        )
    yield Row("image cache", whole=_of(need, there), found=f"in {options.folder}", failure="; ".join(failures))


def shared_memory(scene: Scene) -> Iterator[Row]:
    """/dev/shm: the batches that loader processes have ready, in training or extraction, whichever is larger."""
    there, workers = free_shared_memory(), scene.cfg.DATALOADER.NUM_WORKERS
    if there is None:
        yield Row("/dev/shm", whole="-", found="none on this system")
        return
    need = workers * _PREFETCHED * _handed_over(scene)
    failure = ""
    if need > there:
        failure = (
            f"{workers} loader processes hold {gigabytes(need)} there and {gigabytes(there)} are free: lower"
            " DATALOADER.NUM_WORKERS, or enlarge it (docker run --shm-size)"
        )
    found = f"{workers} loader processes, {_PREFETCHED} batches each" if workers else "no loader processes"
    yield Row("/dev/shm", whole=_of(need, there), found=found, failure=failure)


def _handed_over(scene: Scene) -> int:
    """Bytes of the largest batch from a loader process; 0 if images are kept decoded."""
    cfg = scene.cfg
    by_fastreid = cfg.MGOT.AUG.BY == "host"  # its transforms make float32 of both visible views
    sizes = []
    if scene.decodes_while_training:
        sizes.append(cfg.TEST.IMS_PER_BATCH * _image_bytes(cfg.INPUT.SIZE_TEST))
    if scene.decodes_while_training or by_fastreid:
        images, bytes_each = (scene.views, 4) if by_fastreid else (cfg.SOLVER.IMS_PER_BATCH, 1)
        sizes.append(images * bytes_each * _image_bytes(cfg.INPUT.SIZE_TRAIN))
    if cfg.DATALOADER.CACHE == "ram":  # the test images are decoded at each scoring
        sizes.append(cfg.TEST.IMS_PER_BATCH * _image_bytes(cfg.INPUT.SIZE_TEST))
    return max(sizes, default=0)


def _image_bytes(size: Sequence[int]) -> int:
    return int(3 * np.prod(size))


def _of(need: float, there: float) -> str:
    return f"{gigabytes(need)} of {gigabytes(there)}"
