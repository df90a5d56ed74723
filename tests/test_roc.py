"""ROC curves against plain counts and fast-reid's own evaluation, and the rows and pictures that tell of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from mgot.analysis.pictures.roc import draw_roc
from mgot.data.sets.llcm import llcm_protocols
from mgot.data.sets.sysu import sysu_protocols
from mgot.errors import UserError
from mgot.evaluation import Curve, roc_curve, roc_figures, score_protocol
from mgot.evaluation.results import format_rows
from mgot.evaluation.roc import RATES, ROC_FIGURES, thinned
from mgot.evaluation.trials import mean_rows


def search(seed: int, n_query: int = 40, n_gallery: int = 60, people: int = 6) -> tuple[np.ndarray, Any]:
    """Distances of few values, so that many are equal; identities and cameras of both sides."""
    rng = np.random.default_rng(seed)
    labels = [rng.integers(0, people, n) for n in (n_query, n_gallery)] + [
        rng.integers(1, 4, n) for n in (n_query, n_gallery)
    ]
    near = labels[0][:, None] == labels[1]
    return np.round(rng.random((n_query, n_gallery)) - 0.3 * near, 1), labels


def counted(distances: np.ndarray, labels: Any, drop: str) -> dict[float, tuple[float, float]]:
    """Each distance as a threshold -> the shares of pairs of one person and of two at it or beyond."""
    same: list[float] = []
    different: list[float] = []
    for q, (person, camera) in enumerate(zip(labels[0], labels[2], strict=True)):
        for g, (other, place) in enumerate(zip(labels[1], labels[3], strict=True)):
            if drop == "same-identity-and-camera" and person == other and camera == place:
                continue
            (same if person == other else different).append(distances[q, g])
    return {
        t: (float(np.mean([d >= t for d in same])), float(np.mean([d >= t for d in different])))
        for t in {*same, *different}
    }


@pytest.mark.parametrize("drop", ["none", "same-identity-and-camera"])
@pytest.mark.parametrize("seed", range(3))
def test_points_are_shares_of_pairs(seed: int, drop: str) -> None:
    distances, labels = search(seed)
    curve = roc_curve(distances, *labels, drop=drop)
    points = set(counted(distances, labels, drop).values())
    found = list(zip(curve.fpr.tolist(), curve.tpr.tolist(), strict=True))
    assert found[0] == (0.0, 0.0) and found[-1] == (1.0, 1.0) and len(found) > 4
    for x, y in found[1:]:
        assert min(abs(x - a) + abs(y - b) for a, b in points) < 1e-12
    for a, b in points:  # a point that was left out lies on the line between those that stayed
        assert np.interp(a, curve.fpr, curve.tpr) >= b - 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_fast_reids(seed: int) -> None:
    """Its own rule drops pairs of one person in one camera, as LLCM's does; pairs enough for a rate of 1e-4."""
    from fastreid.evaluation.roc import evaluate_roc

    distances, labels = search(seed, 300, 400, people=8)
    distances = distances + np.random.default_rng(seed).random(distances.shape) / 10
    fprs, tprs, _ = metrics.roc_curve(*evaluate_roc(distances, *labels, use_cython=False)[::-1])
    expected = {f"TPR@FPR={rate:.0e}": 100 * tprs[np.argmin(np.abs(fprs - rate))] for rate in (1e-4, 1e-3, 1e-2)}
    found = roc_figures(roc_curve(distances, *labels, drop="same-identity-and-camera"))
    assert found == pytest.approx(expected, abs=1e-9) and list(found) == list(ROC_FIGURES)
    assert 0 < found["TPR@FPR=1e-04"] < found["TPR@FPR=1e-02"] < 100


def test_where_no_pair_of_one_person_may_be_torn_apart_the_best_such_rate_counts() -> None:
    curve = Curve(np.array([0.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.4, 0.8, 1.0]))
    assert set(roc_figures(curve).values()) == {40.0}


def test_a_curve_needs_both_kinds_of_pairs() -> None:
    ones = np.ones(2, dtype=int)
    for gallery in (ones, 2 * ones):
        with pytest.raises(UserError, match=r"TEST\.ROC: a curve needs pairs of one person and pairs of two"):
            roc_curve(np.ones((2, 2)), ones, gallery, ones, ones)


def pool(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    identities = np.tile(np.arange(1, 9), 10)
    cameras = np.concatenate((np.repeat([3, 6], 20), np.repeat([1, 2], 20)))
    return identities, cameras, rng.standard_normal((9, 5))[identities] + rng.standard_normal((80, 5))


def test_rows_tell_means_over_trials_and_the_table_shows_them() -> None:
    identities, cameras, features = pool()
    for protocol in (sysu_protocols(identities, cameras, shots=(1,))[0], llcm_protocols(identities, cameras, 40)[1]):
        plain = score_protocol(protocol, identities, cameras, features=features)
        row = score_protocol(protocol, identities, cameras, features=features, roc=True)
        assert {name: row[name] for name in plain if name != "trials"} == {
            k: v for k, v in plain.items() if k != "trials"
        }
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        given = score_protocol(protocol, identities, cameras, distances=-(unit[:40] @ unit[40:].T), roc=True)
        assert {name: given[name] for name in ROC_FIGURES} == pytest.approx(
            {name: row[name] for name in ROC_FIGURES}, abs=1.0
        )
        for (query, gallery), told in zip(protocol.trials, row["trials"], strict=True):
            labels = identities[query], identities[gallery], cameras[query], cameras[gallery]
            cosines = unit.astype(np.float32)[query] @ unit.astype(np.float32)[gallery].T
            expected = roc_figures(roc_curve(-cosines, *labels, drop=protocol.drop))
            assert {name: told[name] for name in ROC_FIGURES} == pytest.approx(expected, abs=1.0)
        for name in ROC_FIGURES:
            values = [trial[name] for trial in row["trials"]]
            assert (row[name], row[f"{name}_std"]) == pytest.approx((np.mean(values), np.std(values)))
        assert "TPR@FPR=1e-03" in format_rows([row]) and "TPR" not in format_rows([plain])
        assert mean_rows([[row], [row]])[0]["TPR@FPR=1e-02"] == pytest.approx(row["TPR@FPR=1e-02"])
        assert "TPR@FPR=1e-02" not in mean_rows([[plain]])[0]


def test_a_thinned_curve_keeps_its_ends_and_lies_on_the_whole_one() -> None:
    distances, labels = search(0, 300, 400)
    distances = distances + np.random.default_rng(0).random(distances.shape)
    whole = roc_curve(distances, *labels)
    few = thinned(whole, 50)
    assert len(few.fpr) <= 50 < len(whole.fpr)
    assert (few.fpr[0], few.tpr[0], few.fpr[-1], few.tpr[-1]) == (0, 0, 1, 1)
    points = set(zip(whole.fpr.tolist(), whole.tpr.tolist(), strict=True))
    assert set(zip(few.fpr.tolist(), few.tpr.tolist(), strict=True)) <= points
    assert min(few.fpr[few.fpr > 0]) <= 2 * min(whole.fpr[whole.fpr > 0])
    for rate in RATES[1:]:
        assert np.interp(rate, few.fpr, few.tpr) == pytest.approx(np.interp(rate, whole.fpr, whole.tpr), abs=0.05)


def test_a_picture_has_a_curve_for_each_stage_that_told_one() -> None:
    told = {"protocol": "toy", "roc": {"fpr": [0.0, 0.01, 1.0], "tpr": [0.0, 0.4, 1.0]}}
    figure = draw_roc({"initial": {"protocol": "toy"}, "intra": told, "final": told})
    assert figure is not None
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["intra", "final", "chance"]
    assert axes.lines[0].get_xydata().tolist() == [[0.0, 0.0], [0.01, 0.4], [1.0, 1.0]]  # type: ignore[union-attr]
    assert draw_roc({"initial": {"protocol": "toy"}}) is None and draw_roc({}) is None
