"""Clusters that are corrected by their densest images, beside a plain loop of the same definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mgot.clustering import DBSCAN, Clustering, Corrected, TrueClusters, correction
from mgot.clustering.correction import corrected
from mgot.engine.config.builders import build_clusterer
from mgot.engine.setup import load_config
from mgot.errors import UserError

DEMO = str(Path(__file__).resolve().parents[1] / "projects/MGOT/configs/demo.yml")


def plain(f: np.ndarray, labels: np.ndarray, densest: int) -> np.ndarray:
    centres = []
    for k in range(labels.max() + 1):
        members = [i for i in range(len(f)) if labels[i] == k]
        rho = {i: sum(np.sign(f[i] @ f[j] - 0.5) for j in members) for i in members}
        chosen = sorted(members, key=lambda i: -rho[i])[:densest]
        centre = sum(f[i] for i in chosen) / len(chosen)
        centres.append(centre / np.linalg.norm(centre))
    nearest = [
        -1 if labels[i] < 0 else max(range(len(centres)), key=lambda k: f[i] @ centres[k]) for i in range(len(f))
    ]
    numbers = {old: new for new, old in enumerate(sorted(set(nearest) - {-1}))}
    return np.array([numbers.get(old, -1) for old in nearest])


def features(n: int, seed: int, d: int = 5) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 5), st.integers(1, 8))
def test_it_is_the_plain_loop(seed: int, n: int, k: int, densest: int) -> None:
    f = features(n, seed)
    drawn = np.random.default_rng(seed).integers(-1, k, n)
    labels = np.unique(np.append(drawn, -1), return_inverse=True)[1][:-1].astype(np.int64) - 1
    assert corrected(f, torch.as_tensor(labels), densest).tolist() == plain(f.numpy(), labels, densest).tolist()


def test_chunks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    f, labels = features(40, seed=3), torch.arange(40) % 3
    whole = corrected(f, labels, 4)
    monkeypatch.setattr(correction, "PAIRS", 30)
    assert corrected(f, labels, 4).tolist() == whole.tolist()


def test_an_image_in_the_wrong_cluster_goes_to_its_own_and_an_outlier_stays_out() -> None:
    angles = torch.tensor([0.0, 0.1, 0.2, 0.1, 1.5, 1.6, 1.4, 0.12, 1.5])
    f = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, -1])
    assert corrected(f, labels, 3).tolist() == [0, 0, 0, 0, 1, 1, 1, 0, -1]


def test_a_cluster_that_loses_all_its_images_is_no_more() -> None:
    angles = torch.tensor([0.0, 0.1, 0.1, 1.5, 1.6, 0.2, 1.4])
    f = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([0, 0, 0, 2, 2, 1, 1])  # cluster 1: its centre is near neither image
    found = Corrected(lambda _: Clustering(labels.numpy(), 3, {"cluster": 1.0}), 5)(f)
    assert found.labels.tolist() == plain(f.numpy(), labels.numpy(), 5).tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert found.n_clusters == 2 and found.seconds == {"cluster": 1.0}


def test_a_cluster_without_images_is_named() -> None:
    with pytest.raises(UserError, match="cluster 1 has no image"):
        corrected(features(3, seed=0), torch.tensor([0, 2, 2]), 5)


def test_outliers_alone_stay_so() -> None:
    found = Corrected(lambda f: Clustering(np.full(len(f), -1), 0, {}), 5)(features(3, seed=0))
    assert found.labels.tolist() == [-1, -1, -1] and found.n_clusters == 0


def test_its_key_corrects_any_clusters_but_the_true_ones() -> None:
    key, plainly = "MGOT.CLUSTER.CORRECTION", DBSCAN(20, 6, 0.47, 4)
    assert build_clusterer(load_config(DEMO, [key, "0"])) == plainly
    assert build_clusterer(load_config(DEMO, [key, "20"])) == Corrected(plainly, 20)
    assert build_clusterer(load_config(DEMO, [key, "20", "MGOT.CLUSTER.NAME", "oracle"])) == TrueClusters()
