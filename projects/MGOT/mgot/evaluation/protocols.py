"""How each data set is scored: which images are queries, which galleries they search, what does not count.

A protocol holds indices into a *pool*, the test images whose features are extracted once. The builders below know
nothing of files: they take the pool's identities and cameras, in the order camera, identity, file name.

Order of a gallery, which decides between equal distances: camera list order, then identity, then the draw's order
(docs/protocols.md, SYSU-MM01, ties). The same order serves the other data sets.

Letters: N pool size, N_q queries, N_g gallery images of a trial.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mgot.errors import UserError
from mgot.evaluation.draws import OfficialDraws

SYSU_GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
SYSU_QUERY_CAMERAS = (3, 6)
SHOT_NAMES = {1: "single", 10: "multi"}
DIRECTIONS = ("visible-to-infrared", "infrared-to-visible")

DropRule = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Trial(NamedTuple):
    """One search: (N_q,) and (N_g,) int64 indices into the pool; the gallery's order decides between ties."""

    query: np.ndarray
    gallery: np.ndarray


@dataclass(frozen=True)
class Protocol:
    """A row of the results table.

    Attributes:
        name: for example "sysu-all-single".
        trials: the searches whose figures are averaged.
        drop: name in :data:`DROP_RULES`: which gallery images a query does not see.
        unique_identities: the CMC counts each identity once, at its first place in the ranking; mAP and mINP use all
            images either way.
        draws: where the galleries come from: "official", "seeded", "split 3" ...
    """

    name: str
    trials: tuple[Trial, ...]
    drop: str
    unique_identities: bool
    draws: str


def _drop_nothing(
    query_ids: np.ndarray, query_cameras: np.ndarray, gallery_ids: np.ndarray, gallery_cameras: np.ndarray
) -> np.ndarray:
    return np.zeros(np.broadcast_shapes(query_ids.shape, gallery_ids.shape), dtype=bool)


def _drop_same_place(
    query_ids: np.ndarray, query_cameras: np.ndarray, gallery_ids: np.ndarray, gallery_cameras: np.ndarray
) -> np.ndarray:
    return (query_cameras == 3) & (gallery_cameras == 2)


def _drop_same_identity_and_camera(
    query_ids: np.ndarray, query_cameras: np.ndarray, gallery_ids: np.ndarray, gallery_cameras: np.ndarray
) -> np.ndarray:
    return (query_ids == gallery_ids) & (query_cameras == gallery_cameras)


DROP_RULES: dict[str, DropRule] = {
    "none": _drop_nothing,
    "sysu-same-place": _drop_same_place,
    "same-identity-and-camera": _drop_same_identity_and_camera,
}
"""Rules take query identities, query cameras, gallery identities and gallery cameras, broadcastable against each other,
and say what a query does not see. "sysu-same-place": cameras 2 and 3 of SYSU-MM01 stand in one room, so a query of
camera 3 sees no image of camera 2, whatever its identity. "same-identity-and-camera": LLCM's. "none": RegDB's."""


def sysu_protocols(
    identities: np.ndarray,
    cameras: np.ndarray,
    *,
    modes: Sequence[str] = ("all", "indoor"),
    shots: Sequence[int] = (1, 10),
    official: OfficialDraws | None = None,
    trials: int = 10,
) -> list[Protocol]:
    """SYSU-MM01's protocols, named "sysu-<mode>-<single|multi>".

    Queries: all images of cameras 3 and 6. Gallery of a trial: ``shots`` images (all, where there are fewer) of each
    identity in each of the mode's cameras.

    Args:
        identities: (N,) of the pool.
        cameras: (N,) of the pool, 1..6; the images of one camera and identity stand in the order of their file names.
        modes: of "all" (cameras 1, 2, 4, 5) and "indoor" (cameras 1, 2).
        shots: images of each identity and camera; 1 and 10 are the official ones.
        official: the official draws; None for the released codes' ones: ``random.seed(trial)``, then, identity by
            identity and camera by camera, ``random.choice`` of the sorted files [field]; for more than one shot
            ``random.sample`` in its place [ours].
        trials: T >= 1, trials 0..T-1; the official draws know ten.

    Raises:
        UserError: an unknown mode, no positive number of shots or trials, or draws of another copy.
    """
    _check_counts(shots=min(shots, default=0), trials=trials)
    groups = _groups(identities, cameras, np.arange(len(identities)))
    query = np.flatnonzero(np.isin(cameras, SYSU_QUERY_CAMERAS))
    draws = "seeded" if official is None else "official"
    protocols = []
    for mode in modes:
        if mode not in SYSU_GALLERY_CAMERAS:
            raise UserError(f"SYSU-MM01 has no mode {mode!r}: choose from {', '.join(SYSU_GALLERY_CAMERAS)}")
        own = {key: group for key, group in groups.items() if key[0] in SYSU_GALLERY_CAMERAS[mode]}
        for n in shots:
            name = f"sysu-{mode}-{SHOT_NAMES.get(n, f'{n}-shot')}"
            galleries = [
                _seeded_gallery(own, t, n) if official is None else _official_gallery(own, official, t, n)
                for t in range(trials)
            ]
            searches = tuple(Trial(query, gallery) for gallery in galleries)
            protocols.append(Protocol(name, searches, "sysu-same-place", True, draws))
    return protocols


def regdb_protocols(
    n_thermal: int, n_visible: int, *, split: int, directions: Sequence[str] = DIRECTIONS
) -> list[Protocol]:
    """RegDB's protocols, "regdb-visible-to-thermal" and "regdb-thermal-to-visible": all images search all, once.

    Args:
        n_thermal: thermal test images, which stand first in the pool.
        n_visible: visible test images, which follow.
        split: 1..10, named in the rows.
        directions: of :data:`DIRECTIONS`; RegDB's own word for infrared is thermal.
    """
    blocks = {"infrared": np.arange(n_thermal), "visible": np.arange(n_thermal, n_thermal + n_visible)}
    protocols = []
    for direction in directions:
        source, target = _ends(direction)
        search = Trial(blocks[source], blocks[target])
        name = f"regdb-{direction.replace('infrared', 'thermal')}"
        protocols.append(Protocol(name, (search,), "none", False, f"split {split}"))
    return protocols


def llcm_protocols(
    identities: np.ndarray,
    cameras: np.ndarray,
    n_infrared: int,
    *,
    directions: Sequence[str] = DIRECTIONS,
    trials: int = 10,
) -> list[Protocol]:
    """LLCM's protocols, named "llcm-<direction>": seeded single-shot galleries, one image an identity and camera.

    Args:
        identities: (N,) of the pool.
        cameras: (N,) of the pool.
        n_infrared: how many infrared images stand first in the pool; visible ones follow.
        directions: of :data:`DIRECTIONS`.
        trials: T >= 1; trial t draws as the released code does with ``random.seed(t)`` [field].
    """
    _check_counts(shots=1, trials=trials)
    blocks = {"infrared": np.arange(n_infrared), "visible": np.arange(n_infrared, len(identities))}
    protocols = []
    for direction in directions:
        source, target = _ends(direction)
        groups = _groups(identities, cameras, blocks[target])
        searches = tuple(Trial(blocks[source], _seeded_gallery(groups, t, 1)) for t in range(trials))
        protocols.append(Protocol(f"llcm-{direction}", searches, "same-identity-and-camera", True, "seeded"))
    return protocols


def valid_queries(trial: Trial, drop: str, identities: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """(N_q,) bool: the query sees an image of its identity. Labels of the pool, (N,) each."""
    query, gallery = trial
    same = identities[query, None] == identities[gallery]
    hidden = DROP_RULES[drop](identities[query, None], cameras[query, None], identities[gallery], cameras[gallery])
    return (same & ~hidden).any(axis=1)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} must be at least 1, not {count}")


def _ends(direction: str) -> tuple[str, str]:
    if direction not in DIRECTIONS:
        raise UserError(f"there is no direction {direction!r}: choose from {', '.join(DIRECTIONS)}")
    source, _, target = direction.partition("-to-")
    return source, target


def _groups(identities: np.ndarray, cameras: np.ndarray, part: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """(camera, identity) -> pool indices out of ``part``, in its order; the keys in the order camera, identity."""
    order = part[np.lexsort((identities[part], cameras[part]))]
    pairs = np.stack((cameras[order], identities[order]), axis=1)
    edges = np.flatnonzero(np.any(pairs[1:] != pairs[:-1], axis=1)) + 1
    groups = np.split(order, edges) if len(order) else []
    return {(int(cameras[group[0]]), int(identities[group[0]])): group for group in groups}


def _official_gallery(
    groups: dict[tuple[int, int], np.ndarray], official: OfficialDraws, trial: int, shots: int
) -> np.ndarray:
    return _joined(
        group[official.drawn(camera, identity, len(group), trial, shots)]
        for (camera, identity), group in groups.items()
    )


def _seeded_gallery(groups: dict[tuple[int, int], np.ndarray], trial: int, shots: int) -> np.ndarray:
    generator = random.Random(trial)
    drawn = {}
    for camera, identity in sorted(groups, key=lambda key: (key[1], key[0])):
        places = range(len(groups[camera, identity]))
        if shots == 1:
            drawn[camera, identity] = [generator.choice(places)]
        else:
            drawn[camera, identity] = generator.sample(places, min(shots, len(places)))
    return _joined(group[drawn[key]] for key, group in groups.items())


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    listed = list(parts)
    return np.concatenate(listed) if listed else np.empty(0, dtype=np.int64)
