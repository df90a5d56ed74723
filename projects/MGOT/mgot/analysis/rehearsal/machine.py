"""Free disk, shared memory, RAM and GPU memory of this machine, in bytes; None if the system does not say."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

import torch

GB = 1e9
SHARED_MEMORY = Path("/dev/shm")
_STATUS, _MEMORY = Path("/proc/self/status"), Path("/proc/meminfo")
_GROUPS = (  # limit and use of a container, of both versions of Linux's control groups
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def free_disk(folder: Path) -> int:
    """Free space on the disk of a folder; the folder need not exist yet."""
    return shutil.disk_usage(existing(folder)).free


def free_shared_memory() -> int | None:
    """Free space in /dev/shm, through which loader processes pass their batches."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def ram_to_have() -> int | None:
    """The most memory that this process can get: what it has and what is free, within a container's limit."""
    available = _kilobytes(_MEMORY, "MemAvailable")
    own = _kilobytes(_STATUS, "VmRSS")
    if available is None or own is None:
        return None
    left = [available]
    for limit, used in _GROUPS:
        if limit.is_file() and limit.read_text().strip().isdigit():
            left.append(int(limit.read_text()) - int(used.read_text()))
    return own + max(0, min(left))


def ram_peak() -> int:
    """The most memory that this process has had so far."""
    held = _kilobytes(_STATUS, "VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if held is None else held


def children_memory() -> int:
    """Memory of this process's children, shared pages by their share; 0 if the system does not say."""
    total = 0
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            total += _kilobytes(Path(f"/proc/{child}/smaps_rollup"), "Pss") or 0
    return total


def process_age() -> float:
    """Seconds since this process started, imports included; 0 if the system does not say."""
    try:
        began = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(Path("/proc/uptime").read_text().split()[0]) - began
    except OSError:
        return 0.0


def card_memory(device: torch.device) -> int | None:
    """Memory of the GPU that a run trains on; None on a CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def card_peak(device: torch.device) -> int:
    """The most GPU memory that PyTorch has taken so far; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _kilobytes(path: Path, key: str) -> int | None:
    """Bytes of a line ``key: n kB``; None if there is no such file or line."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith(f"{key}:")]
    return 1024 * found[0] if found else None
