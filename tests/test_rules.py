"""Values that no type refuses and no run can keep: each is told by its key before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastreid.modeling.backbones.build import BACKBONE_REGISTRY

from mgot.engine.config.fastreid_keys import optimizer_names
from mgot.engine.config.rules import check_config
from mgot.engine.setup import default_config, load_config
from mgot.errors import UserError
from mgot.modeling.fastreid_backbones import DEPTHS

DEMO = str(Path(__file__).resolve().parent.parent / "projects/MGOT/configs/demo.yml")
Options = Callable[..., list[str]]

RISING = "whole numbers from 0 on, none below another"
REFUSED = [
    ("SOLVER.OPT", "Foo", "one of ('ASGD', "),
    ("SOLVER.OPT", "LBFGS", "one of ('ASGD', "),
    ("SOLVER.OPT", "Optimizer", "one of ('ASGD', "),
    ("SOLVER.SCHED", "StepLR", "one of ('MultiStepLR', 'CosineAnnealingLR')"),
    ("SOLVER.STEPS", "[9, 2]", RISING),
    ("SOLVER.STEPS", "[-1]", RISING),
    ("SOLVER.STEPS", "[1.5]", RISING),
    ("MGOT.CROSS_STAGE.STEPS", "[9, 2]", RISING),
    ("SOLVER.GAMMA", "-0.1", "in (0, 1]"),
    ("SOLVER.WEIGHT_DECAY", "-0.1", "in [0, 100]"),
    ("SOLVER.BASE_LR", "1e999", "finite"),
    ("SOLVER.IMS_PER_BATCH", "0", "2 to 65536"),
    ("SOLVER.WARMUP_ITERS", "-1", "0 or more"),
    ("MODEL.BACKBONE.NAME", "build_foo_backbone", "one of ('build_effnet_backbone', "),
    ("MODEL.BACKBONE.DEPTH", "50x", "one of ('10x', '18x') for build_slim_resnet_backbone"),
    ("MODEL.BACKBONE.NORM", "LN", "one of ('BN', "),
    ("MODEL.HEADS.NORM", "LN", "one of ('BN', "),
    ("MODEL.HEADS.NORM", "FrozenBN", "one of ('BN', "),
    ("MODEL.HEADS.POOL_LAYER", "Foo", "one of ("),
    ("MGOT.CLUSTER.SEARCH", "foo", "one of ('auto', 'symmetric', "),
    ("DATALOADER.NUM_INSTANCE", "0", "1 or more"),
    ("INPUT.SIZE_TRAIN", "[0, 0]", "[height, width], each 16 or more"),
    ("INPUT.SIZE_TRAIN", "[64]", "[height, width], each 16 or more"),
    ("INPUT.SIZE_TEST", "[64, 32, 3]", "[height, width], each 16 or more"),
    ("INPUT.SIZE_TEST", "[64.5, 32]", "[height, width], each 16 or more"),
]


@pytest.mark.parametrize(("key", "value", "expected"), REFUSED, ids=[" ".join(each[:2]) for each in REFUSED])
def test_a_value_is_refused_by_its_key(
    key: str, value: str, expected: str, tiny_options: Options, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as told:
        load_config(DEMO, tiny_options(key, value))
    assert str(told.value).startswith(f"{key} must be {expected}") and "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["SOLVER.BASE_LR", "MGOT.LOSS.TEMPERATURE", "SOLVER.GAMMA", "INPUT.REA.PROB"])
def test_a_number_that_is_none_is_refused_from_wherever_it_comes(
    key: str, tiny_options: Options, tmp_path: Path
) -> None:
    nested = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(key.split("."))).rstrip("\n")
    (tmp_path / "nan.yml").write_text(f"{nested} .nan\n")
    with pytest.raises(UserError, match=rf"^{key} must be finite, not nan$"):
        load_config(DEMO, [str(tmp_path / "nan.yml"), *tiny_options()])
    with pytest.raises(UserError, match=rf"command line: {key} cannot be 'nan'"):
        load_config(DEMO, tiny_options(key, "nan"))


def test_a_list_may_hold_no_infinity(tiny_options: Options) -> None:
    with pytest.raises(UserError, match=r"^MODEL\.PIXEL_MEAN must be finite, not \[1\.0, inf, 1\.0\]$"):
        load_config(DEMO, tiny_options("MODEL.PIXEL_MEAN", "[1.0, 1e999, 1.0]"))


def test_what_the_host_offers_is_allowed() -> None:
    assert set(DEPTHS) <= set(BACKBONE_REGISTRY._obj_map)
    cfg = default_config()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "DEN", "MODEL.HEADS.NAME", "MGOTHead"])
    for name, depths in DEPTHS.items():
        for depth in depths:
            cfg.merge_from_list(["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.DEPTH", depth])
            check_config(cfg)
    assert {"SGD", "Adam", "AdamW"} <= set(optimizer_names())
