"""The pictures: what they put where, and that a command draws all of them or says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mgot.analysis.diagnostics.record import EpochRecord
from mgot.analysis.diagnostics.run import read_run
from mgot.analysis.pictures.album import first_and, first_rankings
from mgot.analysis.pictures.bars import Bar, draw_bars
from mgot.analysis.pictures.curves import draw_curves
from mgot.analysis.pictures.degraded import measure_load
from mgot.analysis.pictures.distances import overlap
from mgot.analysis.pictures.feature_map import Truth, chosen_identities, shown_images
from mgot.analysis.pictures.plan import diagonal_order, draw_plans, kept_matches
from mgot.analysis.pictures.rankings import draw_rankings
from mgot.analysis.pictures.style import blend, encode
from mgot.errors import UserError
from tests.runs import a_record, write_run
from tests.scripts import script

QUERY = {
    "path": "infrared/0.jpg",
    "found": [
        {"path": "visible/1.jpg", "distance": 0.25, "right": True},
        {"path": "gone", "distance": 0.5, "right": False},
    ],
}


def shuffled(record: EpochRecord, seed: int = 1) -> EpochRecord:
    """The same matching under other cluster numbers."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(record.v2r)), rng.permutation(len(record.r2v))
    return record._replace(
        identity_v=record.identity_v[rows],
        identity_r=record.identity_r[columns],
        v2r=np.argsort(columns)[record.v2r][rows],
        r2v=np.argsort(rows)[record.r2v][columns],
        similarity=record.similarity[np.ix_(rows, columns)],
        scores=record.scores[np.ix_(rows, columns)],
    )


def test_matches_come_to_lie_on_the_diagonal_whatever_the_numbering() -> None:
    record = shuffled(a_record(clusters=(9, 9)))
    rows, columns = diagonal_order(record)
    assert sorted(rows) == sorted(columns) == list(range(9))
    assert [int(record.v2r[row]) for row in rows] == columns.tolist()


def test_right_blocks_come_first_and_the_unmatched_last() -> None:
    record = a_record(clusters=(4, 4))._replace(
        v2r=np.array([1, -1, 2, 3]), r2v=np.array([-1, 0, 2, 3]), identity_r=np.array([0, 8, 2, 3])
    )
    rows, columns = diagonal_order(record)
    assert set(rows[:2]) == set(columns[:2]) == {2, 3}
    assert (rows[2], columns[2]) == (0, 1) and (rows[3], columns[3]) == (1, 0)


def test_unknown_identities_are_neither_right_nor_wrong() -> None:
    record = a_record(clusters=(3, 3))._replace(identity_v=np.array([-1, 1, 2]))
    assert kept_matches(record).kinds.tolist() == [[2, 2, 2], [0, 1, 0], [0, 0, 1]]


def test_matches_out_of_the_kept_matrices_are_none() -> None:
    record = a_record(clusters=(4, 4))
    half = record._replace(kept_v=np.array([1, 3]), kept_r=np.array([0, 3]), similarity=record.similarity[1::2, ::3])
    assert kept_matches(half).v2r.tolist() == [-1, 1] and kept_matches(half).r2v.tolist() == [-1, 1]


def test_the_load_of_the_degraded_solution_is_the_count_of_argmaxes() -> None:
    record = a_record(clusters=(6, 5))
    crowded = record.similarity.astype(float).copy()
    crowded[:, 2] += 0.9
    crowded = crowded / 2
    load = measure_load(record._replace(similarity=crowded), uniform_prior=False, sharpness=25.0)
    taken = np.bincount(crowded.argmax(axis=1), minlength=5)
    assert load.total.tolist() == sorted(taken, reverse=True) and load.rescued == (taken == 0).sum()
    assert load.right.sum() == (crowded.argmax(axis=1) == np.arange(6)).sum() and not load.unknown.any()
    even = measure_load(record._replace(similarity=crowded), uniform_prior=True, sharpness=25.0)
    assert even.total.max() < load.total.max()


def test_maps_show_the_same_people_at_every_epoch() -> None:
    records = [a_record(epoch, seed=epoch) for epoch in (0, 5)]
    truth = Truth(np.maximum(records[0].labels_v, 0), np.maximum(records[0].labels_r, 0))
    chosen = [chosen_identities(truth, record, count=3) for record in records]
    assert chosen[0] == chosen[1] and len(chosen[0]) == 3
    shown = [shown_images(truth, record, chosen[0]) for record in records]
    assert shown[0].tolist() == shown[1].tolist()
    nobody = Truth(np.full(25, -1), np.full(21, -1))
    assert chosen_identities(nobody, records[0]) == []


def test_overlap_of_histograms() -> None:
    assert overlap(np.array([[2, 2, 0], [0, 5, 5]])) == pytest.approx(0.5)
    assert overlap(np.array([[0, 0], [1, 2]])) == 0.0


def test_blending_goes_from_white_to_the_full_colour() -> None:
    cells = blend(np.array([[0.0, 1.0, 7.0]]), np.array([[0, 0, 1]]), ["#FF0000", "#0000FF"])
    assert cells.tolist() == [[[1, 1, 1], [1, 0, 0], [0, 0, 1]]]


@pytest.mark.slow
def test_the_command_draws_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = script("tools/visualize.py")
    run = write_run(tmp_path / "run")
    ranking = {"protocol": "toy", "queries": [QUERY], "worst": [{**QUERY, "ap": 12.5}]}
    curve = {"fpr": [0.0, 0.5, 1.0], "tpr": [0.0, 0.7, 1.0]}
    (run / "diagnostics/rankings.json").write_text(json.dumps({"final": [{**ranking, "roc": curve}]}))
    assert tool.main([str(run)]) == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    names = {"plan", "degraded", "features", "sizes", "distances", "rankings", "worst", "roc", "curves"}
    assert {path.stem for path in files} == names and len(files) == 18
    assert all(path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml") for path in files)
    assert tool.main([str(run), "--epoch", "7"]) == 2
    assert "has records of epochs 0, 1, 2" in capsys.readouterr().err


def test_the_first_epoch_stands_beside_another_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert [int(record.epoch) for record in first_and(run, None)] == [0, 2]
    assert [int(record.epoch) for record in first_and(run, 1)] == [0, 1]
    assert [int(record.epoch) for record in first_and(run, 0)] == [0]


def test_the_same_picture_is_the_same_file() -> None:
    files = [encode(draw_plans([a_record()]), "svg") for _ in range(2)]
    assert files[0] == files[1]


def test_rankings_of_an_earlier_version_and_damaged_ones(tmp_path: Path) -> None:
    (tmp_path / "diagnostics").mkdir()
    path = tmp_path / "diagnostics/rankings.json"
    assert first_rankings(tmp_path) == {}
    stages = {"initial": [{"protocol": "a", "queries": []}], "final": [{"protocol": "a", "queries": [QUERY]}]}
    path.write_text(json.dumps(stages))
    assert list(first_rankings(tmp_path)) == ["initial", "final"] and "worst" not in first_rankings(tmp_path)["final"]
    for damaged in ("cut", "[]", '{"final": []}', '{"final": [{}]}'):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"rankings\.json cannot be read"):
            first_rankings(tmp_path)


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("")
    with pytest.raises(UserError, match=r"MGOT\.DIAGNOSTICS True"):
        first_and(tmp_path, None)
    assert draw_curves(read_run(tmp_path, "empty")) is None


def test_a_loss_from_outside_is_drawn_beside_ours(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    more = [{**line, "loss_vcl": 2.0, "loss_uniformity": -1.0} for line in lines]
    (run / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in more))
    figure = draw_curves(read_run(run, "run"))
    assert figure is not None
    losses = next(axis for axis in figure.axes if axis.get_title() == "losses")
    assert [line.get_label() for line in losses.lines] == ["VCL", "uniformity"]


def test_rankings_are_marked_by_sign_and_distance(tmp_path: Path) -> None:
    figure = draw_rankings([QUERY], tmp_path)
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["query", "✓ 0.25", "✗ 0.50"]
    figure = draw_rankings([{**QUERY, "ap": 12.5}], tmp_path)
    assert figure is not None and figure.axes[0].get_title() == "AP 12.5 %"
    assert draw_rankings([], tmp_path) is None


def test_a_run_without_the_prior_is_drawn_as_such() -> None:
    figure = draw_plans([a_record(prior=False)])
    assert "P, without the prior" in figure.axes[1].get_title()


def test_a_bar_is_as_long_as_its_mean_and_says_so() -> None:
    two, none = Bar("two", 40.0, diagnosis=True), Bar("none", None, note="not run")
    bars = [Bar("one", 20.0, 1.5, (18.5, 21.5), "0.50"), two, none]
    figure = draw_bars({"t": bars}, "Rank-1")
    (axes,) = figure.axes
    assert [patch.get_width() for patch in axes.patches] == [20.0, 40.0]  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two", "none"]
    assert [text.get_text().strip() for text in axes.texts] == ["20.00 ± 1.50, 0.50", "40.00", "not run"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first row is at the top"
    assert axes.patches[1].get_alpha() < axes.patches[0].get_alpha()  # type: ignore[operator]
    assert encode(figure, "svg") == encode(draw_bars({"t": bars}, "Rank-1"), "svg")


def test_tables_of_the_same_rows_stand_side_by_side_and_others_below_each_other() -> None:
    one, other = [Bar("full", 1.0)], [Bar("full", 2.0), Bar("intra", 3.0)]
    beside, below = draw_bars({"a": one, "b": one}, "x"), draw_bars({"a": one, "b": other}, "x")
    beside.draw_without_rendering()
    below.draw_without_rendering()
    (left, right), (top, bottom) = ([axes.get_position() for axes in figure.axes] for figure in (beside, below))
    assert left.y0 == right.y0 and left.x1 < right.x0 and bottom.y1 < top.y0
    assert below.axes[0].get_xlim() == below.axes[1].get_xlim()
