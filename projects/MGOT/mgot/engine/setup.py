"""From the command line to a checked config and a device: every mistake is met here, before the first epoch."""

from __future__ import annotations

import argparse
import difflib
import logging
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from fastreid.config import CfgNode, get_cfg
from fastreid.engine import default_setup
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.logger import setup_logger

from mgot.config import add_mgot_config
from mgot.data.host_input import INPUT_BY, SAMPLERS
from mgot.data.image_set import CACHES
from mgot.data.overlap import DROPS
from mgot.engine.checkpoint import by_progress, load_tensors
from mgot.engine.modes import MODES, add_matcher_keys
from mgot.engine.output import claim_folder
from mgot.engine.results import STAGES
from mgot.errors import UserError
from mgot.matching import MATCHERS, SUPPLIES
from mgot.modeling.host import WEIGHTS_SOURCES
from mgot.modeling.precision import PRECISIONS

logger = logging.getLogger("mgot")


def default_config() -> CfgNode:
    """The host's defaults with MGOT's keys, those of matchers from outside included."""
    cfg = get_cfg()
    add_mgot_config(cfg)
    add_matcher_keys(cfg)
    return cfg


def load_config(config_file: str, opts: Sequence[str] = (), *, resume: bool = False) -> CfgNode:
    """Defaults, then the YAML file, then ``KEY VALUE`` pairs; checked, on a device that exists, frozen.

    Before the pairs further YAML files may stand, each merged over what came before.
    With ``resume`` a SEED of -1 becomes that of the run in OUTPUT_DIR.

    Raises:
        UserError: the file is missing or no YAML, a key is unknown (the nearest is named), a value has another type
            or is out of range.
    """
    cfg = default_config()
    if config_file:
        _merge_file(cfg, Path(config_file))
    _merge_options(cfg, opts)
    _settle_device(cfg)
    before = _config_of_the_run(Path(cfg.OUTPUT_DIR)) if resume else {}
    if cfg.SEED < 0 and "SEED" in before:
        cfg.SEED = before["SEED"]
    elif cfg.SEED < 0:
        cfg.SEED = comm.shared_random_seed() if comm.get_world_size() > 1 else random.SystemRandom().randrange(2**31)
    check_config(cfg)
    cfg.freeze()
    return cfg


def _config_of_the_run(folder: Path) -> dict[str, Any]:
    """Key -> value of the config in the newest checkpoint of a folder; {} where there is none."""
    readable, _ = by_progress(folder)
    if not readable:
        return {}
    return dict(flat(yaml.safe_load(load_tensors(readable[0][1], mmap=True)["config"])))


def _tell_changes(cfg: CfgNode) -> None:
    before = _config_of_the_run(Path(cfg.OUTPUT_DIR))
    now = dict(flat(yaml.safe_load(cfg.dump())))
    changed = [f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]]
    if changed:
        logger.warning(f"--resume: the run began with other keys: {', '.join(changed)}")


def _merge_file(cfg: CfgNode, path: Path) -> None:
    if not path.is_file():
        raise UserError(f"--config-file {path}: no such file; the project's recipes are in projects/MGOT/configs/")
    try:
        loaded = CfgNode.load_yaml_with_base(str(path))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: not a safe YAML mapping ({_first_line(error)})") from None
    except OSError as error:
        raise UserError(f"{path}: _BASE_ cannot be read ({_first_line(error)})") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: not a safe YAML mapping (it holds a {type(loaded).__name__})")
    for key, value in flat(loaded):
        _set(cfg, key, value, str(path))


def _merge_options(cfg: CfgNode, opts: Sequence[str]) -> None:
    while opts and opts[0].endswith((".yml", ".yaml")):  # files that say only what differs, such as a backbone's
        _merge_file(cfg, Path(opts[0]))
        opts = opts[1:]
    if len(opts) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs: '{opts[-1]}' stands alone")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        _set(cfg, key, value, "command line")


def flat(node: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of each leaf of a config or of a YAML mapping, in order; ``prefix`` goes before each key."""
    pairs = []
    for key, value in node.items():
        name = f"{prefix}{key}"
        pairs.extend(flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)])
    return pairs


def _set(cfg: CfgNode, key: str, value: Any, source: str) -> None:
    known = dict(flat(cfg))
    if key not in known:
        near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(f"{source}: unknown config key '{key}'{hint}")
    if isinstance(known[key], float) and re.fullmatch(r"[+-]?\d+", str(value)):
        value = float(value)  # yacs takes no whole number for a fraction
    try:
        cfg.merge_from_list([key, value])
    except (ValueError, AssertionError, SyntaxError) as error:
        raise UserError(f"{source}: {key} cannot be {value!r}: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _settle_device(cfg: CfgNode) -> None:
    """Fall back to the CPU where there is no GPU."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"


def check_config(cfg: CfgNode) -> None:
    """Ranges and combinations that no type can tell.

    Raises:
        UserError: naming the key and what it may be.
    """
    mgot = cfg.MGOT
    stages = set(mgot.TEST.STAGES)
    rules: list[tuple[str, Any, bool, str]] = [
        ("MGOT.MODE", mgot.MODE, mgot.MODE in MODES, f"one of {MODES}"),
        ("MGOT.TEST.STAGES", mgot.TEST.STAGES, {"final"} <= stages <= set(STAGES), f"of {STAGES}, 'final' always"),
        ("MGOT.CROSS_START_EPOCH", mgot.CROSS_START_EPOCH, mgot.CROSS_START_EPOCH >= 0, "0 or more"),
        ("MGOT.ITERS_PER_EPOCH", mgot.ITERS_PER_EPOCH, mgot.ITERS_PER_EPOCH >= 1, "1 or more"),
        ("MGOT.PRECISION", mgot.PRECISION, mgot.PRECISION in PRECISIONS, f"one of {PRECISIONS}"),
        ("MGOT.GUARD.MAX_SKIPPED_STEPS", mgot.GUARD.MAX_SKIPPED_STEPS, mgot.GUARD.MAX_SKIPPED_STEPS >= 0, "0 or more"),
        ("MGOT.GUARD.MIN_SPREAD", mgot.GUARD.MIN_SPREAD, 0 <= mgot.GUARD.MIN_SPREAD <= 1, "in [0, 1]"),
        ("MGOT.GUARD.MAX_CLUSTER_RATIO", mgot.GUARD.MAX_CLUSTER_RATIO, mgot.GUARD.MAX_CLUSTER_RATIO >= 1, "1 or more"),
        ("MGOT.CHECKPOINT.KEEP", mgot.CHECKPOINT.KEEP, mgot.CHECKPOINT.KEEP >= 1, "1 or more"),
        ("MGOT.CLUSTER.EPS", mgot.CLUSTER.EPS, 0 < mgot.CLUSTER.EPS < 1, "between 0 and 1"),
        ("MGOT.CLUSTER.K1", mgot.CLUSTER.K1, mgot.CLUSTER.K1 >= 2, "2 or more"),
        ("MGOT.CLUSTER.K2", mgot.CLUSTER.K2, 1 <= mgot.CLUSTER.K2 <= mgot.CLUSTER.K1, "between 1 and K1"),
        ("MGOT.CLUSTER.MIN_SAMPLES", mgot.CLUSTER.MIN_SAMPLES, mgot.CLUSTER.MIN_SAMPLES >= 1, "1 or more"),
        ("MGOT.LOSS.TEMPERATURE", mgot.LOSS.TEMPERATURE, mgot.LOSS.TEMPERATURE > 0, "more than 0"),
        ("MGOT.LOSS.MOMENTUM", mgot.LOSS.MOMENTUM, 0 <= mgot.LOSS.MOMENTUM < 1, "in [0, 1)"),
        ("MGOT.MATCHER.NAME", mgot.MATCHER.NAME, mgot.MATCHER.NAME in MATCHERS, f"one of {sorted(MATCHERS)}"),
        ("MGOT.MATCHER.LAMBDA", mgot.MATCHER.LAMBDA, mgot.MATCHER.LAMBDA > 0, "more than 0"),
        ("MGOT.MATCHER.SUPPLY", mgot.MATCHER.SUPPLY, mgot.MATCHER.SUPPLY in SUPPLIES, f"one of {SUPPLIES}"),
        ("MGOT.MATCHER.MAX_ITERATIONS", mgot.MATCHER.MAX_ITERATIONS, mgot.MATCHER.MAX_ITERATIONS >= 1, "1 or more"),
        ("MGOT.MATCHER.RELAXATION", mgot.MATCHER.RELAXATION, mgot.MATCHER.RELAXATION > 0, "more than 0"),
        ("MGOT.MATCHER.MIN_MASS", mgot.MATCHER.MIN_MASS, 0 <= mgot.MATCHER.MIN_MASS < 1, "in [0, 1)"),
        ("MGOT.DATA.OVERLAP", mgot.DATA.OVERLAP, 0 <= mgot.DATA.OVERLAP <= 1, "in [0, 1]"),
        ("MGOT.DATA.OVERLAP_DROPS", mgot.DATA.OVERLAP_DROPS, mgot.DATA.OVERLAP_DROPS in DROPS, f"one of {DROPS}"),
        ("MGOT.DATA.OVERLAP_SEED", mgot.DATA.OVERLAP_SEED, mgot.DATA.OVERLAP_SEED >= 0, "0 or more"),
        ("MGOT.DEN.REVERSAL_ITERS", mgot.DEN.REVERSAL_ITERS, mgot.DEN.REVERSAL_ITERS >= 1, "1 or more"),
        ("MGOT.DEN.DROPOUT", mgot.DEN.DROPOUT, 0 <= mgot.DEN.DROPOUT < 1, "in [0, 1)"),
        ("MGOT.AUG.GRAY_PROB", mgot.AUG.GRAY_PROB, 0 <= mgot.AUG.GRAY_PROB <= 1, "in [0, 1]"),
        ("MGOT.AUG.INFRARED_JITTER", mgot.AUG.INFRARED_JITTER, 0 <= mgot.AUG.INFRARED_JITTER <= 1, "in [0, 1]"),
        ("MGOT.TEST.TRIALS", mgot.TEST.TRIALS, mgot.TEST.TRIALS >= 1, "1 or more"),
        ("MGOT.TEST.REGDB_TRIAL", mgot.TEST.REGDB_TRIAL, 1 <= mgot.TEST.REGDB_TRIAL <= 10, "1 to 10"),
        ("MGOT.AUG.BY", mgot.AUG.BY, mgot.AUG.BY in INPUT_BY, f"one of {INPUT_BY}"),
        ("DATALOADER.CACHE", cfg.DATALOADER.CACHE, cfg.DATALOADER.CACHE in CACHES, f"one of {CACHES}"),
        ("DATALOADER.CACHE_LIMIT_GB", cfg.DATALOADER.CACHE_LIMIT_GB, cfg.DATALOADER.CACHE_LIMIT_GB > 0, "more than 0"),
        ("DATALOADER.NUM_WORKERS", cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.NUM_WORKERS >= 0, "0 or more"),
        ("SOLVER.MAX_EPOCH", cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.MAX_EPOCH >= 1, "1 or more"),
        ("SOLVER.AMP.ENABLED", cfg.SOLVER.AMP.ENABLED, not cfg.SOLVER.AMP.ENABLED, "False: set MGOT.PRECISION instead"),
        ("SOLVER.BASE_LR", cfg.SOLVER.BASE_LR, cfg.SOLVER.BASE_LR > 0, "more than 0"),
        ("SOLVER.CHECKPOINT_PERIOD", cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.CHECKPOINT_PERIOD >= 1, "1 or more"),
        ("TEST.IMS_PER_BATCH", cfg.TEST.IMS_PER_BATCH, cfg.TEST.IMS_PER_BATCH >= 1, "1 or more"),
        ("TEST.EVAL_PERIOD", cfg.TEST.EVAL_PERIOD, cfg.TEST.EVAL_PERIOD >= 0, "0 or more"),
        ("TEST.PRECISE_BN.ENABLED", cfg.TEST.PRECISE_BN.ENABLED, not cfg.TEST.PRECISE_BN.ENABLED, "False under MGOT"),
        ("MODEL.HEADS.NAME", cfg.MODEL.HEADS.NAME, cfg.MODEL.HEADS.NAME == "MGOTHead", "MGOTHead for DEN"),
        ("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.META_ARCHITECTURE == "DEN", "DEN"),
    ]
    rules += _stranger_rules(mgot.DATA.REPLACED, mgot.DATA.STRANGERS)
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    rules.append(("DATALOADER.SAMPLER_TRAIN", sampler, sampler in SAMPLERS, f"one of {SAMPLERS}"))
    source = mgot.WEIGHTS_SOURCE
    rules.append(("MGOT.WEIGHTS_SOURCE", source, source in WEIGHTS_SOURCES, f"one of {WEIGHTS_SOURCES}"))
    weights = {name: cfg.MGOT.LOSS[name] for name in cfg.MGOT.LOSS if name.startswith(("W_", "CPAL_"))}
    rules += [(f"MGOT.LOSS.{name}", value, value >= 0, "0 or more") for name, value in weights.items()]
    for key, value, holds, expected in rules:
        if not holds:
            raise UserError(f"{key} must be {expected}, not {value!r}")


def _stranger_rules(replaced: float, strangers: str) -> list[tuple[str, Any, bool, str]]:
    named = strangers != "" or replaced == 0
    return [
        ("MGOT.DATA.REPLACED", replaced, 0 <= replaced <= 1, "in [0, 1]"),
        ("MGOT.DATA.STRANGERS", strangers, named, "the name of a data set where MGOT.DATA.REPLACED is more than 0"),
    ]


def setup(args: argparse.Namespace) -> CfgNode:
    """Config, output folder, logs and seeds of one process."""
    resume = args.resume and not args.eval_only
    cfg = load_config(args.config_file, args.opts, resume=resume)
    # Before config.yaml is written: another run's stays as it was.
    claim_folder(Path(cfg.OUTPUT_DIR), resume=resume, overwrite=cfg.MGOT.OVERWRITE or args.eval_only)
    setup_logging(cfg)
    if resume:
        _tell_changes(cfg)
    default_setup(cfg, args)
    seed_all_rng(cfg.SEED + comm.get_rank())
    logger.info(f"{cfg.MODEL.DEVICE}, seed {cfg.SEED}, output in {cfg.OUTPUT_DIR}")
    return cfg


def setup_logging(cfg: CfgNode) -> None:
    """MGOT's lines go to the terminal and the host's log.txt; the host's own to the file, its warnings to both."""
    host = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank())
    for handler in host.handlers:
        if getattr(handler, "stream", None) is sys.stdout:
            handler.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers.clear()
    if comm.is_main_process():
        terminal = logging.StreamHandler(sys.stdout)
        terminal.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(terminal)
    for handler in host.handlers:
        if getattr(handler, "stream", None) is not sys.stdout:
            logger.addHandler(handler)
