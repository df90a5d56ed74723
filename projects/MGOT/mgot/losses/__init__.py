"""Losses: tensors in, scalar out. Nothing here changes a memory or reads the config.

:func:`register_loss` adds a loss; its weight becomes a key automatically.
"""

# In this order the terms of a step are computed and summed.
# isort: off
from mgot.losses.base import LOSS_STAGES, LOSSES, Batch, CrossBatch, Loss, RegisteredLoss, register_loss
from mgot.losses.pbcl import cross_contrastive, mutual_contrastive, prototype_cross_entropy
from mgot.losses.cpal import cross_prediction_alignment
from mgot.losses.dual import Dual, dual_cross_entropy
from mgot.losses.alternate import ACCL
from mgot.losses.hybrid_memory import Hybrid, hybrid_prototypes
from mgot.losses.neighbour import Neighbour, neighbour_relations
from mgot.losses.marginal import Marginal, marginal_cross_entropy
from mgot.losses.joint import Distil, Joint, distilled, joint_contrastive
from mgot.losses.view_alignment import view_discrepancy, views
from mgot.losses.objective import Objective, Term, add_loss_keys, loss_keys, terms_of, view, weight_key
# isort: on

__all__ = [
    "ACCL",
    "LOSSES",
    "LOSS_STAGES",
    "Batch",
    "CrossBatch",
    "Distil",
    "Dual",
    "Hybrid",
    "Joint",
    "Loss",
    "Marginal",
    "Neighbour",
    "Objective",
    "RegisteredLoss",
    "Term",
    "add_loss_keys",
    "cross_contrastive",
    "cross_prediction_alignment",
    "distilled",
    "dual_cross_entropy",
    "hybrid_prototypes",
    "joint_contrastive",
    "loss_keys",
    "marginal_cross_entropy",
    "mutual_contrastive",
    "neighbour_relations",
    "prototype_cross_entropy",
    "register_loss",
    "terms_of",
    "view",
    "view_discrepancy",
    "views",
    "weight_key",
]
