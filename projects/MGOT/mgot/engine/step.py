"""One training step: forward, backward, optimiser. Its losses stay on the device until the epoch's end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import Tensor, nn

from mgot.engine.watch.guards import StepGuard


class TrainingStep:
    """Takes one step of training; ``step(iteration)``. Its losses stay on the device until :meth:`write_losses`.

    It replaces fast-reid's SimpleTrainer, which reads every term in every step while the device waits.

    Args:
        model: batches to losses by name.
        optimizer: of the model.
        data_loader: the trainer puts its iterator into :attr:`batches` at each epoch's start.
        scaled: scale the gradients; only float16 needs this.
        guard: checks each step before its backward pass; the losses of a skipped step are not kept.

    Attributes:
        batches: the batches of the next steps.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, data_loader: Any, *, scaled: bool, guard: StepGuard
    ) -> None:
        self.model, self.optimizer, self.data_loader, self.guard = model, optimizer, data_loader, guard
        self.batches: Iterator[Any] = iter(())
        self.grad_scaler = torch.amp.GradScaler(enabled=scaled)
        self._losses: list[tuple[int, list[str], Tensor, float]] = []

    def __call__(self, iteration: int) -> None:
        """Forward, backward, optimiser. The memories move afterwards, in a hook."""
        start = time.perf_counter()
        batch = next(self.batches)
        waited = time.perf_counter() - start
        self.guard.remember()
        losses: dict[str, Tensor] = self.model(batch)
        if not self.guard.admits(iteration, losses):
            return
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        self.grad_scaler.scale(total).backward()
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        terms = torch.stack([total, *losses.values()]).detach()
        self._losses.append((iteration, ["total_loss", *losses], terms, waited))

    def write_losses(self, storage: EventStorage) -> None:
        """Put the losses of the steps since the last call into fast-reid's storage, each at its own iteration.

        Over several processes they are means; ``data_time`` is the slowest's.
        """
        skipped = self.guard.new_epoch()
        if skipped:
            storage.put_scalar("skipped_steps", skipped, smoothing_hint=False)
        if not self._losses:
            return
        now = storage.iter
        steps, self._losses = self._losses, []
        rows = torch.cat([terms.double() for *_, terms, _ in steps]).cpu()
        waits = torch.tensor([waited for *_, waited in steps], dtype=torch.float64)
        rows, waits = _over_processes(rows, waits)
        start = 0
        for (iteration, names, terms, _), waited in zip(steps, waits.tolist(), strict=True):
            values = dict(zip(names, rows[start : start + len(terms)].tolist(), strict=True))
            start += len(terms)
            storage.iter = iteration
            storage.put_scalars(data_time=waited, **values)
        storage.iter = now


def _over_processes(rows: Tensor, waits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the losses and greatest of the waits over all processes."""
    gathered = comm.all_gather((rows, waits))
    return torch.stack([each[0] for each in gathered]).mean(0), torch.stack([each[1] for each in gathered]).amax(0)
