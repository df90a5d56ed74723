"""Batches of P pseudo classes x K images from each modality, drawn for each epoch from a seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mgot.errors import UserError

_AHEAD = 2


class WholeBatch(NamedTuple):
    """A batch that several processes share, as one.

    Attributes:
        order: (B,) indices into the rows of all processes, one process after the other; they give the rows in the order
            of a single process.
        is_visible: (B,) bool, in that order.
        targets: (B,) int64 pseudo labels, in that order.
    """

    order: Tensor
    is_visible: Tensor
    targets: Tensor


class CrossModalitySampler:
    """Indices of P clusters x K images of each modality for every step of an epoch.

    The clusters of a modality come in random permutations, one after the other, so all come about equally often. The
    images of a cluster are drawn without replacement if it has K or more. With cameras, only the first is drawn from
    all of them, and the others come from other cameras than its own, if the cluster has images there [field].

    With matches (cross stage, by key) the visible clusters come in this order. Each brings an infrared cluster that it
    is matched to, if one is due ([ours], docs/method.md section 5: every cluster trains; CPAL of section 7 needs both
    modalities).

    Args:
        n_classes: P, clusters per modality and batch over all ranks.
        n_instances: K, images per cluster.
        n_batches: steps of an epoch.
        seed: with the epoch's number it fixes every batch. The batches of an epoch do not depend on earlier epochs.
            Several processes draw the same batches, and each takes its share.
        cameras: (N_v + N_r,) camera of each image, infrared images after the visible ones; None does not look at them.

    Raises:
        UserError: a count is not positive.
    """

    def __init__(
        self, n_classes: int, n_instances: int, n_batches: int, *, seed: int, cameras: np.ndarray | None = None
    ) -> None:
        if min(n_classes, n_instances, n_batches) < 1:
            raise UserError(
                "a batch needs at least one pseudo class and one image of each modality: raise SOLVER.IMS_PER_BATCH"
                " (both modalities together) or lower DATALOADER.NUM_INSTANCE"
            )
        self.n_classes, self.n_instances, self.n_batches = n_classes, n_instances, n_batches
        self.seed, self._cameras = seed, cameras
        self._epoch = self._skip = 0
        self._members: list[list[np.ndarray]] | None = None
        self._matches: tuple[np.ndarray, np.ndarray] | None = None

    def set_epoch(
        self,
        epoch: int,
        labels_v: np.ndarray,
        labels_r: np.ndarray,
        v2r: np.ndarray | None = None,
        r2v: np.ndarray | None = None,
        *,
        skip: int = 0,
    ) -> None:
        """Set the labels that the next iteration draws from.

        Args:
            epoch: number of the epoch.
            labels_v, labels_r: (N_v,), (N_r,) pseudo labels, -1 = outlier, never drawn. Infrared indices follow the
                visible ones: infrared image i has index N_v + i.
            v2r, r2v: (K_v,), (K_r,) match of each cluster, -1 = unmatched; None draws the modalities independently.
            skip: steps of the epoch that were taken already. They are drawn, but not returned again.
        """
        self._epoch, self._skip = epoch, skip
        self._members = [_members(labels_v, 0), _members(labels_r, len(labels_v))]
        self._matches = None if v2r is None or r2v is None else (v2r, r2v)

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (visible indices, infrared indices), (P K,) each, cluster by cluster; nothing before set_epoch()."""
        if self._members is None or not all(self._members):
            return
        rng = np.random.default_rng([self.seed, self._epoch])
        draws = self._paired(rng, *self._matches) if self._matches else self._independent(rng)
        for step in range(self.n_batches):
            clusters = next(draws)
            batch = self._images(rng, 0, clusters[0]), self._images(rng, 1, clusters[1])
            if step >= self._skip:
                yield batch

    def _independent(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        assert self._members is not None
        streams = [_permutations(rng, np.arange(len(m)), self.n_classes) for m in self._members]
        while True:
            yield next(streams[0]), next(streams[1])

    def _paired(
        self, rng: np.random.Generator, v2r: np.ndarray, r2v: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Visible clusters by permutations, each with an infrared cluster: one matched to it, or the one longest due.

        An infrared cluster is matched to those that it took and to those that took it. So a cluster that the opposite
        transport rescued comes with its match. Of several matches, the one that was drawn least comes. If there is no
        match, the least drawn of all comes. A cluster that is two draws ahead of the least drawn waits. So the counts
        of infrared clusters differ by at most two draws.
        """
        partners = [np.union1d(v2r[i : i + 1], np.flatnonzero(r2v == i)) for i in range(len(v2r))]
        partners = [each[each >= 0] for each in partners]
        drawn = np.zeros(len(r2v), dtype=np.int64)
        for clusters in _permutations(rng, np.arange(len(v2r)), self.n_classes):
            least = drawn.min()
            beside = np.full(self.n_classes, -1, dtype=np.int64)
            for slot, i in enumerate(clusters):
                due = partners[i][(drawn[partners[i]] < least + _AHEAD) & ~np.isin(partners[i], beside)]
                if len(due):
                    beside[slot] = _least_drawn(rng, due, drawn, 1)[0]
                    drawn[beside[slot]] += 1
            free = np.flatnonzero(beside < 0)
            others = np.setdiff1d(np.arange(len(drawn)), beside)
            while len(free):  # fewer clusters than slots: they come again
                chosen = _least_drawn(rng, others if len(others) else np.arange(len(drawn)), drawn, len(free))
                beside[free[: len(chosen)]] = chosen
                drawn[chosen] += 1
                free, others = free[len(chosen) :], np.empty(0, dtype=np.int64)
            yield clusters, beside

    def _images(self, rng: np.random.Generator, modality: int, clusters: np.ndarray) -> np.ndarray:
        assert self._members is not None
        drawn = []
        for cluster in clusters:
            members = self._members[modality][cluster]
            if self._cameras is None:
                drawn.append(_some(rng, members, self.n_instances))
            else:
                drawn.append(_from_other_cameras(rng, members, self._cameras[members], self.n_instances))
        return np.concatenate(drawn)


def _some(rng: np.random.Generator, members: np.ndarray, n: int) -> np.ndarray:
    """n members, without replacement if there are as many."""
    return rng.choice(members, n, replace=len(members) < n)


def _from_other_cameras(rng: np.random.Generator, members: np.ndarray, cameras: np.ndarray, n: int) -> np.ndarray:
    """One member, and n - 1 of other cameras than its own; if there are none, other members; if there are none, it."""
    first = rng.integers(len(members))
    others = members[cameras != cameras[first]]
    if len(others) == 0:
        others = np.delete(members, first) if len(members) > 1 else members
    return np.concatenate([members[first : first + 1], _some(rng, others, n - 1)])


def _members(labels: np.ndarray, offset: int) -> list[np.ndarray]:
    """Indices of each cluster's images, cluster by cluster."""
    order = np.argsort(labels, kind="stable")
    ranked = labels[order]
    bounds = np.searchsorted(ranked, np.arange(labels.max(initial=-1) + 2))
    return [order[a:b] + offset for a, b in itertools.pairwise(bounds)]


def _least_drawn(rng: np.random.Generator, clusters: np.ndarray, drawn: np.ndarray, n: int) -> np.ndarray:
    """The n clusters that were drawn least, at random among equals; all where there are fewer."""
    shuffled = rng.permutation(clusters)
    return shuffled[np.argsort(drawn[shuffled], kind="stable")[:n]]


def _permutations(rng: np.random.Generator, items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Endless batches of ``size`` from one random permutation of the items after the other."""
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(items)])
        yield queue[:size]
        queue = queue[size:]
