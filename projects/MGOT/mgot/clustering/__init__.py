"""Pseudo labels by DBSCAN on the k-reciprocal Jaccard distance, sparse and exact."""

from mgot.clustering.pseudo_labels import Clustering, cluster

__all__ = ["Clustering", "cluster"]
