"""What a matcher sees: joined similarities, the share of mutual neighbours, and the choice by it."""

from __future__ import annotations

import numpy as np
import pytest

from mgot.matching import MATCHERS, Members, Prototypes
from mgot.matching.views import COMPARED, VIEWS, joined, mutual_share, seen


def rows(n: int, d: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def noisy(base: np.ndarray, noise: float, seed: int) -> np.ndarray:
    n, d = base.shape
    x = base + noise * rows(n, d, seed)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_the_similarity_of_joined_prototypes_is_the_mean_of_two() -> None:
    a, b = Prototypes(rows(5, 8, 0), rows(4, 8, 1)), Prototypes(rows(5, 8, 2), rows(4, 8, 3))
    both = joined(a, b)
    np.testing.assert_allclose(both.similarity, (a.similarity + b.similarity) / 2, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(both.visible, axis=1), 1, atol=1e-6)
    assert both.members is None


def test_members_are_joined_with_their_prototypes() -> None:
    y_v, y_r = np.arange(5), np.arange(4)
    a = Prototypes(rows(5, 8, 0), rows(4, 8, 1), Members(rows(5, 8, 0), rows(4, 8, 1), y_v, y_r))
    b = Prototypes(rows(5, 8, 2), rows(4, 8, 3), Members(rows(5, 8, 2), rows(4, 8, 3), y_v, y_r))
    both = joined(a, b)
    assert both.members is not None and both.members.y_v is y_v
    np.testing.assert_allclose(both.members.f_v @ both.infrared.T, both.similarity, atol=1e-6)
    np.testing.assert_allclose(both.visible @ both.members.f_r.T, both.similarity, atol=1e-6)
    matching = MATCHERS["vote"]()(seen("both", a, b)[0])
    assert matching.scores.shape == (5, 4)


def test_the_share_of_mutual_neighbours_is_that_of_a_plain_loop() -> None:
    prototypes = Prototypes(rows(9, 6, 0), rows(7, 6, 1))
    s = prototypes.similarity
    mutual = 0
    for i in range(9):
        j = max(range(7), key=lambda column: s[i, column])
        mutual += max(range(9), key=lambda row: s[row, j]) == i
    assert mutual_share(prototypes) == mutual / 9
    assert mutual_share(Prototypes(rows(9, 6, 0), rows(9, 6, 0))) == 1.0


@pytest.mark.parametrize("n_v, n_r", [(0, 3), (3, 0), (0, 0)])
def test_a_modality_without_clusters_has_no_mutual_neighbours(n_v: int, n_r: int) -> None:
    empty = Prototypes(rows(3, 4, 0)[:n_v], rows(3, 4, 1)[:n_r])
    assert mutual_share(empty) == 0.0
    prototypes, _ = seen("auto", empty, empty)
    assert prototypes.similarity.shape == (n_v, n_r)


@pytest.mark.parametrize("blind, taken", [("colour", "spectral"), ("spectral", "both")])
def test_auto_leaves_colour_out_if_it_is_blind_and_never_takes_it_by_itself(blind: str, taken: str) -> None:
    infrared = rows(60, 32, 0)
    views = {
        "colour": Prototypes(noisy(infrared, 0.5, 1), infrared),
        "spectral": Prototypes(noisy(infrared, 0.5, 2), infrared),
    }
    views[blind] = Prototypes(rows(60, 32, 3), infrared)
    prototypes, shares = seen("auto", views["colour"], views["spectral"])
    assert set(shares) == set(COMPARED) and shares[taken] == max(shares.values()) > min(shares.values())
    assert np.array_equal(prototypes.similarity, seen(taken, views["colour"], views["spectral"])[0].similarity)


def test_two_views_that_err_apart_are_joined() -> None:
    infrared = rows(80, 24, 0)
    colour, spectral = (Prototypes(noisy(infrared, 2.0, seed), infrared) for seed in (1, 2))
    prototypes, shares = seen("auto", colour, spectral)
    assert shares["both"] > max(mutual_share(colour), mutual_share(spectral))
    assert prototypes.visible.shape == (80, 48)


def test_each_view_by_name_and_a_tie_goes_to_both() -> None:
    a, b = Prototypes(rows(5, 8, 0), rows(4, 8, 1)), Prototypes(rows(5, 8, 2), rows(4, 8, 3))
    assert seen("colour", a, b) == (a, {}) and seen("spectral", a, b) == (b, {})
    assert seen("both", a, b)[0].visible.shape == (5, 16)
    same = Prototypes(rows(5, 8, 0), rows(5, 8, 0))
    assert seen("auto", same, same)[0].visible.shape == (5, 16)
    assert {*COMPARED, "colour", "auto"} == set(VIEWS)
