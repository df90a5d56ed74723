"""What an epoch needs: pseudo labels, memories and matches, computed once at its start.

Functions compute, hooks schedule: :mod:`mgot.engine.hooks` calls these. Source: docs/method.md section 1.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from fastreid.config import CfgNode
from torch import Tensor

from mgot.clustering import Clusterer, Clustering, OracleClusterer, clusters_of
from mgot.data.loaders import EpochLabels
from mgot.engine.config.builders import Believer
from mgot.errors import UserError
from mgot.matching import (
    Belief,
    Matcher,
    Matching,
    Members,
    OracleMatcher,
    Prototypes,
    aggregated,
    cross_labels,
    cross_prototypes,
    matching_of,
    members_of_labels,
    seen,
)
from mgot.memory import MemoryBank, PrototypeMemory, cluster_means
from mgot.modeling.heads import MGOTHead, StepFeatures
from mgot.principles import (
    cluster_statistics,
    clustering_quality,
    majority_identities,
    matching_accuracy,
    matching_agreement,
    matching_statistics,
    prediction_entropies,
)
from mgot.truth import Truth, all_known

logger = logging.getLogger("mgot")


@dataclass
class EpochState:
    """Everything that is computed at an epoch's start.

    Attributes:
        epoch: its number.
        f_v, f_r: (N_v, D), (N_r, D) L2-normalised features on the CPU.
        labels: pseudo labels.
        phi_v, phi_r: (K_v, D), (K_r, D) prototypes.
        spectral_v: (N_v, D) features of the visible images under random laws of colour, on the first process; None if
            no matcher uses them.
        matching: of these prototypes; None before the matcher ran.
        belief: in each match; None before the matcher ran.
        identity_v, identity_r: (K,) majority identities, -1 if unknown; only for diagnosis and oracles.
        kept: names of the modalities that had no cluster and kept the labels of the epoch before.
        seconds: time of each step.
        seen: the prototypes as the matcher saw them, without their members; None before it ran.
        mutual: shares of mutual neighbours of the views that were compared.
    """

    epoch: int
    f_v: Tensor
    f_r: Tensor
    labels: EpochLabels
    phi_v: Tensor
    phi_r: Tensor
    identity_v: np.ndarray
    identity_r: np.ndarray
    matching: Matching | None = None
    belief: Belief | None = None
    kept: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    spectral_v: Tensor | None = None
    seen: Prototypes | None = None
    mutual: dict[str, float] = field(default_factory=dict)

    def without_features(self) -> EpochState:
        """The state that the other processes need: of everything that has the size of the data set, only the labels."""
        empty = [features.new_empty(0, features.shape[1]) for features in (self.f_v, self.f_r)]  # a slice sends it all
        return dataclasses.replace(self, f_v=empty[0], f_r=empty[1], spectral_v=None)


class RunState:
    """What the hooks of a run pass to each other, beside the weights: one object, ``trainer.state``.

    The network's forward pass reads the memories and stores the step's features, so its head holds both.

    Args:
        heads: of the network that trains.

    Attributes:
        epoch: the current labels, prototypes and matches; None before the first epoch.
        epoch_before: those of the epoch before.
    """

    def __init__(self, heads: MGOTHead) -> None:
        self._heads = heads
        self.epoch: EpochState | None = None
        self.epoch_before: EpochState | None = None

    @property
    def bank(self) -> MemoryBank | None:
        """The memories with the labels that lead into them; None before the first epoch."""
        return self._heads.bank

    @bank.setter
    def bank(self, bank: MemoryBank | None) -> None:
        self._heads.bank = bank

    @property
    def step(self) -> StepFeatures | None:
        """Features and labels of the last step; None if it was skipped, or after they were used."""
        return self._heads.step

    @step.setter
    def step(self, step: StepFeatures | None) -> None:
        self._heads.step = step


def label_epoch(
    epoch: int,
    f_v: Tensor,
    f_r: Tensor,
    identities_v: np.ndarray,
    identities_r: np.ndarray,
    previous: EpochState | None,
    clusterer: Clusterer | OracleClusterer,
) -> EpochState:
    """Label each modality and build its prototypes.

    If a modality has no cluster, or only one after it had more, it keeps the labels of the epoch before, with a
    warning.

    Args:
        epoch: its number.
        f_v, f_r: features of both training sets.
        identities_v, identities_r: ground truth, only for diagnosis and oracles.
        previous: the state of the epoch before.
        clusterer: features to clusters.

    Raises:
        UserError: a modality has no cluster and there are no earlier labels.
    """
    labels, seconds, kept = [], {}, []
    for name, features, identities in (("visible", f_v, identities_v), ("infrared", f_r, identities_r)):
        start = time.perf_counter()
        result = clusters_of(clusterer, features, identities)
        usable = result.n_clusters > 1 or (result.n_clusters == 1 and not _had_more(name, previous))
        labels.append(result.labels if usable else _earlier(result, name, epoch, previous))
        if not usable:
            kept.append(name)
        seconds[f"cluster_{name}"] = time.perf_counter() - start
    y_v, y_r = labels
    k_v, k_r = int(y_v.max()) + 1, int(y_r.max()) + 1
    return EpochState(
        epoch,
        f_v,
        f_r,
        EpochLabels(y_v, y_r),
        cluster_means(f_v, torch.as_tensor(y_v), k_v),
        cluster_means(f_r, torch.as_tensor(y_r), k_r),
        majority_identities(y_v, identities_v, k_v),
        majority_identities(y_r, identities_r, k_r),
        kept=tuple(kept),
        seconds=seconds,
    )


def _earlier(result: Clustering, name: str, epoch: int, previous: EpochState | None) -> np.ndarray:
    if previous is None:
        raise UserError(
            f"epoch {epoch}: the {name} images form no cluster (all {len(result.labels)} are outliers): raise"
            " MGOT.CLUSTER.EPS or start from better weights (MODEL.WEIGHTS, MODEL.BACKBONE.PRETRAIN_PATH)"
        )
    found = "one cluster only" if result.n_clusters else "no cluster"
    logger.warning(f"epoch {epoch}: the {name} images form {found}; the labels of the epoch before are kept")
    return getattr(previous.labels, name)


def _had_more(name: str, previous: EpochState | None) -> bool:
    return previous is not None and int(getattr(previous.labels, name).max()) > 0


class Matched(NamedTuple):
    """The result of an epoch's matching; attributes as in :class:`EpochState`."""

    matching: Matching
    belief: Belief
    seen: Prototypes
    mutual: dict[str, float]
    seconds: dict[str, float]


def match_epoch(
    state: EpochState, matcher: Matcher | OracleMatcher, believer: Believer, view: str = "colour"
) -> Matched:
    """Match the clusters of both modalities as the matcher sees them, MGOT.MATCHER.VIEW."""
    start = time.perf_counter()
    prototypes, mutual = _seen(state, view)
    matching = matching_of(matcher, prototypes, Truth(state.identity_v, state.identity_r))
    belief = believer(prototypes, matching)
    seconds = {**state.seconds, "match": time.perf_counter() - start}
    plan = matching.transport
    if plan is not None and (plan.failures or not plan.converged):
        tried = "; ".join(plan.failures) or plan.error
        logger.warning(
            f"epoch {state.epoch}: the transport did not converge ({tried}), and the plan is that of the {plan.solver}:"
            " raise MGOT.MATCHER.MAX_ITERATIONS or lower MGOT.MATCHER.LAMBDA (of the matcher rpnr, raise"
            " MGOT.MATCHER.REGULARISATION)"
        )
    return Matched(matching, belief, prototypes._replace(members=None), mutual, seconds)


def _seen(state: EpochState, view: str) -> tuple[Prototypes, dict[str, float]]:
    y_v, y_r, f_r, phi_r = state.labels.visible, state.labels.infrared, state.f_r.numpy(), state.phi_r.numpy()
    colour = Prototypes(state.phi_v.numpy(), phi_r, Members(state.f_v.numpy(), f_r, y_v, y_r), state.epoch)
    if state.spectral_v is None:
        return colour, {}
    psi_v = cluster_means(state.spectral_v, torch.as_tensor(y_v), len(state.phi_v))
    spectral = Members(state.spectral_v.numpy(), f_r, y_v, y_r)
    return seen(view, colour, Prototypes(psi_v.numpy(), phi_r, spectral, state.epoch))


@dataclass(frozen=True, kw_only=True)
class MemoryRules:
    """How the memories of an epoch begin and what moves them.

    Attributes:
        momentum: m.
        by: what moves a prototype, as in :class:`mgot.memory.PrototypeMemory`.
        cross_by: the same in the cross stage; empty: as before it.
        aggregation: share of its infrared match that a visible prototype begins with in the cross stage.
        exchange: of :class:`mgot.memory.MemoryBank`, in the cross stage.
        hard: whether there are second memories, for the loss `dual`.
    """

    momentum: float = 0.1
    by: str = "each"
    cross_by: str = ""
    aggregation: float = 0.0
    exchange: bool = False
    hard: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> MemoryRules:
        """The rules that MGOT.LOSS and MGOT.CROSS_STAGE describe."""
        loss, stage = cfg.MGOT.LOSS, cfg.MGOT.CROSS_STAGE
        return cls(
            momentum=loss.MOMENTUM,
            by=loss.UPDATE,
            cross_by=stage.UPDATE,
            aggregation=stage.AGGREGATION,
            exchange=stage.EXCHANGE,
            hard=loss.W_DUAL > 0,
        )


def build_bank(
    state: EpochState,
    rules: MemoryRules,
    *,
    cross_weight: float | None,
    device: torch.device,
    cross_start: int = 0,
) -> MemoryBank:
    """The memories of the state's labels and matches.

    ``cross_weight`` is the factor of this epoch's cross-modality terms; None in the intra-modality stage, which has no
    cross memory. ``cross_start`` is the first epoch of the cross stage.
    """
    by = rules.cross_by if cross_weight is not None and rules.cross_by else rules.by

    def memory(prototypes: Tensor) -> PrototypeMemory:
        return PrototypeMemory(prototypes.to(device), rules.momentum, by=by)

    bank = MemoryBank(memory(state.phi_v), memory(state.phi_r))
    if cross_weight is not None:
        assert state.matching is not None and state.belief is not None
        bank.cross_weight, bank.cross_epoch = cross_weight, state.epoch - cross_start
        bank.exchange = rules.exchange
        bank.visible = memory(aggregated(state.phi_v, state.phi_r, state.matching, rules.aggregation))
        bank.belief_v, bank.belief_r = (torch.as_tensor(each, dtype=torch.float32) for each in state.belief)
        c_v, c_r = cross_labels(state.matching)
        bank.cross = memory(cross_prototypes(state.phi_v, state.phi_r, state.matching))
        tables = (state.matching.v2r, state.matching.r2v, c_v, c_r, *members_of_labels(state.matching))
        bank.v2r, bank.r2v, bank.c_v, bank.c_r, bank.members_v, bank.members_r = map(torch.as_tensor, tables)
    if rules.hard:
        bank.hard_visible, bank.hard_infrared = memory(bank.visible.prototypes), memory(bank.infrared.prototypes)
    return bank


def describe_epoch(
    state: EpochState,
    previous: EpochState | None,
    identities_v: np.ndarray,
    identities_r: np.ndarray,
    temperature: float,
) -> dict[str, float]:
    """Everything that docs/method.md section 8 logs at an epoch's start, by the names of metrics.json.

    ``visible/...`` and ``infrared/...`` hold the clusterings, ``sharpness/x_y`` and ``fairness/x_y`` the entropies of
    modality x against memory y (v, r, c), ``matching/...`` load and fitness, ``transport/...`` how well the plan was
    solved, if there is one; ``truth/...`` the comparison with ground truth, left out for a modality with unknown
    identities.
    """
    matching = state.matching
    assert matching is not None
    scalars: dict[str, float] = {"epoch": float(state.epoch)}
    for name, y in (("visible", state.labels.visible), ("infrared", state.labels.infrared)):
        scalars[f"{name}/labels_kept"] = float(name in state.kept)
        scalars.update({f"{name}/{key}": value for key, value in cluster_statistics(y).items()})
    phi_c = cross_prototypes(state.phi_v, state.phi_r, matching)
    for x, features in (("v", state.f_v), ("r", state.f_r)):
        for memory, phi in (("v", state.phi_v), ("r", state.phi_r), ("c", phi_c)):
            sharpness, fairness = prediction_entropies(features, phi, temperature)
            scalars[f"sharpness/{x}_{memory}"], scalars[f"fairness/{x}_{memory}"] = sharpness, fairness
    scalars.update({f"matching/{key}": value for key, value in matching_statistics(matching).items()})
    if state.belief is not None and min(matching.scores.shape):
        scalars["matching/belief"] = state.belief.mean()
    scalars.update({f"matching/mutual_{view}": share for view, share in state.mutual.items()})
    plan = matching.transport
    if plan is not None:
        scalars["transport/converged"], scalars["transport/iterations"] = float(plan.converged), float(plan.iterations)
        scalars["transport/marginal_error"] = max(plan.row_error, plan.column_error)
    if previous is not None and previous.matching is not None:
        now, before = state.labels, previous.labels
        scalars["matching/agreement"] = matching_agreement(
            matching.v2r, now.visible, now.infrared, previous.matching.v2r, before.visible, before.infrared
        )
    for name, y, truth in (
        ("visible", state.labels.visible, identities_v),
        ("infrared", state.labels.infrared, identities_r),
    ):
        quality = clustering_quality(y, truth) if all_known(truth) else {}
        scalars.update({f"truth/{name}_{key}": value for key, value in quality.items()})
    if all_known(identities_v) and all_known(identities_r):
        scalars["truth/matching_accuracy"] = matching_accuracy(matching, state.identity_v, state.identity_r)
    scalars.update({f"seconds/{key}": value for key, value in state.seconds.items()})
    return scalars
