"""What a checkpoint of a training must hold before anything is taken from it: another tool may have written it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgot.engine.resume.snapshot import numpy_state, python_state
from mgot.errors import UserError, reason
from mgot.forms import count, fits, flag, number, share, text, whole
from mgot.matching import SUPPLIES
from mgot.memory import UPDATES
from mgot.modeling.weights import plain_tensor


def _fact(value: Any) -> bool:
    return text(value) or whole(value)


FACTS = {"ground_truth?": text, ...: _fact}
"""What a weights file carries as "about"."""


def foreign(what: str) -> UserError:
    """The error that a file is not a checkpoint of a training, and why."""
    return UserError(f"not a checkpoint of a training: {what}")


def require_content(content: Mapping[str, Any]) -> None:
    """See that a checkpoint holds, beside model, optimiser and schedules, what a run goes on from.

    Raises:
        UserError: naming the part that is not as a training writes it.
    """
    within = ("memories", "scalars", "random")
    parts: dict[str, Any] = {"labels": _labels, "memories?": _memories, "scalars?": {...: _scalar}}
    for part, form in {"about?": FACTS, **parts, "random?": [_random]}.items():
        if not fits(content, {part: form}):
            raise foreign(f"its part {part.rstrip('?')} is not what a training writes")
    if content["step"] and any(content.get(part) is None for part in ("labels", *within)):
        raise foreign(f"within an epoch it must have labels, {', '.join(within)}")


def put_state(part: str, owner: Any, state: Any) -> None:
    """Give an optimiser, schedule or scaler its state.

    Raises:
        UserError: the state is not one of this kind.
    """
    own = owner.state_dict()
    if part == "optimizer" and not _of_parameters(owner, state):
        raise foreign("its part optimizer has moments of other shapes")
    if isinstance(state, Mapping) and any(not _alike(state.get(key, value), value) for key, value in own.items()):
        raise foreign(f"its part {part} is not what a training writes")
    try:
        owner.load_state_dict(state)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise foreign(f"its part {part} cannot be used ({reason(error)})") from None


def _alike(value: Any, own: Any) -> bool:
    return number(value) if number(own) else own is None or isinstance(value, type(own))


def _of_parameters(optimizer: torch.optim.Optimizer, state: Any) -> bool:
    """Whether each tensor of an optimiser's state is a number or as large as its parameter."""
    if not fits(state, {"state": lambda each: isinstance(each, dict), "param_groups": [{"params": [count]}]}):
        return False
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    keys = [key for group in state["param_groups"] for key in group["params"]]
    return all(_moments(state["state"].get(key, {}), each) for key, each in zip(keys, own, strict=False))


def _moments(state: Any, parameter: Tensor) -> bool:
    return isinstance(state, dict) and all(
        plain_tensor(each) and each.is_floating_point() and (each.ndim == 0 or each.shape == parameter.shape)
        if isinstance(each, Tensor)
        else each is None or number(each)
        for each in state.values()
    )


def _indices(low: int, high: int) -> Callable[[Any], bool]:
    """A test for whole numbers in [low, high)."""

    def test(value: Any) -> bool:
        known = plain_tensor(value) and value.ndim == 1 and value.dtype in (torch.int32, torch.int64)
        return known and bool(((value >= low) & (value < high)).all())

    return test


def _below(high: int) -> Callable[[Any], bool]:
    """A test for whole numbers below ``high``, and -1."""
    return _indices(-1, high)


_ANY = _indices(-(2**31), 2**31)


def _labels(packed: Any) -> bool:
    """As :func:`mgot.engine.resume.snapshot.pack_epoch` gives them."""
    pair = {"visible": _ANY, "infrared": _ANY}
    form = {"epoch": whole, "labels": pair, "identities": [_ANY], "matching": {"v2r": _ANY, "r2v": _ANY}}
    if packed is None or not fits(packed, {**form, "supply": lambda supply: supply in SUPPLIES}):
        return packed is None
    k_v, k_r = sizes = [len(packed["matching"][name]) for name in ("v2r", "r2v")]
    tables = {"v2r": _below(k_r), "r2v": _below(k_v), "unassigned": _ANY}
    return (
        [len(each) for each in packed["identities"]] == sizes
        and fits(packed["labels"], {"visible": _below(k_v), "infrared": _below(k_r)})
        and fits(packed["matching"], tables)
        and packed["matching"].keys() == tables.keys()
    )


def _rows(value: Any) -> bool:
    return plain_tensor(value) and value.ndim == 2 and value.is_floating_point() and bool(torch.isfinite(value).all())


def _memories(packed: Any) -> bool:
    """As :func:`mgot.engine.resume.snapshot.pack_bank` gives them."""
    by = {"by?": lambda by: by in UPDATES, "hardest?": flag, "exchange?": flag}
    own = {"momentum": share, **by, "cross_weight?": number, "cross_epoch?": whole}
    rows = {"visible": _rows, "infrared": _rows, "cross?": _rows, "hard_visible?": _rows, "hard_infrared?": _rows}
    if packed is None or not fits(packed, {**own, **rows}):
        return packed is None
    for name in ("visible", "infrared"):
        if f"hard_{name}" in packed and packed[f"hard_{name}"].shape != packed[name].shape:
            return False
    k_v, k_r, k_c = (len(packed.get(name, ())) for name in ("visible", "infrared", "cross"))
    tables = {"v2r": (k_v, k_r), "r2v": (k_r, k_v), "c_v": (k_v, k_c), "c_r": (k_r, k_c)}
    form = {
        **{f"{name}?": _table(*sizes) for name, sizes in tables.items()},
        "members_v?": _members(k_v, k_c),
        "members_r?": _members(k_r, k_c),
        "belief_v?": _beliefs(k_v),
        "belief_r?": _beliefs(k_r),
    }
    known = ("cross" not in packed) or {*tables, "members_v", "members_r"} <= packed.keys()
    widths = {packed[name].shape[1] for name in ("visible", "infrared", "cross") if name in packed}
    return known and len(widths) == 1 and fits(packed, form)


def _table(rows: int, high: int) -> Callable[[Any], bool]:
    return lambda value: _below(high)(value) and len(value) == rows


def _members(clusters: int, labels: int) -> Callable[[Any], bool]:
    def test(value: Any) -> bool:
        pairs = plain_tensor(value) and value.ndim == 2 and len(value) == 2
        return pairs and all(_indices(0, high)(row) for row, high in zip(value, (clusters, labels), strict=True))

    return test


def _beliefs(rows: int) -> Callable[[Any], bool]:
    def test(value: Any) -> bool:
        known = plain_tensor(value) and value.is_floating_point() and value.shape == (rows,)
        return known and bool(((value >= 0) & (value <= 1)).all())

    return test


def _scalar(value: Any) -> bool:
    """(smoothing hint, [(value, iteration), ...])."""
    pair = isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[1], list | tuple)
    return pair and all(
        isinstance(each, list | tuple) and len(each) == 2 and number(each[0]) and count(each[1]) for each in value[1]
    )


def _random(states: Any) -> bool:
    """Whether generators of our own take the states."""
    try:
        random.Random().setstate(python_state(states))
        np.random.RandomState().set_state(numpy_state(states))
        torch.Generator().set_state(states["torch"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError):
        return False
    return fits(states, {"cuda": [plain_tensor], "statistics?": {...: plain_tensor}})
