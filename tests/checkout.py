"""A checkout of fast-reid's GitHub main, made from the installed fast-reid: the package, and folders of its layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import fastreid

HOST = Path(fastreid.__file__).parent
_TESTING = "from collections import OrderedDict\nfrom collections.abc import Mapping"
# Files of main that are not MGOT's and bear names of ours; each says so where it is used by mistake.
_NAMESAKES = (
    "configs/Base-SBS.yml",
    "tools/train_net.py",
    "projects/FastDistill/train_net.py",
    "demo/visualize_result.py",
)


def write_package(root: Path) -> Path:
    """The package under ``root`` as GitHub main has it, as far as main differs from the wheel in what MGOT restores."""
    package = root / "fastreid"
    shutil.copytree(HOST, package, ignore=shutil.ignore_patterns("__pycache__"))
    replace(package / "data/build.py", "from torch._six import string_classes", "string_classes = str")
    replace(package / "evaluation/testing.py", "from collections import Mapping, OrderedDict", _TESTING)
    replace(package / "layers/helpers.py", "collections.abc.Iterable", "collections.Iterable")
    return package


def write_checkout(root: Path) -> Path:
    """The package in main's layout: configs, projects, tools and demo beside it; the root."""
    write_package(root)
    for name in _NAMESAKES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"raise SystemExit('{name} is fast-reid's own')\n", encoding="utf-8")
    return root


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text that may have the new form already, as in fast-reid that is a checkout."""
    text = path.read_text(encoding="utf-8")
    assert old in text or new in text
    path.write_text(text.replace(old, new), encoding="utf-8")
