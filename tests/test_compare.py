"""tools/compare.py: what runs left is put side by side as it is, and what they did not leave is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from mgot.analysis.comparison.curves import draw_curves, panels
from mgot.analysis.diagnostics.run import differences, read_runs
from mgot.errors import UserError
from tests.scripts import script


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return script("tools/compare.py")


def result_row(stage: str, rank1: float) -> dict[str, Any]:
    figures = {"rank1": rank1, "rank1_std": 1.25, "mAP": rank1 / 2, "mINP": rank1 / 4}
    return {"stage": stage, "protocol": "sysu-all-single", "trials": [{"rank1": rank1}], **figures}


def write_run(folder: Path, *, epochs: int = 2, rank1: float = 40.0, **keys: Any) -> Path:
    """A run of two planned epochs of five steps, of which ``epochs`` are done."""
    folder.mkdir(parents=True)
    config = {
        "SEED": 3,
        "OUTPUT_DIR": str(folder),
        "SOLVER": {"MAX_EPOCH": 2},
        "MGOT": {"ITERS_PER_EPOCH": 5, "CLUSTER": {"EPS": 0.5}, **keys},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = []
    for epoch in range(epochs):
        lines.append({"iteration": 5 * epoch, "truth/matching_accuracy": 0.5 + epoch / 10, "truth/visible_ari": 0.25})
        lines.append({"iteration": 5 * epoch + 4, "total_loss": 9.0 - epoch, "sysu-all-single/rank1": rank1 + epoch})
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stages = ["initial"] + ["final"] * (epochs >= 2)
    rows = [result_row(stage, 20.0 if stage == "initial" else rank1) for stage in stages]
    seconds = dict.fromkeys(stages, 60.0)
    (folder / "results.json").write_text(json.dumps({"rows": rows, "seconds": seconds, "seed": 3}))
    return folder


def test_a_finished_and_an_unfinished_run(tool: ModuleType, tmp_path: Path, capsys: Any) -> None:
    runs = [write_run(tmp_path / "whole"), write_run(tmp_path / "part", epochs=1)]
    assert tool.main([*map(str, runs), "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    whole, part = (next(line for line in out.splitlines() if f"| {name} " in line) for name in ("whole", "part"))
    cells = [cell.strip() for cell in whole.split("|")[1:-1]]
    assert cells == [
        "whole", "finished", "3", "sysu-all-single", "40.00 +- 1.25", "20.00", "10.00", "0.600", "0.250", "-", "2.0",
    ]  # fmt: skip
    assert "unfinished: 1 of 2 epochs" in part and "40.00" not in part and "0.500" in part
    assert "differ only in OUTPUT_DIR" in out
    page = (tmp_path / "out/comparison.md").read_text()
    assert page.startswith(out.split("\nwritten:")[0].rstrip("\n")) and "(curves.png)" in page
    assert (tmp_path / "out/curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "out/curves.svg").read_text()


def test_json_alone_is_on_the_standard_output(tool: ModuleType, tmp_path: Path, capsys: Any) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", CLUSTER={"EPS": 0.25}, PAIRED_SAMPLING=False)]
    assert tool.main([*map(str, runs), "--output", str(tmp_path), "--no-curves", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differences"] == {"MGOT.CLUSTER.EPS": [0.5, 0.25], "MGOT.PAIRED_SAMPLING": [None, False]}
    assert told["files"] == [str(tmp_path / "comparison.md")]
    first = told["runs"][0]
    assert (first["label"], first["seconds"], first["matching_accuracy"], first["ari_infrared"]) == (
        "a",
        120,
        0.6,
        None,
    )
    assert first["rows"] == [
        {"protocol": "sysu-all-single", "rank1": 40.0, "mAP": 20.0, "mINP": 10.0, "rank1_std": 1.25}
    ]


def test_curves_stand_at_the_epochs_done(tmp_path: Path) -> None:
    (run,) = read_runs([write_run(tmp_path / "a")])
    assert run.curve("truth/matching_accuracy") == ([0.0, 1.0], [0.5, 0.6])
    assert run.curve("total_loss") == ([1.0, 2.0], [9.0, 8.0])
    assert run.curve("sysu-all-single/rank1") == ([0.0, 1.0, 2.0], [20.0, 40.0, 41.0])
    assert run.curve("no such measure") == ([], [])
    assert list(panels([run])) == [
        "sysu-all-single/rank1",
        "truth/matching_accuracy",
        "truth/visible_ari",
        "total_loss",
    ]


def test_torn_lines_repeated_epochs_and_values_that_are_not_finite(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    with (folder / "metrics.json").open("a") as stream:
        stream.write('{"iteration": 9, "total_loss": 7.5}\n{"iteration": 14, "total_loss": NaN}\n{"iteration": 19, "to')
    (run,) = read_runs([folder])
    assert run.curve("total_loss") == ([1.0, 2.0], [9.0, 7.5])


def test_folders_that_hold_little(tmp_path: Path) -> None:
    bare, scored, mean = tmp_path / "bare", tmp_path / "scored", tmp_path / "mean"
    for folder in (bare, scored, mean):
        folder.mkdir()
    (bare / "config.yaml").write_text("SEED: 1\n")
    (scored / "results.json").write_text(json.dumps({"rows": [result_row("final", 30.0)], "seconds": {"final": 1.0}}))
    (mean / "results.json").write_text(json.dumps({"rows": [result_row("final", 30.0)], "trials": [1, 2]}))
    runs = read_runs([bare, scored, mean])
    assert [run.status for run in runs] == ["no results", "scored, not trained", "mean of 2 trials"]
    assert [run.seed for run in runs] == [1, None, None]
    assert draw_curves([runs[0]]) is None
    assert differences(runs) == {}


def test_runs_of_one_name_are_told_apart_and_odd_names_are_drawn(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / place / "_a$b$|c") for place in ("one", "two")]
    runs = read_runs(folders)
    assert [run.label for run in runs] == [str(folder) for folder in folders]
    figure = draw_curves([run for run in read_runs(folders[:1]) for _ in range(30)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r" _a\$b\$|c"] * 30
    lines = figure.axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}) == 30


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "is not a run: it holds none of config.yaml"),
        (
            lambda folder: write_run(folder).joinpath("results.json").write_text("{"),
            "results.json is damaged",
        ),
        (
            lambda folder: write_run(folder).joinpath("results.json").write_text("[]"),
            "results.json is damaged",
        ),
        (lambda folder: write_run(folder).joinpath("config.yaml").write_text("a: [1"), "config.yaml: not the YAML"),
        (lambda folder: write_run(folder).joinpath("config.yaml").write_text("- 1"), "config.yaml: not the YAML"),
        (
            lambda folder: write_run(folder).joinpath("config.yaml").write_text("a: 2020-01-01"),
            "config.yaml: not the YAML",
        ),
    ],
)
def test_mistakes_are_one_line(tool: ModuleType, tmp_path: Path, capsys: Any, make: Any, message: str) -> None:
    make(tmp_path / "run")
    assert tool.main([str(tmp_path / "run"), "--json", "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_given_twice(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    with pytest.raises(UserError, match="given twice"):
        read_runs([folder, folder / ".." / "a"])


def test_an_output_that_cannot_be_written(tool: ModuleType, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").touch()
    assert tool.main([str(write_run(tmp_path / "a")), "--output", str(tmp_path / "file")]) == 2
    assert "--output" in capsys.readouterr().err


def test_without_matplotlib_the_remedy_is_named(
    tool: ModuleType, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = [str(write_run(tmp_path / "a")), "--output", str(tmp_path / "out")]
    assert tool.main(arguments) == 2
    assert "--no-curves" in capsys.readouterr().err
    assert tool.main([*arguments, "--no-curves"]) == 0
