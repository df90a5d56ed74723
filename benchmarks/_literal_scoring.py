"""Slow, literal transcriptions of how each data set's authors score, one query and one image at a time.

SYSU-MM01: ``get_cmc_multi_cam``, ``get_map_multi_cam`` and ``get_testing_set`` of the official evaluation; RegDB and
LLCM: the loops of their released codes. None of this knows mgot.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

LOCATION = {1: 1, 2: 2, 3: 2, 4: 4, 5: 5, 6: 6}


class Figures(NamedTuple):
    """Shares in 0..1; ``cmc[r - 1]`` is Rank-r, as long as there are ranks."""

    cmc: list[float]
    mAP: float
    mINP: float
    n_valid: int

    def percent(self, ranks: Sequence[int]) -> list[float]:
        """Rank-k for each k, past the end the last one, then mAP and mINP."""
        return [100 * self.cmc[min(k, len(self.cmc)) - 1] for k in ranks] + [100 * self.mAP, 100 * self.mINP]


def _mean(results: list[list[int]], query_ids: Sequence[int], unique: bool, n_ranks: int) -> Figures | None:
    """CMC, mAP and mINP from each query's ranked identities, what it does not see already taken out."""
    match_counter, ap_sum, inp_sum, valid = [0] * n_ranks, 0.0, 0.0, 0
    for result, identity in zip(results, query_ids, strict=True):
        places = [place for place, found in enumerate(result, start=1) if found == identity]
        if not places:
            continue
        valid += 1
        listed = list(dict.fromkeys(result)) if unique else result
        match_counter[listed.index(identity)] += 1
        ap_sum += sum(k / place for k, place in enumerate(places, start=1)) / len(places)
        inp_sum += len(places) / places[-1]
    if valid == 0:
        return None
    cmc = [sum(match_counter[: r + 1]) / valid for r in range(n_ranks)]
    return Figures(cmc, ap_sum / valid, inp_sum / valid, valid)


def _ranked(distances: Sequence[float]) -> list[int]:
    return sorted(range(len(distances)), key=distances.__getitem__)  # Python's sort is stable


def sysu(
    distances: Sequence[Sequence[float]],
    query_ids: Sequence[int],
    query_cameras: Sequence[int],
    gallery_ids: Sequence[int],
    gallery_cameras: Sequence[int],
) -> Figures | None:
    """SYSU-MM01; None where no query is valid."""
    results = []
    for row, camera in zip(distances, query_cameras, strict=True):
        ranked = _ranked(row)
        results.append([gallery_ids[j] for j in ranked if LOCATION[gallery_cameras[j]] != LOCATION[camera]])
    return _mean(results, query_ids, True, len(set(gallery_ids)))


def llcm(
    distances: Sequence[Sequence[float]],
    query_ids: Sequence[int],
    query_cameras: Sequence[int],
    gallery_ids: Sequence[int],
    gallery_cameras: Sequence[int],
) -> Figures | None:
    """LLCM; None where no query is valid."""
    results = []
    for row, identity, camera in zip(distances, query_ids, query_cameras, strict=True):
        ranked = _ranked(row)
        kept = [j for j in ranked if not (gallery_ids[j] == identity and gallery_cameras[j] == camera)]
        results.append([gallery_ids[j] for j in kept])
    return _mean(results, query_ids, True, len(set(gallery_ids)))


def regdb(
    distances: Sequence[Sequence[float]],
    query_ids: Sequence[int],
    query_cameras: Sequence[int],
    gallery_ids: Sequence[int],
    gallery_cameras: Sequence[int],
) -> Figures | None:
    """RegDB; None where no query is valid. Its cameras do not matter."""
    results = [[gallery_ids[j] for j in _ranked(row)] for row in distances]
    return _mean(results, query_ids, False, len(gallery_ids))


def official_gallery(
    rand_perm_cam: dict[tuple[int, int], list[list[int]]],
    test_ids: Sequence[int],
    cameras: Sequence[int],
    run_time: int,
    number_shot: int,
) -> list[tuple[int, int, int]]:
    """(camera, identity, 1-based image number) of SYSU-MM01's gallery; ``run_time`` counts from 1."""
    gallery = []
    for camera in cameras:
        for identity in sorted(test_ids):
            rows = rand_perm_cam.get((camera, identity))
            if rows is None:
                continue
            for number in rows[run_time - 1][:number_shot]:
                gallery.append((camera, identity, number))
    return gallery


def seeded_gallery(files: dict[tuple[int, int], list[str]], cameras: Sequence[int], trial: int) -> set[str]:
    """The files that the released codes put into a single-shot gallery; they leave the order to an unstable sort."""
    random.seed(trial)
    drawn = set()
    for identity in sorted({identity for _, identity in files}):
        for camera in cameras:
            if (camera, identity) in files:
                drawn.add(random.choice(sorted(files[camera, identity])))
    return drawn
