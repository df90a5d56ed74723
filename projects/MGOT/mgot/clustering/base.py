"""What a clusterer gets, what it returns, and the registry of clusterers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from mgot.registry import Part, Registry

OUTLIER = -1


class Clustering(NamedTuple):
    """Pseudo labels of one set of features.

    Attributes:
        labels: (N,) int64; OUTLIER, else 0 .. n_clusters - 1.
        n_clusters: K; 0 if all are outliers.
        seconds: wall time by stage, if the clusterer gives it.
    """

    labels: np.ndarray
    n_clusters: int
    seconds: dict[str, float]


class Clusterer(Protocol):
    """Anything that turns the (N, D) L2-normalised features of one modality into clusters; see :data:`CLUSTERERS`."""

    def __call__(self, features: Tensor) -> Clustering: ...


class OracleClusterer(ABC):
    """A clusterer that gets ground truth: for diagnosis, never a result of the method.

    No other clusterer sees an identity, and a run with one is marked in its results.
    """

    @abstractmethod
    def __call__(self, features: Tensor, identities: np.ndarray) -> Clustering:
        """Clusters of (N, D) features, whose images have these (N,) ground-truth identities."""


CLUSTERERS: Registry[Part] = Registry("clusterer")
register_clusterer = CLUSTERERS.register
"""Decorator: register a clusterer under a name, the value of the key MGOT.CLUSTER.NAME.

The fields of a clusterer that is a dataclass become keys: ``min_samples`` is set by MGOT.CLUSTER.MIN_SAMPLES.
"""


def clusters_of(clusterer: Clusterer | OracleClusterer, features: Tensor, identities: np.ndarray) -> Clustering:
    """The clustering of features; only an oracle gets the identities."""
    return clusterer(features, identities) if isinstance(clusterer, OracleClusterer) else clusterer(features)
