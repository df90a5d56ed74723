"""How much memory a training step takes, estimated from two small steps on the CPU. No GPU is needed."""

from __future__ import annotations

import time
import weakref
from typing import Any, NamedTuple

import numpy as np
import torch
from fastreid.config import CfgNode
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from mgot.engine.schedule.solver import build_fused_optimizer
from mgot.engine.trainer import MGOTTrainer, without_pretraining
from mgot.memory import MemoryBank, PrototypeMemory
from mgot.modeling import DEN

CLUSTERS = 8  # of each memory in the small steps: a real epoch's take megabytes
SMALL = (2, 4)  # images of each modality in the two steps that are measured
_PRODUCTS = {
    torch.ops.aten.convolution, torch.ops.aten.convolution_backward, torch.ops.aten.mm, torch.ops.aten.addmm,
    torch.ops.aten.bmm, torch.ops.aten.baddbmm,
}  # fmt: skip
_BATCHES_BESIDE = 2  # a GPU has the next batch already, and what its augmentation works on


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive in this context: those passed to it, and those created in it.

    Memory that an operation uses inside is not counted.

    Attributes:
        now: bytes alive.
        trace: bytes alive after each operation, its input included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.trace: list[int] = []
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for each in tree_leaves(output):
            if isinstance(each, Tensor):
                self.see(each)
        self.trace.append(self.now)
        return output

    def see(self, tensor: Tensor) -> None:
        """Count the storage behind a tensor, once."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known[key] = weakref.ref(storage, lambda _: self._gone(key, size))
        self.now += size

    def _gone(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size


class ShapesOnly(TorchDispatchMode):
    """Convolutions and products of matrices give zeros of their shape: a step takes its memory, and little time."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket not in _PRODUCTS:
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs or {}))
        return tree_map_only(Tensor, lambda shape: torch.zeros_like(shape, device="cpu"), func(*args, **kwargs))


class Footprint(NamedTuple):
    """Memory of a step, linear in the number of its images, for each operation.

    Attributes:
        fixed: (T,) bytes alive after each operation that do not depend on the batch: weights, gradients, moments.
        per_view: (T,) additional bytes for each image in the network; a visible image counts twice.
    """

    fixed: np.ndarray
    per_view: np.ndarray

    def at(self, views: float) -> float:
        """Bytes at the peak of a step of so many images through the network."""
        return float((self.fixed + self.per_view * views).max())

    def room(self, limit: float) -> float:
        """Images of the largest step that fits into so many bytes; 0 if even the weights do not fit."""
        growing = self.per_view > 0
        return max(0.0, float(((limit - self.fixed[growing]) / self.per_view[growing]).min()))


def footprint(cfg: CfgNode, precision: torch.dtype) -> Footprint:
    """Measure two small steps of the config's model at its true shapes; random weights.

    Convolutions and products of matrices are not computed: their results take the same memory without that, and a CPU
    that emulates bfloat16 needs minutes for them.

    A step's memory is linear in its images, except for the losses. Their matrices have a few hundred rows and are small
    compared with the feature maps. The optimiser's moments are counted. The gradients of the previous step are counted
    during the forward pass.

    Args:
        cfg: of the run.
        precision: of the backbone. It replaces MGOT.PRECISION's choice on this device, because a GPU may use another
            one.
    """
    small, large = _measured_steps(cfg, *_prepared(cfg, precision))
    n = min(len(small.trace), len(large.trace))  # the same operations, except the memories' last ones
    less, more = np.array(small.trace[:n], dtype=float), np.array(large.trace[:n], dtype=float)
    per_view = (more - less) / (large.views - small.views)
    return Footprint(less - per_view * small.views, per_view)


def seconds_per_view(cfg: CfgNode, precision: torch.dtype) -> float:
    """Time of a training step on the CPU for each image in the network, by a small one; the first is not counted."""
    model, optimizer = _prepared(cfg, precision)
    for _ in range(2):
        batch, start = _batch(cfg, SMALL[0]), time.perf_counter()
        _step(model, optimizer, batch)
    return (time.perf_counter() - start) / len(batch["images"])


def _prepared(cfg: CfgNode, precision: torch.dtype) -> tuple[DEN, torch.optim.Optimizer]:
    """The model with random weights and memories of the cross stage, and its optimiser."""
    cfg = on_cpu(cfg)
    model = MGOTTrainer.build_model(without_pretraining(cfg))
    assert isinstance(model, DEN)
    model.precision = precision
    model.train()
    model.heads.bank = _bank(cfg.MODEL.BACKBONE.FEAT_DIM)
    return model, build_fused_optimizer(cfg, model)[0]


class _Measured(NamedTuple):
    views: int
    trace: list[int]


def _measured_steps(cfg: CfgNode, model: DEN, optimizer: torch.optim.Optimizer) -> list[_Measured]:
    measured = []
    with ShapesOnly(), LiveBytes() as live:
        for tensor in (*model.parameters(), *model.buffers()):
            live.see(tensor)
        for images in (SMALL[0], *SMALL):  # the first makes the moments
            batch = _batch(cfg, images)
            beside = torch.empty(_BATCHES_BESIDE, *batch["images"].shape)
            for tensor in (batch["images"], beside):
                live.see(tensor)
            live.trace = []
            _step(model, optimizer, batch)
            measured.append(_Measured(len(batch["images"]), live.trace))
    return measured[1:]


def _step(model: DEN, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> None:
    """As the trainer steps."""
    total = torch.stack(list(model(batch).values())).sum()
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    assert model.heads.bank is not None and model.heads.step is not None
    model.heads.bank.update(*model.heads.step)


def _batch(cfg: CfgNode, images: int) -> dict[str, Tensor]:
    """Noise: two views of so many visible images, and so many infrared ones."""
    y = torch.arange(images) % CLUSTERS
    return {
        "images": 255 * torch.rand(3 * images, 3, *cfg.INPUT.SIZE_TRAIN),
        "is_visible": torch.arange(3 * images) < 2 * images,
        "targets": torch.cat([y, y, y]),
    }


def _bank(dim: int) -> MemoryBank:
    """Memories of the cross stage, matched one to one."""
    phi_v, phi_r, phi_c = (PrototypeMemory(torch.randn(CLUSTERS, dim)) for _ in range(3))
    same = torch.arange(CLUSTERS)
    pairs = torch.stack([same, same])
    return MemoryBank(phi_v, phi_r, phi_c, same, same, same, same, pairs, pairs)


def card_precision(cfg: CfgNode) -> torch.dtype:
    """The format of activations on a GPU; float16 takes as much memory as bfloat16."""
    return torch.float32 if cfg.MGOT.PRECISION == "float32" else torch.bfloat16


def on_cpu(cfg: CfgNode) -> CfgNode:
    """The config of a model that is built and run on the CPU, on any device of the run. Its precision is set later."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.MGOT.COMPILE = "cpu", False
    cfg.MGOT.PRECISION = "float32"  # a GPU's float16 is refused on a CPU
    cfg.freeze()
    return cfg
