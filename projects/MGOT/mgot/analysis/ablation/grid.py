"""From a grid file to the trainings it stands for; rows of one configuration share one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode

from mgot.engine.config.builders import ground_truth_used
from mgot.engine.config.keys import flat, same_intra_stage
from mgot.engine.resume.fork import writes_intra
from mgot.engine.schedule.cross import cross_start_epoch
from mgot.engine.setup import default_config, files_and_pairs, load_config
from mgot.errors import UserError, reason, shortened
from mgot.files import require_regular
from mgot.forms import parsed_yaml

_SET_BY_THE_TOOL = {"SEED": "--seeds", "OUTPUT_DIR": "--output"}


@dataclass(frozen=True)
class Configuration:
    """A training, without its seed.

    Attributes:
        slug: name of its folder. It is made of what differs from the config file, and a digest of every key that
            differs from its default. So it is the same for the same effective config, also if a later version of the
            project has more keys. A changed default is not noticed.
        options: KEY, VALUE, KEY, VALUE, ... as on the training's command line.
        ground_truth: what it uses of the ground truth; "" if nothing.
        intra: equal for configurations with the same intra-modality stage. "" if the stage cannot be shared: in other
            modes than unsupervised, without both stages, or if the stage's checkpoint is not written.
        cross_start: iteration at which the cross-modality stage begins; None without one.
    """

    slug: str
    options: tuple[str, ...]
    ground_truth: str
    intra: str = ""
    cross_start: int | None = None


@dataclass(frozen=True)
class Row:
    """A line of a table; ``keys`` are those of the grid file, without the command line's."""

    name: str
    keys: dict[str, Any]
    config: Configuration


@dataclass(frozen=True)
class Table:
    """A title and its rows, in the order of the grid file."""

    title: str
    rows: tuple[Row, ...]


def read_grid(path: Path) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """(title, {row name: {KEY: VALUE}}) of each table of a grid file.

    The file holds ``tables:``, a list of ``{title: ..., rows: {name: {KEY: VALUE, ...}, ...}}``; a row without keys is
    the plain config file.

    Raises:
        UserError: the file is missing, no YAML, or of another form.
    """
    try:
        require_regular(path)
        content = parsed_yaml(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"--grid {path}: {error.strerror or reason(error)}; the project's grids are in projects/MGOT/ablations/"
        ) from None
    except ValueError as error:
        raise UserError(f"--grid {path}: no YAML of tables ({error})") from None
    tables = content.get("tables") if isinstance(content, dict) else None
    if not isinstance(tables, list) or not tables:
        raise UserError(f"--grid {path}: it must hold 'tables:', a list of tables with 'title' and 'rows'")
    return [_read_table(path, table) for table in tables]


def _read_table(path: Path, table: Any) -> tuple[str, dict[str, dict[str, Any]]]:
    title = table.get("title") if isinstance(table, dict) else None
    rows = table.get("rows") if isinstance(table, dict) else None
    if not title or not isinstance(rows, dict) or not rows:
        raise UserError(
            f"--grid {path}: table {_told(title)} needs 'title' and 'rows', a mapping of names to KEY: VALUE"
        )
    for name, keys in rows.items():
        if not isinstance(keys, dict | None):
            raise UserError(
                f"--grid {path}: row {_told(name)} of {_told(title)} must hold KEY: VALUE pairs, not {_told(keys)}"
            )
    return str(title), {str(name): keys or {} for name, keys in rows.items()}


def _told(value: Any) -> str:
    return shortened(repr(value), 100)


def plan(config_file: str, grid: Path, options: Sequence[str]) -> list[Table]:
    """The tables of a grid. Each row's config is loaded, so every mistake shows before the first training.

    Args:
        config_file: the recipe.
        grid: the grid file.
        options: YAML files, then KEY VALUE pairs, for every row.

    Raises:
        UserError: a mistake in the grid or in a row's keys, with the row's name; a row that sets SEED or OUTPUT_DIR.
    """
    base = _effective(load_config(config_file, options))
    known: dict[str, Configuration] = {}
    tables = []
    for title, rows in read_grid(grid):
        planned = []
        for name, keys in rows.items():
            try:
                config = _configuration(config_file, [*options, *_pairs(keys)], base)
            except UserError as error:
                raise UserError(f"{grid}: {_told(title)}, row {_told(name)}: {error}") from None
            planned.append(Row(name, keys, known.setdefault(config.slug, config)))
        tables.append(Table(title, tuple(planned)))
    return tables


def _pairs(keys: dict[str, Any]) -> list[str]:
    return [str(part) for pair in keys.items() for part in pair]


def _configuration(config_file: str, options: list[str], base: dict[str, Any]) -> Configuration:
    for key in files_and_pairs(options)[1][::2]:
        if key in _SET_BY_THE_TOOL:
            raise UserError(f"{key} is set by {_SET_BY_THE_TOOL[key]}: leave it out")
    cfg = load_config(config_file, options)
    effective = _effective(cfg)
    differing = [f"{key.split('.')[-1]}-{value}" for key, value in effective.items() if base.get(key) != value]
    words = re.sub(r"[^a-z0-9.]+", "-", "-".join(differing).lower()).strip("-")[:60] or "base"
    defaults = dict(flat(default_config()))
    chosen = {key: value for key, value in effective.items() if defaults[key] != value}
    return Configuration(
        f"{words}-{_digest(chosen)}", tuple(options), ground_truth_used(cfg), _intra(cfg, effective), _cross_start(cfg)
    )


def _digest(keys: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(keys, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _intra(cfg: CfgNode, effective: dict[str, Any]) -> str:
    if cfg.MGOT.MODE != "unsupervised" or not writes_intra(cfg):
        return ""
    return _digest({key: value for key, value in effective.items() if not same_intra_stage(key)})


def _cross_start(cfg: CfgNode) -> int | None:
    epoch = cross_start_epoch(cfg)
    return epoch * cfg.MGOT.ITERS_PER_EPOCH if epoch < cfg.SOLVER.MAX_EPOCH else None


def _effective(cfg: CfgNode) -> dict[str, Any]:
    return {key: value for key, value in flat(cfg) if key not in _SET_BY_THE_TOOL}
