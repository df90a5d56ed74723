"""Nearest neighbours of images: exact search, searches by other libraries, and k-reciprocal neighbours.

The interface for the clustering, re-ranking and the search of a folder.
"""

from mgot.neighbours.encoding import encode, expand
from mgot.neighbours.external import cell_index, require_faiss
from mgot.neighbours.features import Features, check_features
from mgot.neighbours.ranking import Candidates
from mgot.neighbours.rows import Rows, transposed
from mgot.neighbours.search import SEARCHES, nearest, nearest_of_each, recall

__all__ = [
    "SEARCHES",
    "Candidates",
    "Features",
    "Rows",
    "cell_index",
    "check_features",
    "encode",
    "expand",
    "nearest",
    "nearest_of_each",
    "recall",
    "require_faiss",
    "transposed",
]
