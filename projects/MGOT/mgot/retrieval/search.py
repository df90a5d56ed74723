"""Search a folder: update its index, embed the queries, rank."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mgot.errors import UserError
from mgot.retrieval.embedder import Embedder, embed_files
from mgot.retrieval.gallery import list_gallery, require_folder
from mgot.retrieval.index import (
    EXACT_UP_TO,
    GalleryIndex,
    build_index,
    damaged,
    default_path,
    kept,
    load_index,
    require_writable,
    save_index,
)


class Hit(NamedTuple):
    """A gallery image and its cosine distance to the query, in [0, 2]."""

    path: Path
    distance: float


class Answer(NamedTuple):
    """A query and its nearest gallery images, nearest first."""

    query: Path
    hits: list[Hit]


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        gallery: folder of images, at any depth.
        queries: image files; one that lies in the gallery is not its own answer.
        top: images of an answer.
        index: file that keeps the gallery's features; None for ``<gallery>.mgot-index.npz`` beside the gallery.
        query_visible: modality of the queries, for a model that needs it; None if it does not.
        gallery_visible: the same for the gallery; None for the other modality than the queries'.
        exact_up_to: with more images than this, the search compares only the nearest cells.
    """

    gallery: Path
    queries: Sequence[Path]
    top: int = 10
    index: Path | None = None
    query_visible: bool | None = None
    gallery_visible: bool | None = None
    exact_up_to: int = EXACT_UP_TO

    @property
    def index_path(self) -> Path:
        """The file of the index."""
        return default_path(self.gallery) if self.index is None else self.index

    def check(self) -> None:
        """Raise UserError for a missing query or gallery, or a number out of range: before a model is loaded."""
        if self.top < 1:
            raise UserError(f"--top must be 1 or more, not {self.top}")
        if self.exact_up_to < 0:
            raise UserError(f"--exact-up-to must be 0 or more, not {self.exact_up_to}")
        for query in self.queries:
            if not os.path.isfile(query):
                reason = "is a folder" if os.path.isdir(query) else "does not exist"
                raise UserError(f"--query {query} {reason}: name an image file")
        require_folder(self.gallery)
        require_writable(self.index_path)


@dataclass
class Outcome:
    """What a search found.

    Attributes:
        answers: one a query.
        images: readable images of the gallery.
        embedded: files that went through the model now. The features of the others were kept.
        removed: files in the index that have changed or are no longer in the folder.
        unreadable: files of the gallery that cannot be read, with the reason.
        exact: whether each query was compared with every image.
        index: the index's file.
    """

    answers: list[Answer]
    images: int
    embedded: int
    removed: int
    exact: bool
    index: Path
    unreadable: dict[Path, str] = field(default_factory=dict)


def search_folder(embedder: Embedder, request: Request) -> Outcome:
    """Answer a request.

    The index is built at the first call. Afterwards only images that were added or changed (another size or time of
    change) go through the model. With another model it is built again.

    Raises:
        UserError: as in :meth:`Request.check`; or a query cannot be read, no gallery image can be read, or the model
            has a stem for each modality and the queries' modality is not given.
    """
    request.check()
    query_visible, gallery_visible = _modalities(embedder, request)
    queries = []
    for feature in embed_files(embedder, request.queries, visible=query_visible, desc="queries"):
        if isinstance(feature, UserError):
            raise feature
        queries.append(feature)
    index, embedded, removed = _refresh(embedder, request, gallery_visible, len(queries[0]))
    if not index.files:
        first = next(iter(index.unreadable.values()))
        raise UserError(f"--gallery {request.gallery}: none of {len(index.unreadable)} images can be read; {first}")
    return Outcome(
        answers=_answers(index, request, np.stack(queries)),
        images=len(index.files),
        embedded=embedded,
        removed=removed,
        exact=index.exact,
        index=request.index_path,
        unreadable={request.gallery / file.path: problem for file, problem in sorted(index.unreadable.items())},
    )


def _modalities(embedder: Embedder, request: Request) -> tuple[bool | None, bool | None]:
    if not embedder.two_stream:
        return None, None
    if request.query_visible is None:
        raise UserError("this model has a stem for each modality: add --query-modality visible, or infrared")
    other = not request.query_visible
    return request.query_visible, other if request.gallery_visible is None else request.gallery_visible


def _refresh(embedder: Embedder, request: Request, visible: bool | None, width: int) -> tuple[GalleryIndex, int, int]:
    """The index of the present gallery, with the numbers of files that were embedded and removed.

    If the embedding ends early, what was embedded until then is kept. ``width`` is the features' number of values.
    """
    path = request.index_path
    fingerprint = hashlib.sha256(f"{embedder.fingerprint} {visible}".encode()).hexdigest()
    files = list_gallery(request.gallery)
    old = load_index(path)
    if old is not None and old.fingerprint != fingerprint:
        old = None
    if old is not None and old.vectors is not None and old.vectors.d != width:
        raise damaged(path)
    known = {} if old is None else kept(old, files)
    missing = [file for file in files if file not in known]
    removed = 0 if old is None else len(old.files) + len(old.unreadable) - len(known)
    if old is not None and not missing and not removed and old.exact == (len(old.files) <= request.exact_up_to):
        return old, 0, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = [request.gallery / file.path for file in missing]
    try:
        for file, feature in zip(missing, embed_files(embedder, paths, visible=visible, desc="gallery"), strict=True):
            known[file] = str(feature) if isinstance(feature, UserError) else feature
    finally:
        index = build_index(fingerprint, known, exact_up_to=request.exact_up_to)
        if known:
            save_index(index, path)
    return index, len(missing), removed


def _answers(index: GalleryIndex, request: Request, features: np.ndarray) -> list[Answer]:
    """The nearest images of each query. One more is searched for, because a query may find itself."""
    answers = []
    for query, found in zip(request.queries, index.search(features, request.top + 1), strict=True):
        itself = os.path.realpath(query)
        hits = [Hit(request.gallery / index.files[row].path, distance) for row, distance in found]
        answers.append(Answer(query, [hit for hit in hits if os.path.realpath(hit.path) != itself][: request.top]))
    return answers
