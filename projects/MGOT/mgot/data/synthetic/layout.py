"""Writes generated people into the folder layouts of the real data sets.

A tree is written under a temporary name and renamed at the end. So a killed run leaves no half data set under the final
name. `demo.json` in the tree holds the settings. If they are the same, nothing is written.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.io import savemat

from mgot.data.synthetic.camera import CAMERAS
from mgot.data.synthetic.settings import STAMP_FORM, Settings
from mgot.data.synthetic.studio import picture
from mgot.errors import UserError
from mgot.forms import fits, parsed
from mgot.progress import progress

STAMP = "demo.json"
JPEG_QUALITY = 92
TRIALS = 10
_SPLIT_SEED = 3


class Shot(NamedTuple):
    """One picture to take, and its path relative to the tree."""

    identity: int
    camera: int
    number: int
    path: str


def write_sysu(root: str | os.PathLike[str], settings: Settings, processes: int | None = None) -> Path:
    """Write `<root>/SYSU-MM01`, `cam{1..6}/{ID:04d}/{n:04d}.jpg` and the lists in `exp/`; returns the tree's folder.

    Training identities come first; the last of them, `validation_people`, are in val_id.txt. `exp/rand_perm_cam.mat`
    holds ten random orders of each identity's images per camera. Raises UserError if another data set is there.
    """
    return write_tree(Path(root) / "SYSU-MM01", settings, _sysu_shots(settings), _write_sysu_lists, processes)


def write_tree(
    target: Path,
    settings: Settings,
    shots: list[Shot],
    write_lists: Callable[[Path, Settings], None],
    processes: int | None,
) -> Path:
    """Take the shots and write the lists under a temporary name, then rename it to `target`; returns `target`.

    `write_lists` gets the unfinished tree's folder and the settings. Raises UserError if `target` exists and was not
    generated, or cannot be written.
    """
    if _holds(target, settings):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise UserError(f"{target.parent}: cannot write there ({error.strerror}); choose another --root") from error
    try:
        for folder in sorted({str(Path(shot.path).parent) for shot in shots}):
            (scratch / folder).mkdir(parents=True)
        _take_all(scratch, settings, shots, processes or len(os.sched_getaffinity(0)))
        write_lists(scratch, settings)
        (scratch / STAMP).write_text(json.dumps(settings.stamp(), indent=2) + "\n", encoding="utf-8")
        scratch.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _holds(target: Path, settings: Settings) -> bool:
    """Whether exactly these data exist already. Raises UserError if there is something else."""
    if not target.exists():
        return False
    try:
        stamp = parsed((target / STAMP).read_bytes())
    except (OSError, ValueError):
        stamp = None
    if not fits(stamp, STAMP_FORM):
        raise UserError(f"{target} exists and was not generated ({STAMP} missing or damaged); choose another --root")
    return settings.made(stamp)


def _take_all(scratch: Path, settings: Settings, shots: list[Shot], processes: int) -> None:
    task = partial(_take, str(scratch), settings)
    title = f"rendering {scratch.parent.name}"
    if processes == 1:
        for _ in progress(map(task, shots), title, len(shots)):
            pass
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for _ in progress(pool.imap_unordered(task, shots, chunksize=64), title, len(shots)):
            pass


def _take(root: str, settings: Settings, shot: Shot) -> None:
    image = Image.fromarray(picture(settings, shot.identity, shot.camera, shot.number))
    image.save(os.path.join(root, shot.path), quality=JPEG_QUALITY, subsampling=0)


def _per_camera(settings: Settings, camera: int) -> int:
    return settings.infrared_per_camera if CAMERAS[camera].infrared else settings.visible_per_camera


def _sysu_shots(settings: Settings) -> list[Shot]:
    return [
        Shot(identity, camera, number, f"cam{camera}/{identity:04d}/{number:04d}.jpg")
        for identity in range(1, settings.identities + 1)
        for camera in CAMERAS
        for number in range(1, _per_camera(settings, camera) + 1)
    ]


def _write_sysu_lists(tree: Path, settings: Settings) -> None:
    folder = tree / "exp"
    folder.mkdir()
    identities = list(range(1, settings.identities + 1))
    training = identities[: settings.train_identities]
    split = settings.train_identities - settings.validation_people
    lists = {
        "train_id": training[:split],
        "val_id": training[split:],
        "test_id": identities[settings.train_identities :],
    }
    for name, members in lists.items():
        (folder / f"{name}.txt").write_text(",".join(map(str, members)) + "\n", encoding="utf-8")
    savemat(folder / "rand_perm_cam.mat", {"rand_perm_cam": _permutations(settings)})


def _permutations(settings: Settings) -> np.ndarray:
    """The official nesting: [camera - 1][0][identity - 1][0] is (10, images), 1-based, a random order in each row."""
    outer = np.empty((len(CAMERAS), 1), dtype=object)
    for row, camera in enumerate(CAMERAS):
        inner = np.empty((settings.identities, 1), dtype=object)
        count = _per_camera(settings, camera)
        for identity in range(1, settings.identities + 1):
            rng = np.random.default_rng([settings.seed, _SPLIT_SEED, identity, camera])
            inner[identity - 1, 0] = np.stack([rng.permutation(count) + 1 for _ in range(TRIALS)]).astype(np.uint8)
        outer[row, 0] = inner
    return outer
