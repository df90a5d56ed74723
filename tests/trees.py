"""Data sets in their authors' layouts, with one-pixel images: what the readers see, in miniature or at full count."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

_PIXEL = Image.new("RGB", (1, 1), (90, 120, 150))

Counts = Mapping[tuple[int, int], int]
"""(camera, identity) -> number of images."""

SYSU_COUNTS: Counts = {
    (camera, identity): 2 + (camera + identity) % 3
    for identity in range(1, 9)
    for camera in range(1, 7)
    if (camera, identity) not in {(1, 7), (2, 7), (6, 8)}
}
SYSU_SPLITS = {"train": [1, 2, 3], "val": [4], "test": [5, 6, 7, 8]}


def write_images(folder: Path, names: Iterable[str]) -> None:
    """The same one-pixel image under every name, all of one suffix; a link costs less than a file."""
    folder.mkdir(parents=True, exist_ok=True)
    first = ""
    for name in names:
        path = f"{folder}/{name}"
        if first:
            os.link(first, path)
        else:
            _PIXEL.save(path)
            first = path


def sysu_tree(root: Path, counts: Counts = SYSU_COUNTS, splits: Mapping[str, Sequence[int]] = SYSU_SPLITS) -> Path:
    """SYSU-MM01 under ``root``; its own folder is returned."""
    folder = root / "SYSU-MM01"
    for camera in range(1, 7):
        (folder / f"cam{camera}").mkdir(parents=True, exist_ok=True)
    for (camera, identity), n in counts.items():
        write_images(folder / f"cam{camera}/{identity:04d}", (f"{number:04d}.jpg" for number in range(1, n + 1)))
    (folder / "exp").mkdir()
    for name, ids in splits.items():
        (folder / f"exp/{name}_id.txt").write_text(",".join(map(str, ids)) + "\n")
    return folder


def random_draws(counts: Counts, seed: int = 0, trials: int = 10) -> dict[tuple[int, int], list[list[int]]]:
    """1-based permutations of each camera's images of each identity, one a trial."""
    generator = np.random.default_rng(seed)
    return {key: [(generator.permutation(n) + 1).tolist() for _ in range(trials)] for key, n in counts.items()}


def save_draws(path: Path, draws: Mapping[tuple[int, int], Sequence[Sequence[int]]]) -> None:
    """``rand_perm_cam.mat`` as MATLAB keeps it: a cell a camera, in it a cell an identity."""
    n_ids = max(identity for _, identity in draws)
    cameras = np.empty((6, 1), dtype=object)
    for camera in range(1, 7):
        column = np.empty((n_ids, 1), dtype=object)
        for identity in range(1, n_ids + 1):
            column[identity - 1, 0] = np.array(draws.get((camera, identity), np.zeros((0, 0))), dtype=np.uint8)
        cameras[camera - 1, 0] = column
    savemat(path, {"rand_perm_cam": cameras})


def regdb_tree(root: Path, n_identities: int = 4, per_identity: int = 2, splits: Iterable[int] = range(1, 11)) -> Path:
    """RegDB under ``root``: each split trains on one half of the identities, shifted by the split's number."""
    folder = root / "RegDB"
    (folder / "idx").mkdir(parents=True)
    ids = list(range(1, n_identities + 1))
    for modality in ("Visible", "Thermal"):
        names = [f"{modality[0].lower()}_{n:02d}.bmp" for n in range(per_identity)]
        for identity in ids:
            write_images(folder / modality / str(identity), names)
        for split in splits:
            turned = ids[split % n_identities :] + ids[: split % n_identities]
            for part, chosen in (("train", turned[: n_identities // 2]), ("test", turned[n_identities // 2 :])):
                lines = [f"{modality}/{i}/{name} {label}\n" for label, i in enumerate(chosen) for name in names]
                (folder / f"idx/{part}_{modality.lower()}_{split}.txt").write_text("".join(lines))
    return folder


LLCM_TEST_COUNTS = {
    ("vis", 1, 2): 3, ("vis", 3, 2): 2, ("vis", 1, 5): 2, ("vis", 2, 5): 4, ("vis", 9, 7): 2,
    ("nir", 1, 2): 2, ("nir", 2, 5): 2, ("nir", 4, 5): 3, ("nir", 9, 7): 2,
}  # fmt: skip


def llcm_tree(root: Path) -> Path:
    """LLCM under ``root``: three training identities, and LLCM_TEST_COUNTS by modality, camera and identity."""
    folder = root / "LLCM"
    (folder / "idx").mkdir(parents=True)
    for modality in ("vis", "nir"):
        lines = []
        for label, identity in enumerate((1, 3, 4)):
            seen = [(camera, n) for camera in (1, 6) for n in range(2)]
            names = [f"{identity:04d}_c{camera:02d}_s{n:06d}_f{n:04d}_{modality}.jpg" for camera, n in seen]
            write_images(folder / f"{modality}/{identity:04d}", names)
            lines += [f"{modality}/{identity:04d}/{name} {label}\n" for name in names]
        (folder / f"idx/train_{modality}.txt").write_text("".join(lines))
    (folder / "idx/test_id.txt").write_text("7,2,5\n")
    for (modality, camera, identity), number in LLCM_TEST_COUNTS.items():
        names = [f"{n:04d}.jpg" for n in range(number)]
        write_images(folder / f"test_{modality}/cam{camera}/{identity:04d}", names)
    return folder


FOLDER_PEOPLE = {"train": ("anna", "ben", "carl"), "query": ("dora", "emil"), "gallery": ("dora", "emil", "fay")}


def folder_tree(root: Path, name: str = "my-data", *, named: bool = True, suffix: str = "jpg") -> Path:
    """Images of one's own under ``root``, two of each person; training images in their folders if ``named``."""
    folder = root / name
    for modality in ("visible", "infrared"):
        for part, people in FOLDER_PEOPLE.items():
            for person in people:
                place = folder / modality / part / (person if named or part != "train" else "")
                write_images(place, (f"{person}_{n}.{suffix}" for n in range(2)))
    return folder


def coloured_images(person: int, modality: str, count: int) -> Iterator[Image.Image]:
    """A person that is patches of colour, grey in infrared: easy enough to cluster from random weights; 32 x 64."""
    patches = np.random.default_rng(person).integers(0, 255, (8, 4, 3))
    noise = np.random.default_rng([person, modality == "visible"])
    for _ in range(count):
        seen = np.clip(patches + noise.normal(0, 12, patches.shape), 0, 255)
        if modality == "infrared":
            seen = np.repeat(seen.mean(2, keepdims=True), 3, axis=2)
        yield Image.fromarray(seen.astype(np.uint8)).resize((32, 64))
