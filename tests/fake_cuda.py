"""A GPU that is not there. CUDA tensors have a shape, a type and a device but no values; the CPU computes as ever.

PyTorch's fake tensors stand for all that lies on "cuda", so that a tensor left on the other device raises what a GPU
would raise. Where a GPU would make the CPU wait, at a look at a value or at a copy that blocks, this is noted, and a
value that is looked at is made up: random numbers, ones, True.

What it is not: PyTorch's engine asks for a driver before it goes backward, so each parameter that a loss leads to gets
a gradient of zeros instead. Streams and pinned memory are names only.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import mgot

_PACKAGE = Path(mgot.__file__).parent
_aten = torch.ops.aten
_Bare = torch.Generator
_COPIES = (_aten._to_copy.default, _aten.copy_.default)


class Generator(torch.Generator):
    """A generator that says it is on a device; it draws nothing there."""

    # By address, since functions are given a bare one; kept, so that no address comes twice.
    made: ClassVar[dict[int, Generator]] = {}
    said: torch.device

    def __new__(cls, device: str | torch.device = "cpu") -> Generator:
        made = super().__new__(cls, "cpu")  # type: ignore[call-arg]
        made.said = torch.device(device)
        cls.made[getattr(made, "_cdata")] = made  # noqa: B009  PyTorch does not declare it
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.said


class FakeCuda(TorchDispatchMode):
    """While it holds, tensors on "cuda" are fake and those on the CPU are real.

    Attributes:
        waits: where the CPU would have waited for the GPU, as "modeling/heads.py aten::_local_scalar_dense".
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._values = _Bare("cpu").manual_seed(0)
        self._lifted: list[bool] = []

    def __enter__(self) -> FakeCuda:
        # torch.tensor(..., device="cuda") makes a CPU tensor and sends it, which the mode must see.
        self._lifted.append(torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        torch._C._set_only_lift_cpu_tensors(self._lifted.pop())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        on_gpu = any(isinstance(each, FakeTensor) or _is_cuda(each) for each in leaves)
        for each in leaves:
            address = getattr(each, "_cdata", None)  # its own, whichever Python object stands for it
            if isinstance(each, _Bare) and address in Generator.made:
                _check_generator(func, Generator.made[address].device, on_gpu)
        if func.name() in ("aten::_pin_memory", "aten::pin_memory"):
            return args[0].clone()
        if not on_gpu:
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled() and func.namespace == "aten" and _is_composite(func):
            with self:  # autograd, which takes such functions apart, does not look in this mode
                return func.decompose(*args, **kwargs)
        return self._compute(func, args, kwargs)

    def _compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of one function that has to do with the GPU."""
        if func is _aten._local_scalar_dense.default:
            self._wait(func)
            return _number(args[0].dtype)
        blocks = any(map(_is_real, tree_leaves((args, kwargs)))) and not _is_in_passing(func, args, kwargs)
        into = args[0] if func is _aten.copy_.default and _is_real(args[0]) else None
        args, kwargs = tree_map(self._sent, (args, kwargs))
        with self._fake:
            result = func(*args, **kwargs)
        comes_back = isinstance(result, FakeTensor) and result.device.type == "cpu"
        if blocks or comes_back:
            self._wait(func)
        if not comes_back:
            return result
        return self._told(result) if into is None else into.copy_(self._told(result))

    def _wait(self, func: Any) -> None:
        ours = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(_PACKAGE)]
        place = Path(ours[-1].filename).relative_to(_PACKAGE).as_posix() if ours else "elsewhere"
        self.waits.append(f"{place} {func.name()}")

    def _sent(self, each: Any) -> Any:
        if isinstance(each, _Bare):
            return None  # the fake kernels draw nothing
        if not isinstance(each, Tensor) or isinstance(each, FakeTensor):
            return each
        return self._fake.from_tensor(each)

    def _told(self, fake: FakeTensor) -> Tensor:
        """A real tensor on the CPU in place of one that came from the GPU."""
        real = torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype)
        return real.normal_(generator=self._values) if real.is_floating_point() else real.fill_(1)


def _check_generator(func: Any, device: torch.device, on_gpu: bool) -> None:
    if (device.type == "cuda") != on_gpu:
        raise RuntimeError(f"{func}: the generator is on {device}, the tensor is not")


def _is_composite(func: Any) -> bool:
    return func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)


def _is_cuda(each: Any) -> bool:
    return isinstance(each, torch.device) and each.type == "cuda"


def _is_real(each: Any) -> bool:
    """A tensor with values on the CPU; a single number goes along with the kernel's arguments."""
    return isinstance(each, Tensor) and not isinstance(each, FakeTensor) and each.dim() > 0


def _is_in_passing(func: Any, args: Any, kwargs: Any) -> bool:
    """A copy to the GPU that does not block."""
    third = args[2] if func is _aten.copy_.default and len(args) > 2 else False
    return func in _COPIES and bool(kwargs.get("non_blocking", third))


def _number(kind: torch.dtype) -> bool | float | int:
    if kind == torch.bool:
        return True
    return 1.0 if kind.is_floating_point else 1


class Stream:
    """A stream that nothing waits on."""

    def __init__(self, device: Any = None) -> None: ...

    def wait_stream(self, other: Stream) -> None: ...


def gradients_of_zero(loss: Tensor, *args: Any, **kwargs: Any) -> None:
    """In place of ``backward``: a gradient of zeros for each leaf that the loss leads to."""
    seen: set[Any] = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.zeros_like(node.variable)
        waiting.extend(following for following, _ in node.next_functions)


def _save_read_off(save: Callable[..., None], content: Any, *args: Any, **kwargs: Any) -> None:
    """``torch.save`` of real tensors: it reads those of a GPU off it by itself."""
    save(tree_map(lambda each: each.cpu() if isinstance(each, FakeTensor) else each, content), *args, **kwargs)


@contextlib.contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] = (9, 0)) -> Iterator[FakeCuda]:
    """A GPU of a compute capability, for one test; skips where this PyTorch cannot feign one."""
    if not torch.backends.cuda.is_built() or not hasattr(torch._C, "_ensureCUDADeviceGuardSet"):
        pytest.skip("this PyTorch was built without CUDA, whose tensors it cannot feign")
    torch._C._ensureCUDADeviceGuardSet()
    answers: dict[str, Any] = {
        "_lazy_init": None, "is_available": True, "device_count": 1, "is_bf16_supported": capability >= (8, 0),
        "get_device_capability": capability, "get_rng_state_all": [], "manual_seed": None, "manual_seed_all": None,
        "current_stream": Stream(), "synchronize": None, "stream": contextlib.nullcontext(),
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, answer=answer, **kwargs: answer)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: None)
    monkeypatch.setattr(Tensor, "backward", gradients_of_zero)
    monkeypatch.setattr(torch, "save", partial(_save_read_off, torch.save))
    with FakeCuda() as gpu:
        yield gpu
