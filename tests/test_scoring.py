"""Whole protocols: against the transcriptions, on features with a known answer, and on the real sets' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from benchmarks import _literal_scoring as reference_scoring
from mgot.data.sets.llcm import llcm_protocols
from mgot.data.sets.regdb import regdb_protocols
from mgot.data.sets.sysu import sysu_protocols
from mgot.data.synthetic.life_size import published_counts
from mgot.errors import UserError
from mgot.evaluation import (
    DROP_RULES,
    FIGURES,
    RANKS,
    OfficialDraws,
    Protocol,
    Trial,
    read_official_draws,
    score_protocol,
    score_protocols,
)
from tests.trees import random_draws, save_draws

OFFICIAL = Path(__file__).resolve().parents[2] / "shared" / "sysu-mm01"
OFFICIAL_DRAWS = pytest.param(
    "official",
    marks=pytest.mark.skipif(
        not (OFFICIAL / "rand_perm_cam.mat").is_file(), reason=f"SYSU-MM01's official draws are not at {OFFICIAL}"
    ),
)
GALLERY = {"sysu-all-single": 301, "sysu-all-multi": 3010, "sysu-indoor-single": 112, "sysu-indoor-multi": 1120}
VALID = {"all": 3803, "indoor": 2208}


def small_pool(seed: int, n_query: int = 30, n_gallery: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Identities, cameras and (N, 3) features of few values, so that many cosines are equal."""
    rng = np.random.default_rng(seed)
    identities = rng.integers(1, 8, n_query + n_gallery)
    cameras = np.concatenate((rng.choice([3, 6], n_query), rng.choice([1, 2, 4, 5], n_gallery)))
    order = np.concatenate((np.zeros(n_query), np.ones(n_gallery)))
    kept = np.lexsort((identities, cameras, order))
    return identities[kept], cameras[kept], rng.integers(1, 3, (n_query + n_gallery, 3)).astype(np.float32)


def expected_row(
    protocol: Protocol, distances: np.ndarray, identities: np.ndarray, cameras: np.ndarray, reference: Any
) -> np.ndarray:
    """(T, 6) figures of each trial by a transcription."""
    rows = []
    for query, gallery in protocol.trials:
        labels = (identities[query], cameras[query], identities[gallery], cameras[gallery])
        figures = reference(distances[np.ix_(query, gallery)].tolist(), *(part.tolist() for part in labels))
        rows.append(figures.percent(RANKS))
    return np.array(rows)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_rows_are_means_and_deviations_over_trials(seed: int) -> None:
    identities, cameras, features = small_pool(seed)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distances = -(unit @ unit.T)
    cases = [
        *((protocol, reference_scoring.sysu) for protocol in sysu_protocols(identities, cameras, shots=(1, 2))),
        *((protocol, reference_scoring.llcm) for protocol in llcm_protocols(identities, cameras, 30)),
        *((protocol, reference_scoring.regdb) for protocol in regdb_protocols(30, 50, split=1)),
    ]
    rows = score_protocols([protocol for protocol, _ in cases], identities, cameras, distances=distances[:30, 30:])
    for row, (protocol, reference) in zip(rows, cases, strict=True):
        expected = expected_row(protocol, distances, identities, cameras, reference)
        assert row["protocol"] == protocol.name
        assert row["n_trials"] == len(protocol.trials) == len(row["trials"])
        for figure, column in zip(FIGURES, expected.T, strict=True):
            assert row[figure] == pytest.approx(column.mean(), abs=1e-9)
            assert row[f"{figure}_std"] == pytest.approx(column.std(), abs=1e-9)
            assert [trial[figure] for trial in row["trials"]] == pytest.approx(column.tolist(), abs=1e-9)


def test_features_and_their_distances_score_alike() -> None:
    """Whatever the features' length, and whether they are an array or a tensor."""
    identities, cameras, _ = small_pool(0)
    features = np.random.default_rng(1).standard_normal((80, 16)).astype(np.float32)
    protocols = [*sysu_protocols(identities, cameras), *regdb_protocols(30, 50, split=1)]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    given_distances = score_protocols(protocols, identities, cameras, distances=-(unit[:30] @ unit[30:].T))
    longer = torch.from_numpy(features * np.linspace(0.5, 9, 80)[:, None]).requires_grad_()
    assert score_protocols(protocols, identities, cameras, features=longer) == given_distances


def test_rows_are_plain_json() -> None:
    identities, cameras, features = small_pool(3)
    row = score_protocol(sysu_protocols(identities, cameras)[0], identities, cameras, features=features)
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones((79, 3))}, r"features \(79, 3\) must be an \(N, D\) matrix for a pool of N = 80"),
        ({"features": np.full((80, 3), np.nan)}, "features hold NaN or infinity"),
        ({"features": None}, "give either features or distances"),
        ({"distances": np.ones((30, 50))}, "give either features or distances"),
        ({"features": None, "distances": np.ones((30, 51))}, r"distances \(30, 51\) must be \(N_1, N - N_1\)"),
        ({"features": None, "distances": np.ones((31, 49))}, "do not hold a search within one part of the pool"),
        ({"cameras": np.ones(3)}, r"must both be \(N,\)"),
        ({"identities": np.arange(80)}, "sysu-all-single: no query has a true match"),
    ],
)
def test_what_cannot_be_scored(change: dict[str, Any], message: str) -> None:
    identities, cameras, features = small_pool(0)
    protocol = sysu_protocols(identities, cameras)[0]
    call: dict[str, Any] = {"identities": identities, "cameras": cameras, "features": features}
    with pytest.raises(UserError, match=message):
        score_protocol(protocol, **{**call, **change})


def test_trials_must_share_their_queries() -> None:
    trials = (Trial(np.array([0]), np.array([1, 2])), Trial(np.array([1]), np.array([2, 3])))
    protocol = Protocol("odd", trials, "none", True, "seeded")
    with pytest.raises(UserError, match="odd: its trials must share their queries"):
        score_protocol(protocol, np.ones(4), np.ones(4), features=np.eye(4))


class Pool(NamedTuple):
    identities: np.ndarray
    cameras: np.ndarray
    official: OfficialDraws


@pytest.fixture(scope="module", params=[OFFICIAL_DRAWS, "as many"])
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """SYSU-MM01's test pool by the official draws, and one of as many images with draws of our own."""
    if request.param == "official":
        path = OFFICIAL / "rand_perm_cam.mat"
        test = sorted(loadmat(str(OFFICIAL / "test_id.mat"))["id"].ravel().tolist())
    else:
        counts = {(camera, person): n for (camera, person), n in published_counts().items() if person > 395}
        path, test = tmp_path_factory.mktemp("draws") / "rand_perm_cam.mat", list(range(396, 492))
        save_draws(path, random_draws(counts))
    official = read_official_draws(path)
    draws = official.permutations
    table = [
        (identity, camera)
        for cameras in ((3, 6), (1, 2, 4, 5))
        for camera in cameras
        for identity in test
        for _ in range(draws[camera, identity].shape[1] if (camera, identity) in draws else 0)
    ]
    identities, cameras = np.array(table).T
    return Pool(identities, cameras, official)


def test_random_features_give_what_chance_predicts(pool: Pool) -> None:
    """Rank-1 of random features is the share of a query's own images among those that it sees."""
    identities, cameras, official = pool
    protocols = sysu_protocols(identities, cameras, official=official)
    features = np.random.default_rng(0).standard_normal((len(identities), 64)).astype(np.float32)
    for row, protocol in zip(
        score_protocols(protocols, identities, cameras, features=features), protocols, strict=True
    ):
        mode = row["protocol"].split("-")[1]
        assert (row["n_queries"], row["n_valid_queries"]) == (3803, VALID[mode])
        assert row["n_gallery"] == GALLERY[row["protocol"]]
        query, gallery = protocol.trials[0]
        own = identities[query, None] == identities[gallery]
        seen = ~DROP_RULES[protocol.drop](
            identities[query, None], cameras[query, None], identities[gallery], cameras[gallery]
        )
        share = ((own & seen).sum(1) / seen.sum(1))[(own & seen).any(1)]
        deviation = 100 * np.sqrt((share * (1 - share)).mean() / VALID[mode])
        assert abs(row["rank1"] - 100 * share.mean()) < 4 * deviation


def test_perfect_features_give_100(pool: Pool) -> None:
    identities, cameras, official = pool
    protocols = sysu_protocols(identities, cameras, official=official)
    features = np.eye(int(identities.max()) + 1, dtype=np.float32)[identities]
    for row in score_protocols(protocols, identities, cameras, features=features):
        assert [row[figure] for figure in FIGURES] == pytest.approx([100.0] * 6)
        assert [row[f"{figure}_std"] for figure in FIGURES] == pytest.approx([0.0] * 6)


def test_dividing_by_all_queries_would_be_seen() -> None:
    """Half of the queries have no image in the gallery: Rank-1 over the valid half, not half of it."""
    identities = np.array([1, 2, 3, 4, 1, 2])
    cameras = np.array([6, 6, 6, 6, 1, 1])
    trial = Trial(np.arange(4), np.array([4, 5]))
    protocol = Protocol("half", (trial,), "sysu-same-place", True, "seeded")
    row = score_protocol(protocol, identities, cameras, features=np.eye(5)[identities])
    assert (row["n_queries"], row["n_valid_queries"], row["rank1"]) == (4, 2, 100.0)


def test_llcm_hides_a_persons_images_of_the_querys_own_camera() -> None:
    """Nearest is the query's own person and camera, then another person; only the third image is a true match."""
    identities, cameras = np.array([1, 1, 2, 1]), np.array([1, 1, 1, 2])
    _, to_visible = llcm_protocols(identities, cameras, 1, trials=1)
    row = score_protocol(to_visible, identities, cameras, distances=np.array([[0.1, 0.2, 0.3]]))
    assert (row["rank1"], row["rank5"], row["mAP"]) == (0.0, 100.0, 50.0)


@pytest.mark.parametrize("n_first", [29, 31])
def test_distances_that_are_split_elsewhere_are_refused_in_both_directions(n_first: int) -> None:
    identities, cameras, _ = small_pool(0)
    for protocol in regdb_protocols(30, 50, split=1):
        with pytest.raises(UserError, match="do not hold a search within one part of the pool"):
            score_protocol(protocol, identities, cameras, distances=np.ones((n_first, 80 - n_first)))
