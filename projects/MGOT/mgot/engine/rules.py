"""Ranges and combinations of keys that no type can tell: what each may be, and a word on what it is not."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.layers import pooling

from mgot.clustering import CLUSTERERS
from mgot.data.host_input import INPUT_BY, SAMPLERS
from mgot.data.image_set import CACHES
from mgot.data.overlap import DROPS
from mgot.engine.builders import GROWTHS, MODES
from mgot.engine.keys import flat
from mgot.engine.solver import stages
from mgot.errors import UserError
from mgot.evaluation.results import STAGES
from mgot.losses import LOSSES, weight_key
from mgot.matching import BELIEFS, MATCHERS, SUPPLIES, VIEWS
from mgot.modeling.discriminator import INITS
from mgot.modeling.host import DEPTHS, NORMS, WEIGHTS_SOURCES, backbone_names
from mgot.modeling.precision import PRECISIONS
from mgot.neighbours import SEARCHES

Rule = tuple[str, Any, bool, str]
"""A key, its value, whether that is allowed, and what is."""

# Keys of the host that nothing reads here, with the one value that is no promise, and why.
_IDLE = {
    "TEST.METRIC": ("cosine", "which MGOT scores by"),
    "DATASETS.COMBINEALL": (False, "since it would train on the test identities"),
}
_SCHEDULES = ("MultiStepLR", "CosineAnnealingLR")  # the host has arguments for these (solver/build.py:320)
_NOT_OF_THE_HOST = ("Optimizer", "LBFGS", "SparseAdam", "Muon")  # need a closure, or parameters of one kind
_SMALLEST_SIDE = 16  # of an image: the backbones divide by so much before their last stage


def check_config(cfg: CfgNode) -> None:
    """See that every key has a value that the run can keep.

    Raises:
        UserError: naming the key and what it may be.
    """
    themes = (_finite, _loop, _method, _network, _data, _host_solver, _host_model, _host_data, _idle)
    for key, value, holds, expected in [rule for theme in themes for rule in theme(cfg)]:
        if not holds:
            raise UserError(f"{key} must be {expected}, not {value!r}")
    stages(cfg)  # raises where warm-up outlasts a stage


def _finite(cfg: CfgNode) -> list[Rule]:
    """Every number; one that is none passes whatever comparison is turned round."""
    return [(key, value, _is_finite(value), "finite") for key, value in flat(cfg)]


def _is_finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_finite(part) for part in value)
    return not isinstance(value, float) or math.isfinite(value)


def _idle(cfg: CfgNode) -> list[Rule]:
    values = dict(flat(cfg))
    return [(key, values[key], values[key] == only, f"{only}, {why}") for key, (only, why) in _IDLE.items()]


def _loop(cfg: CfgNode) -> list[Rule]:
    """MGOT's loop: stages, guards, checkpoints and scoring."""
    mgot, stage, guard = cfg.MGOT, cfg.MGOT.CROSS_STAGE, cfg.MGOT.GUARD
    told = set(mgot.TEST.STAGES)
    return [
        ("MGOT.MODE", mgot.MODE, mgot.MODE in MODES, f"one of {MODES}"),
        ("MGOT.TEST.STAGES", mgot.TEST.STAGES, {"final"} <= told <= set(STAGES), f"of {STAGES}, 'final' always"),
        ("MGOT.TEST.TRIALS", mgot.TEST.TRIALS, mgot.TEST.TRIALS >= 1, "1 or more"),
        ("MGOT.TEST.REGDB_TRIAL", mgot.TEST.REGDB_TRIAL, 1 <= mgot.TEST.REGDB_TRIAL <= 10, "1 to 10"),
        ("MGOT.CROSS_START_EPOCH", mgot.CROSS_START_EPOCH, mgot.CROSS_START_EPOCH >= 0, "0 or more"),
        ("MGOT.CROSS_STAGE.BASE_LR", stage.BASE_LR, stage.BASE_LR >= 0, "0 or more"),
        ("MGOT.CROSS_STAGE.STEPS", stage.STEPS, _rising(stage.STEPS), "whole numbers from 0 on, none below another"),
        ("MGOT.CROSS_STAGE.RAMP_EPOCHS", stage.RAMP_EPOCHS, stage.RAMP_EPOCHS >= 0, "0 or more"),
        ("MGOT.CROSS_STAGE.GROWTH", stage.GROWTH, stage.GROWTH in GROWTHS, f"one of {GROWTHS}"),
        ("MGOT.CROSS_STAGE.BELIEF_GOAL", stage.BELIEF_GOAL, stage.BELIEF_GOAL > 0, "more than 0"),
        ("MGOT.CROSS_STAGE.RAMP_FROM", stage.RAMP_FROM, 0 <= stage.RAMP_FROM <= 1, "in [0, 1]"),
        ("MGOT.ITERS_PER_EPOCH", mgot.ITERS_PER_EPOCH, mgot.ITERS_PER_EPOCH >= 1, "1 or more"),
        ("MGOT.GUARD.MAX_SKIPPED_STEPS", guard.MAX_SKIPPED_STEPS, guard.MAX_SKIPPED_STEPS >= 0, "0 or more"),
        ("MGOT.GUARD.MIN_SPREAD", guard.MIN_SPREAD, 0 <= guard.MIN_SPREAD <= 1, "in [0, 1]"),
        ("MGOT.GUARD.MAX_CLUSTER_RATIO", guard.MAX_CLUSTER_RATIO, guard.MAX_CLUSTER_RATIO >= 1, "1 or more"),
        ("MGOT.COMPILE", mgot.COMPILE, not (mgot.COMPILE and mgot.RECOMPUTE), "False where MGOT.RECOMPUTE names parts"),
        ("MGOT.CHECKPOINT.KEEP", mgot.CHECKPOINT.KEEP, mgot.CHECKPOINT.KEEP >= 1, "1 or more"),
    ]


def _method(cfg: CfgNode) -> list[Rule]:
    """Clustering, matching, belief and losses."""
    cluster, match, loss, belief = cfg.MGOT.CLUSTER, cfg.MGOT.MATCHER, cfg.MGOT.LOSS, cfg.MGOT.BELIEF
    searches = ("auto", *SEARCHES)
    weights = {name: loss[name] for name in loss if name.startswith(("W_", "CPAL_"))}
    first = [loss.W_ADV, *(loss[weight_key(name)] for name in LOSSES if LOSSES[name].stage == "intra")]
    return [
        ("MGOT.BELIEF.NAME", belief.NAME, belief.NAME in BELIEFS, f"one of {sorted(BELIEFS)}"),
        ("MGOT.BELIEF.POWER", belief.POWER, belief.POWER >= 0, "0 or more"),
        ("MGOT.CLUSTER.NAME", cluster.NAME, cluster.NAME in CLUSTERERS, f"one of {sorted(CLUSTERERS)}"),
        ("MGOT.CLUSTER.MIN_CLUSTER_SIZE", cluster.MIN_CLUSTER_SIZE, cluster.MIN_CLUSTER_SIZE >= 2, "2 or more"),
        ("MGOT.CLUSTER.REACH", cluster.REACH, 0 < cluster.REACH < 1, "between 0 and 1"),
        ("MGOT.CLUSTER.EPS", cluster.EPS, 0 < cluster.EPS < 1, "between 0 and 1"),
        ("MGOT.CLUSTER.K1", cluster.K1, cluster.K1 >= 2, "2 or more"),
        ("MGOT.CLUSTER.K2", cluster.K2, 1 <= cluster.K2 <= cluster.K1, "between 1 and K1"),
        ("MGOT.CLUSTER.MIN_SAMPLES", cluster.MIN_SAMPLES, cluster.MIN_SAMPLES >= 1, "1 or more"),
        ("MGOT.CLUSTER.SEARCH", cluster.SEARCH, cluster.SEARCH in searches, f"one of {searches}"),
        ("MGOT.LOSS.TEMPERATURE", loss.TEMPERATURE, loss.TEMPERATURE > 0, "more than 0"),
        ("MGOT.LOSS.MOMENTUM", loss.MOMENTUM, 0 <= loss.MOMENTUM < 1, "in [0, 1)"),
        ("MGOT.MATCHER.NAME", match.NAME, match.NAME in MATCHERS, f"one of {sorted(MATCHERS)}"),
        ("MGOT.MATCHER.LAMBDA", match.LAMBDA, match.LAMBDA > 0, "more than 0"),
        ("MGOT.MATCHER.SUPPLY", match.SUPPLY, match.SUPPLY in SUPPLIES, f"one of {SUPPLIES}"),
        ("MGOT.MATCHER.VIEW", match.VIEW, match.VIEW in VIEWS, f"one of {VIEWS}"),
        ("MGOT.MATCHER.MAX_ITERATIONS", match.MAX_ITERATIONS, match.MAX_ITERATIONS >= 1, "1 or more"),
        ("MGOT.MATCHER.RELAXATION", match.RELAXATION, match.RELAXATION > 0, "more than 0"),
        ("MGOT.MATCHER.MIN_MASS", match.MIN_MASS, 0 <= match.MIN_MASS < 1, "in [0, 1)"),
        ("MGOT.LOSS.W_VCL", loss.W_VCL, any(first), "more than 0 where no other loss of the intra stage is"),
        *((f"MGOT.LOSS.{name}", value, value >= 0, "0 or more") for name, value in weights.items()),
    ]


def _network(cfg: CfgNode) -> list[Rule]:
    """DEN and its arithmetic."""
    mgot, den = cfg.MGOT, cfg.MGOT.DEN
    source = mgot.WEIGHTS_SOURCE
    return [
        ("MGOT.PRECISION", mgot.PRECISION, mgot.PRECISION in PRECISIONS, f"one of {PRECISIONS}"),
        ("MGOT.WEIGHTS_SOURCE", source, source in WEIGHTS_SOURCES, f"one of {WEIGHTS_SOURCES}"),
        ("MGOT.DEN.INIT", den.INIT, den.INIT in INITS, f"one of {INITS}"),
        ("MGOT.DEN.BACKBONE_LR_FACTOR", den.BACKBONE_LR_FACTOR, den.BACKBONE_LR_FACTOR > 0, "more than 0"),
        ("MGOT.DEN.REVERSAL_ITERS", den.REVERSAL_ITERS, den.REVERSAL_ITERS >= 1, "1 or more"),
        ("MGOT.DEN.DROPOUT", den.DROPOUT, 0 <= den.DROPOUT < 1, "in [0, 1)"),
    ]


def _data(cfg: CfgNode) -> list[Rule]:
    """MGOT's keys of data and augmentation."""
    data, aug = cfg.MGOT.DATA, cfg.MGOT.AUG
    named = data.STRANGERS != "" or data.REPLACED == 0
    return [
        ("MGOT.DATA.OVERLAP", data.OVERLAP, 0 <= data.OVERLAP <= 1, "in [0, 1]"),
        ("MGOT.DATA.OVERLAP_DROPS", data.OVERLAP_DROPS, data.OVERLAP_DROPS in DROPS, f"one of {DROPS}"),
        ("MGOT.DATA.OVERLAP_SEED", data.OVERLAP_SEED, data.OVERLAP_SEED >= 0, "0 or more"),
        ("MGOT.DATA.REPLACED", data.REPLACED, 0 <= data.REPLACED <= 1, "in [0, 1]"),
        (
            "MGOT.DATA.STRANGERS",
            data.STRANGERS,
            named,
            "a data set where MGOT.DATA.REPLACED is more than 0",
        ),
        ("MGOT.AUG.BY", aug.BY, aug.BY in INPUT_BY, f"one of {INPUT_BY}"),
        ("MGOT.AUG.GRAY_PROB", aug.GRAY_PROB, 0 <= aug.GRAY_PROB <= 1, "in [0, 1]"),
        ("MGOT.AUG.SPECTRAL_PROB", aug.SPECTRAL_PROB, 0 <= aug.SPECTRAL_PROB <= 1, "in [0, 1]"),
        ("MGOT.AUG.INFRARED_JITTER", aug.INFRARED_JITTER, 0 <= aug.INFRARED_JITTER <= 1, "in [0, 1]"),
    ]


def _host_solver(cfg: CfgNode) -> list[Rule]:
    """The host's optimiser, schedule and scoring."""
    keys, optimizers = cfg.SOLVER, optimizer_names()
    return [
        ("SOLVER.MAX_EPOCH", keys.MAX_EPOCH, keys.MAX_EPOCH >= 1, "1 or more"),
        ("SOLVER.AMP.ENABLED", keys.AMP.ENABLED, not keys.AMP.ENABLED, "False: set MGOT.PRECISION instead"),
        ("SOLVER.OPT", keys.OPT, keys.OPT in optimizers, f"one of {optimizers}"),
        ("SOLVER.BASE_LR", keys.BASE_LR, keys.BASE_LR > 0, "more than 0"),
        ("SOLVER.WEIGHT_DECAY", keys.WEIGHT_DECAY, keys.WEIGHT_DECAY >= 0, "0 or more"),
        ("SOLVER.SCHED", keys.SCHED, keys.SCHED in _SCHEDULES, f"one of {_SCHEDULES}"),
        ("SOLVER.STEPS", keys.STEPS, _rising(keys.STEPS), "whole numbers from 0 on, none below another"),
        ("SOLVER.GAMMA", keys.GAMMA, keys.GAMMA > 0, "more than 0"),
        ("SOLVER.WARMUP_ITERS", keys.WARMUP_ITERS, keys.WARMUP_ITERS >= 0, "0 or more"),
        ("SOLVER.DELAY_EPOCHS", keys.DELAY_EPOCHS, keys.DELAY_EPOCHS >= 0, "0 or more"),
        ("SOLVER.IMS_PER_BATCH", keys.IMS_PER_BATCH, keys.IMS_PER_BATCH >= 1, "1 or more"),
        ("SOLVER.CHECKPOINT_PERIOD", keys.CHECKPOINT_PERIOD, keys.CHECKPOINT_PERIOD >= 1, "1 or more"),
        ("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH, cfg.TEST.IMS_PER_BATCH >= 1, "1 or more"),
        ("TEST.AQE.QE_TIME", cfg.TEST.AQE.QE_TIME, cfg.TEST.AQE.QE_TIME >= 1, "1 or more"),
        ("TEST.AQE.QE_K", cfg.TEST.AQE.QE_K, cfg.TEST.AQE.QE_K >= 1, "1 or more"),
        ("TEST.AQE.ALPHA", cfg.TEST.AQE.ALPHA, cfg.TEST.AQE.ALPHA >= 0, "0 or more"),
        ("TEST.EVAL_PERIOD", cfg.TEST.EVAL_PERIOD, cfg.TEST.EVAL_PERIOD >= 0, "0 or more"),
        ("TEST.PRECISE_BN.ENABLED", cfg.TEST.PRECISE_BN.ENABLED, not cfg.TEST.PRECISE_BN.ENABLED, "False under MGOT"),
    ]


def _host_model(cfg: CfgNode) -> list[Rule]:
    """The host's keys of architecture. The depths of a backbone from outside are its own matter."""
    head, backbone, names = cfg.MODEL.HEADS, cfg.MODEL.BACKBONE, backbone_names()
    depths = DEPTHS.get(backbone.NAME, (backbone.DEPTH,))
    pools = tuple(sorted(pooling.__all__))
    necks = tuple(name for name in NORMS if name != "FrozenBN")  # which has no weights to begin with
    return [
        ("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.META_ARCHITECTURE == "DEN", "DEN"),
        ("MODEL.BACKBONE.NAME", backbone.NAME, backbone.NAME in names, f"one of {names}"),
        ("MODEL.BACKBONE.DEPTH", backbone.DEPTH, backbone.DEPTH in depths, f"one of {depths} for {backbone.NAME}"),
        ("MODEL.BACKBONE.NORM", backbone.NORM, backbone.NORM in NORMS, f"one of {NORMS}"),
        ("MODEL.HEADS.NAME", head.NAME, head.NAME == "MGOTHead", "MGOTHead for DEN"),
        ("MODEL.HEADS.NORM", head.NORM, head.NORM in necks, f"one of {necks}"),
        ("MODEL.HEADS.POOL_LAYER", head.POOL_LAYER, head.POOL_LAYER in pools, f"one of {pools}"),
    ]


def _host_data(cfg: CfgNode) -> list[Rule]:
    """The host's keys of images and loaders."""
    keys, sizes = cfg.DATALOADER, f"[height, width], each {_SMALLEST_SIDE} or more"
    return [
        ("INPUT.SIZE_TRAIN", cfg.INPUT.SIZE_TRAIN, _is_size(cfg.INPUT.SIZE_TRAIN), sizes),
        ("INPUT.SIZE_TEST", cfg.INPUT.SIZE_TEST, _is_size(cfg.INPUT.SIZE_TEST), sizes),
        ("DATALOADER.CACHE", keys.CACHE, keys.CACHE in CACHES, f"one of {CACHES}"),
        ("DATALOADER.CACHE_LIMIT_GB", keys.CACHE_LIMIT_GB, keys.CACHE_LIMIT_GB > 0, "more than 0"),
        ("DATALOADER.NUM_INSTANCE", keys.NUM_INSTANCE, keys.NUM_INSTANCE >= 1, "1 or more"),
        ("DATALOADER.NUM_WORKERS", keys.NUM_WORKERS, keys.NUM_WORKERS >= 0, "0 or more"),
        ("DATALOADER.SAMPLER_TRAIN", keys.SAMPLER_TRAIN, keys.SAMPLER_TRAIN in SAMPLERS, f"one of {SAMPLERS}"),
    ]


def optimizer_names() -> tuple[str, ...]:
    """PyTorch's optimisers that the host can build, which gives them parameter groups and no more (but SGD's own)."""
    found = (name for name, each in vars(torch.optim).items() if _is_optimizer(each))
    return tuple(sorted(name for name in found if name not in _NOT_OF_THE_HOST))


def _is_optimizer(each: Any) -> bool:
    return inspect.isclass(each) and issubclass(each, torch.optim.Optimizer)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _rising(steps: Sequence[Any]) -> bool:
    return all(_is_whole(step) and step >= 0 for step in steps) and list(steps) == sorted(steps)


def _is_size(size: Sequence[Any]) -> bool:
    return len(size) == 2 and all(_is_whole(side) and side >= _SMALLEST_SIDE for side in size)
