"""Batches of P x K of both modalities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mgot.data.sampler import CrossModalitySampler
from mgot.errors import UserError
from mgot.matching import MATCHERS, Matching, Members, Prototypes, matching_of
from mgot.truth import Truth

LABELS_V = np.array([0, 0, 0, 1, 1, -1, 2, 2, 2, 2])
LABELS_R = np.array([1, 1, 1, 0, 0, -1])

Matches = tuple[np.ndarray, ...]
BOTH_WAYS = pytest.mark.parametrize("matches", [(), (np.array([1, 0, 1]), np.array([1, 2]))], ids=["alone", "paired"])


def sampler(**kwargs: Any) -> CrossModalitySampler:
    return CrossModalitySampler(**{"n_classes": 2, "n_instances": 3, "n_batches": 20, "seed": 5, **kwargs})


@BOTH_WAYS
def test_batches_hold_k_images_of_p_clusters_of_each_modality_and_no_outlier(matches: Matches) -> None:
    drawn = sampler()
    drawn.set_epoch(0, LABELS_V, LABELS_R, *matches)
    batches = list(drawn)
    assert len(batches) == len(drawn) == 20
    for visible, infrared in batches:
        assert visible.shape == infrared.shape == (6,)
        for indices, labels in ((visible, LABELS_V), (infrared - len(LABELS_V), LABELS_R)):
            of_cluster = labels[indices].reshape(2, 3)
            assert (of_cluster >= 0).all() and (of_cluster == of_cluster[:, :1]).all()


@BOTH_WAYS
def test_large_clusters_are_drawn_without_replacement(matches: Matches) -> None:
    drawn = sampler(n_classes=3)
    drawn.set_epoch(0, LABELS_V, LABELS_R, *matches)
    for visible, _ in drawn:
        for images in visible.reshape(3, 3):
            if LABELS_V[images[0]] in (0, 2):
                assert len(set(images)) == 3


@BOTH_WAYS
def test_the_other_images_of_a_cluster_are_from_other_cameras_if_it_has_any_there(matches: Matches) -> None:
    cameras = np.array([1, 1, 2, 3, 3, 9, 1, 2, 2, 3, 7, 7, 8, 7, 8, 9])
    labels = np.concatenate([LABELS_V, LABELS_R + (LABELS_R >= 0) * 10])
    drawn = sampler(n_batches=60, cameras=cameras)
    drawn.set_epoch(0, LABELS_V, LABELS_R, *matches)
    firsts = set()
    for batch in drawn:
        for first, *others in np.concatenate(batch).reshape(-1, 3).tolist():
            firsts.add(first)
            members = np.flatnonzero(labels == labels[first])
            apart = members[cameras[members] != cameras[first]]
            allowed = apart if len(apart) else members[members != first]  # cluster 1: one camera
            assert set(others) <= set(allowed.tolist())
            assert len(set(others)) == min(2, len(allowed))
    assert firsts == set(np.flatnonzero(labels >= 0).tolist())


def test_a_cluster_of_one_image_is_that_image_again_with_cameras_too() -> None:
    drawn = sampler(n_classes=1, n_batches=2, cameras=np.array([4, 5]))
    drawn.set_epoch(0, np.array([0]), np.array([0]))
    assert [(v.tolist(), r.tolist()) for v, r in drawn] == [([0, 0, 0], [1, 1, 1])] * 2


@BOTH_WAYS
def test_all_clusters_come_round(matches: Matches) -> None:
    drawn = sampler(n_classes=1, n_batches=3)
    drawn.set_epoch(0, LABELS_V, LABELS_R, *matches)
    assert {int(LABELS_V[v[0]]) for v, _ in drawn} == {0, 1, 2}


def labels_of(k: int, images: int = 2) -> np.ndarray:
    return np.repeat(np.arange(k), images)


def drawn_clusters(v2r: np.ndarray, r2v: np.ndarray, n_batches: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(steps, P) visible and infrared clusters of an epoch."""
    k_v, k_r = len(v2r), len(r2v)
    one = CrossModalitySampler(6, 2, n_batches, seed=3)
    one.set_epoch(0, labels_of(k_v), labels_of(k_r), v2r, r2v)
    pairs = [(v[::2] // 2, (r[::2] - 2 * k_v) // 2) for v, r in one]
    return np.stack([v for v, _ in pairs]), np.stack([r for _, r in pairs])


def matchings(k_v: int, k_r: int) -> dict[str, Matching]:
    """What each matcher makes of random prototypes with a common part, so that some clusters are crowded."""
    rng = np.random.default_rng(k_v + 100 * k_r)
    phi_v, phi_r = (rng.normal(size=(k, 8)) + 0.7 for k in (k_v, k_r))
    phi_v, phi_r = (phi / np.linalg.norm(phi, axis=1, keepdims=True) for phi in (phi_v, phi_r))
    members = Members(phi_v, phi_r, np.arange(k_v), np.arange(k_r))
    truth = Truth(rng.integers(k_r, size=k_v), rng.integers(2 * k_r, size=k_r))
    ours = {name: matcher for name, matcher in MATCHERS.items() if matcher.__module__.startswith("mgot.")}
    return {name: matching_of(matcher(), Prototypes(phi_v, phi_r, members), truth) for name, matcher in ours.items()}


@pytest.mark.parametrize(("k_v", "k_r"), [(20, 20), (60, 12), (12, 60), (20, 4), (1, 1)])
def test_every_cluster_comes_round_equally_often_whoever_matched_them(k_v: int, k_r: int) -> None:
    for name, matching in matchings(k_v, k_r).items():
        visible, infrared = drawn_clusters(matching.v2r, matching.r2v)
        for drawn, k, apart in ((visible, k_v, 1), (infrared, k_r, 2)):
            counts = np.bincount(drawn.ravel(), minlength=k)
            assert np.ptp(counts) <= apart, (name, counts)


def test_an_infrared_cluster_comes_once_a_batch_while_there_are_enough() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        v2r, r2v = rng.integers(-1, 3, 20), rng.integers(-1, 20, 7)  # three infrared clusters are crowded
        _, infrared = drawn_clusters(v2r, r2v)
        assert all(len(set(batch)) == 6 for batch in infrared.tolist())


@pytest.mark.parametrize(("k_v", "k_r"), [(20, 20), (28, 20), (12, 30)])
def test_a_rescued_cluster_is_drawn_with_its_match(k_v: int, k_r: int) -> None:
    matching = matchings(k_v, k_r)["otpa"]
    assert len(matching.unassigned)
    visible, infrared = drawn_clusters(matching.v2r, matching.r2v, n_batches=120)
    for j in matching.unassigned:
        together = ((infrared == j).any(axis=1) & (visible == matching.r2v[j]).any(axis=1)).sum()
        both_come = min((visible == matching.r2v[j]).sum(), (infrared == j).sum())
        sharers = (matching.r2v == matching.r2v[j]).sum() + 1  # its match is shared with these, one a draw
        assert together >= 0.5 * both_come / sharers


def test_one_to_one_matches_are_always_drawn_together() -> None:
    v2r = np.random.default_rng(0).permutation(18)
    visible, infrared = drawn_clusters(v2r, np.argsort(v2r))
    np.testing.assert_array_equal(v2r[visible], infrared)


def test_unmatched_clusters_come_in_their_own_stream() -> None:
    v2r, r2v = np.array([-1, 0, -1, 1]), np.array([1, 3, -1, -1])
    for drawn in drawn_clusters(v2r, r2v):
        assert np.ptp(np.bincount(drawn.ravel(), minlength=4)) <= 3
    nobody = np.full(4, -1)
    for drawn in drawn_clusters(nobody, nobody):
        assert np.ptp(np.bincount(drawn.ravel(), minlength=4)) <= 3


@BOTH_WAYS
def test_seed_and_epoch_fix_the_batches(matches: Matches) -> None:
    def draw(seed: int, epoch: int) -> list[int]:
        one = sampler(seed=seed)
        one.set_epoch(epoch, LABELS_V, LABELS_R, *matches)
        return np.concatenate([np.concatenate(pair) for pair in one]).tolist()

    assert draw(1, 0) == draw(1, 0)
    assert draw(1, 0) != draw(1, 1)
    assert draw(1, 0) != draw(2, 0)


@pytest.mark.parametrize("matches", [(), (np.full(3, -1), np.empty(0, dtype=np.int64))])
def test_nothing_comes_before_labels_or_from_an_empty_modality(matches: Matches) -> None:
    drawn = sampler()
    assert list(drawn) == []
    drawn.set_epoch(0, LABELS_V, np.full(6, -1), *matches)
    assert list(drawn) == []


@pytest.mark.parametrize("kwargs", [{"n_classes": 0}, {"n_instances": 0}, {"n_batches": 0}])
def test_empty_batches_are_refused(kwargs: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"SOLVER\.IMS_PER_BATCH"):
        sampler(**kwargs)


def test_visible_clusters_that_share_a_match_are_drawn_with_it() -> None:
    v2r, r2v = np.arange(12) // 2, 2 * np.arange(6)  # each infrared cluster took the first of its two
    for visible, infrared in zip(*drawn_clusters(v2r, r2v), strict=True):
        assert (v2r[visible] == infrared).sum() == len(set(v2r[visible].tolist()))
