"""The two views of visible images as two samples of one distribution.

Source: [DMDL], read in its code. Notation: x, y (B, D) features of the two views.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mgot.losses.base import Batch, register_loss

_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_NEAR = 1e-4  # of s, whose root the gradient is divided by


def view_discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two views, by Gaussian kernels of five widths.

        d(a, b) = |a - b|^2;   s = mean of d over all pairs of different rows of [x; y], at least 1e-4, without gradient
        k(a, b) = sum over w of exp(-d(a, b) / (w s)),   w = 1/4, 1/2, 1, 2, 4
        mean over i != j of k(x_i, x_j)  +  mean over i != j of k(y_i, y_j)  -  2 mean over all i, j of k(x_i, y_j)

    Args:
        x, y: (B, D) L2-normalised features, of B images each.

    Returns:
        Scalar, an unbiased estimate, so it may be below 0. For fewer than two rows 0, still attached to the graph.
    """
    n = len(x)
    if n < 2:
        return 0.0 * (x.sum() + y.sum())
    z = torch.cat([x, y]).float()
    # By products: cdist would keep the differences of all pairs, (2B, 2B, D), for its gradient.
    squares = z.square().sum(dim=1)
    d = (squares[:, None] + squares - 2 * (z @ z.T)).clamp(min=0)
    s = (d.detach().sum() / (2 * n * (2 * n - 1))).clamp(min=_NEAR)
    k = torch.stack([torch.exp(-d / (width * s)) for width in _WIDTHS]).sum(dim=0)
    apart = 1.0 - torch.eye(n, device=k.device)
    within = ((k[:n, :n] + k[n:, n:]) * apart).sum() / (n * (n - 1))
    return within - 2 * k[:n, n:].mean()


@register_loss("views", weight=0.0)
def views(batch: Batch) -> Tensor:
    """:func:`view_discrepancy` of the plain visible images and their second views."""
    return view_discrepancy(*batch.f_v.tensor_split(2))
