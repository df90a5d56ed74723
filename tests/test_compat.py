"""What `mgot.compat` restores, that it leaves the rest alone, and that every line it cites is there."""

from __future__ import annotations

import collections
import collections.abc
import importlib.metadata
import logging
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mgot import compat
from tests.checkout import HOST, write_package

ROOT = Path(__file__).resolve().parents[1]
IMPORT_HOST = (
    "import mgot.compat, fastreid, fastreid.data, fastreid.engine, fastreid.evaluation, fastreid.modeling,"
    " fastreid.solver, fastreid.utils.checkpoint; print(fastreid.__file__)"
)


def host_version() -> str:
    try:
        return importlib.metadata.version("fastreid")
    except importlib.metadata.PackageNotFoundError:
        return "a checkout"


def python(code: str, *path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter with some folders before mgot on the path."""
    search = os.pathsep.join(map(str, [*path, ROOT / "projects" / "MGOT"]))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["Mapping", "Iterable"])
def test_collections_name_is_restored_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(collections, name, raising=False)
    assert f"collections.{name}" in compat.apply()
    assert getattr(collections, name) is getattr(collections.abc, name)
    assert compat.apply() == ()


def test_collections_name_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    there = object()
    monkeypatch.setattr(collections, "Mapping", there, raising=False)
    compat.apply()
    assert vars(collections)["Mapping"] is there


def test_torch_six_is_restored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._six", raising=False)
    assert "torch._six" in compat.apply()
    from torch._six import string_classes

    assert isinstance("name", string_classes)
    assert not isinstance(1, string_classes)
    assert compat.apply() == ()


def test_torch_six_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    there = types.ModuleType("torch._six")
    monkeypatch.setitem(sys.modules, "torch._six", there)
    compat.apply()
    assert sys.modules["torch._six"] is there
    assert not hasattr(there, "string_classes")


def test_numpy_bool_is_restored_where_numpy_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(np, "bool", raising=False)
    assert "numpy.bool" in compat.apply()
    assert np.zeros(2, dtype=np.bool).dtype == np.dtype(bool)


def test_numpy_bool_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "bool", np.bool_, raising=False)
    assert "numpy.bool" not in compat.apply()
    assert np.bool is np.bool_


@pytest.mark.parametrize(
    ("file", "line", "text"),
    [
        ("data/build.py", 11, "from torch._six import string_classes"),
        ("data/build.py", 12, "from collections import Mapping"),
        ("evaluation/testing.py", 5, "from collections import Mapping, OrderedDict"),
        ("layers/helpers.py", 11, "collections.abc.Iterable"),
        ("evaluation/rank.py", 69, "dtype=np.bool"),
        ("evaluation/rank.py", 14, "warnings.warn("),
        ("evaluation/roc.py", 18, "warnings.warn("),
        ("utils/collect_env.py", 69, "import CUDA_HOME"),
    ],
)
def test_cited_line_of_the_host(file: str, line: int, text: str) -> None:
    if host_version() != "1.4.0":
        pytest.skip(f"the citations are of the wheel 1.4.0, and fast-reid is {host_version()}")
    source = (HOST / file).read_text(encoding="utf-8")
    assert text in source.splitlines()[line - 1]
    assert f"{file}:{line}" in Path(compat.__file__).read_text(encoding="utf-8")


def test_hints_of_pytorch_are_left_out_and_nothing_else(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    compat.apply()
    images = TensorDataset(torch.zeros(1))
    DataLoader(images, num_workers=4096)
    logger = logging.getLogger("torch.utils.cpp_extension")
    monkeypatch.setattr(logger, "propagate", False)  # PyTorch 2.4 lets nothing pass on to the root
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    logger.warning("No CUDA runtime is found, using CUDA_HOME='%s'", "/usr/local/cuda")
    assert not list(recwarn) and not caplog.records
    DataLoader(images, num_workers=1, prefetch_factor=2)
    warnings.warn("This DataLoader will create trouble", stacklevel=1)
    logger.warning("No compiler is found")
    assert [str(each.message) for each in recwarn] == ["This DataLoader will create trouble"]
    assert [record.getMessage() for record in caplog.records] == ["No compiler is found"]


def test_host_imports_without_a_warning() -> None:
    done = python("import warnings; warnings.simplefilter('error', DeprecationWarning)\n" + IMPORT_HOST)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_checkout_of_github_main_on_the_path_is_the_host(tmp_path: Path) -> None:
    write_package(tmp_path)
    code = "; from fastreid.layers.helpers import to_2tuple; assert to_2tuple(3) == (3, 3)"
    done = python(IMPORT_HOST + code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "fastreid" / "__init__.py")


def test_missing_host_says_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['fastreid'] = None\n", encoding="utf-8")
    host_free = "import mgot.losses, mgot.matching, mgot.clustering, mgot.memory, mgot.principles, mgot.evaluation"
    done = python(f"{host_free}\nfrom mgot.compat import require_fastreid\nrequire_fastreid()", tmp_path)
    warning, *_, error = done.stderr.splitlines()
    assert "pip install --no-deps fastreid==1.4.0" in warning
    assert error.startswith("mgot.compat.FastreidMissingError: ")
    assert "pip install --no-deps fastreid==1.4.0" in error
    assert done.stdout == ""


def test_missing_host_is_one_kind_of_users_mistake_and_of_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastreid", None)
    assert not compat.fastreid_present()
    with pytest.raises(compat.UserError):
        compat.require_fastreid()
    with pytest.raises(ImportError):
        compat.require_fastreid()


def test_old_python_gets_one_line() -> None:
    done = python("import sys; sys.version_info = (3, 9, 18); import mgot")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Python 3.10 - 3.13" in done.stderr


@pytest.mark.parametrize("before, after", [({}, "AVX512_CORE_BF16"), ({"ONEDNN_MAX_CPU_ISA": "ALL"}, "ALL")])
def test_convolutions_keep_from_amx_unless_asked(before: dict[str, str], after: str) -> None:
    asked = "".join(f"os.environ[{name!r}] = {value!r}; " for name, value in before.items())
    clean = "import os; os.environ.pop('ONEDNN_MAX_CPU_ISA', None); "
    done = python(f"{clean}{asked}import mgot; print(os.environ['ONEDNN_MAX_CPU_ISA'])")
    assert done.stdout.split() == [after], done.stderr
