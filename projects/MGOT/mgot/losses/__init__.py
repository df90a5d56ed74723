"""Losses: tensors in, scalar out. Nothing here changes a memory or knows of a config."""

from mgot.losses.cpal import cross_prediction_alignment
from mgot.losses.pbcl import (
    cross_contrastive,
    infrared_contrastive,
    mutual_contrastive,
    prototype_cross_entropy,
    visible_contrastive,
)

__all__ = [
    "cross_contrastive",
    "cross_prediction_alignment",
    "infrared_contrastive",
    "mutual_contrastive",
    "prototype_cross_entropy",
    "visible_contrastive",
]
