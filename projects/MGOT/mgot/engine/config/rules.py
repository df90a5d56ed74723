"""What is wrong with a config: each key by its declared range, then the keys that limit each other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from fastreid.config import CfgNode

from mgot import config
from mgot.data.fastreid_input import OURS
from mgot.engine.config import fastreid_keys
from mgot.engine.config.keys import flat
from mgot.engine.schedule.solver import stages
from mgot.errors import UserError, shortened
from mgot.losses import LOSSES, weight_key
from mgot.modeling.fastreid_backbones import DEPTHS
from mgot.ranges import LARGEST, Allowed, is_whole, one_of

Rule = tuple[str, Any, bool, str]
"""A key, its value, whether it is allowed, and what is allowed."""

RANGES: dict[str, Allowed] = {**fastreid_keys.RANGES, **config.RANGES}
"""Key to its allowed values, for fast-reid's keys and ours."""

# Keys of fast-reid that nothing reads here, with the one value that is no promise, and why.
IDLE = {
    "TEST.METRIC": ("cosine", "which MGOT scores by"),
    "TEST.PRECISE_BN.ENABLED": (False, "because MGOT's loop has no such step"),
    "SOLVER.AMP.ENABLED": (False, "because MGOT.PRECISION replaces it"),
    "DATASETS.COMBINEALL": (False, "because it would train on the test identities"),
}


def check_config(cfg: CfgNode) -> None:
    """Check that every key has an allowed value.

    Raises:
        UserError: with the key and its allowed values.
    """
    values = dict(flat(cfg))
    of_one = (_numbers(values), _declared(values), _idle(values))
    of_several = (_method(cfg), _model(cfg), _data(cfg), _solver(cfg))
    for key, value, holds, expected in itertools.chain(*of_one, *of_several):
        if not holds:
            raise UserError(f"{key} must be {expected}, not {shortened(repr(value), 100)}")
    stages(cfg)  # raises if warm-up is longer than a stage


def _numbers(values: dict[str, Any]) -> Iterator[Rule]:
    """Every number, also in keys without a range, and in lists."""
    for key, value in values.items():
        for part in _parts(value):
            if isinstance(part, float):
                yield key, value, math.isfinite(part) or key == "SOLVER.CLIP_GRADIENTS.NORM_TYPE", "finite"
            if is_whole(part):
                yield key, value, abs(part) <= LARGEST, f"{LARGEST} at most"


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)
    else:
        yield value


def _declared(values: dict[str, Any]) -> Iterator[Rule]:
    for key, allowed in RANGES.items():
        yield key, values[key], allowed.holds(values[key]), allowed.words


def _idle(values: dict[str, Any]) -> Iterator[Rule]:
    for key, (only, why) in IDLE.items():
        yield key, values[key], values[key] == only, f"{only}, {why}"


def _method(cfg: CfgNode) -> Iterator[Rule]:
    cluster, rerank, data, loss = cfg.MGOT.CLUSTER, cfg.TEST.RERANK, cfg.MGOT.DATA, cfg.MGOT.LOSS
    weights = {name: loss[weight_key(name)] for name in LOSSES}
    for name, weight in weights.items():  # of those from outside too
        yield f"MGOT.LOSS.{weight_key(name)}", weight, weight >= 0, "0 or more"
    first = [loss.W_ADV, *(weight for name, weight in weights.items() if LOSSES[name].stage == "intra")]
    yield "MGOT.LOSS.W_VCL", loss.W_VCL, any(first), "more than 0 if no other loss of the intra stage is"
    second = "False if there is no second memory (MGOT.LOSS.W_DUAL is 0)"
    for key in ("ACCL_DUAL", "HYBRID_DUAL"):
        yield f"MGOT.LOSS.{key}", loss[key], loss.W_DUAL > 0 or not loss[key], second
    named = data.STRANGERS != "" or data.REPLACED == 0
    yield "MGOT.CLUSTER.K2", cluster.K2, cluster.K2 <= cluster.K1, f"between 1 and K1 (MGOT.CLUSTER.K1, {cluster.K1})"
    yield "MGOT.DATA.STRANGERS", data.STRANGERS, named, "a data set if MGOT.DATA.REPLACED is more than 0"
    yield "TEST.RERANK.K2", rerank.K2, rerank.K2 <= rerank.K1 + 1, f"between 1 and K1 + 1 (TEST.RERANK.K1, {rerank.K1})"


def _model(cfg: CfgNode) -> Iterator[Rule]:
    """The depths of a backbone from outside are not checked."""
    keys, mgot = cfg.MODEL.BACKBONE, cfg.MGOT
    plain = not (mgot.COMPILE and mgot.RECOMPUTE)
    yield "MGOT.COMPILE", mgot.COMPILE, plain, "False if MGOT.RECOMPUTE names parts"
    depths = one_of(DEPTHS.get(keys.NAME, (keys.DEPTH,)))
    yield "MODEL.BACKBONE.DEPTH", keys.DEPTH, depths.holds(keys.DEPTH), f"{depths.words} for {keys.NAME}"


def _data(cfg: CfgNode) -> Iterator[Rule]:
    """With a padding as wide as the image, some crops would show nothing of it."""
    padding, size, crop = cfg.INPUT.PADDING, cfg.INPUT.SIZE_TRAIN, cfg.INPUT.CROP
    by_fastreid, sampler = cfg.MGOT.AUG.BY == "host", cfg.DATALOADER.SAMPLER_TRAIN
    looks = sampler == OURS or not cfg.MGOT.OTHER_CAMERAS
    yield "MGOT.OTHER_CAMERAS", cfg.MGOT.OTHER_CAMERAS, looks, f"False if DATALOADER.SAMPLER_TRAIN is {sampler}"
    if padding.ENABLED:
        words = f"less than both sides of INPUT.SIZE_TRAIN, {list(size)}"
        yield "INPUT.PADDING.SIZE", padding.SIZE, all(side > padding.SIZE for side in size), words
        plain = by_fastreid or padding.MODE == "constant"
        yield "INPUT.PADDING.MODE", padding.MODE, plain, "constant if MGOT.AUG.BY is not host"
    if padding.ENABLED and crop.ENABLED and by_fastreid:
        fits = all(cut + 2 * padding.SIZE >= side for cut, side in zip(crop.SIZE, size, strict=True))
        yield "INPUT.CROP.SIZE", crop.SIZE, fits, f"{list(size)} (INPUT.SIZE_TRAIN) less 2 x INPUT.PADDING.SIZE or more"


def _solver(cfg: CfgNode) -> Iterator[Rule]:
    keys = cfg.SOLVER
    moves = keys.MOMENTUM > 0 or not keys.NESTEROV or keys.OPT != "SGD"
    yield "SOLVER.MOMENTUM", keys.MOMENTUM, moves, "more than 0 if SOLVER.NESTEROV is True"
