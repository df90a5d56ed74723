"""Ground-truth identities reach oracles only: by type, by what is handed over, and by what the sources name."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mgot.clustering import CLUSTERERS, Clustering, OracleClusterer, clusters_of
from mgot.engine.epoch import EpochState, label_epoch, match_epoch
from mgot.losses import Batch, CrossBatch
from mgot.matching import MATCHERS, OTPA, Matching, Members, OracleMatcher, Prototypes, believe, matching_of
from mgot.truth import Truth
from tests.test_layering import CORE, MODULES, ROOT, read

SECRET = 987_654_000
"""Identities begin here, where neither a label nor a number of clusters lies."""

LABELS = np.array([0, 0, 1, 1])
TRUTH = Truth(SECRET + np.array([3, 3, 9, 9]), SECRET + np.array([9, 9, 3, 3]))


def holds_a_secret(thing: Any, seen: set[int] | None = None) -> bool:
    """Whether an identity can be reached from a thing, by attributes, items or the variables that it closes over."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, str | bytes | bytearray | type):
        return False
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        thing = thing.detach().numpy()
    if isinstance(thing, np.ndarray):
        base = isinstance(thing.base, np.ndarray) and holds_a_secret(thing.base, seen)
        return base or bool((thing.astype(np.float64) >= SECRET).any())
    if isinstance(thing, int | float):
        return thing >= SECRET
    inner = list(thing.items()) if isinstance(thing, dict) else list(thing) if isinstance(thing, list | tuple) else []
    inner += list(vars(thing).values()) if hasattr(thing, "__dict__") and not inspect.ismodule(thing) else []
    inner += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    return any(holds_a_secret(each, seen) for each in inner)


def features(n: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


class Spy:
    """A clusterer and matcher that keeps whatever it is handed."""

    def __init__(self) -> None:
        self.handed: list[Any] = []

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.handed.append((args, options))
        return OTPA()(args[0]) if isinstance(args[0], Prototypes) else Clustering(LABELS, 2, {})


class KnowingClusterer(OracleClusterer, Spy):
    def __call__(self, features: torch.Tensor, identities: np.ndarray) -> Clustering:
        self.handed.append(identities)
        return Clustering(LABELS, 2, {})


class KnowingMatcher(OracleMatcher, Spy):
    def __call__(self, prototypes: Prototypes, truth: Truth) -> Matching:
        self.handed.append(truth)
        return OTPA()(prototypes)


def epoch_with(clusterer: Any, matcher: Any) -> EpochState:
    """An epoch labelled and matched by these two, with everything that the engine knows."""
    state = label_epoch(0, features(4, 0), features(4, 1), TRUTH.visible, TRUTH.infrared, None, clusterer)
    match_epoch(state, matcher, partial(believe, "full"))
    return state


def test_the_search_for_secrets_finds_them() -> None:
    hidden = TRUTH.visible
    for thing in (TRUTH, [{"a": (hidden,)}], hidden[:0], torch.from_numpy(hidden), lambda: hidden, int(hidden[0])):
        assert holds_a_secret(thing)
    assert not holds_a_secret((LABELS, {"a": 3}, "987654000", Members(*[np.eye(2)] * 4)))


def test_nothing_but_an_oracle_is_handed_an_identity() -> None:
    clusterer, matcher = Spy(), Spy()
    state = epoch_with(clusterer, matcher)
    assert holds_a_secret(state)  # the engine has them, for diagnosis
    assert len(clusterer.handed) == 2 and len(matcher.handed) == 1
    assert not holds_a_secret([clusterer.handed, matcher.handed])


def test_a_belief_is_handed_no_identity() -> None:
    believer = Spy()
    state = label_epoch(0, features(4, 0), features(4, 1), TRUTH.visible, TRUTH.infrared, None, Spy())
    believer.handed.clear()
    match_epoch(state, OTPA(), lambda *args: believer.handed.append(args) or believe("full", *args))  # type: ignore[func-returns-value]
    assert believer.handed and not holds_a_secret(believer.handed)


def test_an_oracle_is_handed_them() -> None:
    clusterer, matcher = KnowingClusterer(), KnowingMatcher()
    epoch_with(clusterer, matcher)
    assert [each.tolist() for each in clusterer.handed] == [TRUTH.visible.tolist(), TRUTH.infrared.tolist()]
    (majorities,) = matcher.handed
    assert majorities.visible.tolist() == [SECRET + 3, SECRET + 9] == majorities.infrared.tolist()[::-1]


def test_the_gates_are_the_types() -> None:
    ours, theirs = Spy(), KnowingClusterer()
    for clusterer in (ours, theirs):
        clusters_of(clusterer, features(4, 0), TRUTH.visible)
    prototypes = Prototypes(np.eye(2), np.eye(2))
    matching_of(ours, prototypes, TRUTH)
    assert not holds_a_secret(ours.handed) and holds_a_secret(theirs.handed)


def parameters(part: Any) -> list[str]:
    called = part.__call__ if isinstance(part, type) else part
    return [name for name in inspect.signature(called).parameters if name != "self"]


@pytest.mark.parametrize("name", sorted(CLUSTERERS))
def test_what_a_clusterer_takes(name: str) -> None:
    oracle = issubclass(CLUSTERERS[name], OracleClusterer)  # type: ignore[arg-type]
    assert oracle == (name == "oracle")
    assert parameters(CLUSTERERS[name]) == ["features", *(["identities"] if oracle else [])]


@pytest.mark.parametrize("name", sorted(MATCHERS))
def test_what_a_matcher_takes(name: str) -> None:
    oracle = issubclass(MATCHERS[name], OracleMatcher)  # type: ignore[arg-type]
    assert oracle == (name == "oracle")
    assert parameters(MATCHERS[name]) == ["prototypes", *(["truth"] if oracle else [])]


def test_no_view_has_a_place_for_them() -> None:
    views = (*Prototypes._fields, *Members._fields, *(each.name for each in dataclasses.fields(CrossBatch)))
    assert not [name for name in views if "ident" in name or "truth" in name or "pid" in name]
    assert issubclass(CrossBatch, Batch)


NAMES_THEM = {"principles", "clustering.base", "clustering.oracle", "matching.base", "matching.oracle"}
"""Modules of the core that may name identities: the diagnosis, the gates and the oracles."""


def identifiers(source: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(source)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_no_other_module_of_the_core_names_them() -> None:
    core = [name for name in MODULES if name.split(".")[0] in CORE]
    naming = {name for name in core if any("identit" in each or each == "Truth" for each in identifiers(read(name)))}
    assert naming == NAMES_THEM


TAKEN_FOR_OTHERS = """
from mgot.clustering import Clusterer, TrueClusters
from mgot.matching import Matcher, Oracle, Prototypes
clusterer: Clusterer = TrueClusters()
matcher: Matcher = Oracle()
identities = Prototypes.identity_v
"""


@pytest.mark.slow
def test_the_type_checker_takes_no_oracle_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = pytest.importorskip("mypy.api")
    monkeypatch.chdir(ROOT)
    (tmp_path / "taken.py").write_text(TAKEN_FOR_OTHERS)
    told, _, _ = api.run(["--no-pretty", "--no-error-summary", str(tmp_path / "taken.py")])
    errors = [(line.split(":")[1], line.split()[-1]) for line in told.splitlines() if "error:" in line]
    assert errors == [("4", "[assignment]"), ("5", "[assignment]"), ("6", "[attr-defined]")], told
