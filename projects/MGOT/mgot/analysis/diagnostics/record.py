"""What an epoch's matching looked like: one file an epoch, small enough to keep them all.

Notation: N_v, N_r images; K_v, K_r clusters; k_v <= K_v, k_r <= K_r those whose matrices are kept; n_v, n_r sampled
images; D feature dimension.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mgot.errors import UserError, reason
from mgot.files import require_regular, write_atomically
from mgot.matching import SUPPLIES, UNMATCHED, Matching

FOLDER = "diagnostics"
RANKINGS = "rankings.json"
MATRIX_LIMIT = 512  # prototypes a side in the kept matrices
SAMPLE_LIMIT = 2000  # sampled images a modality
SAMPLE_BYTES = 1 << 21  # and the most that their features may take, a modality
DISTANCE_BINS = 64
DISTANCE_EDGES = np.linspace(0.0, 2.0, DISTANCE_BINS + 1)
PAIRS = ("visible", "infrared", "cross")
_WHOLE, _REAL = "iu", "f"
_FIELDS = {  # kinds of numbers, and how many axes
    **dict.fromkeys(("epoch", "cross", "transported"), (_WHOLE, 0)),
    "supply": ("U", 0),
    **{f"{name}_{m}": (_WHOLE, 1) for name in ("labels", "identity", "kept", "sample") for m in "vr"},
    **dict.fromkeys(("v2r", "r2v"), (_WHOLE, 1)),
    **dict.fromkeys(("similarity", "scores", "features_v", "features_r"), (_REAL, 2)),
    "distances": (_WHOLE, 3),
}
_SEED = 0


class EpochRecord(NamedTuple):
    """One epoch, as its start found it.

    Attributes:
        epoch: its number.
        cross: 1 in the cross-modality stage, else 0.
        supply: "visible" or "infrared", the modality that moved first.
        transported: 1 if a transport was solved, 0 if the argmax of P was taken.
        labels_v, labels_r: (N_v,), (N_r,) pseudo labels, -1 = outlier.
        identity_v, identity_r: (K_v,), (K_r,) majority identities; ground truth.
        v2r, r2v: (K_v,), (K_r,) matches, -1 = none.
        kept_v, kept_r: (k_v,), (k_r,) clusters that the two matrices hold, ascending.
        similarity: (k_v, k_r) S.
        scores: (k_v, k_r) what the matches were chosen from, times K_v over the sum of all: each row of a whole plan
            sums to 1.
        sample_v, sample_r: (n_v,), (n_r,) sampled images, the same ones in every epoch.
        features_v, features_r: (n_v, D), (n_r, D) their features.
        distances: (3, 2, DISTANCE_BINS) numbers of sampled pairs by 1 - cosine, between DISTANCE_EDGES: of PAIRS, and
            of one identity (0) or two (1); pairs of unknown identity are not counted.
    """

    epoch: np.ndarray
    cross: np.ndarray
    supply: np.ndarray
    transported: np.ndarray
    labels_v: np.ndarray
    labels_r: np.ndarray
    identity_v: np.ndarray
    identity_r: np.ndarray
    v2r: np.ndarray
    r2v: np.ndarray
    kept_v: np.ndarray
    kept_r: np.ndarray
    similarity: np.ndarray
    scores: np.ndarray
    sample_v: np.ndarray
    sample_r: np.ndarray
    features_v: np.ndarray
    features_r: np.ndarray
    distances: np.ndarray


def record_epoch(
    epoch: int,
    *,
    cross: bool,
    features: tuple[Tensor, Tensor],
    labels: tuple[np.ndarray, np.ndarray],
    identities: tuple[np.ndarray, np.ndarray],
    prototypes: tuple[Tensor, Tensor],
    majorities: tuple[np.ndarray, np.ndarray],
    matching: Matching,
) -> EpochRecord:
    """The record of an epoch; each pair is (visible, infrared).

    Args:
        epoch: its number.
        cross: whether it belongs to the cross-modality stage.
        features: (N, D) L2-normalised.
        labels: (N,) pseudo labels, -1 = outlier.
        identities: (N,) ground truth, only for the distances.
        prototypes: (K, D) L2-normalised.
        majorities: (K,) majority identities.
        matching: of these prototypes.
    """
    kept_v, kept_r = kept_prototypes(matching)
    scale = len(matching.v2r) / max(float(matching.scores.sum()), 1e-12)
    samples = [sample(len(each), each.shape[1]) for each in features]
    sampled = [each[torch.as_tensor(rows)] for each, rows in zip(features, samples, strict=True)]
    truth = [each[rows] for each, rows in zip(identities, samples, strict=True)]
    return EpochRecord(
        epoch=np.array(epoch),
        cross=np.array(int(cross)),
        supply=np.array(matching.supply),
        transported=np.array(int(matching.transport is not None)),
        labels_v=labels[0].astype(np.int32),
        labels_r=labels[1].astype(np.int32),
        identity_v=majorities[0],
        identity_r=majorities[1],
        v2r=matching.v2r.astype(np.int32),
        r2v=matching.r2v.astype(np.int32),
        kept_v=kept_v.astype(np.int32),
        kept_r=kept_r.astype(np.int32),
        similarity=(prototypes[0][kept_v] @ prototypes[1][kept_r].T).numpy().astype(np.float16),
        scores=(matching.scores[np.ix_(kept_v, kept_r)] * scale).astype(np.float16),
        sample_v=samples[0].astype(np.int32),
        sample_r=samples[1].astype(np.int32),
        features_v=sampled[0].numpy().astype(np.float16),
        features_r=sampled[1].numpy().astype(np.float16),
        distances=distance_counts(sampled[0], sampled[1], truth[0], truth[1]),
    )


def kept_prototypes(matching: Matching, limit: int = MATRIX_LIMIT) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of both sides whose matrices are kept: all, or a seeded ``limit`` of each side.

    The matches of the chosen visible clusters come first among the infrared ones, others fill up.
    """
    rng = np.random.default_rng(_SEED)
    n_v, n_r = len(matching.v2r), len(matching.r2v)
    rows = np.sort(rng.choice(n_v, min(n_v, limit), replace=False)) if n_v else np.arange(0)
    matched = np.unique(matching.v2r[rows][matching.v2r[rows] != UNMATCHED])
    others = rng.permutation(np.setdiff1d(np.arange(n_r), matched))
    return rows, np.sort(np.concatenate([matched, others[: max(min(n_r, limit) - len(matched), 0)]]))


def sample(total: int, dimension: int) -> np.ndarray:
    """Sorted indices of a fixed, seeded sample of ``total`` images whose features have ``dimension`` numbers."""
    size = min(total, SAMPLE_LIMIT, max(SAMPLE_BYTES // (2 * dimension), 1))
    return np.sort(np.random.default_rng(_SEED).choice(total, size, replace=False))


def distance_counts(f_v: Tensor, f_r: Tensor, ids_v: np.ndarray, ids_r: np.ndarray) -> np.ndarray:
    """(3, 2, DISTANCE_BINS) int64 counts of pairs of PAIRS, each pair of two images once; see :class:`EpochRecord`.

    A pair with an image of unknown identity, which is negative, is not counted.
    """
    counts = np.zeros((len(PAIRS), 2, DISTANCE_BINS), dtype=np.int64)
    for row, (f_a, f_b, ids_a, ids_b) in enumerate(
        ((f_v, f_v, ids_v, ids_v), (f_r, f_r, ids_r, ids_r), (f_v, f_r, ids_v, ids_r))
    ):
        bins = ((1.0 - f_a @ f_b.T) * (DISTANCE_BINS / 2.0)).long().clamp_(0, DISTANCE_BINS - 1).numpy()
        bins += DISTANCE_BINS * (ids_a[:, None] != ids_b[None, :])
        known = (ids_a >= 0)[:, None] & (ids_b >= 0)[None, :]
        once = bins[np.triu(known, k=1) if f_a is f_b else known]
        counts[row] = np.bincount(once, minlength=2 * DISTANCE_BINS).reshape(2, DISTANCE_BINS)
    return counts


def record_path(run: Path, epoch: int) -> Path:
    """The file of an epoch's record."""
    return run / FOLDER / f"epoch_{epoch:03d}.npz"


def write_record(run: Path, record: EpochRecord) -> Path:
    """Write a record under the run's folder; returns the file. A kill never leaves half a file."""
    path = record_path(run, int(record.epoch))
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **record._asdict())
    write_atomically(path, buffer.getvalue())
    return path


def read_record(path: Path) -> EpochRecord:
    """Read a record, without running any code from it.

    Raises:
        UserError: the file is missing, damaged, or no record.
    """
    try:
        require_regular(path)
        with np.load(path, allow_pickle=False) as stored:
            record = EpochRecord(**{name: stored[name] for name in EpochRecord._fields})
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such record: the run did not reach that epoch, or MGOT.DIAGNOSTICS was off"
        ) from None
    except Exception as error:  # what a damaged header means raises anything, from SyntaxError to MemoryError
        raise UserError(f"{path}: not a readable record ({reason(error)}): delete it, the others will do") from None
    broken = [name for name, (kinds, n_axes) in _FIELDS.items() if not _is_of(getattr(record, name), kinds, n_axes)]
    if broken or not _consistent(record):
        what = f"{broken[0]} is of another kind" if broken else "its fields do not fit together"
        raise UserError(f"{path}: not a readable record ({what}): delete it, the others will do")
    return record


def _is_of(field: np.ndarray, kinds: str, n_axes: int) -> bool:
    return field.dtype.kind in kinds and field.ndim == n_axes and (kinds != "f" or bool(np.isfinite(field).all()))


def _consistent(record: EpochRecord) -> bool:
    """Whether sizes agree and every number that points somewhere points at something."""
    k_v, k_r = len(record.v2r), len(record.r2v)
    matrix = len(record.kept_v), len(record.kept_r)
    sizes = (
        (record.identity_v.shape, (k_v,)),
        (record.identity_r.shape, (k_r,)),
        (record.similarity.shape, matrix),
        (record.scores.shape, matrix),
        (record.features_v.shape, (len(record.sample_v), record.features_r.shape[1])),
        (record.features_r.shape[0], len(record.sample_r)),
        (record.distances.shape, (len(PAIRS), 2, DISTANCE_BINS)),
    )
    ranges = (
        (record.labels_v, -1, k_v),
        (record.labels_r, -1, k_r),
        (record.v2r, -1, k_r),
        (record.r2v, -1, k_v),
        (record.kept_v, 0, k_v),
        (record.kept_r, 0, k_r),
        (record.sample_v, 0, len(record.labels_v)),
        (record.sample_r, 0, len(record.labels_r)),
    )
    rising = (record.kept_v, record.kept_r, record.sample_v, record.sample_r)
    return (
        all(found == expected for found, expected in sizes)
        and all(((low <= each) & (each < high)).all() for each, low, high in ranges)
        and all((np.diff(each.astype(np.int64)) > 0).all() for each in rising)
        and str(record.supply) in SUPPLIES
        and not bool((record.distances < 0).any())
        and int(record.epoch) >= 0
    )


def require_images(record: EpochRecord, images: Mapping[str, Any], run: Path) -> None:
    """See that a record speaks of as many images as the run's images.json.

    Raises:
        UserError: it does not.
    """
    found, listed = (len(record.labels_v), len(record.labels_r)), tuple(len(images[m]["paths"]) for m in PAIRS[:2])
    if found != listed:
        path = record_path(run, int(record.epoch))
        raise UserError(
            f"{path} speaks of {found[0]} visible and {found[1]} infrared images, images.json beside it of {listed[0]}"
            f" and {listed[1]}: delete the one that is of another run"
        )


def recorded_epochs(run: Path) -> list[int]:
    """Numbers of the epochs that a run has records of, ascending; none where there is no such folder."""
    named = (re.fullmatch(r"epoch_(\d{3,9})", path.stem, re.ASCII) for path in (run / FOLDER).glob("epoch_*.npz"))
    return sorted(int(found[1]) for found in named if found)


def forget_records(run: Path) -> None:
    """Remove the records and rankings of an earlier run in the same folder."""
    for path in [*(run / FOLDER).glob("epoch_[0-9]*.npz"), run / FOLDER / RANKINGS]:
        path.unlink(missing_ok=True)
