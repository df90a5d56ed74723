"""Prototype memories: one L2-normalised row for each pseudo class. It moves towards the features of its class.

Notation: Phi memory (K, D), f feature (D,), m momentum in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.errors import UserError

UPDATES = ("each", "mean", "hardest")


def to_infrared(cross_epoch: int) -> bool:
    """Whether visible images meet infrared prototypes in an epoch of the cross stage, or the reverse [PGM]."""
    return cross_epoch % 2 == 0


def cluster_means(features: Tensor, labels: Tensor, n_clusters: int) -> Tensor:
    """L2-normalised mean of each cluster's members.

        Phi[k] = normalise(mean of f_i with labels[i] = k)

    Source: docs/method.md section 4, [field].

    Args:
        features: (N, D) L2-normalised features.
        labels: (N,) int64 in [-1, n_clusters); -1 marks outliers, which take no part.
        n_clusters: K >= 0.

    Returns:
        (K, D) prototypes; (0, D) for no cluster.

    Raises:
        UserError: a cluster has no member.
    """
    member = labels >= 0
    sums = features.new_zeros(n_clusters, features.shape[1])
    sums.index_add_(0, labels[member], features[member])
    sizes = torch.bincount(labels[member], minlength=n_clusters)
    if n_clusters and int(sizes.min()) == 0:
        empty = torch.nonzero(sizes == 0).flatten().tolist()
        raise UserError(f"clusters {empty} have no member: renumber the labels so that 0..{n_clusters - 1} all occur")
    return F.normalize(sums, dim=1)


class PrototypeMemory:
    """Memory of one set of pseudo classes.

    A memory does not change within a step: losses read :attr:`prototypes`, and :meth:`update` runs after the
    optimiser's step, outside autograd (docs/method.md section 4).

    Args:
        prototypes: (K, D) rows; L2-normalised here. Copied.
        momentum: m in [0, 1), the share of the old prototype that an update keeps; 0.1 is [field].
        by: what moves a prototype, one of :data:`UPDATES`: each feature of its class in turn, their mean once, or the
            least similar one alone.
    """

    def __init__(self, prototypes: Tensor, momentum: float = 0.1, *, by: str = "each") -> None:
        if not 0.0 <= momentum < 1.0:
            raise UserError(f"memory momentum must be in [0, 1), not {momentum}")
        self.prototypes = F.normalize(prototypes.detach().float(), dim=1).clone()
        self.momentum, self.by = momentum, by

    def __len__(self) -> int:
        return self.prototypes.shape[0]

    @torch.no_grad()
    def update(self, f: Tensor, y: Tensor) -> None:
        """Move prototypes towards features, sample by sample in batch order; or once, towards one vector.

            phi_y <- normalise(m phi_y + (1 - m) f)
            mean:     f = the mean of the step's features of class y, not normalised
            hardest:  f = f_i of the smallest f_i . phi_y among them, the first of equals

        Source: [field]; `mean` [RPNR], CM_HCL; `hardest` [PGM], CM_Hard. With `each`, samples of different classes
        change different rows, so the t-th samples of all classes are handled together. The loop runs over the largest
        number of samples of one class, not over all samples. The result is that of the plain loop.

        Args:
            f: (B, D) L2-normalised features of all ranks.
            y: (B,) int64 in [0, K), or -1 for samples to skip. On the CPU it needs no wait for the device.
        """
        if self.by != "each":
            self.move(*(self._mean if self.by == "mean" else self.least_similar)(f, y))
            return
        y = y.cpu()
        kept = torch.nonzero(y >= 0).flatten()
        if len(kept) == 0:
            return
        turn, device = _occurrence(y[kept]), f.device
        order = torch.argsort(turn, stable=True)
        f = f.detach().float().index_select(0, kept[order].to(device, non_blocking=True))
        rows = y[kept[order]].to(device, non_blocking=True)
        start = 0
        for count in torch.bincount(turn).tolist():
            now = rows[start : start + count]
            moved = self.momentum * self.prototypes[now] + (1.0 - self.momentum) * f[start : start + count]
            self.prototypes[now] = F.normalize(moved, dim=1)
            start += count

    @torch.no_grad()
    def _mean(self, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(K, D) mean feature of each class, and (K,) whether it has any."""
        k, f, y = len(self), f.detach().float(), y.to(f.device, non_blocking=True)
        rows = torch.where(y >= 0, y, k)  # a row of its own for outliers, as below
        sums = f.new_zeros(k + 1, f.shape[1]).index_add_(0, rows, f)[:k]
        counts = f.new_zeros(k + 1).index_add_(0, rows, f.new_ones(len(f)))[:k]
        return sums / counts.clamp(min=1)[:, None], counts > 0

    @torch.no_grad()
    def least_similar(self, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(K, D) each class's feature of the smallest cosine, the first of equals, and (K,) whether it has one."""
        k, end, f, y = len(self), len(f), f.detach().float(), y.to(f.device, non_blocking=True)
        rows = torch.where(y >= 0, y, k)  # a row of its own for outliers: picking by value would wait for a GPU
        cosine = (f * torch.cat([self.prototypes, f.new_zeros(1, f.shape[1])])[rows]).sum(dim=1)
        least = cosine.new_full((k + 1,), torch.inf).scatter_reduce(0, rows, cosine, "amin")
        place = torch.where(cosine == least[rows], torch.arange(end, device=f.device), end)
        first = place.new_full((k + 1,), end).scatter_reduce(0, rows, place, "amin")[:k]
        return torch.cat([f, f.new_zeros(1, f.shape[1])])[first], first < end

    @torch.no_grad()
    def move(self, towards: Tensor, met: Tensor) -> None:
        """Move the rows of ``met`` (K,) bool once: phi <- normalise(m phi + (1 - m) towards), ``towards`` (K, D)."""
        moved = F.normalize(self.momentum * self.prototypes + (1.0 - self.momentum) * towards, dim=1)
        self.prototypes = torch.where(met[:, None], moved, self.prototypes)


@dataclass
class MemoryBank:
    """The three memories of an epoch with the labels that lead into them.

    Attributes:
        visible: Phi_v, (K_v, D).
        infrared: Phi_r, (K_r, D).
        cross: Phi_c, (K_c, D), or None before the cross-modality stage.
        v2r: (K_v,) infrared cluster of each visible one, -1 if unmatched; None with ``cross``.
        r2v: (K_r,) visible cluster of each infrared one.
        c_v: (K_v,) cross label of each visible cluster, -1 if unmatched.
        c_r: (K_r,) cross label of each infrared cluster.
        members_v: (2, M_v) visible clusters and the labels they belong to, as in
            :func:`mgot.matching.members_of_labels`.
        members_r: (2, M_r) infrared clusters and the labels they belong to.
        belief_v, belief_r: (K_v,), (K_r,) float32 in [0, 1], the belief in each cluster's match.
        cross_weight: the factor of all cross-modality terms in this epoch.
        cross_epoch: number of this epoch, counted from the cross stage's start.
        exchange: whether images move the prototypes of their matches in the other modality too.
        hard_visible, hard_infrared: second memories of the same clusters, for the loss `dual`; None without it.

    The tables are on the CPU, as labels are.
    """

    visible: PrototypeMemory
    infrared: PrototypeMemory
    cross: PrototypeMemory | None = None
    v2r: Tensor | None = None
    r2v: Tensor | None = None
    c_v: Tensor | None = None
    c_r: Tensor | None = None
    members_v: Tensor | None = None
    members_r: Tensor | None = None
    belief_v: Tensor | None = None
    belief_r: Tensor | None = None
    cross_weight: float = 1.0
    cross_epoch: int = 0
    exchange: bool = False
    hard_visible: PrototypeMemory | None = None
    hard_infrared: PrototypeMemory | None = None

    def update(self, f_v: Tensor, y_v: Tensor, f_r: Tensor, y_r: Tensor) -> None:
        """Move the memories of both modalities by :meth:`PrototypeMemory.update`, then Phi_c once per label.

            phi_c <- normalise(m phi_c + (1 - m) normalise(mean_v + mean_r))   for the labels of the step

        mean_v is the normalised mean of the step's visible features of a label's clusters; if the step has none, of
        their prototypes. mean_r is the same for infrared. Both modalities weigh the same for any counts. Sample by
        sample, Phi_c would forget the modality that came first: with m = 0.1, K samples leave 0.1^K of it.

        With :attr:`exchange` one modality's images first move the prototypes of their matches: Phi_r by visible ones in
        epochs of even number, Phi_v by infrared ones in the others. Images without a match move none.

        A second memory moves with the first, towards the image that is least similar to the first one's prototype.

        Source: docs/method.md section 4; Phi_v, Phi_r [field], Phi_c [ours], exchange [PGM], [RPNR], [DMDL], second
        memories [RPNR], [BMIL]. Shapes: (B, D) features, (B,) labels.
        """
        if self.exchange and self.v2r is not None and self.r2v is not None:
            if to_infrared(self.cross_epoch):
                _move(self.infrared, self.hard_infrared, f_v, _matches(self.v2r, y_v))
            else:
                _move(self.visible, self.hard_visible, f_r, _matches(self.r2v, y_r))
        _move(self.visible, self.hard_visible, f_v, y_v)
        _move(self.infrared, self.hard_infrared, f_r, y_r)
        if self.cross is None or self.members_v is None or self.members_r is None:
            return
        k_c = len(self.cross)
        mean_v, met_v = _label_means(f_v, y_v, self.visible.prototypes, self.members_v, k_c)
        mean_r, met_r = _label_means(f_r, y_r, self.infrared.prototypes, self.members_r, k_c)
        self.cross.move(F.normalize(mean_v + mean_r, dim=1), met_v | met_r)


def _move(memory: PrototypeMemory, hard: PrototypeMemory | None, f: Tensor, y: Tensor) -> None:
    if hard is not None:
        hard.move(*memory.least_similar(f, y))
    memory.update(f, y)


def _matches(table: Tensor, y: Tensor) -> Tensor:
    """(B,) match of each image's cluster, -1 if the image has no cluster or the cluster no match; on the CPU."""
    return torch.cat([table, table.new_full((1,), -1)])[y.cpu()]


def _label_means(f: Tensor, y: Tensor, phi: Tensor, members: Tensor, k_c: int) -> tuple[Tensor, Tensor]:
    """(K_c, D) normalised mean of each label's features, or of its prototypes, and (K_c,) whether it had features."""
    clusters, labels = members.to(f.device, non_blocking=True)
    y = y.to(f.device, non_blocking=True)
    # Outliers (-1) are added to a row of their own, which is cut off: picking rows by value would wait for a GPU.
    rows = torch.where(y >= 0, y, len(phi))
    sums = phi.new_zeros(len(phi) + 1, phi.shape[1]).index_add_(0, rows, f.detach().float())
    counts = phi.new_zeros(len(phi) + 1).index_add_(0, rows, phi.new_ones(len(y)))
    met = phi.new_zeros(k_c).index_add_(0, labels, counts[clusters]) > 0
    seen = phi.new_zeros(k_c, phi.shape[1]).index_add_(0, labels, sums[clusters])
    kept = phi.new_zeros(k_c, phi.shape[1]).index_add_(0, labels, phi[clusters])
    return F.normalize(torch.where(met[:, None], seen, kept), dim=1), met


def _occurrence(y: Tensor) -> Tensor:
    """(B,) how many earlier entries equal each entry: [3, 5, 3, 3] -> [0, 0, 1, 2]."""
    order = torch.sort(y, stable=True).indices
    ranked = y[order]
    position = torch.arange(len(y))
    start = torch.ones_like(ranked, dtype=torch.bool)
    start[1:] = ranked[1:] != ranked[:-1]
    first = torch.cummax(torch.where(start, position, torch.zeros_like(position)), dim=0).values
    turn = torch.empty_like(position)
    turn[order] = position - first
    return turn
