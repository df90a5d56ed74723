"""How a data set is scored: which images are queries, which galleries they search, and which images do not count.

A protocol holds indices into a *pool*, the test images whose features are extracted once. The protocols of a data set
are in its file below :mod:`mgot.data.sets`, built with the functions here. Nothing here reads files: the functions take
the pool's identities and cameras, in the order camera, identity, file name.

Order of a gallery, which decides between equal distances: camera list order, then identity, then the draw's order
(docs/protocols.md, SYSU-MM01, ties). The same order serves the other data sets.

Notation: N pool size, N_q queries, N_g gallery images of a trial.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mgot.errors import UserError

_BLOCK = 1024  # queries that are held against a gallery at once
DIRECTIONS = ("visible-to-infrared", "infrared-to-visible")

DropRule = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Groups = dict[tuple[int, int], np.ndarray]
"""(camera, identity) -> pool indices."""


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
"""A rule says which gallery images a query does not see.

It takes query identities, query cameras, gallery identities and gallery cameras, which can be broadcast together.
"sysu-same-place": cameras 2 and 3 of SYSU-MM01 are in one room, so a query of camera 3 sees no image of camera 2, of
any identity. "same-identity-and-camera": LLCM's. "none": RegDB's. To add a rule, add an entry."""


def blocks(n_infrared: int, n_visible: int) -> dict[str, np.ndarray]:
    """ "infrared" and "visible" -> their indices into a pool in which the infrared images are first."""
    return {"infrared": np.arange(n_infrared), "visible": np.arange(n_infrared, n_infrared + n_visible)}


def both_ways(
    name: str,
    queries: Mapping[str, np.ndarray],
    galleries: Mapping[str, Sequence[np.ndarray]],
    *,
    directions: Sequence[str] = DIRECTIONS,
    drop: str = "none",
    unique_identities: bool = False,
    draws: str,
) -> list[Protocol]:
    """A protocol for each direction, named "<name>-<direction>": queries of one modality, galleries of the other.

    Args:
        name: of the data set, as rows begin.
        queries: "visible" and "infrared" -> (N_q,) indices into the pool.
        galleries: "visible" and "infrared" -> (N_g,) indices into the pool for each trial.
        directions: of :data:`DIRECTIONS`.
        drop, unique_identities, draws: as of :class:`Protocol`.

    Raises:
        UserError: there is no such direction.
    """
    protocols = []
    for direction in directions:
        source, target = ends(direction)
        searches = tuple(Trial(queries[source], gallery) for gallery in galleries[target])
        protocols.append(Protocol(f"{name}-{direction}", searches, drop, unique_identities, draws))
    return protocols


def valid_queries(trial: Trial, drop: str, identities: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """(N_q,) bool: the query sees an image of its identity. Labels of the pool, (N,) each."""
    rule, gallery = DROP_RULES[drop], trial.gallery

    def sees(query: np.ndarray) -> np.ndarray:
        same = identities[query, None] == identities[gallery]
        hidden = rule(identities[query, None], cameras[query, None], identities[gallery], cameras[gallery])
        return (same & ~hidden).any(axis=1)

    starts = range(_BLOCK, len(trial.query), _BLOCK)
    return np.concatenate([sees(block) for block in np.split(trial.query, starts)])


def require_positive(**counts: int) -> None:
    """Raise UserError if one of the named numbers is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} must be at least 1, not {count}")


def ends(direction: str) -> tuple[str, str]:
    """The modality that a direction of :data:`DIRECTIONS` searches by, and the one it searches in.

    Raises:
        UserError: there is no such direction.
    """
    if direction not in DIRECTIONS:
        raise UserError(f"there is no direction {direction!r}: choose from {', '.join(DIRECTIONS)}")
    source, _, target = direction.partition("-to-")
    return source, target


def grouped(identities: np.ndarray, cameras: np.ndarray, part: np.ndarray) -> Groups:
    """(camera, identity) -> pool indices from ``part``, in its order; the keys are in the order camera, identity."""
    order = part[np.lexsort((identities[part], cameras[part]))]
    pairs = np.stack((cameras[order], identities[order]), axis=1)
    edges = np.flatnonzero(np.any(pairs[1:] != pairs[:-1], axis=1)) + 1
    groups = np.split(order, edges) if len(order) else []
    return {(int(cameras[group[0]]), int(identities[group[0]])): group for group in groups}


def seeded_gallery(groups: Groups, trial: int, shots: int) -> np.ndarray:
    """Pool indices of ``shots`` images (all, if there are fewer) of each group, drawn as in the released codes [field].

    ``random.seed(trial)``, then, identity by identity and camera by camera, ``random.choice`` of the sorted files; for
    more than one shot ``random.sample`` instead [ours].
    """
    generator = random.Random(trial)
    drawn = {}
    for camera, identity in sorted(groups, key=lambda key: (key[1], key[0])):
        places = range(len(groups[camera, identity]))
        if shots == 1:
            drawn[camera, identity] = [generator.choice(places)]
        else:
            drawn[camera, identity] = generator.sample(places, min(shots, len(places)))
    return joined(group[drawn[key]] for key, group in groups.items())


def joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    """The parts one after the other, (N,) int64; empty if there are none."""
    listed = list(parts)
    return np.concatenate(listed) if listed else np.empty(0, dtype=np.int64)
