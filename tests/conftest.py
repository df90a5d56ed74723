"""A tiny generated data set of SYSU-MM01's layout, shared by the tests that train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPO = Path(__file__).resolve().parent.parent
CAMERAS = (1, 2, 3, 4, 5, 6)


def write_coloured_people(root: Path, *, n_train: int = 8, n_test: int = 4, per_camera: int = 6) -> None:
    """People that are patches of colour: easy enough to cluster from random weights."""
    folder, rng = root / "SYSU-MM01", np.random.default_rng(0)
    (folder / "exp").mkdir(parents=True)
    splits = {"train": range(1, n_train), "val": [n_train], "test": range(n_train + 1, n_train + n_test + 1)}
    for name, ids in splits.items():
        (folder / "exp" / f"{name}_id.txt").write_text(",".join(map(str, ids)) + "\n")
        for identity in ids:
            patches = rng.integers(0, 255, (8, 4, 3))
            for camera in CAMERAS:
                place = folder / f"cam{camera}" / f"{identity:04d}"
                place.mkdir(parents=True)
                for n in range(1, per_camera + 1):
                    seen = np.clip(patches + rng.normal(0, 12, patches.shape), 0, 255)
                    if camera in (3, 6):
                        seen = np.repeat(seen.mean(2, keepdims=True), 3, axis=2)
                    Image.fromarray(seen.astype(np.uint8)).resize((32, 64)).save(place / f"{n:04d}.jpg")


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root of a SYSU-MM01 tree of 8 + 4 people, 6 images per camera, 32 x 64 pixels."""
    root = tmp_path_factory.mktemp("data")
    write_coloured_people(root)
    return root


@pytest.fixture
def tiny_options(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """KEY VALUE overrides that make demo.yml train on the tiny tree in seconds; more pairs are appended.

    With the adversary, so that its weights, its count of iterations and its dropout are kept and resumed too.
    """
    monkeypatch.setenv("FASTREID_DATASETS", str(tiny_root))

    def options(*extra: object) -> list[str]:
        base: Sequence[object] = (
            "MODEL.BACKBONE.PRETRAIN", False, "INPUT.SIZE_TRAIN", [64, 32], "INPUT.SIZE_TEST", [64, 32],
            "SOLVER.MAX_EPOCH", 2, "MGOT.CROSS_START_EPOCH", 1, "MGOT.ITERS_PER_EPOCH", 2,
            "SOLVER.IMS_PER_BATCH", 32, "DATALOADER.NUM_INSTANCE", 4, "MGOT.CLUSTER.K1", 8, "MGOT.CLUSTER.K2", 3,
            "MGOT.TEST.TRIALS", 2, "MGOT.LOSS.W_ADV", 1.0, "SEED", 0, "OUTPUT_DIR", tmp_path / "run",
        )  # fmt: skip
        return [str(part) for part in (*base, *extra)]

    return options
