"""What the grounds are for, measured with the shipped weights before training: clusters, first matching, crowding."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgot.clustering import cluster
from mgot.data.synthetic.camera import CAMERAS
from mgot.data.synthetic.presets import preset
from mgot.data.synthetic.settings import Settings
from mgot.data.synthetic.studio import picture
from mgot.engine.setup import load_config
from mgot.engine.trainer import MGOTTrainer
from mgot.matching import OTPA, Matching, Nearest, Prototypes
from mgot.memory import cluster_means
from mgot.principles import clustering_quality, majority_identities, matching_accuracy

REPO = Path(__file__).resolve().parent.parent
PEOPLE = 40
SEED = 100


class Side(NamedTuple):
    """The clusters of one modality: number, ARI, (K, D) prototypes and (K,) majority identities."""

    clusters: int
    ari: float
    prototypes: np.ndarray
    majorities: np.ndarray


@torch.inference_mode()
def side(model: nn.Module, settings: Settings, *, infrared: bool) -> Side:
    """Render one modality of the training people and cluster it as the demo's first epoch does."""
    count = settings.infrared_per_camera if infrared else settings.visible_per_camera
    shots = [
        (identity, camera, number)
        for camera, kind in CAMERAS.items()
        if kind.infrared == infrared
        for identity in range(1, settings.train_identities + 1)
        for number in range(1, count + 1)
    ]
    features: list[Tensor] = []
    for start in range(0, len(shots), 200):
        images = np.stack([picture(settings, *shot) for shot in shots[start : start + 200]])
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        features.append(model({"images": batch, "is_visible": torch.full((len(batch),), not infrared)}).float())
    unit, truth = F.normalize(torch.cat(features), dim=1), np.array([identity for identity, _, _ in shots])
    found = cluster(unit, k1=20, k2=6, eps=0.47, min_samples=4)
    means = cluster_means(unit, torch.as_tensor(found.labels), found.n_clusters).numpy()
    majorities = majority_identities(found.labels, truth, found.n_clusters)
    return Side(found.n_clusters, clustering_quality(found.labels, truth)["ari"], means, majorities)


def accuracy(matching: Matching, visible: Side, infrared: Side) -> float:
    return matching_accuracy(matching, visible.majorities, infrared.majorities)


@pytest.mark.slow
def test_grounds_are_what_their_names_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small copies: with fewer people every matching is easier than on the full grounds."""
    monkeypatch.chdir(REPO)
    cfg = load_config("projects/MGOT/configs/demo.yml", ["MODEL.DEVICE", "cpu"])
    model = MGOTTrainer.build_model(cfg).eval()
    warm, split, cold = (preset(name, seed=SEED, train_identities=PEOPLE) for name in ("warm", "split", "cold"))
    warm_v, warm_r = (side(model, warm, infrared=infrared) for infrared in (False, True))
    split_v = side(model, split, infrared=False)
    cold_v, cold_r = (side(model, cold, infrared=infrared) for infrared in (False, True))

    first = accuracy(OTPA()(Prototypes(warm_v.prototypes, warm_r.prototypes)), warm_v, warm_r)
    assert first >= 0.4
    assert warm_v.clusters < 1.2 * warm_r.clusters

    assert split_v.clusters >= 1.5 * warm_r.clusters
    assert split_v.clusters >= 1.5 * PEOPLE
    nearest = Nearest()(Prototypes(split_v.prototypes, warm_r.prototypes))
    load = np.sort(np.bincount(nearest.v2r))[::-1]
    assert load[:3].sum() >= 0.3 * split_v.clusters

    assert cold_v.ari > 0.6
    assert cold_r.ari > 0.4
    blind = accuracy(OTPA()(Prototypes(cold_v.prototypes, cold_r.prototypes)), cold_v, cold_r)
    assert blind <= 0.6 * first
