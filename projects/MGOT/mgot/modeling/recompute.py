"""Parts of a backbone that are computed again in the backward pass, so their intermediate results are not kept. [ours]

This costs one more forward pass of these parts, and saves most of a step's memory. Batches are not split, so norms and
losses over a whole batch do not change.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mgot.errors import UserError
from mgot.modeling.stages import find_module

KEY = "MGOT.RECOMPUTE"
JOINT = "+"


class _Piece:
    """Modules that run one after the other, as one part: only the input is kept.

    In training, the first module runs all of them, and the others return their input. Hooks on the last one see its
    output.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = list(modules)
        self._plain = [module.forward for module in modules]
        modules[0].forward = self._first  # type: ignore[method-assign]
        for place, module in enumerate(modules[1:], start=1):
            module.forward = partial(self._handed_on, place)  # type: ignore[method-assign]

    @property
    def _active(self) -> bool:
        return self._modules[0].training and torch.is_grad_enabled()

    def _first(self, x: Tensor) -> Tensor:
        if not self._active:
            return self._plain[0](x)
        output: Tensor = checkpoint(self._run, x, use_reentrant=False, context_fn=self._contexts)
        return output

    def _handed_on(self, place: int, x: Tensor) -> Tensor:
        return x if self._active else self._plain[place](x)

    def _run(self, x: Tensor) -> Tensor:
        for plain in self._plain:
            x = plain(x)
        return x

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), buffers_set_aside(self._modules)


@contextmanager
def buffers_set_aside(modules: Sequence[nn.Module]) -> Iterator[None]:
    """In this context the modules use copies of their buffers; afterwards they have their own again, unchanged.

    Otherwise the second forward pass of a batch would update a norm's running statistics twice.
    """
    inner = {id(part): part for module in modules for part in module.modules()}.values()
    own = [(part, name, buffer) for part in inner for name, buffer in part.named_buffers(recurse=False)]
    for part, name, buffer in own:
        setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, name, buffer in own:
            setattr(part, name, buffer)


def recompute(backbone: nn.Module, names: Sequence[str], size: Sequence[int], tapped: Sequence[str] = ()) -> None:
    """Recompute the named parts of a backbone in the backward pass, in place. Layer names do not change.

    Losses, gradients, running statistics and the random numbers of dropout are those of the plain step.

    Args:
        backbone: any network.
        names: of its modules. A container, such as ``layer1``, means its blocks, and each block is a part.
            ``conv1+bn1+relu+maxpool`` is one part of modules that run one after the other.
        size: (height, width) of the image that the parts are tried on.
        tapped: modules whose outputs are read elsewhere; in a part only the last module may be one.

    Raises:
        UserError: a name is unknown, named twice, or cannot be recomputed: the backbone never runs it or runs it twice,
            its input is not one tensor, modules joined with + do not follow each other, or one changes its input in
            place.
    """
    pieces = [piece for name in names for piece in _pieces(backbone, name)]
    if not pieces:
        return
    _refuse_doubles(backbone, pieces)
    hidden = {id(module) for piece in pieces for module in piece[:-1]}
    for name in tapped:
        if id(find_module(backbone, name, "MGOT.DEN.STAGES")) in hidden:
            raise UserError(
                f"{KEY}: '{name}' feeds the adversary (MGOT.DEN.STAGES): make it the last of a part, or a whole part"
            )
    _try_pieces(backbone, pieces, size)
    for piece in pieces:
        _Piece(piece)


def _pieces(backbone: nn.Module, name: str) -> list[list[nn.Module]]:
    parts = [find_module(backbone, each.strip(), KEY) for each in name.split(JOINT)]
    if len(parts) == 1 and isinstance(parts[0], nn.Sequential | nn.ModuleList):
        return [[block] for block in parts[0]]
    return [parts]


def _refuse_doubles(backbone: nn.Module, pieces: Sequence[Sequence[nn.Module]]) -> None:
    names = {id(module): name for name, module in backbone.named_modules()}
    seen: set[int] = set()
    for piece in pieces:
        inside = {id(part) for module in piece for part in module.modules()}
        if inside & seen:
            raise UserError(f"{KEY}: '{names[id(piece[0])]}' is named twice, or within another part")
        seen |= inside


class _Trial:
    """Watches one run of a backbone: what goes into each module of the pieces, and what comes out."""

    def __init__(self, backbone: nn.Module, pieces: Sequence[Sequence[nn.Module]]) -> None:
        modules = [module for piece in pieces for module in piece]
        self._names = {id(module): name for name, module in backbone.named_modules()}
        self._first = {id(piece[0]) for piece in pieces}
        self._inputs: dict[int, Tensor] = {}
        self._outputs: dict[int, Any] = {}
        self._handles: list[Any] = []
        for module in modules:
            self._handles.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._after))

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if id(module) in self._inputs:
            raise UserError(f"{KEY}: '{self._names[id(module)]}' runs more than once: name modules that run once")
        if kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
            raise UserError(f"{KEY}: '{self._names[id(module)]}' takes more than one tensor: name another module")
        self._inputs[id(module)] = args[0]
        if id(module) in self._first:
            self._copy = args[0].clone()

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._outputs[id(module)] = output
        if id(module) in self._first and not torch.equal(args[0], self._copy):
            name = self._names[id(module)]
            raise UserError(f"{KEY}: '{name}' changes its input in place: join it to the module before it, as in a+b")

    def check(self, piece: Sequence[nn.Module]) -> None:
        """Raise UserError if a piece did not run, or not one module after the other."""
        for module in piece:
            if id(module) not in self._inputs:
                raise UserError(
                    f"{KEY}: the backbone never runs '{self._names[id(module)]}': name modules that it calls"
                )
        for before, after in itertools.pairwise(piece):
            if self._outputs[id(before)] is not self._inputs[id(after)]:
                first, second = self._names[id(before)], self._names[id(after)]
                raise UserError(f"{KEY}: '{second}' does not run right after '{first}': do not join them")

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


@torch.no_grad()
def _try_pieces(backbone: nn.Module, pieces: Sequence[Sequence[nn.Module]], size: Sequence[int]) -> None:
    training = backbone.training
    backbone.eval()
    trial = _Trial(backbone, pieces)
    try:
        with buffers_set_aside([backbone]):
            backbone(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))
        for piece in pieces:
            trial.check(piece)
    finally:
        trial.close()
        backbone.train(training)
