"""Pseudo labels by clusterers of one signature, behind a registry; MGOT.CLUSTER.NAME chooses one.

A clusterer is called with the features of one modality and returns a :class:`Clustering`.
"""

from mgot.clustering.base import (
    CLUSTERERS,
    OUTLIER,
    Clusterer,
    Clustering,
    OracleClusterer,
    clusters_of,
    register_clusterer,
)
from mgot.clustering.correction import Corrected
from mgot.clustering.hdbscan import HDBSCAN
from mgot.clustering.oracle import TrueClusters
from mgot.clustering.pseudo_labels import DBSCAN, cluster

__all__ = [
    "CLUSTERERS",
    "DBSCAN",
    "HDBSCAN",
    "OUTLIER",
    "Clusterer",
    "Clustering",
    "Corrected",
    "OracleClusterer",
    "TrueClusters",
    "cluster",
    "clusters_of",
    "register_clusterer",
]
