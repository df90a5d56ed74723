"""The layouts of RegDB and LLCM. RegDB's thermal images are stood in for by near-infrared ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mgot.data.synthetic.camera import CAMERAS
from mgot.data.synthetic.layout import Shot, write_tree
from mgot.data.synthetic.settings import Settings

REGDB_SPLITS = 10
REGDB_CAMERAS = {"Visible": 4, "Thermal": 6}
LLCM_CAMERAS = {"vis": (1, 2, 3, 4, 5, 6, 7, 8, 9), "nir": (1, 2, 4, 5, 6, 7, 8, 9)}
_SPLIT_SEED = 4
# LLCM has more cameras than we have: several share one of CAMERAS, and differ in the numbers of their pictures.
_NUMBERS_APART = 1000


def write_regdb(root: str | os.PathLike[str], settings: Settings, processes: int | None = None) -> Path:
    """Write `<root>/RegDB`; returns the tree's folder.

    `{Visible,Thermal}/<id>/*.bmp`, one camera a modality; `idx/{train,test}_{visible,thermal}_{1..10}.txt`, lines
    "path label", each a random split into the settings' numbers of identities, labels from 0. Raises UserError as
    `write_tree`.
    """
    return write_tree(Path(root) / "RegDB", settings, _regdb_shots(settings), _write_regdb_lists, processes)


def write_llcm(root: str | os.PathLike[str], settings: Settings, processes: int | None = None) -> Path:
    """Write `<root>/LLCM`; returns the tree's folder.

    Training images in `{vis,nir}/{ID:04d}/`, listed with labels from 0 in `idx/train_{vis,nir}.txt`; test images in
    `test_{vis,nir}/cam{n}/{ID:04d}/`, listed in `idx/test_{vis,nir}.txt`, their IDs in `idx/test_id.txt`. Raises
    UserError as `write_tree`.
    """
    return write_tree(Path(root) / "LLCM", settings, _llcm_shots(settings), _write_llcm_lists, processes)


def _regdb_shots(settings: Settings) -> list[Shot]:
    counts = {"Visible": settings.visible_per_camera, "Thermal": settings.infrared_per_camera}
    return [
        Shot(identity, camera, number, f"{modality}/{identity}/{modality.lower()}_{number:05d}.bmp")
        for modality, camera in REGDB_CAMERAS.items()
        for identity in range(1, settings.identities + 1)
        for number in range(1, counts[modality] + 1)
    ]


def _write_regdb_lists(tree: Path, settings: Settings) -> None:
    (tree / "idx").mkdir()
    paths: dict[tuple[str, int], list[str]] = {}
    for shot in _regdb_shots(settings):
        paths.setdefault((shot.path.split("/")[0], shot.identity), []).append(shot.path)
    for split in range(1, REGDB_SPLITS + 1):
        order = np.random.default_rng([settings.seed, _SPLIT_SEED, split]).permutation(settings.identities) + 1
        parts = {"train": order[: settings.train_identities], "test": order[settings.train_identities :]}
        for part, members in parts.items():
            for modality in REGDB_CAMERAS:
                lines = [
                    f"{path} {label}"
                    for label, identity in enumerate(sorted(int(member) for member in members))
                    for path in paths[modality, identity]
                ]
                _write_lines(tree / "idx" / f"{part}_{modality.lower()}_{split}.txt", lines)


def _llcm_shots(settings: Settings) -> list[Shot]:
    shots = []
    for modality, cameras in LLCM_CAMERAS.items():
        infrared = modality == "nir"
        models = [camera for camera, model in CAMERAS.items() if model.infrared == infrared]
        count = settings.infrared_per_camera if infrared else settings.visible_per_camera
        for identity in range(1, settings.identities + 1):
            for camera in cameras:
                for number in range(1, count + 1):
                    path = _llcm_path(settings, modality, identity, camera, number)
                    shots.append(Shot(identity, models[camera % len(models)], _NUMBERS_APART * camera + number, path))
    return shots


def _llcm_path(settings: Settings, modality: str, identity: int, camera: int, number: int) -> str:
    name = f"{identity:04d}_c{camera:02d}_s{number:06d}_f{number:06d}_{modality}.jpg"
    if identity <= settings.train_identities:
        return f"{modality}/{identity:04d}/{name}"
    return f"test_{modality}/cam{camera}/{identity:04d}/{name}"


def _write_llcm_lists(tree: Path, settings: Settings) -> None:
    (tree / "idx").mkdir()
    shots = _llcm_shots(settings)
    for modality in LLCM_CAMERAS:
        parts = (("train", modality, 1), ("test", f"test_{modality}", settings.train_identities + 1))
        for part, folder, first in parts:
            lines = [f"{s.path} {s.identity - first}" for s in shots if s.path.split("/")[0] == folder]
            _write_lines(tree / "idx" / f"{part}_{modality}.txt", lines)
    test = range(settings.train_identities + 1, settings.identities + 1)
    _write_lines(tree / "idx" / "test_id.txt", [",".join(map(str, test))])


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
