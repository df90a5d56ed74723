"""Contrast with two memories of the same clusters: one of mean images, one of the hardest.

Source: [RPNR], [BMIL], read in their codes. Notation as in :mod:`mgot.losses.pbcl`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mgot.losses.base import Batch, register_loss
from mgot.losses.pbcl import prototype_cross_entropy


def dual_cross_entropy(
    f: Tensor,
    phi: Tensor,
    hard: Tensor,
    y: Tensor,
    temperature: float = 0.05,
    floor: float = 0.2,
    weight: Tensor | None = None,
) -> Tensor:
    """Half of each memory's contrast; the first one counts only above a floor.

        L = (CE(f, H, y) + max(CE(f, Phi, y) - w floor, 0)) / 2,   w the mean weight of the images with a label

    Args:
        f: (B, D) L2-normalised features.
        phi: (K, D) prototypes of the first memory.
        hard: (K, D) H, those of the second.
        y: (B,) int64 labels in [0, K), or -1 for images that take no part.
        temperature: tau > 0.
        floor: 0 or more, in nats.
        weight: (B,) of each image, as in the cross-entropy.

    Returns:
        Scalar >= 0 in nats; 0, still attached to the graph, for a batch without labels.
    """
    mean = prototype_cross_entropy(f, phi, y, temperature, weight)
    there = y >= 0
    least = floor if weight is None else floor * (weight * there).sum() / there.sum().clamp(min=1)
    return 0.5 * (prototype_cross_entropy(f, hard, y, temperature, weight) + (mean - least).clamp(min=0))


@dataclass(frozen=True)
class Contrast:
    """What `accl` and `hybrid` share: a contrast with one memory, or with both.

    Args:
        dual: contrast with both memories, by :func:`dual_cross_entropy` [RPNR]; it needs the second memories, which the
            loss `dual` builds.
        floor: of that contrast, 0 or more.
    """

    dual: bool = False
    floor: float = 0.2

    def contrast(
        self, f: Tensor, phi: Tensor, hard: Tensor, y: Tensor, temperature: float, weight: Tensor | None
    ) -> Tensor:
        """The contrast of features; arguments as in :func:`dual_cross_entropy`."""
        if self.dual:
            return dual_cross_entropy(f, phi, hard, y, temperature, self.floor, weight)
        return prototype_cross_entropy(f, phi, y, temperature, weight)


@register_loss("dual", weight=0.0)
@dataclass(frozen=True)
class Dual:
    """:func:`dual_cross_entropy` of both modalities, summed: in place of VCL and ICL.

    A weight above 0 builds the second memories.

    Args:
        floor: 0 or more [RPNR, BMIL: 0.2].
    """

    floor: float = 0.2

    def __call__(self, batch: Batch) -> Tensor:
        visible = dual_cross_entropy(batch.f_v, batch.phi_v, batch.hard_v, batch.y_v, batch.temperature, self.floor)
        infrared = dual_cross_entropy(batch.f_r, batch.phi_r, batch.hard_r, batch.y_r, batch.temperature, self.floor)
        return visible + infrared
