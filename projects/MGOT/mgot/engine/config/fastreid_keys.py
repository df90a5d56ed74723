"""Allowed values of fast-reid's own keys under MGOT, each key separately. The rules handle keys that limit each other.

A key that is missing here is True or False, or MGOT does not use it. Ranges are [ours] if fast-reid has none and would
fail later.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from fastreid.layers import pooling
from fastreid.modeling.backbones.build import BACKBONE_REGISTRY

from mgot.modeling.fastreid_backbones import NORMS
from mgot.ranges import (
    FILLED,
    NAMES,
    STEPS,
    Allowed,
    Text,
    above,
    at_least,
    below,
    count,
    list_of,
    more_than,
    one_of,
    within,
)

_NOT_OF_FASTREID = ("Optimizer", "LBFGS", "SparseAdam", "Muon")  # need a closure, or parameters of one kind
_SMALLEST_SIDE, _LARGEST_SIDE = 16, 4096  # of an image: backbones divide by 16 before their last stage; memory ends
_LARGEST_BATCH = 65536
_POOL_NOTHING = {"Identity", "Flatten"}
_LARGEST_RATE = 100  # of learning and decay, and of their factors: past it every training diverges


def optimizer_names() -> tuple[str, ...]:
    """PyTorch's optimisers that fast-reid can build: it passes only parameter groups (except for SGD)."""
    found = (name for name, each in vars(torch.optim).items() if _is_optimizer(each))
    return tuple(sorted(name for name in found if name not in _NOT_OF_FASTREID))


def _is_optimizer(each: Any) -> bool:
    return inspect.isclass(each) and issubclass(each, torch.optim.Optimizer)


_SIZE = list_of(
    count(_SMALLEST_SIDE, _LARGEST_SIDE),
    f"[height, width], each {_SMALLEST_SIDE} or more and {_LARGEST_SIDE} at most",
    length=2,
)
_PIXEL = list_of(within(0, 255), "three numbers in [0, 255]", length=3)
_CHANCE = within(0, 1)
_STRENGTH = at_least(0)

RANGES: dict[str, Allowed] = {
    "MODEL.DEVICE": Text(r"cpu|cuda(:\d+)?", "cpu, cuda or cuda:<number>"),
    "MODEL.META_ARCHITECTURE": one_of(("DEN",)),
    "MODEL.FREEZE_LAYERS": NAMES,
    "MODEL.BACKBONE.NAME": one_of(BACKBONE_REGISTRY._obj_map),
    "MODEL.BACKBONE.LAST_STRIDE": one_of((1, 2)),
    "MODEL.BACKBONE.FEAT_DIM": at_least(1),
    "MODEL.BACKBONE.NORM": one_of(NORMS),
    "MODEL.BACKBONE.STRIDE_SIZE": list_of(count(1, 16), "two whole numbers, 1 to 16", length=2),
    **{f"MODEL.BACKBONE.{name}": below(0, 1) for name in ("DROP_PATH_RATIO", "DROP_RATIO", "ATT_DROP_RATE")},
    "MODEL.HEADS.NAME": one_of(("MGOTHead",)),
    "MODEL.HEADS.NORM": one_of(tuple(name for name in NORMS if name != "FrozenBN")),  # it has no weights to begin with
    "MODEL.HEADS.POOL_LAYER": one_of(tuple(sorted(set(pooling.__all__) - _POOL_NOTHING))),
    "MODEL.HEADS.NUM_CLASSES": at_least(0),
    "MODEL.PIXEL_MEAN": _PIXEL,
    "MODEL.PIXEL_STD": list_of(more_than(0), "three numbers more than 0", length=3),
    "INPUT.SIZE_TRAIN": _SIZE,
    "INPUT.SIZE_TEST": _SIZE,
    "INPUT.CROP.SIZE": _SIZE,
    "INPUT.CROP.SCALE": list_of(
        above(0, 1), "two shares of the area in (0, 1], the smaller one first", length=2, rising=True
    ),
    "INPUT.CROP.RATIO": list_of(more_than(0), "two ratios more than 0, the smaller one first", length=2, rising=True),
    **{f"INPUT.{name}.PROB": _CHANCE for name in ("FLIP", "CJ", "AUTOAUG", "AUGMIX", "REA", "RPT")},
    "INPUT.PADDING.MODE": one_of(("constant", "edge", "reflect", "symmetric")),
    "INPUT.PADDING.SIZE": at_least(0),
    **{f"INPUT.CJ.{name}": _STRENGTH for name in ("BRIGHTNESS", "CONTRAST", "SATURATION")},
    "INPUT.CJ.HUE": within(0, 0.5),
    "INPUT.REA.VALUE": _PIXEL,
    "DATASETS.NAMES": list_of(FILLED, "one name in a list, such as ('SYSUMM01',)", length=1),
    "DATASETS.TESTS": list_of(FILLED, "names in a list, such as ('SYSUMM01',)"),
    "DATALOADER.NUM_INSTANCE": at_least(1),
    "DATALOADER.NUM_WORKERS": count(0, 1024),
    "SOLVER.OPT": one_of(optimizer_names()),
    "SOLVER.MAX_EPOCH": at_least(1),
    "SOLVER.BASE_LR": above(0, _LARGEST_RATE),
    "SOLVER.HEADS_LR_FACTOR": within(0, _LARGEST_RATE),
    "SOLVER.MOMENTUM": below(0, 1),
    **{f"SOLVER.WEIGHT_DECAY{name}": within(0, _LARGEST_RATE) for name in ("", "_NORM", "_BIAS")},
    "SOLVER.BIAS_LR_FACTOR": within(0, _LARGEST_RATE),
    "SOLVER.SCHED": one_of(("MultiStepLR", "CosineAnnealingLR")),  # those that solver/build.py:320 has arguments for
    "SOLVER.DELAY_EPOCHS": at_least(0),
    "SOLVER.GAMMA": above(0, 1),
    "SOLVER.STEPS": STEPS,
    "SOLVER.ETA_MIN_LR": at_least(0),
    "SOLVER.WARMUP_FACTOR": within(0, 1),
    "SOLVER.WARMUP_ITERS": at_least(0),
    "SOLVER.WARMUP_METHOD": one_of(("constant", "linear", "exp")),
    "SOLVER.FREEZE_ITERS": at_least(0),
    "SOLVER.CHECKPOINT_PERIOD": at_least(1),
    "SOLVER.IMS_PER_BATCH": count(2, _LARGEST_BATCH),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": one_of(("norm", "value")),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": more_than(0),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": at_least(1),
    "TEST.IMS_PER_BATCH": at_least(1),
    "TEST.EVAL_PERIOD": at_least(0),
    "TEST.AQE.QE_TIME": count(1, 100),
    "TEST.AQE.QE_K": at_least(1),
    "TEST.AQE.ALPHA": at_least(0),
    "TEST.RERANK.K1": at_least(1),
    "TEST.RERANK.K2": at_least(1),
    "TEST.RERANK.LAMBDA": within(0, 1),
    "OUTPUT_DIR": Text(r"[^\0]+", "a folder"),
}
"""Key to what it may be."""
