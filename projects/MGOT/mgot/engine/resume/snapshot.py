"""What a checkpoint holds beside the model and the optimiser, as tensors and plain values, and how it is restored.

Random states, the current labels and matches, the memories, and what an unfinished epoch has logged. With these a run
continues from the middle of an epoch as if it had never stopped.
"""

from __future__ import annotations

import logging
import platform
import random
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import Tensor, nn

from mgot.data.loaders import EpochLabels
from mgot.engine.epoch import EpochState, RunState
from mgot.matching import Matching
from mgot.memory import MemoryBank, PrototypeMemory

logger = logging.getLogger("mgot")

_TABLES = ("v2r", "r2v", "c_v", "c_r", "members_v", "members_r", "belief_v", "belief_r")
_MEMORIES = ("visible", "infrared", "cross", "hard_visible", "hard_infrared")


def pack_run(state: RunState, storage: EventStorage, since: int) -> dict[str, Any]:
    """Labels, memories, what was logged from iteration ``since`` on, and versions, in the form of a checkpoint."""
    return {
        "labels": pack_epoch(state.epoch),
        "memories": pack_bank(state.bank),
        "scalars": pack_scalars(storage, since),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a run's numbers depend on; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in ("mgot", "fastreid", "torch", "numpy", "scipy", "scikit-learn", "POT", "faiss-cpu", "faiss-gpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def random_states() -> dict[str, Any]:
    """States of the generators of Python, NumPy and PyTorch in this process."""
    state: Any = np.random.get_state()  # noqa: NPY002 - the one that fast-reid seeds
    name, key, position, has_gauss, gauss = state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(key.astype(np.int64)), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def pack_process(network: nn.Module) -> dict[str, Any]:
    """What each process has of its own within an epoch: random states, and running statistics of its batches."""
    return {**random_states(), "statistics": dict(network.named_buffers()) if comm.get_world_size() > 1 else {}}


def restore_process(states: Sequence[dict[str, Any]], network: nn.Module) -> None:
    """Put this process where a checkpoint has it; with another number of processes, a warning."""
    if len(states) == comm.get_world_size():
        own = states[comm.get_rank()]
        restore_random_states(own)
        kept = own.get("statistics", {})
        for name, buffer in network.named_buffers():
            if name in kept and kept[name].shape == buffer.shape:
                buffer.copy_(kept[name])
    else:
        logger.warning(f"the run had {len(states)} processes: its random numbers cannot be continued exactly")


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the generators of this process where :func:`random_states` found them."""
    random.setstate(python_state(states))
    np.random.set_state(numpy_state(states))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def python_state(states: dict[str, Any]) -> Any:
    """Of :func:`random_states`, as ``random.setstate`` takes it."""
    return _as_tuples(states["python"])


def numpy_state(states: dict[str, Any]) -> Any:
    """Of :func:`random_states`, as ``numpy.random.set_state`` takes it."""
    name, key, position, has_gauss, gauss = states["numpy"]
    return name, key.numpy().astype(np.uint32), position, has_gauss, gauss


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def pack_epoch(state: EpochState | None) -> dict[str, Any] | None:
    """The labels and matches of an epoch. Its features are left out, because no later epoch needs them."""
    if state is None or state.matching is None:
        return None
    matching = state.matching
    return {
        "epoch": state.epoch,
        "labels": {name: torch.as_tensor(getattr(state.labels, name)) for name in ("visible", "infrared")},
        "identities": [torch.as_tensor(state.identity_v), torch.as_tensor(state.identity_r)],
        "matching": {name: torch.as_tensor(getattr(matching, name)) for name in ("v2r", "r2v", "unassigned")},
        "supply": matching.supply,
    }


def unpack_epoch(packed: dict[str, Any] | None) -> EpochState | None:
    """The inverse of :func:`pack_epoch`; features, prototypes and scores have no rows."""
    if packed is None:
        return None
    none = torch.zeros(0, 0)
    labels = EpochLabels(packed["labels"]["visible"].numpy(), packed["labels"]["infrared"].numpy())
    tables = {name: table.numpy() for name, table in packed["matching"].items()}
    matching = Matching(scores=none.numpy(), supply=packed["supply"], **tables)
    identity_v, identity_r = (each.numpy() for each in packed["identities"])
    return EpochState(packed["epoch"], none, none, labels, none, none, identity_v, identity_r, matching)


def pack_bank(bank: MemoryBank | None) -> dict[str, Any] | None:
    """The memories with their labels. A checkpoint is read to the CPU, from any device that wrote it."""
    if bank is None:
        return None
    memories = {name: getattr(bank, name) for name in _MEMORIES}
    tables = {name: getattr(bank, name) for name in _TABLES}
    return {
        "momentum": bank.visible.momentum,
        "by": bank.visible.by,
        "exchange": bank.exchange,
        "cross_weight": bank.cross_weight,
        "cross_epoch": bank.cross_epoch,
        **{name: memory.prototypes for name, memory in memories.items() if memory is not None},
        **{name: table for name, table in tables.items() if table is not None},
    }


def unpack_bank(packed: dict[str, Any], device: torch.device) -> MemoryBank:
    """The inverse of :func:`pack_bank`, on a device; rows come back bit for bit."""

    by = packed.get("by", "hardest" if packed.get("hardest") else "each")  # "hardest" in checkpoints of before

    def memory(name: str) -> PrototypeMemory | None:
        if name not in packed:
            return None
        made = PrototypeMemory(packed[name], packed["momentum"], by=by)
        made.prototypes = packed[name].to(device)  # the constructor's normalisation would round a second time
        return made

    tables: dict[str, Tensor] = {name: packed[name] for name in _TABLES if name in packed}
    visible, infrared = memory("visible"), memory("infrared")
    assert visible is not None and infrared is not None
    return MemoryBank(
        visible,
        infrared,
        memory("cross"),
        **tables,
        cross_weight=packed.get("cross_weight", 1.0),
        cross_epoch=packed.get("cross_epoch", 0),
        exchange=packed.get("exchange", False),
        hard_visible=memory("hard_visible"),
        hard_infrared=memory("hard_infrared"),
    )


def pack_scalars(storage: EventStorage, since: int) -> dict[str, Any]:
    """What was logged from iteration ``since`` on: name -> (smoothing hint, [(value, iteration), ...])."""
    hints = storage.smoothing_hints()
    logged = {
        name: [(float(value), int(iteration)) for value, iteration in history.values() if iteration >= since]
        for name, history in storage.histories().items()
    }
    return {name: (bool(hints[name]), values) for name, values in logged.items() if values}


def unpack_scalars(storage: EventStorage, packed: dict[str, Any]) -> None:
    """Log again what :func:`pack_scalars` saved; the storage's iteration does not change."""
    now = storage.iter
    for name, (hint, values) in packed.items():
        for value, iteration in values:
            storage.iter = iteration
            storage.put_scalar(name, value, smoothing_hint=hint)
    storage.iter = now
