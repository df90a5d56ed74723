"""The keys of a config as one flat mapping, compared with a run's, and divided by the stage that uses them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mgot.forms import parsed_yaml
from mgot.losses import LOSSES, loss_keys

# Used only by the cross-modality stage [ours], beside the keys of its losses; the end of a group's name stands for all
# its keys.
CROSS_STAGE = (
    "MGOT.MATCHER.",
    "MGOT.PAIRED_SAMPLING",
    "MGOT.CROSS_STAGE.",
    "MGOT.BELIEF.",
)
# Two stages with one optimiser, or one each: the first stage's schedule may be as long as the run [ours].
INTRA_STAGE_TOO = ("MGOT.CROSS_STAGE.OWN_OPTIMIZER",)
# What a run keeps and where: no figure hangs on it [ours].
KEEPING = (
    "OUTPUT_DIR",
    "MGOT.DIAGNOSTICS",
    "MGOT.CHECKPOINT.",
    "MGOT.OVERWRITE",
    "MGOT.RECOMPUTE",
    "SOLVER.CHECKPOINT_PERIOD",
    "DATALOADER.CACHE",
    "DATALOADER.CACHE_DIR",
    "DATALOADER.CACHE_LIMIT_GB",
)
# What a stage that is trained already no longer asks for [ours].
PAST = ("SOLVER.MAX_EPOCH", "MODEL.WEIGHTS", "TEST.", "MGOT.TEST.", "DATALOADER.NUM_WORKERS")


def among(key: str, names: Iterable[str]) -> bool:
    """Whether a key is one of the names, or starts with a name that ends in "." or "_"."""
    return any(key.startswith(name) if name[-1] in "._" else key == name for name in names)


def same_intra_stage(key: str) -> bool:
    """Whether two runs that differ only in this key have the same intra-modality stage, bit for bit."""
    of_losses = (f"MGOT.LOSS.{own}" for name in LOSSES if LOSSES[name].stage == "cross" for own in loss_keys(name))
    return among(key, (*CROSS_STAGE, *KEEPING, *of_losses)) and not among(key, INTRA_STAGE_TOO)


def told_of_a_donor(key: str) -> bool:
    """Whether to warn if the run that gives its intra-modality stage had another value."""
    return not same_intra_stage(key) and not among(key, PAST)


def flat(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of each leaf of a config or of a YAML mapping, in order; ``prefix`` goes before each key."""
    pairs = []
    for key, value in node.items():
        name = f"{prefix}{key}"
        pairs.extend(flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, value)])
    return pairs


def saved_keys(content: Mapping[str, Any]) -> dict[str, Any]:
    """Key -> value of the config in a checkpoint's content; {} where it holds none that can be read."""
    try:
        found = parsed_yaml(content.get("config", ""))
        return dict(flat(found)) if isinstance(found, dict) else {}
    except (ValueError, AttributeError):
        return {}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A note for each key that both have with different values, in the order of ``now``."""
    return [f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]]
