"""Imports point downward, the core knows neither fast-reid nor the config, and nothing imports in a circle.

Read from the syntax trees, so that an import inside a function or under TYPE_CHECKING counts too.
"""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "projects" / "MGOT" / "mgot"

# From the ground up; a name with a dot is a part of a package with a layer of its own.
LAYERS = (
    {"errors", "files", "forms", "progress", "compat", "compiled", "ranges", "arguments", "registry", "truth"},
    {"distributed", "transport", "neighbours"},
    {"losses", "memory", "clustering", "matching", "principles"},
    {"evaluation"},
    {"modeling"},
    {"data"},
    {"analysis.diagnostics", "config"},
    {"engine.schedule"},
    {"engine.config"},
    {"engine"},
    {"retrieval", "analysis", "command"},
)
CORE = {
    *("registry", "truth", "compiled", "transport", "neighbours"),
    *("losses", "memory", "clustering", "matching", "principles"),
}
CORE_LIBRARIES = {"torch", "numpy", "scipy", "sklearn", "ot", "faiss", "numba"}
# What stands on fast-reid; everything else serves a user who has none.
FASTREID_BOUND = {
    "command",
    "config",
    "data.fastreid_input",
    "data.loaders",
    "data.registered",
    "data.training_people",
    "analysis.ablation",
    "analysis.rehearsal",
    "data.synthetic.pretrain",
    "distributed",
    "engine",
    "modeling",
    "retrieval.checkpoint",
    "retrieval.export",
    "retrieval.models",  # only for a checkpoint: an ONNX file is read without fast-reid
}


def module_name(path: Path) -> str:
    """``mgot/losses/pbcl.py`` -> ``losses.pbcl``; the package root is the empty name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(source: str) -> set[str]:
    """Full names that a source imports; ``from a import b`` gives ``a.b`` where that is our module, else ``a``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix("mgot.")
                names.add(f"mgot.{inner}" if base.startswith("mgot") and inner in MODULES else base)
    return names


def ours(source: str) -> set[str]:
    """Names below ``mgot`` that a source imports, the root as the empty name."""
    return {name.removeprefix("mgot").removeprefix(".") for name in imported(source) if name.split(".")[0] == "mgot"}


def names_from_root(source: str) -> set[str]:
    """Names, other than modules, that a source takes by ``from mgot import``."""
    taken = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module == "mgot"]
    return {alias.name for node in taken for alias in node.names} - set(MODULES)


def layer(name: str) -> int:
    """Height of a module, from its longest beginning that has a layer."""
    while name:
        for height, names in enumerate(LAYERS):
            if name in names:
                return height
        name = name.rpartition(".")[0]
    raise LookupError(name)


def upward(name: str, source: str) -> set[str]:
    """Imports of a module that point above its own layer."""
    return {other for other in ours(source) - {""} if layer(other) > layer(name)}


def knows_cfg(source: str) -> bool:
    """Whether a source has any name, argument or attribute called cfg, or imports a config library."""
    nodes = list(ast.walk(ast.parse(source)))
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    named |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    named |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return "cfg" in named or bool({"yacs", "fastreid"} & {name.split(".")[0] for name in imported(source)})


def read(name: str) -> str:
    return MODULES[name].read_text(encoding="utf-8")


NAMED = [name for name in MODULES if name]
SCRIPTS = sorted([*ROOT.glob("tools/*.py"), *ROOT.glob("projects/MGOT/*.py")])


@pytest.mark.parametrize("name", NAMED)
def test_module_has_a_layer_and_imports_point_downward(name: str) -> None:
    assert upward(name, read(name)) == set()


@pytest.mark.parametrize("name", MODULES)
def test_imports_are_absolute_and_never_of_the_package_root(name: str) -> None:
    source = read(name)
    assert not [other for other in imported(source) if other.startswith(".")]
    assert "" not in ours(source)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tools_take_no_name_from_the_package_root(path: Path) -> None:
    """A tool may ``import mgot``, which registers it with fast-reid; its names come from submodules."""
    assert names_from_root(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("name", [name for name in NAMED if name.split(".")[0] in CORE])
def test_core_knows_only_its_libraries(name: str) -> None:
    source = read(name)
    assert not knows_cfg(source)
    foreign = {other.split(".")[0] for other in imported(source)} - {"mgot"}
    assert foreign - set(sys.stdlib_module_names) <= CORE_LIBRARIES


FASTREID_FREE = [name for name in NAMED if not any(f"{name}.".startswith(f"{bound}.") for bound in FASTREID_BOUND)]


@pytest.mark.parametrize("name", FASTREID_FREE)
def test_free_modules_lead_to_no_fastreid(name: str) -> None:
    """Neither a module nor one it imports, nor a package that holds one of them, needs fast-reid."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        seen.add(current)
        source = read(current)
        assert "fastreid" not in {other.split(".")[0] for other in imported(source)}, f"{name} reaches {current}"
        packages = {current.rpartition(".")[0]}
        waiting.extend(other for other in (ours(source) | packages) - {""} if other in MODULES and other not in seen)


def test_no_import_cycle() -> None:
    TopologicalSorter({name: ours(read(name)) - {"", name} for name in NAMED}).prepare()


def test_the_rules_can_fail() -> None:
    assert upward("losses.pbcl", "from mgot.engine.hooks import ClusteringHook") == {"engine.hooks"}
    assert upward("transport", "def f():\n    from mgot import matching") == {"matching"}
    assert upward("engine.hooks", "from mgot.losses import cross_contrastive") == set()
    assert "" in ours("import mgot")
    assert "" in ours("from mgot import __version__")
    assert names_from_root("from mgot import __version__") == {"__version__"}
    assert names_from_root("import mgot\nfrom mgot import losses") == set()
    assert imported("from . import pbcl") == {"."}
    assert knows_cfg("def f(cfg): ...")
    assert knows_cfg("import fastreid.data")
    assert not knows_cfg("def f(keys): ...")
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
