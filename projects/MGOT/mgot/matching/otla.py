"""Matching by the transport of single images to clusters of the other modality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgot.matching.base import Matching, Prototypes, SupplyMatcher, argmax_both_ways, register_matcher
from mgot.transport import TransportPlan, uniform_transport


@register_matcher("otla")
@dataclass(frozen=True)
class OTLA(SupplyMatcher):
    """Images are sent to clusters of the other modality, evenly; then each cluster counts its images.

        Q = the entropic transport of P = (f Phi^T + 1) / 2 under uniform marginals
        W_ij = |images of supply cluster i whose argmax of Q is demand cluster j|

    with f the supply's images and Phi the demand's prototypes. Each cluster of both modalities takes its best by W; of
    equal ones, the more similar. Source: [OTLA]: there, infrared images are sent to visible classes with labels from
    another method, and each image is trained with its own label. Counting by clusters is [ours].

    Args:
        sharpness: lambda.
        supply: the modality whose images are sent; the other's clusters index the shared label space.
        max_iterations: bound on Sinkhorn's iterations, each O(N K).

    A side without clusters leaves the other UNMATCHED; otherwise every cluster of both sides is matched.

    Raises:
        UserError: the prototypes come without their members.
    """

    sharpness: float = 25.0
    max_iterations: int = 2000

    def match(self, prototypes: Prototypes) -> Matching:
        f_v, f_r, y_v, y_r = prototypes.members_for("otla")
        if self.supply == "visible":
            votes, plan = self._votes(f_v, y_v, len(prototypes.visible), prototypes.infrared)
        else:
            mirrored, plan = self._votes(f_r, y_r, len(prototypes.infrared), prototypes.visible)
            votes = mirrored.T
        # A similarity weighs less than one vote: it decides between equal votes alone.
        return argmax_both_ways(votes + (prototypes.similarity + 1.0) / 4.0, self.supply, plan)

    def _votes(
        self, f: np.ndarray, y: np.ndarray, n_clusters: int, phi: np.ndarray
    ) -> tuple[np.ndarray, TransportPlan]:
        """W (K, K'), and the plan (N, K') of the N images that are no outliers."""
        f, y = f[y >= 0], y[y >= 0]
        plan = uniform_transport(f @ phi.T, self.sharpness, max_iterations=self.max_iterations)
        votes = np.zeros((n_clusters, len(phi)))
        np.add.at(votes, (y, plan.plan.argmax(axis=1)), 1.0)
        return votes, plan
