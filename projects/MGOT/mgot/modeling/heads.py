"""The head that turns feature maps into features, and features and memories into the terms of the objective."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode, configurable
from fastreid.layers import get_norm, pooling
from fastreid.layers.weight_init import weights_init_kaiming
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from torch import Tensor, nn

from mgot.errors import UserError
from mgot.losses import Objective, terms_of, view
from mgot.memory import MemoryBank


class StepFeatures(NamedTuple):
    """Detached features (B, D) and pseudo labels (B,) of one step, for the memory update after it.

    Features are on the model's device, labels on the CPU.
    """

    f_v: Tensor
    y_v: Tensor
    f_r: Tensor
    y_r: Tensor


@REID_HEADS_REGISTRY.register()
class MGOTHead(nn.Module):
    """Pooling, BNNeck, and the prototype losses.

        features before the neck -> neck -> f = normalise(.) -> the weighted terms of the registered losses

    The head reads the memories in :attr:`bank` and never changes them. It stores the step's features in :attr:`step`,
    and a hook updates the memories after the optimiser's step.

    Args:
        feat_dim: D, channels of the backbone's output.
        pool_type: a class of ``fastreid.layers.pooling``, such as GlobalAvgPool or GeneralizedMeanPoolingP.
        norm_type: fast-reid's name of the neck's norm.
        with_bnneck: False builds no neck.
        objective: features and memories to the weighted terms.
    """

    @configurable
    def __init__(
        self, *, feat_dim: int, pool_type: str, norm_type: str, with_bnneck: bool, objective: Objective
    ) -> None:
        super().__init__()
        if pool_type not in pooling.__all__:
            raise UserError(f"MODEL.HEADS.POOL_LAYER must be one of {sorted(pooling.__all__)}, not '{pool_type}'")
        self.pool_layer = getattr(pooling, pool_type)()
        self.bottleneck = get_norm(norm_type, feat_dim, bias_freeze=True) if with_bnneck else nn.Identity()
        self.bottleneck.apply(weights_init_kaiming)
        self.objective = objective
        self.bank: MemoryBank | None = None
        self.step: StepFeatures | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The only place where the config becomes arguments."""
        loss = cfg.MGOT.LOSS
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "pool_type": cfg.MODEL.HEADS.POOL_LAYER,
            "norm_type": cfg.MODEL.HEADS.NORM,
            "with_bnneck": cfg.MODEL.HEADS.WITH_BNNECK,
            "objective": Objective(terms_of(loss), loss.TEMPERATURE),
        }

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) features after the neck, not yet normalised, from maps (B, D, H, W) or vectors (B, D)."""
        pooled = self.pool_layer(features) if features.dim() == 4 else features[..., None, None]
        return self.bottleneck(pooled).flatten(1)

    def losses(self, embedded: Tensor, is_visible: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the objective.

        Args:
            embedded: (B, D) output of :meth:`forward`, both modalities in one batch.
            is_visible: (B,) bool; on the CPU it needs no wait for the device.
            y: (B,) int64 pseudo label of each image within its modality; also on the CPU.

        Returns:
            ``loss_<name>`` of each registered loss that belongs to the stage and has a weight other than 0.

        Raises:
            RuntimeError: no memories were set.
        """
        if self.bank is None:
            raise RuntimeError("the head has no memories: set MGOTHead.bank before training")
        with torch.autocast(embedded.device.type, enabled=False):  # cosines over tau = 0.05 want float32
            return self._losses(self.bank, F.normalize(embedded.float(), dim=1), is_visible, y)

    def _losses(self, bank: MemoryBank, f: Tensor, is_visible: Tensor, y: Tensor) -> dict[str, Tensor]:
        is_visible, y = is_visible.cpu(), y.cpu()
        rows_v, rows_r = (torch.nonzero(mask).flatten() for mask in (is_visible, ~is_visible))
        f_v, f_r = f.index_select(0, _sent(rows_v, f)), f.index_select(0, _sent(rows_r, f))
        y_v, y_r = y[rows_v], y[rows_r]
        self.step = StepFeatures(f_v.detach(), y_v, f_r.detach(), y_r)
        return self.objective(view(bank, f_v, f_r, y_v, y_r, self.objective.temperature))


def _sent(labels: Tensor, f: Tensor) -> Tensor:
    """Labels on the features' device, without waiting for it."""
    return labels.to(f.device, non_blocking=True)
