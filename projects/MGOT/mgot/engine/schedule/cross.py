"""When the cross-modality stage starts, and how its terms grow."""

from __future__ import annotations

from fastreid.config import CfgNode


def cross_weight(
    epoch: int, belief: float, *, start: int, growth: str, ramp_epochs: int, ramp_from: float, belief_goal: float
) -> float | None:
    """The factor of the cross-modality terms in an epoch; None before the cross stage. [ours]

        epochs: even steps from ramp_from in the stage's first epoch to 1 after ramp_epochs; at once after none
        belief: min(belief / belief_goal, 1)^2: small for a poor matching, 1 at once for a good one

    Args:
        epoch: its number.
        belief: the mean belief in this epoch's matches, in [0, 1].
        start: first epoch of the cross stage.
        growth: "epochs" or "belief".
        ramp_epochs, ramp_from, belief_goal: as above.
    """
    if epoch < start:
        return None
    if growth == "belief":
        return min(belief / belief_goal, 1.0) ** 2
    grown = 1.0 if ramp_epochs == 0 else min((epoch - start) / ramp_epochs, 1.0)
    return ramp_from + (1.0 - ramp_from) * grown


def cross_start_epoch(cfg: CfgNode) -> int:
    """First epoch of the cross-modality stage; past the last one where MGOT.MODE is intra_only."""
    return cfg.SOLVER.MAX_EPOCH if cfg.MGOT.MODE == "intra_only" else cfg.MGOT.CROSS_START_EPOCH
