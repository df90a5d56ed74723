"""The order of hooks serves all that they need, what they say is true, and the page in docs/method.md says the same."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import mgot.engine.trainer as trainer_module
from mgot.clustering import cluster
from mgot.engine import epoch as epoch_module
from mgot.engine import step
from mgot.engine.epoch import EpochState, Matched, RunState
from mgot.engine.schedule.order import (
    HANDED_ON,
    PHASES,
    STEP,
    HookBase,  # of fast-reid, which can be imported once mgot has readied it
    OrderError,
    Place,
    does,
    flow,
    in_order,
    runs,
    unserved,
)
from mgot.engine.setup import load_config
from mgot.engine.trainer import MGOTTrainer
from mgot.engine.watch import guards
from mgot.matching import believe
from mgot.modeling.extraction import extract

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
Options = Callable[..., list[str]]
MATCHED = Matched._fields
ONLY_CLOCKS = {"IterationTimer", "ProgressHook"}


class Gives(HookBase):
    def before_epoch(self) -> None: ...


class Needs(HookBase):
    def before_epoch(self) -> None: ...

    def after_epoch(self) -> None: ...


def places_of(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> tuple[MGOTTrainer, list[Place]]:
    """A trainer, and the list that its build_hooks made."""
    made: list[Place] = []

    def noted(*places: Place) -> list[Any]:
        made.extend(place for place in places if place.hook is not None)
        return in_order(*places)

    monkeypatch.setattr(trainer_module, "in_order", noted)
    cfg = load_config(DEMO, options)
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    return MGOTTrainer(cfg), made


def dependent(places: list[Place]) -> Iterator[tuple[str, int, int]]:
    """(phase, place that gives, place that needs) of each need that is given in the same phase."""
    for phase in PHASES:
        for i, giver in enumerate(places):
            for j, needer in enumerate(places):
                both = i != j and phase in giver.flows and phase in needer.flows
                if both and giver.flows[phase].gives & needer.flows[phase].needs:
                    yield phase, i, j


def test_a_need_is_given_before_or_told() -> None:
    gives = runs(Gives(), before_epoch="weights -> labels, memories, batches")
    needs = runs(Needs(), before_epoch="labels -> matches")
    assert in_order(gives, needs) == [gives.hook, needs.hook]
    assert in_order(gives, runs(None, before_epoch="matches ->"), needs) == [gives.hook, needs.hook]
    with pytest.raises(OrderError, match=r"Needs needs labels in before_epoch, but Gives gives it only later"):
        in_order(needs, gives)
    with pytest.raises(OrderError, match=r"Needs needs labels in before_epoch, but nothing gives it before"):
        in_order(needs)
    in_order(runs(Needs(), after_epoch="labels ->"), gives)  # an earlier phase gives it, whatever the list's order
    with pytest.raises(OrderError, match=r"run_step needs batches in run_step"):
        in_order(runs(Gives(), before_epoch="-> memories"))


def test_what_cannot_be_read_is_told() -> None:
    assert flow("labels, matches -> batches") == (frozenset({"labels", "matches"}), frozenset({"batches"}))
    assert flow("->") == (frozenset(), frozenset())
    with pytest.raises(OrderError, match="no such thing: label"):
        flow("label -> matches")
    with pytest.raises(OrderError, match="no arrow"):
        flow("labels")
    with pytest.raises(OrderError, match="Gives does nothing in after_epoch"):
        runs(Gives(), after_epoch="labels ->")
    with pytest.raises(OrderError, match="Gives does nothing in whenever"):
        runs(Gives(), whenever="labels ->")


def test_two_hooks_that_change_places_are_refused(tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    _, places = places_of(monkeypatch, tiny_options())
    pairs = {(i, j) for _, i, j in dependent(places)}
    assert len(pairs) >= 15
    for i, j in pairs:
        swapped = list(places)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        names = places[i].name, places[j].name
        assert list(unserved([*swapped, STEP])), names
        with pytest.raises(OrderError):
            in_order(*swapped)


def test_hooks_say_all_that_they_do_and_name_all_things(tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    _, places = places_of(monkeypatch, tiny_options("MODEL.FREEZE_LAYERS", ["backbone"], "SOLVER.FREEZE_ITERS", 1))
    said = {name for place in (*places, STEP) for own in place.flows.values() for side in own for name in side}
    assert said == set(HANDED_ON)
    steady = ("before_epoch", "after_step", "after_epoch")
    silent = {
        (place.name, phase)
        for place in places
        for phase in steady
        if does(place.hook, phase) and phase not in place.flows and place.name not in ONLY_CLOCKS
    }
    labelling = {place.name for place in places if "before_epoch" in place.flows}
    assert labelling == {place.name for place in places if getattr(place.hook, "in_checkpoint", False)}
    assert silent == {("SummaryHook", "before_epoch"), ("EpochWriter", "after_step")}  # a clock, and nothing


class Access(NamedTuple):
    """What a hook did in a phase to the run's state: "read" or "wrote" a thing."""

    hook: str
    phase: str
    how: str
    thing: str


class Watched:
    """An EpochState of which each access is noted."""

    def __init__(self, state: EpochState, note: Callable[[str, str], None]) -> None:
        self.__dict__.update(real=state, note=note)

    def __getattr__(self, name: str) -> Any:
        self.note("read", "matches" if name in MATCHED else "labels")
        return getattr(self.real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "seconds":
            self.note("wrote", "matches" if name in MATCHED else "labels")
        setattr(self.real, name, value)


class Spy(RunState):
    """A RunState of which each access is noted with the hook that is at work."""

    def __init__(self, heads: Any) -> None:
        self.at, self.seen = ("", ""), set[Access]()
        super().__init__(heads)

    def note(self, how: str, thing: str) -> None:
        self.seen.add(Access(*self.at, how, thing))

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name in ("bank", "step"):
            self.note("read", "memories" if name == "bank" else "step")
        return Watched(value, self.note) if isinstance(value, EpochState) else value

    def __setattr__(self, name: str, value: Any) -> None:
        things = {"epoch": "labels", "bank": "memories", "step": "step"}
        if name in things and value is not None and self.at[0]:
            self.note("wrote", things[name])
        super().__setattr__(name, value.real if isinstance(value, Watched) else value)


def test_hooks_touch_what_they_say(tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("SOLVER.MAX_EPOCH", 3, "MGOT.TEST.SYSU_MODES", ["all"], "TEST.FLIP.ENABLED", False)
    trainer, places = places_of(monkeypatch, tiny_options(*keys))
    spy = trainer.state = Spy(trainer.network.heads)
    watch(spy, places)
    trainer.train()
    flows = {(place.name, phase): own for place in places for phase, own in place.flows.items()}
    for access in spy.seen - {each for each in spy.seen if not each.hook}:
        own = flows[access.hook, access.phase]
        allowed = own.gives if access.how == "wrote" else own.gives | own.needs
        assert access.thing in allowed, access
    for read in (
        ("MatchingHook", "before_epoch", "labels"),
        ("EpochGuardHook", "before_epoch", "labels"),
        ("RecordHook", "before_epoch", "matches"),
        ("FittestHook", "before_epoch", "matches"),
        ("MemoryUpdateHook", "after_step", "step"),
        ("CheckpointHook", "after_epoch", "memories"),
    ):
        assert Access(*read[:2], "read", read[2]) in spy.seen
    wrote = {(hook, thing) for hook, _, how, thing in spy.seen if how == "wrote"}
    assert wrote >= {("ClusteringHook", "labels"), ("MatchingHook", "matches"), ("MatchingHook", "memories")}


def watch(spy: Spy, places: list[Place]) -> None:
    """Tell the spy which hook is at work, in each phase."""

    def told(place: Place, phase: str, act: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            before, spy.at = spy.at, (place.name, phase)
            act()
            spy.at = before

        return run

    for place in places:
        for phase in PHASES:
            if does(place.hook, phase) and phase != "run_step":
                setattr(place.hook, phase, told(place, phase, getattr(place.hook, phase)))


class Line(NamedTuple):
    """A line of the page: how far it is indented, its first word, and the rest."""

    depth: int
    name: str
    rest: str


def page() -> list[Line]:
    """The pseudocode of docs/method.md section 1."""
    text = (REPO / "docs/method.md").read_text(encoding="utf-8")
    section = text[text.index('<a id="section-1">') : text.index('<a id="section-2">')]
    (block,) = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    rows = [(line, line.split(maxsplit=1)) for line in block.splitlines()]
    return [Line((len(line) - len(line.lstrip())) // 4, words[0], " ".join(words[1:])) for line, words in rows]


def test_an_epoch_is_on_one_page_in_the_order_of_the_code(
    tiny_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = page()
    assert len(lines) <= 25
    _, places = places_of(monkeypatch, tiny_options())
    (loop,) = (n for n, line in enumerate(lines) if line.name == "for" and line.depth == 1)
    inside = [n for n, line in enumerate(lines) if n > loop and line.depth > 1]
    parts = {
        "before_epoch": lines[1:loop],
        "after_step": [lines[n] for n in inside],
        "after_epoch": lines[inside[-1] + 1 :],
    }
    for phase, part in parts.items():
        told = [line.name for line in part if line.depth == (2 if phase == "after_step" else 1)]
        own = [place.name for place in places if phase in place.flows]
        assert told == (["TrainingStep", *own] if phase == "after_step" else own)
    assert all(hasattr(step, name) or hasattr(guards, name) for name in ("TrainingStep", "StepGuard"))


def test_what_the_page_has_a_hook_call_is_called_in_that_order() -> None:
    lines, caller = page(), ""
    called: dict[str, list[str]] = {}
    for line in lines[: [line.name for line in lines].index("EpochGuardHook")]:
        if line.depth == 1:
            caller = line.name
        elif line.depth == 2:
            called.setdefault(caller, []).append(line.name)
    assert called == {
        "ClusteringHook": ["label_epoch"],
        "MatchingHook": ["match_epoch", "build_bank", "start_batches", "describe_epoch"],
    }
    for hook, names in called.items():
        source = inspect.getsource(getattr(trainer_module, hook))
        at = [source.index(f"{name}(") for name in names]
        assert at == sorted(at)
        assert all(hasattr(epoch_module, name) or hasattr(MGOTTrainer, name) for name in names)


def test_functions_on_the_page_exist() -> None:
    named = {name for line in page() for name in re.findall(r"\b([a-z]\w+)\(", line.rest)}
    known = {"extract": extract, "cluster": cluster, "believe": believe}
    assert named >= {"extract", "cluster", "cluster_means", "cross_labels", "cross_prototypes"}
    assert {name for name in named if name not in known and not hasattr(epoch_module, name)} == set()
