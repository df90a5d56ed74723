"""A run's folder made by hand: metrics, results, config and records of prototypes that are nearly one-hot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mgot.analysis.diagnostics.record import EpochRecord, record_epoch, write_record
from mgot.matching import OTPA, Prototypes

STEPS = 10
HEALTHY: dict[str, float] = {
    "visible/clusters": 30, "infrared/clusters": 30, "visible/outliers": 0.05, "infrared/outliers": 0.08,
    "visible/size_max_share": 0.05, "infrared/size_max_share": 0.05,
    "matching/load_empty": 0.1, "matching/load_top3": 0.15, "matching/load_max": 2, "matching/one_to_one": 0.9,
    "matching/agreement": 0.8, "transport/converged": 1, "transport/marginal_error": 1e-4,
    "truth/matching_accuracy": 0.8, "fairness/v_c": 0.98, "fairness/r_c": 0.97, "total_loss": 3.0, "lr": 3e-4,
}  # fmt: skip


def a_record(epoch: int = 3, *, clusters: tuple[int, int] = (6, 5), prior: bool = True, seed: int = 0) -> EpochRecord:
    """Clusters of four images each, the i-th of both modalities alike; one outlier in each modality."""
    generator = torch.Generator().manual_seed(seed)

    def prototypes(count: int) -> torch.Tensor:
        return F.normalize(torch.eye(count, 12) + 0.3 * torch.rand(count, 12, generator=generator), dim=1)

    phi_v, phi_r = (prototypes(count) for count in clusters)
    labels = [np.append(np.repeat(np.arange(count), 4), -1) for count in clusters]
    features = [
        F.normalize(phi[torch.as_tensor(y)] + 0.1 * torch.randn(len(y), 12, generator=generator), dim=1)
        for phi, y in zip((phi_v, phi_r), labels, strict=True)
    ]
    return record_epoch(
        epoch,
        cross=epoch > 0,
        features=(features[0], features[1]),
        labels=(labels[0], labels[1]),
        identities=(np.maximum(labels[0], 0), np.maximum(labels[1], 0)),
        prototypes=(phi_v, phi_r),
        majorities=(np.arange(clusters[0]), np.arange(clusters[1])),
        matching=OTPA(uniform_prior=prior)(Prototypes(phi_v.numpy(), phi_r.numpy())),
    )


def metrics_lines(epochs: int, changes: Mapping[str, Mapping[int, float]] | None = None) -> list[dict[str, Any]]:
    """A line an epoch of HEALTHY; changes: measure to {epoch: value}."""
    lines = []
    for epoch in range(epochs):
        own = {name: values[epoch] for name, values in (changes or {}).items() if epoch in values}
        lines.append({"iteration": STEPS * epoch, "epoch": epoch, **HEALTHY, **own})
    return lines


def write_run(folder: Path, *, epochs: int = 3, finished: bool = True, config: str = "") -> Path:
    """A run of some epochs, with records of each; more YAML lines may follow in its config."""
    folder.mkdir(parents=True, exist_ok=True)
    head = f"SEED: 0\nSOLVER:\n  MAX_EPOCH: {epochs}\nMGOT:\n  ITERS_PER_EPOCH: {STEPS}\n"
    (folder / "config.yaml").write_text(head + config)
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in metrics_lines(epochs)))
    row = {"protocol": "sysu-all-single", "rank1": 40.0, "rank1_std": 1.0, "rank5": 60.0, "rank10": 70.0,
           "rank20": 80.0, "mAP": 30.0, "mINP": 20.0, "draws": "official", "flip": True}  # fmt: skip
    stages = ["initial", *(["final"] if finished else [])]
    rows = [{"stage": stage, **row, "rank1": 20.0 if stage == "initial" else 40.0} for stage in stages]
    (folder / "results.json").write_text(json.dumps({"rows": rows, "seconds": dict.fromkeys(stages, 1.0)}))
    for epoch in range(epochs):
        record = a_record(epoch, seed=epoch)
        write_record(folder, record)
    images = {
        name: {"paths": [f"{name}/{n}.jpg" for n in range(len(y))], "identities": np.maximum(y, 0).tolist()}
        for name, y in (("visible", record.labels_v), ("infrared", record.labels_r))
    }
    (folder / "diagnostics/images.json").write_text(json.dumps({"root": str(folder / "data"), **images}))
    return folder
