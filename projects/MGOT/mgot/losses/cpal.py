"""Cross prediction alignment learning (CPAL): predictions of one modality, rebuilt from the other, must agree.

Source: the paper refers to OTLA-ReID; this is its prediction alignment ([OTLA]). Phi_c in place of OTLA's classifier is
[ours] (docs/method.md section 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.losses.base import CrossBatch, register_loss


def cross_prediction_alignment(
    s_v: Tensor, s_r: Tensor, weight_visible: float = 0.1, weight_infrared: float = 0.5
) -> Tensor:
    """Align in-batch predictions across modalities.

        A_xy = softmax(normalise(s_x) normalise(s_y)^T) by rows
        s_vr = A_vr s_r,   s_rv = A_rv s_v,   s_rr = A_rr s_r
        CPAL = 0.1 KL(softmax s_v || softmax s_vr) + 0.5 KL(softmax s_rv || softmax s_rr), batch mean

    Source: docs/method.md section 7, [OTLA].

    Args:
        s_v: (B_v, K_c) visible logits f_v Phi_c^T / tau.
        s_r: (B_r, K_c) infrared logits.
        weight_visible: weight of the first divergence, >= 0.
        weight_infrared: weight of the second divergence, >= 0.

    Returns:
        Scalar >= 0 in nats; 0, still attached to the graph, if a modality is empty or K_c is 1.
    """
    if s_v.shape[0] == 0 or s_r.shape[0] == 0:
        return 0.0 * (s_v.sum() + s_r.sum())
    s_v, s_r = s_v.float(), s_r.float()
    s_vr = _affinity(s_v, s_r) @ s_r
    s_rv = _affinity(s_r, s_v) @ s_v
    s_rr = _affinity(s_r, s_r) @ s_r
    return weight_visible * _kl(s_v, s_vr) + weight_infrared * _kl(s_rv, s_rr)


@register_loss("cpal", stage="cross")
@dataclass(frozen=True)
class CPAL:
    """:func:`cross_prediction_alignment` of a step.

    Args:
        visible, infrared: weights of the two divergences, >= 0 [OTLA].
    """

    visible: float = 0.1
    infrared: float = 0.5

    def __call__(self, batch: CrossBatch) -> Tensor:
        s_v, s_r = (f @ batch.phi_c.t() / batch.temperature for f in (batch.f_v, batch.f_r))
        return cross_prediction_alignment(s_v, s_r, self.visible, self.infrared)


def _affinity(s_x: Tensor, s_y: Tensor) -> Tensor:
    """(B_x, B_y) row-stochastic affinity of two sets of logits."""
    return torch.softmax(F.normalize(s_x, dim=1) @ F.normalize(s_y, dim=1).t(), dim=1)


def _kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Batch mean of KL(softmax p || softmax q)."""
    log_p, log_q = torch.log_softmax(p_logits, dim=1), torch.log_softmax(q_logits, dim=1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
