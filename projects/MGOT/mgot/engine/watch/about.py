"""What checkpoints and results say about their run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastreid.config import CfgNode

from mgot.data.registered import configured
from mgot.engine.config.builders import ground_truth_used


def describe_training_set(cfg: CfgNode) -> dict[str, Any]:
    """What a checkpoint says about its training: data set, people to score, and the ground truth that it used."""
    about: dict[str, Any] = {"dataset": cfg.DATASETS.NAMES[0]}
    if cfg.MGOT.DATA.VALIDATION:
        about["people"] = people_scored(cfg)
    split = configured(cfg, cfg.DATASETS.NAMES[0]).split
    if split is not None:
        about["split"] = split
    if ground_truth_used(cfg):
        about["ground_truth"] = ground_truth_used(cfg)
    return about


def people_scored(cfg: CfgNode) -> str:
    """Who is scored: "test", or "validation" where MGOT.DATA.VALIDATION is on."""
    return "validation" if cfg.MGOT.DATA.VALIDATION else "test"


def describe_run(cfg: CfgNode) -> dict[str, Any]:
    """What holds for every row of a run's results, and where the run started, if from another run's intra stage."""
    donor = cfg.MGOT.CROSS_STAGE.FROM
    return {
        **({"intra_from": str(Path(donor).resolve())} if donor else {}),
        "flip": bool(cfg.TEST.FLIP.ENABLED),
        "mode": cfg.MGOT.MODE,
        "matcher": cfg.MGOT.MATCHER.NAME,
        "people": people_scored(cfg),
        "ground_truth": ground_truth_used(cfg),
        "seed": cfg.SEED,
        "config": "config.yaml",
        "checkpoint": cfg.MODEL.WEIGHTS or "model_final.pth",
    }
