"""From the command line to a checked config and a device. Every mistake shows here, before the first epoch."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import random
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode, get_cfg
from fastreid.config.config import BASE_KEY
from fastreid.engine import default_setup
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.logger import setup_logger

from mgot.config import add_mgot_config
from mgot.data.registered import add_dataset_keys
from mgot.distributed import wait_at_most
from mgot.engine.config.builders import add_part_keys
from mgot.engine.config.keys import changes, flat, saved_keys
from mgot.engine.config.rules import RANGES, check_config
from mgot.engine.resume.checkpoint import by_progress, load_tensors
from mgot.engine.resume.fork import donor_path
from mgot.engine.resume.output import claim_folder
from mgot.errors import UserError, shortened
from mgot.files import release_folder
from mgot.forms import count, fits, parsed_yaml

logger = logging.getLogger("mgot")


def default_config() -> CfgNode:
    """fast-reid's defaults with MGOT's keys, including those of data sets and of parts from outside."""
    cfg = get_cfg()
    add_mgot_config(cfg)
    add_part_keys(cfg)
    add_dataset_keys(cfg)
    return cfg


def load_config(
    config_file: str, opts: Sequence[str] = (), *, resume: bool = False, fixed: Sequence[str] = ()
) -> CfgNode:
    """Defaults, then the YAML file, then ``KEY VALUE`` pairs; checked, on a device that exists, frozen.

    Other YAML files may come before the pairs, each merged over what came before. The pairs of ``fixed`` come last.
    A SEED of -1 becomes, with ``resume``, that of the run in OUTPUT_DIR; otherwise that of the run of
    MGOT.CROSS_STAGE.FROM.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown (the message names the nearest), a value has
            another type or is out of range.
    """
    cfg = default_config()
    if config_file:
        _merge_file(cfg, Path(config_file))
    for pairs in (opts, fixed):
        _merge_options(cfg, pairs)
    check_config(cfg)
    _settle_device(cfg)
    _settle_seed(cfg, resume=resume)
    cfg.freeze()
    return cfg


def _settle_seed(cfg: CfgNode, *, resume: bool) -> None:
    """A seed for a run without one: that of the run which it continues or starts from, otherwise a new one."""
    before = _config_of_the_run(Path(cfg.OUTPUT_DIR)) if resume else {}
    if not before and cfg.SEED < 0 and cfg.MGOT.CROSS_STAGE.FROM:
        facts = load_tensors(donor_path(cfg), mmap=True)
        before = saved_keys(facts) if isinstance(facts, dict) else {}
    if cfg.SEED < 0 and fits(before, {"SEED": count}):
        cfg.SEED = before["SEED"]
    elif cfg.SEED < 0:
        cfg.SEED = comm.shared_random_seed() if comm.get_world_size() > 1 else random.SystemRandom().randrange(2**31)


def _config_of_the_run(folder: Path) -> dict[str, Any]:
    """Key -> value of the config in the newest checkpoint of a folder; {} if there is none."""
    readable, _ = by_progress(folder)
    if not readable:
        return {}
    return saved_keys(load_tensors(readable[0][1], mmap=True))


def _tell_changes(cfg: CfgNode) -> None:
    before = _config_of_the_run(Path(cfg.OUTPUT_DIR))
    now = saved_keys({"config": cfg.dump()})
    now.pop("MGOT.CROSS_STAGE.FROM", None)  # read only when a run starts
    changed = changes(before, now)
    if changed:
        logger.warning(f"--resume: the run began with other keys: {', '.join(changed)}")
    unknown = [f"{key} {now[key]}" for key in now if before and key not in before]
    if unknown:
        logger.warning(f"--resume: the run began before these keys were there: {', '.join(unknown)}")


def _merge_file(cfg: CfgNode, path: Path, above: Sequence[Path] = ()) -> None:
    """Merge the file that a YAML file's _BASE_ names, then the file itself; ``above`` are those that led to it."""
    if not os.path.isfile(path):
        raise UserError(f"--config-file {path}: no such file; the project's recipes are in projects/MGOT/configs/")
    try:
        content = parsed_yaml(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not a safe YAML mapping ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a safe YAML mapping (it holds a {type(content).__name__})")
    if BASE_KEY in content:
        chain = (*above, path)
        _merge_file(cfg, _base(content.pop(BASE_KEY), chain), chain)
    taken = set[str]()
    for key, value in flat(content):
        if key in taken:
            raise UserError(f"{path}: {key} comes twice, as one word and as a group: keep one")
        taken.add(key)
        set_key(cfg, key, value, str(path))


def _base(name: Any, chain: Sequence[Path]) -> Path:
    """The file that the last one of a chain names as its _BASE_."""
    path = chain[-1].parent / os.path.expanduser(name) if isinstance(name, str) else None
    if path is None or not os.path.isfile(path):
        raise UserError(f"{chain[-1]}: {BASE_KEY} {shortened(repr(name), 200)}: no such file")
    if path.resolve() in [each.resolve() for each in chain]:
        raise UserError(f"{chain[-1]}: its {BASE_KEY} leads back to it")
    return path


def files_and_pairs(opts: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The YAML files that overrides begin with, such as a backbone's, and the KEY, VALUE, ... after them."""
    first = next((n for n, word in enumerate(opts) if not word.endswith((".yml", ".yaml"))), len(opts))
    return opts[:first], opts[first:]


def _merge_options(cfg: CfgNode, opts: Sequence[str]) -> None:
    files, pairs = files_and_pairs(opts)
    for name in files:
        _merge_file(cfg, Path(name))
    if len(pairs) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs: '{pairs[-1]}' has no value")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        set_key(cfg, key, value, "command line")


# What yacs raises for another type, and what literal_eval may raise beside what yacs lets pass.
_OF_LITERALS = (ValueError, AssertionError, SyntaxError, TypeError, MemoryError, RecursionError)


def set_key(cfg: CfgNode, key: str, value: Any, source: str) -> None:
    """Give a key a value of its own type, in place; whether it is in range is :func:`check_config`'s question.

    Args:
        cfg: has the key.
        key: dotted.
        value: of that type, or as text, which is then read as a Python literal.
        source: where the value comes from, for the message.

    Raises:
        UserError: no such key (the nearest is named), or a value of another type.
    """
    known = dict(flat(cfg))
    if key not in known:
        near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(f"{source}: unknown config key {shortened(repr(key), 100)}{hint}")
    kind = type(known[key])
    if kind is float and re.fullmatch(r"[+-]?\d+", str(value)):
        value = float(str(value))  # yacs takes no whole number for a fraction
    with suppress(
        ValueError, AssertionError, TypeError, SyntaxError, MemoryError, RecursionError
    ):  # yacs', literal_eval's
        cfg.merge_from_list([key, value])
        if type(dict(flat(cfg))[key]) is kind:  # yacs takes None for anything
            return
    raise UserError(f"{source}: {key} cannot be {shortened(repr(value), 100)}: it takes {_expected(key, kind)}")


_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", list: "a list", tuple: "a list"}


def _expected(key: str, kind: type) -> str:
    """What a key may be, in words."""
    if key not in RANGES:
        return _KINDS[kind]
    return f"{_KINDS[kind]}, {RANGES[key].words}" if kind in (int, float) else RANGES[key].words


def _settle_device(cfg: CfgNode) -> None:
    """Use the CPU if there is no GPU."""
    name, _, number = cfg.MODEL.DEVICE.partition(":")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not gpus:
        cfg.MODEL.DEVICE = "cpu"
    elif int(number or 0) >= max(gpus, 1):
        raise UserError(f"MODEL.DEVICE {cfg.MODEL.DEVICE}: this machine has {gpus} GPUs, counted from cuda:0")


def setup(args: argparse.Namespace) -> CfgNode:
    """Config, output folder, logs and seeds of one process."""
    resume = args.resume and not args.eval_only
    cfg = load_config(args.config_file, args.opts, resume=resume)
    wait_at_most(cfg.MGOT.TIMEOUT)
    # Before config.yaml is written: another run's stays as it was.
    claim_folder(Path(cfg.OUTPUT_DIR), resume=resume, overwrite=cfg.MGOT.OVERWRITE, scoring=args.eval_only)
    try:
        setup_logging(cfg)
        if resume:
            _tell_changes(cfg)
        default_setup(cfg, args)
    except BaseException:
        release_folder(Path(cfg.OUTPUT_DIR))
        raise
    seed_all_rng(cfg.SEED + comm.get_rank())
    logger.info(f"{cfg.MODEL.DEVICE}, seed {cfg.SEED}, output in {cfg.OUTPUT_DIR}")
    return cfg


def setup_logging(cfg: CfgNode) -> None:
    """MGOT's lines go to the terminal and to log.txt; fast-reid's go to the file, and its warnings to both."""
    fastreid = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank())
    for handler in fastreid.handlers:
        if getattr(handler, "stream", None) is sys.stdout:
            handler.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers.clear()
    if comm.is_main_process():
        terminal = logging.StreamHandler(sys.stdout)
        terminal.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(terminal)
    for handler in fastreid.handlers:
        if getattr(handler, "stream", None) is not sys.stdout:
            logger.addHandler(handler)
