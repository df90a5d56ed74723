"""The order of hooks: each says what it needs and what it gives. A thing must be given before it is needed.

A trainer calls, in each of these phases, all its hooks in the order of one list:

    before_train, then for each epoch: before_epoch; for each step: before_step, run_step, after_step; after_epoch

:meth:`mgot.engine.trainer.MGOTTrainer.build_hooks` is that list. What is handed on has one of the names of
:data:`HANDED_ON`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fastreid.engine.train_loop import HookBase

PHASES = ("before_train", "before_epoch", "before_step", "run_step", "after_step", "after_epoch")
HANDED_ON = {
    "weights": "the network's, with its running statistics",
    "optimiser": "its moments, learning rates and schedule",
    "labels": "features, pseudo labels and prototypes of both modalities: RunState.epoch",
    "matches": "the matching of these prototypes and the belief in it: RunState.epoch",
    "memories": "Phi_v, Phi_r, Phi_c and the labels that lead into them: RunState.bank",
    "batches": "the epoch's, drawn by labels and matches",
    "step": "features and labels of the step just taken: RunState.step",
    "losses": "of the epoch's steps, on the device",
    "means": "the same losses in the log, and running statistics on which all processes agree",
    "line": "the epoch's line on the terminal, with its time",
    "scores": "rows of results.json, and their figures in the log",
    "fittest": "fittest.pth",
    "metrics": "metrics.json and TensorBoard",
    "record": "the epoch's file of OUTPUT_DIR/diagnostics",
    "warnings": "about features and clusters",
    "checkpoint": "everything that a resumed run needs",
}
"""Name of what is passed on -> what it is, and where."""

AT_HAND = frozenset({"weights", "optimiser"})
"""What a trainer has before its first phase."""


class Flow(NamedTuple):
    """What a hook needs in a phase, and what it gives there."""

    needs: frozenset[str]
    gives: frozenset[str]


class Place(NamedTuple):
    """A hook, with its flow in each phase in which it needs or gives something."""

    name: str
    hook: Any
    flows: dict[str, Flow]


class OrderError(ValueError):
    """The list of hooks does not serve all needs in this order."""


def flow(text: str) -> Flow:
    """``"labels, matches -> batches"`` as two sets of names; either side may be empty.

    Raises:
        OrderError: there is no arrow, or a name is not in :data:`HANDED_ON`.
    """
    needs, arrow, gives = text.partition("->")
    sides = [frozenset(re.findall(r"[^\s,]+", side)) for side in (needs, gives)]
    unknown = sorted((sides[0] | sides[1]) - set(HANDED_ON))
    if not arrow or unknown:
        raise OrderError(f"'{text}': {'no such thing: ' + ', '.join(unknown) if unknown else 'no arrow'}")
    return Flow(*sides)


def runs(hook: Any, **phases: str) -> Place:
    """A hook in the list, and what it needs and gives: ``runs(hook, before_epoch="weights -> labels")``.

    Args:
        hook: None if the config leaves it out.
        phases: phase -> :func:`flow`; phases in which it needs and gives nothing can be left out.

    Raises:
        OrderError: a phase is unknown, or the hook does nothing there.
    """
    for phase in phases:
        if phase not in PHASES or (hook is not None and not does(hook, phase)):
            raise OrderError(f"{type(hook).__name__} does nothing in {phase}")
    return Place(type(hook).__name__, hook, {phase: flow(text) for phase, text in phases.items()})


def does(hook: HookBase, phase: str) -> bool:
    """Whether a hook has something to do in a phase."""
    return getattr(type(hook), phase, None) is not getattr(HookBase, phase, None)


STEP = Place("run_step", None, {"run_step": flow("weights, optimiser, memories, batches -> weights, step, losses")})
"""What the trainer itself does in each step."""


def in_order(*places: Place) -> list[Any]:
    """The hooks of a list, if its order serves all needs; those that are None are left out.

    Raises:
        OrderError: with the lines of :func:`unserved`.
    """
    present = [place for place in places if place.hook is not None]
    errors = list(unserved([*present, STEP]))
    if errors:
        raise OrderError("; ".join(errors))
    return [place.hook for place in present]


def unserved(places: Sequence[Place]) -> Iterator[str]:
    """A line for each need that is not served.

    If hooks give the thing in the same phase, all of them must come earlier in the list. If none gives it in that
    phase, an earlier phase must give it, or the trainer must have it from the start.
    """
    given = set(AT_HAND)
    for phase in PHASES:
        here = [(place.name, place.flows[phase]) for place in places if phase in place.flows]
        for index, (name, own) in enumerate(here):
            for need in sorted(own.needs):
                later = [other for other, theirs in here[index + 1 :] if need in theirs.gives]
                if later:
                    yield f"{name} needs {need} in {phase}, but {', '.join(later)} gives it only later"
                elif need not in given and not any(need in theirs.gives for _, theirs in here[:index]):
                    yield f"{name} needs {need} in {phase}, but nothing gives it before"
        given.update(*(own.gives for _, own in here))
