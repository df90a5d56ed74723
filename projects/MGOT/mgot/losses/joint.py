"""One memory for both modalities, and soft targets in place of matches.

Notation as in :mod:`mgot.losses.pbcl`; Phi = [Phi_v; Phi_r], the prototypes of both modalities one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mgot.losses.base import CrossBatch, register_loss


def joint_contrastive(f: Tensor, phi: Tensor, positives: tuple[Tensor, Tensor], temperature: float = 0.05) -> Tensor:
    """Contrast with the prototypes of both modalities in one softmax.

        L = mean over the positives k of an image of -log softmax(f Phi^T / tau)[k], averaged over images

    Source: [BMIL], the mean over an image's positives; all prototypes are in the softmax here.

    Args:
        f: (B, D) L2-normalised features.
        phi: (K, D) prototypes of both modalities.
        positives: two (B,) int64 rows of Phi, -1 if there is none.
        temperature: tau > 0.

    Returns:
        Scalar in nats; 0, still attached to the graph, for a batch without positives.
    """
    if not len(f) or not len(phi):
        return 0.0 * f.sum()
    log_p = torch.log_softmax(f.float() @ phi.t() / temperature, dim=1)
    index = torch.stack(positives, dim=1)
    there = index >= 0
    each = log_p.gather(1, index.clamp(min=0)) * there
    means = each.sum(dim=1) / there.sum(dim=1).clamp(min=1)
    return -means.sum() / there.any(dim=1).sum().clamp(min=1)


@register_loss("joint", stage="cross", weight=0.0)
@dataclass(frozen=True)
class Joint:
    """:func:`joint_contrastive` of both modalities, summed.

    Args:
        matches: the positives are an image's own cluster and its match [BMIL]; False: only its own cluster. Then all
            prototypes of the other modality are negatives, except for soft targets such as `distil`.
    """

    matches: bool = True

    def __call__(self, batch: CrossBatch) -> Tensor:
        phi, k_v, tau = torch.cat([batch.phi_v, batch.phi_r]), len(batch.phi_v), batch.temperature
        match_v, match_r = torch.where(batch.y_v2r >= 0, batch.y_v2r + k_v, -1), batch.y_r2v
        if not self.matches:
            match_v, match_r = torch.full_like(match_v, -1), torch.full_like(match_r, -1)
        visible = joint_contrastive(batch.f_v, phi, (batch.y_v, match_v), tau)
        return visible + joint_contrastive(batch.f_r, phi, (batch.y_r + k_v, match_r), tau)


def distilled(f: Tensor, phi: Tensor, teacher: Tensor, temperature: float = 0.05, sharpen: float = 0.5) -> Tensor:
    """Predict what a teacher predicts, more surely.

        L = -sum_k t_k log softmax(f Phi^T / tau)[k],   t = softmax(g Phi^T / (s tau)) without gradient, batch mean

    Source: [ours], after self-distillation.

    Args:
        f: (B, D) L2-normalised features.
        phi: (K, D) prototypes.
        teacher: (B, D) g, L2-normalised: it gives the targets.
        temperature: tau > 0.
        sharpen: s in (0, 1]; a smaller one gives sharper targets.

    Returns:
        Scalar in nats; 0, still attached to the graph, without images or prototypes.
    """
    if not len(f) or not len(phi):
        return 0.0 * f.sum()
    with torch.no_grad():
        targets = torch.softmax(teacher.float() @ phi.t() / (sharpen * temperature), dim=1)
    return -(targets * torch.log_softmax(f.float() @ phi.t() / temperature, dim=1)).sum(dim=1).mean()


@register_loss("distil", stage="cross", weight=0.0)
@dataclass(frozen=True)
class Distil:
    """:func:`distilled` across the modalities and across the visible views; no match is used.

        an image of cluster y predicts the other modality's prototypes as its own prototype Phi[y] does
        a visible view predicts the prototypes of both modalities as the other view of the same image does

    The four terms are summed. Source: [ours].

    Args:
        sharpen: s, in (0, 1].
    """

    sharpen: float = 0.5

    def __call__(self, batch: CrossBatch) -> Tensor:
        f_v, f_r, phi_v, phi_r, tau = batch.f_v, batch.f_r, batch.phi_v, batch.phi_r, batch.temperature
        one, other = f_v[: len(f_v) // 2], f_v[len(f_v) // 2 :]
        both = torch.cat([phi_v, phi_r])
        return (
            distilled(f_v, phi_r, phi_v[batch.y_v], tau, self.sharpen)
            + distilled(f_r, phi_v, phi_r[batch.y_r], tau, self.sharpen)
            + distilled(one, both, other, tau, self.sharpen)
            + distilled(other, both, one, tau, self.sharpen)
        )
