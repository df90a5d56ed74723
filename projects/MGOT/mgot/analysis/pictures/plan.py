"""Similarity beside plan, as in the paper's Fig. 5, with the matches on the diagonal.

Notation: k_v, k_r the kept visible and infrared prototypes of a record; S similarity; Q plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mgot.analysis.diagnostics.record import EpochRecord
from mgot.analysis.pictures.style import RIGHT, UNKNOWN, WRONG, blend, new_figure, shade, styled

COLOURS = (WRONG, RIGHT, UNKNOWN)
FULL = 0.3  # share of a row's mass that is drawn at full strength
MARKED = 40  # prototypes a side up to which each match gets a symbol


class Matches(NamedTuple):
    """The kept part of a record's matches.

    Attributes:
        v2r: (k_v,) column of each row's match, -1 if there is none or it is not kept.
        r2v: (k_r,) row of each column's match, likewise.
        kinds: (k_v, k_r) what a match of this pair would be: 1 right, 0 wrong, 2 unknown (no ground truth).
    """

    v2r: np.ndarray
    r2v: np.ndarray
    kinds: np.ndarray


def kept_matches(record: EpochRecord) -> Matches:
    """The matches in the coordinates of the record's matrices."""
    identity_v, identity_r = record.identity_v[record.kept_v], record.identity_r[record.kept_r]
    kinds = (identity_v[:, None] == identity_r[None, :]).astype(np.int64)
    kinds[identity_v < 0, :] = 2
    kinds[:, identity_r < 0] = 2
    v2r = _positions(record.v2r[record.kept_v], record.kept_r)
    return Matches(v2r, _positions(record.r2v[record.kept_r], record.kept_v), kinds)


def _positions(clusters: np.ndarray, kept: np.ndarray) -> np.ndarray:
    where = np.searchsorted(kept, clusters)
    found = (clusters >= 0) & (where < len(kept))
    found[found] = kept[where[found]] == clusters[found]
    return np.where(found, where, -1)


def diagonal_order(record: EpochRecord) -> tuple[np.ndarray, np.ndarray]:
    """Orders of rows and columns that put matches on the diagonal.

    Prototypes that are linked by matches, over any number of steps, make a block. Blocks with only right matches come
    first, then blocks with a wrong one. In each group the surest come first. Unmatched prototypes come last.
    """
    v2r, r2v, kinds = kept_matches(record)
    n_v, n_r = kinds.shape
    rows, columns = np.flatnonzero(v2r >= 0), np.flatnonzero(r2v >= 0)
    starts = np.concatenate([rows, r2v[columns]])
    ends = n_v + np.concatenate([v2r[rows], columns])
    graph = coo_matrix((np.ones(len(starts)), (starts, ends)), shape=(n_v + n_r, n_v + n_r))
    n_blocks, block = connected_components(graph, directed=False)
    alone = np.bincount(block, minlength=n_blocks) == 1
    wrong, surest = np.zeros(n_blocks), np.zeros(n_blocks)
    np.maximum.at(wrong, block[starts], (kinds[starts, ends - n_v] == 0).astype(float))
    np.maximum.at(surest, block[starts], record.scores[starts, ends - n_v].astype(float))
    place = np.empty(n_blocks, dtype=np.int64)
    place[np.lexsort((-surest, wrong, alone))] = np.arange(n_blocks)
    column_order = np.lexsort((np.arange(n_r), place[block[n_v:]]))
    column_place = np.argsort(column_order)
    own = np.where(v2r >= 0, column_place[np.maximum(v2r, 0)], n_r) if n_r else v2r
    return np.lexsort((own, place[block[:n_v]])), column_order


@styled
def draw_plans(records: Sequence[EpochRecord], *, width: float = 7.0) -> Figure:
    """A row for each record: (S+1)/2 on the left, Q on the right, in the same order of prototypes.

    Q's mass is blue between clusters of one majority identity and vermillion between others, dark grey without ground
    truth. A cell has its full strength from FULL of a row's mass on. A record of a run without the prior shows P in
    place of Q.
    """
    figure, axes = new_figure(len(records), 2, (width, 0.53 * width * len(records)))
    for (left, right), record in zip(axes, records, strict=True):
        rows, columns = diagonal_order(record)
        similarity = (record.similarity.astype(float)[np.ix_(rows, columns)] + 1) / 2
        image = left.imshow(similarity, cmap=shade("#000000"), aspect="auto", interpolation="nearest")
        figure.colorbar(image, ax=left, shrink=0.8, pad=0.02)
        left.set_title(f"epoch {int(record.epoch)}: similarity (S+1)/2")
        _draw_plan(right, record, rows, columns)
        for axis in (left, right):
            axis.set_xlabel(f"infrared prototypes ({len(columns)})")
            axis.set_ylabel(f"visible prototypes ({len(rows)})")
            axis.set_xticks([])
            axis.set_yticks([])
    return figure


def _draw_plan(axes: Axes, record: EpochRecord, rows: np.ndarray, columns: np.ndarray) -> None:
    matches = kept_matches(record)
    kinds = matches.kinds[np.ix_(rows, columns)]
    share = record.scores.astype(float)[np.ix_(rows, columns)]
    if not record.transported and share.size:  # P is nearly flat: stretch it over its range
        share = (share - share.min()) / max(np.ptp(share) / FULL, 1e-12)
    axes.imshow(blend(share / FULL, kinds, COLOURS), aspect="auto", interpolation="nearest")
    taken = matches.v2r if str(record.supply) == "visible" else matches.r2v
    pairs = [(i, j) if str(record.supply) == "visible" else (j, i) for i, j in enumerate(taken) if j >= 0]
    hits = [int(matches.kinds[pair]) for pair in pairs]
    if max(kinds.shape, default=0) <= MARKED:
        row_place, column_place = np.argsort(rows), np.argsort(columns)
        for (i, j), kind in zip(pairs, hits, strict=True):
            axes.plot(column_place[j], row_place[i], "x" if kind == 0 else ".", color="white", ms=4, mew=1)
    name = "plan Q" if record.transported else "P, without the prior"
    tally = f"{hits.count(1)} of {len(hits)} matches right" if 2 not in hits else f"{len(hits)} matches"
    axes.set_title(f"epoch {int(record.epoch)}: {name}, {tally}")
    known = [Patch(color=RIGHT, label="same identity"), Patch(color=WRONG, label="different identities")]
    handles = [Patch(color=UNKNOWN, label="identity unknown")] if 2 in hits else known
    axes.legend(handles=handles, loc="lower left", framealpha=0.85, frameon=True, edgecolor="none")
