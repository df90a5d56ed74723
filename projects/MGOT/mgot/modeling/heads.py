"""The head that turns feature maps into features, and features and memories into PBCL and CPAL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode, configurable
from fastreid.layers import get_norm, pooling
from fastreid.layers.weight_init import weights_init_kaiming
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from torch import Tensor, nn

from mgot.errors import UserError
from mgot.losses import (
    cross_contrastive,
    cross_prediction_alignment,
    infrared_contrastive,
    mutual_contrastive,
    visible_contrastive,
)
from mgot.memory import MemoryBank


@dataclass(frozen=True)
class LossWeights:
    """Weights and constants of the training objective (docs/method.md sections 6 and 7); 0 switches a term off."""

    ccl: float = 1.0
    mcl: float = 1.0
    cpal: float = 1.0
    cpal_visible: float = 0.1
    cpal_infrared: float = 0.5
    temperature: float = 0.05


class StepFeatures(NamedTuple):
    """Detached features (B, D) and pseudo labels (B,) of one step, for the memory update that follows it.

    Features are on the model's device, labels on the CPU.
    """

    f_v: Tensor
    y_v: Tensor
    f_r: Tensor
    y_r: Tensor


@REID_HEADS_REGISTRY.register()
class MGOTHead(nn.Module):
    """Pooling, BNNeck, and the prototype losses.

        features before the neck -> neck -> f = normalise(.) -> VCL + ICL + w_ccl CCL + w_mcl MCL + w_cpal CPAL

    The head reads the memories in :attr:`bank` and never changes them: it leaves the step's features in :attr:`step`
    for the hook that updates the memories after the optimiser's step.

    Args:
        feat_dim: D, channels of the backbone's output.
        pool_type: a class of ``fastreid.layers.pooling``, such as GlobalAvgPool or GeneralizedMeanPoolingP.
        norm_type: the host's name of the neck's norm.
        with_bnneck: False leaves the neck out.
        weights: of the terms.
    """

    @configurable
    def __init__(
        self, *, feat_dim: int, pool_type: str, norm_type: str, with_bnneck: bool, weights: LossWeights
    ) -> None:
        super().__init__()
        if pool_type not in pooling.__all__:
            raise UserError(f"MODEL.HEADS.POOL_LAYER must be one of {sorted(pooling.__all__)}, not '{pool_type}'")
        self.pool_layer = getattr(pooling, pool_type)()
        self.bottleneck = get_norm(norm_type, feat_dim, bias_freeze=True) if with_bnneck else nn.Identity()
        self.bottleneck.apply(weights_init_kaiming)
        self.weights = weights
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
            "weights": LossWeights(
                ccl=loss.W_CCL,
                mcl=loss.W_MCL,
                cpal=loss.W_CPAL,
                cpal_visible=loss.CPAL_VISIBLE,
                cpal_infrared=loss.CPAL_INFRARED,
                temperature=loss.TEMPERATURE,
            ),
        }

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) features after the neck, not yet normalised, from maps (B, D, H, W) or vectors (B, D)."""
        pooled = self.pool_layer(features) if features.dim() == 4 else features[..., None, None]
        return self.bottleneck(pooled).flatten(1)

    def losses(self, embedded: Tensor, is_visible: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the objective.

        Args:
            embedded: (B, D) output of :meth:`forward`, both modalities in one batch.
            is_visible: (B,) bool; on the CPU whatever the model's device, it costs no wait for the device.
            y: (B,) int64 pseudo label of each image within its modality; as above.

        Returns:
            loss_vcl and loss_icl; from the cross stage on also loss_ccl, loss_mcl, loss_cpal where their weight is
            not 0.

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
        phi_v, phi_r, tau = bank.visible.prototypes, bank.infrared.prototypes, self.weights.temperature
        terms = {
            "loss_vcl": visible_contrastive(f_v, phi_v, _sent(y_v, f), tau),
            "loss_icl": infrared_contrastive(f_r, phi_r, _sent(y_r, f), tau),
        }
        if bank.cross is not None:
            terms.update(self._cross_losses(bank, f_v, f_r, y_v, y_r))
        return terms

    def _cross_losses(self, bank: MemoryBank, f_v: Tensor, f_r: Tensor, y_v: Tensor, y_r: Tensor) -> dict[str, Tensor]:
        assert bank.cross is not None and bank.v2r is not None and bank.r2v is not None
        assert bank.c_v is not None and bank.c_r is not None
        w, tau = self.weights, self.weights.temperature
        weight_v = None if bank.belief_v is None else _sent(bank.belief_v[y_v], f_v)
        weight_r = None if bank.belief_r is None else _sent(bank.belief_r[y_r], f_v)
        terms = {}
        if w.ccl:
            to_r, to_v = _sent(bank.v2r[y_v], f_v), _sent(bank.r2v[y_r], f_v)
            phi_v, phi_r = bank.visible.prototypes, bank.infrared.prototypes
            ccl = cross_contrastive(f_v, f_r, phi_v, phi_r, to_r, to_v, tau, weight_v, weight_r)
            terms["loss_ccl"] = w.ccl * ccl
        phi_c = bank.cross.prototypes
        if w.mcl:
            c_v, c_r = _sent(bank.c_v[y_v], f_v), _sent(bank.c_r[y_r], f_v)
            terms["loss_mcl"] = w.mcl * mutual_contrastive(f_v, f_r, phi_c, c_v, c_r, tau, weight_v, weight_r)
        if w.cpal:
            s_v, s_r = f_v @ phi_c.t() / tau, f_r @ phi_c.t() / tau
            terms["loss_cpal"] = w.cpal * cross_prediction_alignment(s_v, s_r, w.cpal_visible, w.cpal_infrared)
        return {name: bank.cross_weight * term for name, term in terms.items()}


def _sent(labels: Tensor, f: Tensor) -> Tensor:
    """Labels on the features' device, without waiting for it."""
    return labels.to(f.device, non_blocking=True)
