"""Average query expansion against plain loops and fast-reid's own, and the rows that it makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fastreid.config import get_cfg

from mgot.data.sets.sysu import sysu_protocols
from mgot.errors import UserError
from mgot.evaluation import (
    Expansion,
    Reranking,
    expanded_features,
    score_expanded,
    score_protocols,
)
from mgot.evaluation.expand import _ROWS
from tests.test_rerank import features

SETTINGS = [Expansion(), Expansion(1, 10, 3.0), Expansion(3, 4, 2.0), Expansion(2, 1, 0.0), Expansion(1, 6, 1.0)]


def reference(query: np.ndarray, gallery: np.ndarray, setting: Expansion) -> np.ndarray:
    """The definition image by image, in double precision."""
    rows = [np.asarray(row, dtype=np.float64) for row in (*query, *gallery)]
    for _ in range(setting.times):
        expanded = []
        for row in rows:
            cosines = [row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in rows]
            nearest = sorted(range(len(rows)), key=lambda j: -cosines[j])[: setting.k]
            expanded.append(sum(cosines[j] ** setting.alpha * rows[j] for j in nearest) / setting.k)
        rows = expanded
    return np.array(rows)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_plain_loops(seed: int, setting: Expansion) -> None:
    query, gallery = features(seed)
    found = np.concatenate(expanded_features(query, gallery, setting))
    np.testing.assert_allclose(found, reference(query, gallery, setting), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("setting", SETTINGS)
def test_equals_fast_reids(setting: Expansion) -> None:
    """Over more images than are gathered at a time, of lengths that differ."""
    from fastreid.evaluation.query_expansion import aqe

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((_ROWS + 90, 12)).astype(np.float32)
    query, gallery = rows[:70], rows[70:]
    theirs = aqe(torch.from_numpy(query), torch.from_numpy(gallery), *setting)
    ours = expanded_features(query, gallery, setting)
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-5)
    assert not np.allclose(ours[0], query) or setting == Expansion(2, 1, 0.0)


def test_a_small_gallery_is_averaged_whole_and_a_negative_cosine_has_no_fractional_power() -> None:
    query, gallery = np.array([[2.0, 0.0]]), np.array([[-1.0, 0.0], [0.0, 3.0]])
    found, _ = expanded_features(query, gallery, Expansion(1, 10, 3.0))
    np.testing.assert_allclose(found, [[(1 * 2 + (-1) * -1 + 0) / 3, 0.0]], atol=1e-6)
    found, _ = expanded_features(query, gallery, Expansion(1, 10, 2.5))
    np.testing.assert_allclose(found, [[2 / 3, 0.0]], atol=1e-6)


@pytest.mark.parametrize("setting", [Expansion(times=0), Expansion(k=0), Expansion(alpha=-1.0)])
def test_settings_out_of_range(setting: Expansion) -> None:
    with pytest.raises(UserError, match="query expansion needs times >= 1"):
        expanded_features(*features(0), setting)


def test_rows_are_those_of_each_trials_own_expansion() -> None:
    identities, cameras = np.repeat([1, 2, 3, 1, 2, 3], 4), np.repeat([3, 6, 3, 1, 2, 4], 4)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4, 8))[identities] + 0.9 * rng.standard_normal((24, 8))
    protocols = sysu_protocols(identities, cameras, shots=(1, 2), trials=3)
    plain = score_protocols(protocols, identities, cameras, features=rows)
    setting = Expansion(1, 3, 3.0)
    expanded = score_expanded(protocols, identities, cameras, rows, setting)
    assert [row["protocol"] for row in expanded] == [row["protocol"] + "+aqe" for row in plain]
    assert all(row["aqe"] == {"times": 1, "k": 3, "alpha": 3.0} for row in expanded)
    assert {*expanded[0]} == {*plain[0], "aqe"} and all("aqe" not in row for row in plain)
    for protocol, row in zip(protocols, expanded, strict=True):
        for (query, gallery), told in zip(protocol.trials, row["trials"], strict=True):
            part = np.concatenate((query, gallery))
            own = np.full_like(rows, 1.0)
            own[part] = reference(rows[query], rows[gallery], setting)
            one = type(protocol)(
                protocol.name, (protocol.trials[0]._replace(gallery=gallery),), "sysu-same-place", True, ""
            )
            again = score_protocols([one], identities, cameras, features=own)[0]["trials"][0]
            assert told == pytest.approx(again, abs=1e-6)
    both = score_expanded(protocols, identities, cameras, rows, setting, rerank=Reranking(4, 2, 0.3))
    assert [row["protocol"] for row in both] == [row["protocol"] + "+aqe+rerank" for row in plain]
    assert both[0]["aqe"] == expanded[0]["aqe"] and both[0]["rerank"] == {"k1": 4, "k2": 2, "weight": 0.3}


def test_the_defaults_are_fast_reids() -> None:
    aqe, rerank = get_cfg().TEST.AQE, get_cfg().TEST.RERANK
    assert Expansion() == (aqe.QE_TIME, aqe.QE_K, aqe.ALPHA)
    assert Reranking() == (rerank.K1, rerank.K2, rerank.LAMBDA)
