"""The features of a gallery in a faiss index, kept in a file and updated with the folder.

Notation: N readable images, D feature dimension, Q queries.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgot.arguments import require_file_target
from mgot.errors import UserError, reason
from mgot.files import replacing, require_regular
from mgot.forms import fits, parsed, text, whole
from mgot.neighbours import cell_index, require_faiss
from mgot.retrieval.gallery import ImageFile

FORMAT = "mgot gallery index 2"
EXACT_UP_TO = 200_000


def _faiss() -> Any:
    return require_faiss("the search of a folder")


class GalleryIndex(NamedTuple):
    """What is kept of a gallery.

    Attributes:
        fingerprint: of the model, and of the modality if the model needs it.
        files: the N readable images, in the order of the index's rows.
        unreadable: the other images, each with the reason.
        vectors: faiss index of N L2-normalised features by inner product; None if N = 0.
    """

    fingerprint: str
    files: list[ImageFile]
    unreadable: dict[ImageFile, str]
    vectors: Any

    @property
    def exact(self) -> bool:
        """Whether every image is compared with a query, and not only those of the nearest cells."""
        return self.vectors is None or not isinstance(self.vectors, _faiss().IndexIVF)

    def features(self) -> np.ndarray:
        """(N, D) float32, in the order of :attr:`files`."""
        if self.vectors is None:
            return np.zeros((0, 0), dtype=np.float32)
        if not self.exact:
            self.vectors.make_direct_map()
        return self.vectors.reconstruct_n(0, len(self.files))

    def search(self, queries: np.ndarray, k: int) -> list[list[tuple[int, float]]]:
        """The k nearest images of each query, as (row, cosine distance in [0, 2]), nearest first; fewer if N < k.

        Args:
            queries: (Q, D) float32 L2-normalised.
            k: 1 or more.
        """
        similarity, rows = self.vectors.search(queries, min(k, len(self.files)))
        distances = np.clip(1 - similarity.astype(np.float64), 0, 2)
        return [
            [(int(row), float(distance)) for row, distance in zip(*found, strict=True) if row >= 0]
            for found in zip(rows, distances, strict=True)
        ]


def build_index(
    fingerprint: str, found: dict[ImageFile, np.ndarray | str], *, exact_up_to: int = EXACT_UP_TO
) -> GalleryIndex:
    """An index over features.

    Args:
        fingerprint: as in :class:`GalleryIndex`.
        found: (D,) feature of each image, or why it has none.
        exact_up_to: above this N, faiss's inverted file replaces its flat index.
    """
    files = sorted(file for file, feature in found.items() if not isinstance(feature, str))
    unreadable = {file: problem for file, problem in found.items() if isinstance(problem, str)}
    if not files:
        return GalleryIndex(fingerprint, [], unreadable, None)
    features = np.stack([found[file] for file in files]).astype(np.float32, copy=False)
    if len(files) > exact_up_to:
        return GalleryIndex(fingerprint, files, unreadable, cell_index(features))
    vectors = _faiss().IndexFlatIP(features.shape[1])
    vectors.add(features)
    return GalleryIndex(fingerprint, files, unreadable, vectors)


def save_index(index: GalleryIndex, path: Path) -> None:
    """Write the file, which a kill never leaves incomplete: a NumPy archive of JSON and faiss's bytes, without code.

    Raises:
        UserError: the file cannot be written.
    """
    vectors = np.zeros(0, np.uint8) if index.vectors is None else _faiss().serialize_index(index.vectors)
    about = {
        "format": FORMAT,
        "fingerprint": index.fingerprint,
        "digest": _digest(vectors),
        "files": index.files,
        "unreadable": [[*file, problem] for file, problem in index.unreadable.items()],
    }
    try:
        with replacing(path) as stream:
            np.savez(stream, about=np.frombuffer(json.dumps(about).encode(), np.uint8), vectors=vectors)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): name a file with --index") from None


def load_index(path: Path) -> GalleryIndex | None:
    """Read a file that :func:`save_index` wrote; None if there is none, or if it has another version.

    Raises:
        UserError: the file is damaged or something else, and is not overwritten; or faiss is not installed, which shows
            before the gallery is embedded.
    """
    _faiss()
    if not os.path.exists(path):
        return None
    try:
        require_regular(path)
        with np.load(path, allow_pickle=False) as archive:
            about, packed = parsed(archive["about"].tobytes()), archive["vectors"]
    except Exception as error:  # what a damaged header means raises anything, from SyntaxError to MemoryError
        told = reason(error)
        raise UserError(f"{path} is no gallery index ({told}): delete it, or name another file by --index") from None
    if fits(about, {"format": text}) and about["format"] != FORMAT:
        return None
    if not fits(about, _ABOUT) or about["digest"] != _digest(packed):
        raise damaged(path)
    files = [ImageFile(*file) for file in about["files"]]
    unreadable = {ImageFile(*file): problem for *file, problem in about["unreadable"]}
    try:
        vectors = _faiss().deserialize_index(packed.ravel()) if files else None
        index = GalleryIndex(about["fingerprint"], files, unreadable, vectors)
        sound = vectors is None or (vectors.ntotal == len(files) and np.isfinite(index.features()).all())
    except Exception:  # faiss raises whatever its bytes mean
        sound = False
    if not sound:
        raise damaged(path)
    return index


def damaged(path: Path) -> UserError:
    """The error that an index does not hold what it says."""
    return UserError(f"{path} is damaged: delete it, or name another file by --index")


def _digest(vectors: np.ndarray) -> str:
    return hashlib.sha256(vectors.tobytes()).hexdigest()


def _is_file(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and text(value[0]) and fits(value[1:], [whole])


def _is_problem(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and _is_file(value[:3]) and text(value[3])


_ABOUT = {"format": text, "fingerprint": text, "digest": text, "files": [_is_file], "unreadable": [_is_problem]}


def require_writable(path: Path) -> None:
    """Raise UserError, before anything is computed, if an index file could not be written."""
    try:
        require_file_target(path, "--index")
    except UserError:
        raise UserError(f"the index {path} cannot be written: name a file in your own folder with --index") from None


def default_path(gallery: Path) -> Path:
    """The file beside the gallery, with its name."""
    folder = Path(os.path.realpath(gallery))
    return folder.parent / f"{folder.name}.mgot-index.npz"


def kept(index: GalleryIndex, files: Sequence[ImageFile]) -> dict[ImageFile, np.ndarray | str]:
    """What an index has of the files that have not changed."""
    known: dict[ImageFile, np.ndarray | str] = dict(zip(index.files, index.features(), strict=True))
    known.update(index.unreadable)
    return {file: known[file] for file in files if file in known}
