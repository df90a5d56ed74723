"""Batches of P x K of both modalities."""

from __future__ import annotations

import numpy as np
import pytest

from mgot.data.sampler import CrossModalitySampler
from mgot.errors import UserError

LABELS_V = np.array([0, 0, 0, 1, 1, -1, 2, 2, 2, 2])
LABELS_R = np.array([1, 1, 1, 0, 0, -1])


def sampler(**kwargs: int) -> CrossModalitySampler:
    return CrossModalitySampler(**{"n_classes": 2, "n_instances": 3, "n_batches": 20, "seed": 5, **kwargs})


def test_batches_hold_k_images_of_p_clusters_of_each_modality_and_no_outlier() -> None:
    drawn = sampler()
    drawn.set_epoch(0, LABELS_V, LABELS_R)
    batches = list(drawn)
    assert len(batches) == len(drawn) == 20
    for visible, infrared in batches:
        assert visible.shape == infrared.shape == (6,)
        for indices, labels in ((visible, LABELS_V), (infrared - len(LABELS_V), LABELS_R)):
            of_cluster = labels[indices].reshape(2, 3)
            assert (of_cluster >= 0).all() and (of_cluster == of_cluster[:, :1]).all()


def test_large_clusters_are_drawn_without_replacement() -> None:
    drawn = sampler(n_classes=3)
    drawn.set_epoch(0, LABELS_V, LABELS_R)
    for visible, _ in drawn:
        for images in visible.reshape(3, 3):
            if LABELS_V[images[0]] in (0, 2):
                assert len(set(images)) == 3


def test_all_clusters_come_round() -> None:
    drawn = sampler(n_classes=1, n_batches=3)
    drawn.set_epoch(0, LABELS_V, LABELS_R)
    assert {int(LABELS_V[v[0]]) for v, _ in drawn} == {0, 1, 2}


def test_paired_batches_hold_the_same_cross_labels() -> None:
    cross_v, cross_r = np.array([1, 0, 1]), np.array([0, 1])
    drawn = sampler()
    drawn.set_epoch(0, LABELS_V, LABELS_R, cross_v, cross_r)
    for visible, infrared in drawn:
        c_v = cross_v[LABELS_V[visible[::3]]]
        c_r = cross_r[LABELS_R[infrared[::3] - len(LABELS_V)]]
        assert c_v.tolist() == c_r.tolist()


def test_no_shared_cross_label_falls_back_to_independent_draws() -> None:
    drawn = sampler()
    drawn.set_epoch(0, LABELS_V, LABELS_R, np.array([-1, -1, -1]), np.array([0, 1]))
    assert len(list(drawn)) == 20


def test_seed_and_epoch_fix_the_batches() -> None:
    def draw(seed: int, epoch: int) -> list[int]:
        one = sampler(seed=seed)
        one.set_epoch(epoch, LABELS_V, LABELS_R)
        return np.concatenate([np.concatenate(pair) for pair in one]).tolist()

    assert draw(1, 0) == draw(1, 0)
    assert draw(1, 0) != draw(1, 1)
    assert draw(1, 0) != draw(2, 0)


def test_nothing_comes_before_labels_or_from_an_empty_modality() -> None:
    drawn = sampler()
    assert list(drawn) == []
    drawn.set_epoch(0, LABELS_V, np.full(6, -1))
    assert list(drawn) == []


@pytest.mark.parametrize("kwargs", [{"n_classes": 0}, {"n_instances": 0}, {"n_batches": 0}])
def test_empty_batches_are_refused(kwargs: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"SOLVER\.IMS_PER_BATCH"):
        sampler(**kwargs)
