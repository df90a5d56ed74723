"""Prototype-based contrastive learning (PBCL): four cross-entropies of features against prototypes.

The paper names the four losses. What we could read does not give their formulas. Each term below is our reading of one
conditional entropy of the objective (docs/method.md section 6). Notation: f feature, Phi prototype memory, y pseudo
label, tau temperature; B batch size, D feature dimension, K number of prototypes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mgot.losses.base import Batch, CrossBatch, register_loss


def prototype_cross_entropy(
    f: Tensor, phi: Tensor, y: Tensor, temperature: float = 0.05, weight: Tensor | None = None
) -> Tensor:
    """Contrast features with prototypes.

        CE(f, Phi, y) = -w log softmax(f Phi^T / tau)[y], averaged over the images that have a label

    Source: docs/method.md section 6; tau = 0.05 is [field], weights w other than 1 are [ours].

    Args:
        f: (B, D) L2-normalised features.
        phi: (K, D) L2-normalised prototypes, constants.
        y: (B,) int64 labels in [0, K), or -1: images of clusters without a match take no part.
        temperature: tau > 0.
        weight: (B,) w >= 0 of each image; None is 1 for all. The mean is over images, not over weights, so a batch with
            low belief gives a small loss.

    Returns:
        Scalar in nats. A batch without labels gives 0 that is still attached to the graph of ``f``.
    """
    # Not by a mask: picking rows by their values would make fast-reid wait for a GPU in every step.
    each = F.cross_entropy(f.float() @ phi.t() / temperature, y, ignore_index=-1, reduction="none")
    total = each.sum() if weight is None else each @ weight
    return total / (y >= 0).sum().clamp(min=1)


@register_loss("vcl")
def vcl(batch: Batch) -> Tensor:
    """VCL = CE(f_v, Phi_v, y_v): sharpness of visible labels given visible images."""
    return prototype_cross_entropy(batch.f_v, batch.phi_v, batch.y_v, batch.temperature)


@register_loss("icl")
def icl(batch: Batch) -> Tensor:
    """ICL = CE(f_r, Phi_r, y_r): sharpness of infrared labels given infrared images."""
    return prototype_cross_entropy(batch.f_r, batch.phi_r, batch.y_r, batch.temperature)


def cross_contrastive(
    f_v: Tensor,
    f_r: Tensor,
    phi_v: Tensor,
    phi_r: Tensor,
    y_v2r: Tensor,
    y_r2v: Tensor,
    temperature: float = 0.05,
    weight_v: Tensor | None = None,
    weight_r: Tensor | None = None,
) -> Tensor:
    """CCL = CE(f_v, Phi_r, v2r[y_v]) + CE(f_r, Phi_v, r2v[y_r]): sharpness across modalities.

    Args:
        f_v, f_r: (B_v, D) and (B_r, D) features.
        phi_v, phi_r: (K_v, D) and (K_r, D) prototypes.
        y_v2r: (B_v,) infrared cluster matched to each visible image's cluster.
        y_r2v: (B_r,) visible cluster matched to each infrared image's cluster.
        temperature: tau > 0.
        weight_v, weight_r: (B_v,) and (B_r,) belief in each image's match; None is 1 for all.

    Returns:
        Scalar in nats.
    """
    visible = prototype_cross_entropy(f_v, phi_r, y_v2r, temperature, weight_v)
    infrared = prototype_cross_entropy(f_r, phi_v, y_r2v, temperature, weight_r)
    return visible + infrared


@register_loss("ccl", stage="cross")
def ccl(batch: CrossBatch) -> Tensor:
    """:func:`cross_contrastive` of a step."""
    features, prototypes, labels = (batch.f_v, batch.f_r), (batch.phi_v, batch.phi_r), (batch.y_v2r, batch.y_r2v)
    return cross_contrastive(*features, *prototypes, *labels, batch.temperature, batch.belief_v, batch.belief_r)


def mutual_contrastive(
    f_v: Tensor,
    f_r: Tensor,
    phi_c: Tensor,
    c_v: Tensor,
    c_r: Tensor,
    temperature: float = 0.05,
    weight_v: Tensor | None = None,
    weight_r: Tensor | None = None,
) -> Tensor:
    """MCL = CE(f_v, Phi_c, c_v) + CE(f_r, Phi_c, c_r): both modalities against the shared memory.

    Args:
        f_v, f_r: (B_v, D) and (B_r, D) features.
        phi_c: (K_c, D) cross prototypes.
        c_v, c_r: (B_v,) and (B_r,) cross labels in [0, K_c), or -1 for images that take no part.
        temperature: tau > 0.
        weight_v, weight_r: (B_v,) and (B_r,) belief in each image's match; None is 1 for all.

    Returns:
        Scalar in nats.
    """
    visible = prototype_cross_entropy(f_v, phi_c, c_v, temperature, weight_v)
    return visible + prototype_cross_entropy(f_r, phi_c, c_r, temperature, weight_r)


@register_loss("mcl", stage="cross")
def mcl(batch: CrossBatch) -> Tensor:
    """:func:`mutual_contrastive` of a step; images without a match take no part, as in CCL."""
    features = batch.f_v, batch.f_r
    labels = batch.c_v.where(batch.y_v2r >= 0, -1), batch.c_r.where(batch.y_r2v >= 0, -1)
    return mutual_contrastive(*features, batch.phi_c, *labels, batch.temperature, batch.belief_v, batch.belief_r)
