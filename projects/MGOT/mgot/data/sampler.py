"""Batches of P pseudo classes x K images from each modality, drawn anew each epoch from a seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from mgot.errors import UserError


class CrossModalitySampler:
    """Indices of P clusters x K images of each modality for every step of an epoch.

    The clusters of a modality come in random permutations, one after the other, so all are met about equally often;
    the images of a cluster are drawn without replacement where it has K of them. With cross labels (cross stage, by
    key) both modalities draw clusters of the same labels ([ours], METHOD.md section 7's CPAL needs both sides).

    Args:
        n_classes: P, clusters per modality and batch over all ranks.
        n_instances: K, images per cluster.
        n_batches: steps of an epoch.
        seed: with the epoch's number it fixes every batch; the batches of an epoch do not depend on earlier epochs.

    Every process of several draws the same batches and takes its share of each.

    Raises:
        UserError: a count is not positive.
    """

    def __init__(self, n_classes: int, n_instances: int, n_batches: int, *, seed: int) -> None:
        if min(n_classes, n_instances, n_batches) < 1:
            raise UserError(
                "a batch needs at least one pseudo class and one image of each modality: raise SOLVER.IMS_PER_BATCH"
                " (both modalities together) or lower DATALOADER.NUM_INSTANCE"
            )
        self.n_classes, self.n_instances, self.n_batches = n_classes, n_instances, n_batches
        self.seed = seed
        self._epoch = self._skip = 0
        self._members: list[list[np.ndarray]] | None = None
        self._cross: list[np.ndarray] | None = None

    def set_epoch(
        self,
        epoch: int,
        labels_v: np.ndarray,
        labels_r: np.ndarray,
        cross_v: np.ndarray | None = None,
        cross_r: np.ndarray | None = None,
        *,
        skip: int = 0,
    ) -> None:
        """Fix the labels that the next iteration draws from.

        Args:
            epoch: number of the epoch.
            labels_v, labels_r: (N_v,), (N_r,) pseudo labels, -1 = outlier, never drawn. Infrared indices follow the
                visible ones: infrared image i has index N_v + i.
            cross_v, cross_r: (K_v,), (K_r,) cross labels of the clusters, -1 = unmatched; None draws the modalities
                independently.
            skip: steps of the epoch that were taken already: drawn, and not handed out again.
        """
        self._epoch, self._skip = epoch, skip
        self._members = [_members(labels_v, 0), _members(labels_r, len(labels_v))]
        self._cross = None if cross_v is None or cross_r is None else [cross_v, cross_r]

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (visible indices, infrared indices), (P K,) each, cluster by cluster; nothing before set_epoch()."""
        if self._members is None or not all(self._members):
            return
        rng = np.random.default_rng([self.seed, self._epoch])
        draws = self._paired(rng) if self._cross else self._independent(rng)
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

    def _paired(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Clusters of the same cross labels; a label that one modality lacks is left to the other alone."""
        assert self._cross is not None
        by_label = [
            {int(label): np.flatnonzero(cross == label) for label in np.unique(cross[cross >= 0])}
            for cross in self._cross
        ]
        shared = np.array(sorted(set(by_label[0]) & set(by_label[1])), dtype=np.int64)
        if len(shared) == 0:
            yield from self._independent(rng)
            return
        for labels in _permutations(rng, shared, self.n_classes):
            v, r = (np.array([rng.choice(table[int(label)]) for label in labels]) for table in by_label)
            yield v, r

    def _images(self, rng: np.random.Generator, modality: int, clusters: np.ndarray) -> np.ndarray:
        assert self._members is not None
        drawn = []
        for cluster in clusters:
            members = self._members[modality][cluster]
            drawn.append(rng.choice(members, self.n_instances, replace=len(members) < self.n_instances))
        return np.concatenate(drawn)


def _members(labels: np.ndarray, offset: int) -> list[np.ndarray]:
    """Indices of each cluster's images, cluster by cluster."""
    order = np.argsort(labels, kind="stable")
    ranked = labels[order]
    bounds = np.searchsorted(ranked, np.arange(labels.max(initial=-1) + 2))
    return [order[a:b] + offset for a, b in itertools.pairwise(bounds)]


def _permutations(rng: np.random.Generator, items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Endless batches of ``size`` from one random permutation of the items after the other."""
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(items)])
        yield queue[:size]
        queue = queue[size:]
