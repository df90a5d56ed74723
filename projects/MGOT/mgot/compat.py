"""What fast-reid needs on today's Python, PyTorch and NumPy.

fast-reid is the PyPI wheel ``fastreid==1.4.0`` or a checkout of fast-reid's GitHub main branch. Each shim below cites
the line of fast-reid that needs it (of the wheel, unless it says otherwise). It does nothing if that line works
already. What fast-reid's backbones need in addition is in :mod:`mgot.modeling.fastreid_backbones`.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib.util
import logging
import os
import sys
import types
import warnings

import numpy as np
import torch

from mgot.errors import UserError

HOST = "fastreid"
INSTALL_HOST = "pip install --no-deps fastreid==1.4.0"
FASTREID_MISSING = f"fast-reid is not installed: type `{INSTALL_HOST}`, or put a checkout of it on PYTHONPATH"


class FastreidMissingError(UserError, ImportError):
    """A part of MGOT needs fast-reid, and fast-reid is not installed."""


def fastreid_present() -> bool:
    """Whether fast-reid can be imported; does not import it."""
    return importlib.util.find_spec(HOST) is not None


def require_fastreid() -> None:
    """Raise FastreidMissingError, with the line to type, if fast-reid is missing."""
    if not fastreid_present():
        raise FastreidMissingError(FASTREID_MISSING)


def apply() -> tuple[str, ...]:
    """Restore what fast-reid uses and today's libraries removed. Call before the first import of fast-reid.

    Returns:
        The names restored by this call, in order; empty on a second call.
    """
    shims = (_collections_abcs, _torch_six, _numpy_bool)
    restored = tuple(name for shim in shims for name in shim())
    _quiet_hints()
    _without_amx()
    return restored


def _without_amx() -> None:
    """Keep oneDNN from using Intel's AMX. With it, convolutions of small bfloat16 images give NaN in PyTorch 2.14.

    oneDNN reads the variable at its first use. A value that the user has set is kept.
    """
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")


def _collections_abcs() -> list[str]:
    """Names that Python 3.10 moved to collections.abc.

    ``from collections import Mapping``: data/build.py:12 (GitHub main, :19) and evaluation/testing.py:5.
    ``collections.Iterable``: layers/helpers.py:11 of GitHub checkouts; the wheel asks collections.abc.
    """
    missing = [name for name in ("Mapping", "Iterable") if not hasattr(collections, name)]
    for name in missing:
        setattr(collections, name, getattr(collections.abc, name))
    return [f"collections.{name}" for name in missing]


def _torch_six() -> list[str]:
    """The module that PyTorch 2.0 dropped: ``from torch._six import string_classes``, data/build.py:11."""
    if "torch._six" in sys.modules or importlib.util.find_spec("torch._six") is not None:
        return []
    module = types.ModuleType("torch._six", "Restored by mgot.compat for fastreid/data/build.py.")
    module.string_classes = (str, bytes)  # type: ignore[attr-defined]
    sys.modules["torch._six"] = module
    torch._six = module  # type: ignore[attr-defined]
    return ["torch._six"]


def _numpy_bool() -> list[str]:
    """The alias that NumPy 1.24 to 1.26 lack and NumPy 2 has again: ``dtype=np.bool``, evaluation/rank.py:69."""
    with warnings.catch_warnings():  # NumPy 1.20 - 1.23 and 1.24 - 1.26 warn about the very question
        warnings.simplefilter("ignore")
        if hasattr(np, "bool"):
            return []
    np.bool = bool  # type: ignore[misc,assignment]
    return ["numpy.bool"]


def _quiet_hints() -> None:
    """Suppress three hints that do not help a user of MGOT.

    evaluation/rank.py:14 and evaluation/roc.py:18 advise a Cython build at import; MGOT's scoring never uses it.
    For each loader, PyTorch advises fewer workers if DATALOADER.NUM_WORKERS is above the number of cores.
    utils/collect_env.py:69 asks PyTorch for CUDA_HOME, which gives a message on a machine with the toolkit but no GPU.
    """
    warnings.filterwarnings("ignore", message="Cython (rank|roc) evaluation", category=UserWarning)
    warnings.filterwarnings(
        "ignore",
        message="This DataLoader will create",
        category=UserWarning,
        module=r"torch\.utils\.data\.dataloader",
    )
    logging.getLogger("torch.utils.cpp_extension").addFilter(_is_not_about_cuda_home)


def _is_not_about_cuda_home(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("No CUDA runtime is found, using CUDA_HOME")
