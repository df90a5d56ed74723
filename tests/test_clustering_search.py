"""Neighbour search: every exact backend gives the neighbours of a plain sort, whatever the features."""

from __future__ import annotations

import builtins
import importlib.metadata
import logging
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch

import tests.reference_clustering as reference
from mgot import compiled
from mgot.errors import UserError
from mgot.neighbours import external, symmetric
from mgot.neighbours.exact import rounding_error, search_rows
from mgot.neighbours.external import by_faiss, on_device
from mgot.neighbours.features import Features, check_features
from mgot.neighbours.ranking import EMPTY, Candidates, vouch
from mgot.neighbours.search import SEARCHES, nearest, recall
from mgot.retrieval.index import load_index

K = 12
EXACT: dict[str, Callable[[Features, int], Candidates]] = {
    "float32": lambda features, k: symmetric.candidates(features, k, torch.float32),
    "bfloat16": lambda features, k: symmetric.candidates(features, k, torch.bfloat16),
    "torch": lambda features, k: on_device(features, k, "cpu"),
    "faiss": by_faiss,
}


def cone(n: int, width: float) -> np.ndarray:
    """Features in a narrow cone, as an untrained network gives them."""
    return (1 + width * reference.blobs(n)).astype(np.float32)


SETS = {
    "easy": reference.blobs(300, noise=0.8),
    "hard": reference.blobs(300, noise=3.0),
    "wide": reference.blobs(300, dimension=3),
    "cone": cone(300, 1e-2),
    "needle": cone(300, 1e-4),
    "copies": reference.blobs(20)[np.random.default_rng(0).integers(20, size=500)],
    "all equal": np.full((400, 7), 0.3, np.float32),
    "far one": np.concatenate([cone(299, 1e-2), -100 * np.ones((1, 24), np.float32)]),
    "two": reference.blobs(2),
    "few": reference.blobs(K),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("backend", EXACT)
def test_neighbours_are_those_of_a_plain_sort(backend: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetric, "TILE", 64)
    monkeypatch.setattr(symmetric, "CAPACITY", 64)
    monkeypatch.setitem(SEARCHES, "tried", EXACT[backend])
    features, k = SETS[name], min(K, len(SETS[name]))
    found = nearest(check_features(features), k, "tried")
    expected = reference.nearest(features, k)
    np.testing.assert_array_equal(found.ids, expected)
    cosines = np.take_along_axis(reference.cosines(features), expected, axis=1)
    np.testing.assert_array_equal(found.similarity[:, 1:], cosines[:, 1:])
    assert (found.similarity[:, 0] == 1).all()


@pytest.mark.parametrize("name", SETS)
def test_exhaustive_search_is_a_plain_sort(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgot.neighbours.exact.SCORES_AT_ONCE", 5000)
    monkeypatch.setattr("mgot.neighbours.exact.GALLERY_AT_ONCE", 90)
    features, k = SETS[name], min(K, len(SETS[name]))
    chosen = np.arange(len(features))[::-2].copy()
    found = search_rows(check_features(features), None, chosen, k)
    np.testing.assert_array_equal(found.ids, reference.nearest(features, k)[chosen])


@pytest.mark.parametrize("name", ["easy", "hard", "cone", "far one"])
@pytest.mark.parametrize("backend", EXACT)
def test_rough_similarities_keep_within_their_error(backend: str, name: str) -> None:
    features = SETS[name]
    found = EXACT[backend](check_features(features), K)
    exact = reference.cosines(features).astype(np.float64)
    for i in np.flatnonzero(found.held > 0):
        held = slice(found.held[i])
        gaps = np.abs(found.rough[i, held] - exact[i, found.ids[i, held]])
        assert gaps.max() <= found.error[i]
    assert found.error.max() < 0.1


def test_low_precision_keeps_few_candidates_and_gives_up_on_copies() -> None:
    few = symmetric.candidates(check_features(reference.blobs(900, 64, noise=2.0)), 29, torch.bfloat16)
    assert few.held.min() >= 29
    assert few.held.mean() < 100
    many = symmetric.candidates(check_features(SETS["all equal"]), 29, torch.bfloat16)
    assert (many.held == EMPTY).all()


def test_rounding_error_bounds_single_precision_products() -> None:
    for dimension in (1, 64, 2048):
        a = torch.nn.functional.normalize(torch.randn(200, dimension, dtype=torch.float64))
        gap = (a.float() @ a.float().T - a @ a.T).abs().max()
        assert gap < rounding_error(dimension)


def test_faster_type_is_tried_for_large_sets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert symmetric.fastest_type(100, 64) == torch.float32
    monkeypatch.setattr(symmetric, "SMALL", 50)
    assert symmetric.fastest_type(100, 64) in (torch.float32, torch.bfloat16)


def test_vouched_lists_are_those_that_end_below_the_doubt() -> None:
    ids = np.array([[0, 1, 2, 3], [1, 0, 2, 3], [0, 1, 3, -1], [3, 0, 1, 2]])
    rough = np.array([[1, 0.9, 0.8, 0.5], [1, 0.9, 0.8, 0.79], [0.9, 0.8, 0.1, -9], [1, 0.9, 0.5, 0.1]], np.float32)
    error = np.full(4, 0.1, np.float32)
    found = vouch(ids.copy(), rough.copy(), error, 2, complete=False)
    assert found.held.tolist() == [3, EMPTY, 3, 3]
    assert found.ids[0, :3].tolist() == [1, 2, 3]
    assert vouch(ids.copy(), rough.copy(), error, 3, complete=True).held.tolist() == [3, 3, 3, 3]
    assert vouch(ids.copy(), rough.copy(), error, 4, complete=True).held.tolist() == [EMPTY] * 4


def test_one_neighbour_is_oneself() -> None:
    found = nearest(check_features(reference.blobs(9)), 1)
    assert found.ids[:, 0].tolist() == list(range(9))


@pytest.mark.parametrize("search", ["ivf", "hnsw"])
def test_approximate_search_measures_its_recall(search: str, caplog: pytest.LogCaptureFixture) -> None:
    features = check_features(reference.blobs(1500, 16, identities=40))
    with caplog.at_level(logging.INFO, logger="mgot"):
        found = nearest(features, K, search)
    share = recall(features, found)
    assert f"search = {search} finds {100 * share:.2f}%" in caplog.text
    assert 0.8 < share <= 1
    assert (found.ids[:, 0] == np.arange(1500)).all()
    assert all(len(set(row)) == K for row in found.ids)


def test_recall_counts_the_neighbours_found() -> None:
    features = check_features(reference.blobs(100))
    found = nearest(features, K)
    assert recall(features, found) == 1
    for i in range(100):
        found.ids[i, 1 : 1 + K // 3] = [j for j in range(100) if j not in found.ids[i]][: K // 3]
    assert recall(features, found) == pytest.approx(1 - (K // 3) / (K - 1))


def test_missing_faiss_and_missing_gpu_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = check_features(reference.blobs(30))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"faiss-gpu.*GPU"):
            nearest(features, 5, "faiss-gpu")
    real = builtins.__import__

    def no_faiss(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_faiss)
    for search in ("faiss", "ivf", "hnsw"):
        with pytest.raises(UserError, match=rf"^search = {search}: .*pip install faiss-cpu.* search = auto"):
            nearest(features, 5, search)
    assert nearest(features, 5).ids.shape == (30, 5)  # auto needs none
    with pytest.raises(UserError, match=r"^the search of a folder: faiss is not installed: .*pip install faiss-cpu"):
        load_index(tmp_path / "none.npz")


@pytest.mark.parametrize("names, told", [(["faiss-cpu"], 0), (["numpy", None], 0), (["faiss_cpu", "faiss-gpu"], 1)])
def test_two_packages_of_faiss_are_told_once(
    names: list[str | None], told: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = [types.SimpleNamespace(metadata={"Name": name}) for name in names]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    monkeypatch.setattr(logging.getLogger("mgot"), "propagate", True)
    external._warn_of_two.cache_clear()
    for _ in range(2):
        external.require_faiss("a search")
    external._warn_of_two.cache_clear()
    assert caplog.text.count("faiss-cpu and faiss-gpu are both installed") == told


def test_loops_compile_where_nothing_can_be_cached(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = numba.njit

    def without_place(*args: Any, cache: bool = False, **kwargs: Any) -> Any:
        if cache:
            return lambda kernel: (_ for _ in ()).throw(RuntimeError("no locator available"))
        return real(*args, **kwargs)

    monkeypatch.setattr(numba, "njit", without_place)
    with caplog.at_level(logging.INFO, logger="mgot"):
        double = compiled.compiled()(lambda value: value * 2)
    assert double(21) == 42
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_chunks_come_in_order_and_cover_all_rows() -> None:
    for rows in (1, 63, 64, 65, 1000):
        spans = list(compiled.map_rows(lambda start, stop: (start, stop), rows, 7))
        assert [i for start, stop in spans for i in range(start, stop)] == list(range(rows))


def test_a_failing_chunk_raises() -> None:
    def fail(start: int, stop: int) -> None:
        if start >= 20:
            raise ValueError(start)

    with pytest.raises(ValueError, match="20"):
        compiled.over_rows(fail, 100, 10)
