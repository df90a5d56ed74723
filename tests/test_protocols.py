"""Which images are searched: SYSU-MM01's and LLCM's draws against their literal transcriptions, RegDB's directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from benchmarks import _literal_scoring as reference_scoring
from mgot.data.sets.llcm import llcm_protocols
from mgot.data.sets.regdb import regdb_protocols
from mgot.data.sets.sysu import sysu_protocols
from mgot.errors import UserError
from mgot.evaluation import protocols
from mgot.evaluation.draws import read_official_draws
from mgot.evaluation.protocols import Trial, valid_queries
from tests.trees import Counts, random_draws, save_draws

GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}


def pool_of(counts: Counts) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """Identities and cameras of a SYSU-MM01 pool, and what each entry is: (camera, identity, 1-based number)."""
    entries = [
        (camera, identity, number)
        for cameras in ((3, 6), (1, 2, 4, 5))
        for camera in cameras
        for identity in sorted({identity for _, identity in counts})
        for number in range(1, counts.get((camera, identity), 0) + 1)
    ]
    table = np.array(entries).reshape(-1, 3)
    return table[:, 1], table[:, 0], entries


counts_of_copies = st.dictionaries(
    st.tuples(st.integers(1, 6), st.integers(1, 9)), st.integers(1, 12), min_size=1, max_size=30
)


@settings(deadline=None, max_examples=30)
@given(counts=counts_of_copies, seed=st.integers(0, 99), shots=st.sampled_from([1, 3, 10]))
def test_official_galleries_equal_the_transcription(
    tmp_path_factory: pytest.TempPathFactory, counts: Counts, seed: int, shots: int
) -> None:
    path = tmp_path_factory.mktemp("draws") / "rand_perm_cam.mat"
    draws = random_draws(counts, seed)
    save_draws(path, draws)
    identities, cameras, entries = pool_of(counts)
    protocols = sysu_protocols(identities, cameras, shots=(shots,), official=read_official_draws(path))
    for protocol, gallery_cameras in zip(protocols, GALLERY_CAMERAS.values(), strict=True):
        assert protocol.draws == "official"
        for run_time, trial in enumerate(protocol.trials, start=1):
            expected = reference_scoring.official_gallery(
                draws, sorted({identity for _, identity in counts}), gallery_cameras, run_time, shots
            )
            assert [entries[i] for i in trial.gallery] == expected
            assert [entries[i] for i in trial.query] == [entry for entry in entries if entry[0] in (3, 6)]


@settings(deadline=None)
@given(counts=counts_of_copies)
def test_seeded_galleries_draw_what_the_released_codes_draw(counts: Counts) -> None:
    identities, cameras, entries = pool_of(counts)
    files = {
        key: [f"cam{key[0]}/{key[1]:04d}/{n:04d}.jpg" for n in range(1, number + 1)] for key, number in counts.items()
    }
    for protocol, gallery_cameras in zip(
        sysu_protocols(identities, cameras, shots=(1,)), GALLERY_CAMERAS.values(), strict=True
    ):
        assert (protocol.draws, len(protocol.trials)) == ("seeded", 10)
        for t, trial in enumerate(protocol.trials):
            drawn = [entries[i] for i in trial.gallery]
            names = {f"cam{camera}/{identity:04d}/{number:04d}.jpg" for camera, identity, number in drawn}
            assert names == reference_scoring.seeded_gallery(files, gallery_cameras, t)
            assert drawn == sorted(drawn)  # camera, then identity: the order that decides between ties


def test_seeded_multi_shot_draws_each_image_once() -> None:
    identities, cameras, entries = pool_of({(1, 1): 15, (2, 1): 4, (3, 1): 2})
    trial = sysu_protocols(identities, cameras, modes=("indoor",), shots=(10,))[0].trials[0]
    drawn = [entries[i] for i in trial.gallery]
    assert [camera for camera, _, _ in drawn] == [1] * 10 + [2] * 4
    assert len(set(drawn)) == 14


def test_names_follow_mode_and_shots() -> None:
    identities, cameras, _ = pool_of({(1, 1): 2, (3, 1): 2})
    names = [protocol.name for protocol in sysu_protocols(identities, cameras, shots=(1, 10, 5))]
    assert names == [f"sysu-{mode}-{shots}" for mode in ("all", "indoor") for shots in ("single", "multi", "5-shot")]


def test_regdb_searches_all_of_the_other_modality() -> None:
    forward, backward = regdb_protocols(3, 2, split=4)
    assert (forward.name, backward.name) == ("regdb-visible-to-thermal", "regdb-thermal-to-visible")
    assert forward.draws == "split 4"
    assert not forward.unique_identities
    assert [list(part) for part in forward.trials[0]] == [[3, 4], [0, 1, 2]]
    assert [list(part) for part in backward.trials[0]] == [[0, 1, 2], [3, 4]]


@settings(deadline=None)
@given(counts=counts_of_copies, split=st.integers(0, 6))
def test_llcm_draws_what_the_released_code_draws(counts: Counts, split: int) -> None:
    """Cameras up to ``split`` stand for the infrared part."""
    ordered = sorted(counts)
    infrared = [key for key in ordered if key[0] <= split]
    entries = [(*key, n) for key in infrared + ordered[len(infrared) :] for n in range(counts[key])]
    cameras, identities = np.array([entry[0] for entry in entries]), np.array([entry[1] for entry in entries])
    n_infrared = sum(counts[key] for key in infrared)
    for protocol, target in zip(
        llcm_protocols(identities, cameras, n_infrared, trials=3), (infrared, ordered[len(infrared) :]), strict=True
    ):
        files = {key: [f"{key}{n:04d}" for n in range(counts[key])] for key in target}
        for t, trial in enumerate(protocol.trials):
            names = {f"{entries[i][:2]}{entries[i][2]:04d}" for i in trial.gallery}
            assert names == reference_scoring.seeded_gallery(files, range(1, 7), t)
            assert {entries[i][:2] for i in trial.query} == set(counts) - set(target)


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_valid_queries_see_an_image_of_theirs(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "_BLOCK", block)
    identities, cameras = np.array([1, 1, 2, 9, 1, 2]), np.array([3, 6, 3, 6, 2, 1])
    trial = Trial(np.arange(4), np.array([4, 5]))
    assert valid_queries(trial, "sysu-same-place", identities, cameras).tolist() == [False, True, True, False]
    assert valid_queries(trial, "none", identities, cameras).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": ("outdoor",)}, "no mode 'outdoor': choose from all, indoor"),
        ({"shots": (0,)}, "shots must be at least 1, not 0"),
        ({"shots": ()}, "shots must be at least 1, not 0"),
        ({"trials": 0}, "trials must be at least 1, not 0"),
    ],
)
def test_options_out_of_range(options: dict[str, tuple[str, ...]], message: str) -> None:
    identities, cameras, _ = pool_of({(1, 1): 2, (3, 1): 2})
    with pytest.raises(UserError, match=message):
        sysu_protocols(identities, cameras, **options)  # type: ignore[arg-type]


def test_unknown_direction() -> None:
    with pytest.raises(UserError, match="no direction 'sideways': choose from visible-to-infrared"):
        regdb_protocols(1, 1, split=1, directions=("sideways",))


def test_draws_of_another_copy(tmp_path: Path) -> None:
    save_draws(tmp_path / "perm.mat", {(1, 1): [[2, 1]], (1, 2): [[1]]})
    draws = read_official_draws(tmp_path / "perm.mat")
    for counts, message in (
        ({(1, 1): 3, (1, 2): 1}, "draws from 2 images of camera 1, identity 1, and the folder holds 3"),
        ({(1, 1): 2, (2, 1): 1}, "draws from 0 images of camera 2, identity 1, and the folder holds 1"),
    ):
        identities, cameras, _ = pool_of(counts)
        with pytest.raises(UserError, match=message):
            sysu_protocols(identities, cameras, official=draws, trials=1)
    identities, cameras, _ = pool_of({(1, 1): 2})
    with pytest.raises(UserError, match="holds 1 trials, not 2: ask for fewer"):
        sysu_protocols(identities, cameras, official=draws, trials=2)


def _cells(*shape: int) -> np.ndarray:
    return np.empty(shape, dtype=object)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": np.zeros(3)}, "not a MATLAB 5 file with rand_perm_cam"),
        ({"rand_perm_cam": np.zeros((6, 10))}, "is not a column of cells"),
        ({"rand_perm_cam": np.array([[np.zeros((3, 3))], [1]], dtype=object)}, "is not a column of cells"),
        ({"rand_perm_cam": np.array([[1, 2], [3, 4]], dtype=object)}, "is not a column of cells"),
    ],
)
def test_a_mat_file_of_another_shape(tmp_path: Path, content: dict[str, np.ndarray], message: str) -> None:
    savemat(tmp_path / "perm.mat", content)
    with pytest.raises(UserError, match=message):
        read_official_draws(tmp_path / "perm.mat")


def test_a_mat_file_whose_row_is_no_permutation(tmp_path: Path) -> None:
    save_draws(tmp_path / "perm.mat", {(1, 1): [[1, 2, 2]], (2, 1): [[1]]})
    with pytest.raises(UserError, match=r"camera 1, identity 1: a trial's row is not a permutation of 1\.\.3"):
        read_official_draws(tmp_path / "perm.mat")


@pytest.mark.parametrize("content", [b"", b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + b" " * 200, b"<html>404</html>"])
def test_a_mat_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "perm.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"perm\.mat is not a MATLAB 5 file"):
        read_official_draws(tmp_path / "perm.mat")


def test_a_mat_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"perm\.mat is missing: take it from evaluation/data_split"):
        read_official_draws(tmp_path / "perm.mat")
