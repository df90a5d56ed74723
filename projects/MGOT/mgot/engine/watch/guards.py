"""Signs of a run that goes wrong: infinite losses, collapsing features, very different numbers of clusters.

A step without a finite loss is skipped and changes nothing. The others give a warning, and training continues.
"""

from __future__ import annotations

import logging
import math

import torch
import torch.distributed as dist
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from torch import Tensor, nn

from mgot.engine.epoch import EpochState
from mgot.errors import UserError
from mgot.modeling import MGOTHead

logger = logging.getLogger("mgot")


class StepGuard:
    """Skips steps whose loss is infinite or NaN, and stops the run after too many of them in one epoch.

    A skipped step changes nothing: it has no gradient and no memory update. The norms' running statistics, which the
    forward pass has already changed, are restored. The cost is reading one number from the device in each step.

    Args:
        network: its buffers are restored, and its head forgets the step's features.
        limit: how many steps of an epoch may be skipped.
    """

    def __init__(self, network: nn.Module, limit: int) -> None:
        self._network, self._limit = network, limit
        self._buffers = list(network.buffers())
        self._before: list[Tensor] = [buffer.clone() for buffer in self._buffers]
        self.skipped = 0

    def remember(self) -> None:
        """Before the forward pass: save the running statistics."""
        for kept, buffer in zip(self._before, self._buffers, strict=True):
            kept.copy_(buffer)

    @torch.no_grad()
    def admits(self, iteration: int, losses: dict[str, Tensor]) -> bool:
        """Whether to take the step; the same on all processes.

        Raises:
            UserError: more steps of this epoch than the limit were skipped; names the term and the key.
        """
        finite = torch.isfinite(torch.stack([loss.detach() for loss in losses.values()]).sum())
        if comm.get_world_size() > 1:
            flag = finite.float()
            dist.all_reduce(flag, op=dist.ReduceOp.MIN)
            finite = flag > 0
        if bool(finite):
            return True
        for kept, buffer in zip(self._before, self._buffers, strict=True):
            buffer.copy_(kept)
        for module in self._network.modules():
            if isinstance(module, MGOTHead):
                module.step = None
        self.skipped += 1
        terms = [name for name, loss in losses.items() if not math.isfinite(float(loss))] or ["another process's loss"]
        if self.skipped > self._limit:
            raise UserError(
                f"iteration {iteration}: {', '.join(terms)} is infinite or NaN, now in {self.skipped} steps of this"
                " epoch (MGOT.GUARD.MAX_SKIPPED_STEPS): continue from the last checkpoint with --resume and a lower"
                " SOLVER.BASE_LR, or MGOT.PRECISION float32"
            )
        logger.warning(f"iteration {iteration}: {', '.join(terms)} is infinite or NaN; the step is skipped")
        return False

    def new_epoch(self) -> int:
        """Reset the count; returns the number of steps skipped so far."""
        skipped, self.skipped = self.skipped, 0
        return skipped


def feature_spread(f: Tensor) -> float:
    """Total variance of L2-normalised features, 1 - |mean f|^2 in [0, 1]; 0 if all features are the same.

    Args:
        f: (N, D); without rows the spread is 0.
    """
    return float(1.0 - f.double().mean(dim=0).square().sum()) if len(f) else 0.0


class EpochGuardHook(HookBase):
    """At each epoch's start: log ``<modality>/spread``, and warn of collapsing features or very uneven clusters.

    Args:
        min_spread: features with a total variance below this count as collapsed.
        max_ratio: of the numbers of clusters of the two modalities.
    """

    in_checkpoint = True

    def __init__(self, *, min_spread: float, max_ratio: float) -> None:
        self._min_spread, self._max_ratio = min_spread, max_ratio

    def before_epoch(self) -> None:
        if not comm.is_main_process():  # only there are the features
            return
        trainer = self.trainer
        state: EpochState = trainer.state.epoch
        spreads = {"visible": feature_spread(state.f_v), "infrared": feature_spread(state.f_r)}
        scalars = {f"{name}/spread": spread for name, spread in spreads.items()}
        trainer.storage.put_scalars(**scalars, smoothing_hint=False)
        for line in epoch_warnings(spreads, len(state.phi_v), len(state.phi_r), self._min_spread, self._max_ratio):
            logger.warning(f"epoch {state.epoch}: {line}")


def epoch_warnings(spreads: dict[str, float], k_v: int, k_r: int, min_spread: float, max_ratio: float) -> list[str]:
    """One line for each thing that looks wrong; none for a healthy epoch.

    Args:
        spreads: modality -> :func:`feature_spread`.
        k_v, k_r: numbers of clusters.
        min_spread, max_ratio: as in :class:`EpochGuardHook`.
    """
    lines = [
        f"the {name} features collapse (their variance is {spread:.1e}, under MGOT.GUARD.MIN_SPREAD {min_spread:g}):"
        " lower SOLVER.BASE_LR, or start from other weights"
        for name, spread in spreads.items()
        if spread < min_spread
    ]
    for name, k, other in (("visible", k_v, k_r), ("infrared", k_r, k_v)):
        if k == 1:
            lines.append(f"all {name} images are in one cluster: lower MGOT.CLUSTER.EPS")
        if k > max_ratio * other:
            lines.append(
                f"{k} {name} clusters against {other} (over MGOT.GUARD.MAX_CLUSTER_RATIO {max_ratio:g}): many share a"
                " match; MGOT.CLUSTER.EPS may suit only one modality"
            )
    return lines
