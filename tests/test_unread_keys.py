"""A key that nothing reads is a bug: every key of the config, fast-reid's included, against the sources that run."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import fastreid
import pytest

import mgot
from mgot.clustering import CLUSTERERS
from mgot.engine.config.keys import flat
from mgot.engine.setup import default_config, load_config
from mgot.errors import UserError
from mgot.losses import LOSSES, loss_keys
from mgot.matching import MATCHERS
from mgot.registry import keys_of

HOST, PACKAGE = Path(fastreid.__file__).parent, Path(mgot.__file__).parent
# What of fast-reid runs under MGOT: files, and of its trainer's the functions that are not replaced.
HOST_FILES = (
    "solver/build.py",
    "data/transforms/build.py",
    "modeling/meta_arch/build.py",
    "modeling/heads/build.py",
    "modeling/backbones/**/*.py",
)
HOST_FUNCTIONS = ("default_setup", "__init__", "auto_scale_hyperparams")
# Functions that are given only a part of the config: parameter and part.
GIVEN = {
    "options": {"keys": "MGOT"},
    "_create_gradient_clipper": {"cfg": "SOLVER.CLIP_GRADIENTS"},
    "clip_grad_norm": {"cfg": "SOLVER.CLIP_GRADIENTS"},
}
NO_READERS = {PACKAGE / "engine/config/rules.py", PACKAGE / "config.py"}  # judge and declare; others must read

# Keys that no source names, and why each may stand.
KNOWN = {
    "KD.*": "of fast-reid's distillation, another meta-architecture",
    "MODEL.QUEUE_SIZE": "of fast-reid's memory queue, another meta-architecture",
    "MODEL.LOSSES.*": "of fast-reid's losses: DEN has its own",
    **{
        f"MODEL.HEADS.{name}": "of fast-reid's heads: MGOTHead has no classifier"
        for name in ("EMBEDDING_DIM", "NECK_FEAT", "CLS_LAYER", "MARGIN", "SCALE")
    },
    "DATALOADER.SET_WEIGHT": "of a sampler over several training sets, which MGOT refuses",
    "TEST.METRIC": "refused unless cosine",
    "TEST.PRECISE_BN.*": "ENABLED is refused unless False",
    "DATASETS.COMBINEALL": "refused unless False",
}


def chain(node: ast.expr, aliases: dict[str, str]) -> str | None:
    """``cfg.A.B`` -> "A.B", "" for the config itself; "*" for a part that the source does not spell; None otherwise."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute):
        if node.attr in ("cfg", "_cfg"):
            return ""
        before = chain(node.value, aliases)
        return None if before is None else f"{before}.{node.attr}".lstrip(".")
    if isinstance(node, ast.Subscript):
        before = chain(node.value, aliases)
        part = str(node.slice.value) if isinstance(node.slice, ast.Constant) else "*"
        return None if before is None else f"{before}.{part}".lstrip(".")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "clone":
        return chain(node.func.value, aliases)
    return None


def aliases_of(function: ast.FunctionDef) -> dict[str, str]:
    """Names within a function that stand for a part of the config."""
    aliases = {"cfg": "", "_cfg": "", **GIVEN.get(function.name, {})}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        (target,) = node.targets
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=True))
        else:
            pairs = [(target, node.value)]
        for name, value in pairs:
            found = chain(value, aliases)
            if isinstance(name, ast.Name) and found is not None:
                aliases[name.id] = found
    return aliases


def reads(source: str, functions: tuple[str, ...] = ()) -> Iterator[str]:
    """Parts of the config that a source's functions read, or only some of these functions."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef) or (functions and function.name not in functions):
            continue
        aliases = aliases_of(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Load):
                found = chain(node, aliases)
                if found:
                    yield found


def is_read(key: str, found: set[str]) -> bool:
    """Whether a key is among what was found, "*" standing for one part."""
    parts = key.split(".")
    places = itertools.product(*((part, "*") for part in parts))
    return any(".".join(place) in found for place in places)


def test_reads_are_found() -> None:
    source = """
def f(cfg, name):
    keys, other = cfg.A, cfg.B.C
    keys.ONE = cfg.clone().D.E
    return keys.TWO, other["THREE"], self.cfg.F[name].G, nothing.H
"""
    assert is_read("A.B.C", {"A.*.C"}) and not is_read("A.B.C", {"A.*", "A.B", "B.C", "*"})
    assert set(reads(source)) == {"A", "B", "B.C", "D", "D.E", "A.TWO", "B.C.THREE", "F", "F.*", "F.*.G", "clone"}


def test_every_key_is_read_or_known_not_to_be() -> None:
    found: set[str] = set()
    for path in set(PACKAGE.rglob("*.py")) - NO_READERS:
        found.update(reads(path.read_text(encoding="utf-8")))
    for pattern in HOST_FILES:
        for path in HOST.glob(pattern):
            found.update(reads(path.read_text(encoding="utf-8")))
    found.update(reads((HOST / "engine/defaults.py").read_text(encoding="utf-8"), HOST_FUNCTIONS))
    for group, parts in (("MATCHER", MATCHERS), ("CLUSTER", CLUSTERERS)):
        found.update(f"MGOT.{group}.{key}" for part in parts.values() for key in keys_of(part).values())
    found.update(f"MGOT.LOSS.{key}" for name in LOSSES for key in loss_keys(name))
    unread = [key for key, _ in flat(default_config()) if not is_read(key, found)]
    unknown = [key for key in unread if not any(fnmatchcase(key, pattern) for pattern in KNOWN)]
    assert unknown == []
    assert [pattern for pattern in KNOWN if not any(fnmatchcase(key, pattern) for key in unread)] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TEST.METRIC", "euclidean"),
        ("DATASETS.COMBINEALL", "True"),
    ],
)
def test_a_key_that_would_be_ignored_is_refused(key: str, value: str) -> None:
    base = ["MODEL.META_ARCHITECTURE", "DEN", "MODEL.HEADS.NAME", "MGOTHead", "SEED", "0"]
    with pytest.raises(
        UserError, match=rf"^{key} must be (cosine|False), (which|because) .*, not '?(euclidean|True)'?$"
    ):
        load_config("", [*base, key, value])
