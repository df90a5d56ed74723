"""One search: against the literal transcriptions, on known answers, and on what cannot be scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import _literal_scoring as reference_scoring
from mgot.errors import UserError
from mgot.evaluation.one_search import RANKS, SearchScores, score_search

SLOW_START = settings(deadline=None)  # the first call compiles


class Case(NamedTuple):
    """A search; distances take few values, so that ties are the rule."""

    distances: np.ndarray
    query_ids: np.ndarray
    gallery_ids: np.ndarray
    query_cameras: np.ndarray
    gallery_cameras: np.ndarray


@st.composite
def searches(
    draw: st.DrawFn, query_cameras: tuple[int, ...] = (3, 6), gallery_cameras: tuple[int, ...] = (1, 2, 4, 5)
) -> Case:
    n_query, n_gallery = draw(st.integers(1, 12)), draw(st.integers(1, 40))
    n_ids, n_values = draw(st.integers(1, 12)), draw(st.sampled_from([1, 2, 3, 8, 10**6]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.float32, np.float64, np.int64]))
    return Case(
        rng.integers(-n_values, n_values, (n_query, n_gallery)).astype(dtype),
        rng.integers(0, n_ids, n_query),
        rng.integers(0, n_ids, n_gallery),
        rng.choice(query_cameras, n_query),
        rng.choice(gallery_cameras, n_gallery),
    )


def figures(scores: SearchScores) -> list[float]:
    return [*scores.rank, scores.mAP, scores.mINP]


@SLOW_START
@given(case=searches())
def test_sysu_equals_its_literal_transcription(case: Case) -> None:
    check(case, reference_scoring.sysu, "sysu-same-place", True)


@SLOW_START
@given(case=searches((1, 2, 4), (1, 2, 3)))
def test_llcm_equals_its_literal_transcription(case: Case) -> None:
    check(case, reference_scoring.llcm, "same-identity-and-camera", True)


@SLOW_START
@given(case=searches())
def test_regdb_equals_its_literal_transcription(case: Case) -> None:
    check(case, reference_scoring.regdb, "none", False)


def check(case: Case, reference: Callable[..., reference_scoring.Figures | None], drop: str, unique: bool) -> None:
    """Ours and the transcription agree on a case, to the last digit that a double mean has."""
    expected = reference(
        case.distances.tolist(),
        case.query_ids.tolist(),
        case.query_cameras.tolist(),
        case.gallery_ids.tolist(),
        case.gallery_cameras.tolist(),
    )
    if expected is None:
        with pytest.raises(UserError, match="no query has a true match"):
            score_search(*case, drop=drop, unique_identities=unique)
        return
    scores = score_search(*case, drop=drop, unique_identities=unique)
    assert scores.n_valid_queries == expected.n_valid
    np.testing.assert_allclose(figures(scores), expected.percent(RANKS), rtol=0, atol=1e-10)


@SLOW_START
@given(case=searches(), scale=st.sampled_from([0.25, 1.0, 512.0]))
def test_only_the_order_of_distances_matters(case: Case, scale: float) -> None:
    own = case.query_ids[0]
    case.gallery_ids[0] = own
    moved = case._replace(distances=case.distances * scale - 4)
    assert figures(score_search(*moved)) == figures(score_search(*case))


def test_a_hand_made_ranking() -> None:
    """Identity 7 stands at places 2 and 5 of 6; before its first place stands identity 8, twice."""
    distances = np.array([[0.1, 0.4, 0.2, 0.3, 0.9, 0.5]])
    gallery = np.array([8, 8, 8, 7, 9, 7])
    plain = score_search(distances, [7], gallery, unique_identities=False)
    once = score_search(distances, [7], gallery)
    # ranking: 8 8 7 8 7 9
    assert plain.rank.tolist() == [0, 100, 100, 100]
    assert plain.mAP == pytest.approx(100 * (1 / 3 + 2 / 5) / 2)
    assert plain.mINP == pytest.approx(100 * 2 / 5)
    assert (once.mAP, once.mINP) == (plain.mAP, plain.mINP)
    crowded = score_search(distances, [9], gallery, unique_identities=False)
    assert crowded.rank.tolist() == [0, 0, 100, 100]
    assert score_search(distances, [9], gallery).rank.tolist() == [0, 100, 100, 100]


def test_equal_distances_keep_the_gallerys_order() -> None:
    ids = np.array([1, 2, 3])
    for identity, place in ((1, 1), (2, 2), (3, 3)):
        assert score_search(np.zeros((1, 3)), [identity], ids).mAP == pytest.approx(100 / place)
    assert score_search(np.zeros((1, 3)), [1], ids[::-1]).mAP == pytest.approx(100 / 3)


def test_camera_3_never_sees_camera_2() -> None:
    """Camera 2's image of another person is nearest; only a query of camera 3 is spared it."""
    distances, gallery_ids, gallery_cameras = np.array([[0.1, 0.2]]), np.array([2, 1]), np.array([2, 1])
    for camera, rank1 in ((3, 100.0), (6, 0.0)):
        scores = score_search(distances, [1], gallery_ids, [camera], gallery_cameras, drop="sysu-same-place")
        assert scores.rank[0] == rank1


def test_queries_without_a_true_match_are_left_out_of_the_mean() -> None:
    distances = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    scores = score_search(distances, [1, 2, 5], [1, 2])
    assert scores.n_valid_queries == 2
    assert scores.rank[0] == 50.0


def test_a_gallery_of_one_image() -> None:
    scores = score_search(np.array([[0.3], [0.1]]), [4, 5], [4])
    assert figures(scores) == [100.0] * 6
    assert scores.n_valid_queries == 1


def test_many_threads_and_one_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    case = (rng.integers(0, 50, (300, 40)), rng.integers(0, 9, 300), rng.integers(0, 9, 40))
    whole = score_search(*case)
    monkeypatch.setattr("mgot.evaluation.one_search._CHUNK", 7 * 40)
    monkeypatch.setattr("mgot.compiled.threads", lambda: 3)
    assert figures(score_search(*case)) == figures(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distances": np.zeros((2, 4))}, r"distances have shape \(2, 4\)"),
        ({"distances": np.array([[0.0, np.nan, 1.0]] * 2)}, "NaN or infinity"),
        ({"distances": np.array([[0.0, np.inf, 1.0]] * 2)}, "NaN or infinity"),
        ({"query_ids": np.array([8, 9])}, "no query has a true match"),
        ({"drop": "market"}, "no rule 'market': choose from none, sysu-same-place"),
        ({"drop": "sysu-same-place"}, "needs the cameras"),
        ({"drop": "sysu-same-place", "query_cameras": np.array([3, 6])}, "needs the cameras"),
        ({"drop": "sysu-same-place", "gallery_cameras": np.array([1, 2, 4])}, "needs the cameras"),
        ({"gallery_cameras": np.array([1, 2])}, "must both be .N,."),
    ],
)
def test_what_cannot_be_scored(change: dict[str, object], message: str) -> None:
    case: dict[str, object] = {
        "distances": np.zeros((2, 3)),
        "query_ids": np.array([1, 2]),
        "gallery_ids": np.array([1, 2, 3]),
    }
    with pytest.raises(UserError, match=message):
        score_search(**{**case, **change})  # type: ignore[arg-type]


def test_empty_sides() -> None:
    with pytest.raises(UserError, match="no query has a true match"):
        score_search(np.zeros((0, 3)), [], [1, 2, 3])
    with pytest.raises(UserError, match="no query has a true match"):
        score_search(np.zeros((2, 0)), [1, 2], [])
