"""Every key of the config, fast-reid's too, with every kind of wrong value: told in one line, or the run trains."""

from __future__ import annotations

import datetime
import logging
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastreid.config import CfgNode

from mgot.engine.config.keys import flat
from mgot.engine.config.rules import RANGES, check_config
from mgot.engine.setup import default_config, load_config, set_key
from mgot.errors import UserError
from mgot.ranges import Interval, OneOf

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
Options = Callable[..., list[str]]
Change = tuple[str, object]

DEFAULTS = dict(flat(default_config()))
# As on the command line.
TEXTS = (
    "None", "True", "False", "", " ", "Foo", "x" * 5000, "'a\\x00b'", "[]", "()", "{}", "{[]: 1}", "-" * 9999 + "1",
    "0", "-1", "1", "3", "10", "0.5", "-0.5", "2.5", "1e-30", "1e30", "1e300", "1e999", "-1e999", "nan",
    "2147483648", "1000000000000", "-1000000000000", "9" * 400,
    "[1, 2]", "[2, 1]", "[1, 1, 1]", "[0.5, 0.5]", "[-1]", "[1e999]", "['Foo']", "[None]", "['']", "[[1]]",
)  # fmt: skip
# As a YAML file holds them.
OBJECTS: tuple[object, ...] = (
    None, True, 1, 1.0, -1, 10**400, float("nan"), float("inf"), [float("nan")], datetime.date(2020, 1, 1), b"x", {},
)  # fmt: skip
LONGEST_LINE = 500
# One epoch of one step with all terms, scored once.
SMALL = (
    "SOLVER.MAX_EPOCH", 1, "MGOT.CROSS_START_EPOCH", 0, "MGOT.ITERS_PER_EPOCH", 1, "MGOT.TEST.STAGES", ["final"],
    "MGOT.TEST.SYSU_MODES", ["all"], "MGOT.TEST.TRIALS", 1, "TEST.FLIP.ENABLED", False, "MGOT.DIAGNOSTICS", False,
    "MGOT.PRECISION", "float32",
)  # fmt: skip
# Accepted and not trained on here: they choose where and on what, or compile for minutes.
HEAVY = {"SOLVER.IMS_PER_BATCH": 256, "MGOT.TEST.TRIALS": 20}  # larger values would take the memory or the day
ELSEWHERE = ("OUTPUT_DIR", "SEED", "MGOT.COMPILE", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS")


def edges(key: str) -> Iterator[object]:
    """The choices of a key, or the ends of its range and what is just past them."""
    allowed, kind = RANGES.get(key), type(DEFAULTS[key])
    if isinstance(allowed, OneOf):
        yield from allowed.names
    if isinstance(allowed, Interval):
        step = 1 if kind is int else 1e-6
        for end in (end for end in (allowed.low, allowed.high) if abs(end) < 1e9):
            yield from (kind(value) for value in (end - step, end, end + step))


def values_of(key: str) -> list[object]:
    return [*TEXTS, *OBJECTS, *edges(key)]


def changed(base: CfgNode, *changes: Change) -> CfgNode:
    """The config with some keys changed, as the command line or a file would; UserError where that is refused."""
    cfg = base.clone()
    for key, value in changes:
        set_key(cfg, key, value, "command line")
    check_config(cfg)
    return cfg


@pytest.fixture(name="base")
def fixture_base(tiny_options: Options) -> CfgNode:
    """A config that trains on the tiny tree."""
    cfg = load_config(DEMO, tiny_options(*SMALL))
    cfg.defrost()
    return cfg


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_value_is_told_by_its_key_or_is_of_its_type_and_range(key: str, base: CfgNode, tmp_path: Path) -> None:
    for value in values_of(key):
        try:
            cfg = changed(base, (key, value))
        except UserError as error:
            told = str(error)
            partner = key.split(".")[-1] in told or str(value) in told  # of a rule between keys
            assert key in told or partner, told
            assert "\n" not in told and len(told) < LONGEST_LINE and re.search("must be|it takes|lasts", told), told
        else:
            taken = dict(flat(cfg))[key]
            assert type(taken) is type(DEFAULTS[key]), repr(taken)
            assert key not in RANGES or RANGES[key].holds(taken), repr(taken)
    assert list(tmp_path.iterdir()) == []


def test_the_walk_is_of_every_key_and_thousands_of_values() -> None:
    assert set(DEFAULTS) == {key for key, _ in flat(default_config())} and len(DEFAULTS) > 200
    assert sum(len(values_of(key)) for key in DEFAULTS) > 10_000


@pytest.fixture
def own_logging() -> Iterator[None]:
    """The command sets up logging for its process; other tests get theirs back."""
    loggers = [logging.getLogger(name) for name in ("mgot", "fastreid")]
    before = [(each, each.propagate, each.level, list(each.handlers)) for each in loggers]
    yield
    for each, propagate, level, handlers in before:
        each.propagate, each.handlers = propagate, handlers
        each.setLevel(level)


def first_refused(base: CfgNode, key: str) -> str:
    """The first text that a key refuses; there is one for each."""
    for text in TEXTS:
        try:
            changed(base, (key, text))
        except UserError:
            return text
    raise AssertionError(f"{key} takes whatever is written")


@pytest.mark.usefixtures("own_logging")
def test_the_command_tells_each_key_in_one_line_and_creates_nothing(
    base: CfgNode, tiny_options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch = runpy.run_path(str(REPO / "tools/train_net.py"))["launch"]
    for key in DEFAULTS:
        words = tiny_options("OUTPUT_DIR", tmp_path / "run", key, first_refused(base, key))
        assert launch(["--config-file", DEMO, *words]) == 2
        told = capsys.readouterr().err.strip()
        assert key in told and len(told.splitlines()) == 1 and "Traceback" not in told
    assert list(tmp_path.iterdir()) == []
