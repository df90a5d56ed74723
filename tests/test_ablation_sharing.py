"""Runs of a grid that differ only in the cross stage share one intra stage, and each seed may have its own data."""

from __future__ import annotations

import json
import runpy
import threading
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
import yaml

from mgot.analysis.ablation import agenda
from mgot.analysis.ablation.agenda import Agenda
from mgot.analysis.ablation.grid import plan
from mgot.analysis.ablation.runs import Run, runs_of
from mgot.analysis.ablation.session import Ablation
from mgot.errors import UserError

REPO = Path(__file__).resolve().parent.parent
CONFIG = str(REPO / "projects/MGOT/configs/ablation.yml")
ROWS: dict[str, dict[str, object]] = {
    "full": {},
    "hungarian": {"MGOT.MATCHER.NAME": "hungarian"},
    "adversary": {"MGOT.LOSS.W_ADV": 1.0},
    "supervised": {"MGOT.MODE": "supervised"},
    "ccl": {"MGOT.LOSS.W_MCL": 0.0, "MGOT.LOSS.W_CPAL": 0.0},
}

# Notes what it was started with; an intra stage takes a while, and "vote" fails before its end.
TRAINING = """
import json, os, pathlib, sys, time
words = [w for w in sys.argv[1:] if w != "--resume"]
keys = dict(zip(words[::2], words[1::2]))
folder, donor = pathlib.Path(keys["OUTPUT_DIR"]), keys.get("MGOT.CROSS_STAGE.FROM", "")
with (folder / "starts").open("a") as stream:
    stream.write(json.dumps({"from": donor, "root": os.environ.get("FASTREID_DATASETS")}) + "\\n")
(folder / "results.json").write_text('{"rows": [], "seconds": {}}')
if keys.get("MGOT.MATCHER.NAME") == "vote":
    sys.exit("train_net.py: the vote was rigged")
if not donor:
    time.sleep(0.3)
    (folder / "model_intra.pth").touch()
epochs = [{"iteration": 250 * n, "truth/matching_accuracy": n / 4, "visible/labels_kept": 0.0} for n in (0, 1)]
epochs[0]["visible/labels_kept"] = 1.0
(folder / "metrics.json").write_text("\\n".join(map(json.dumps, epochs[1:] if donor else epochs)))
rows = [{"stage": "final", "protocol": "p", "rank1": 50.0, "mAP": 1.0}]
about = {"intra_from": donor} if donor else {}
(folder / "results.json").write_text(json.dumps({"rows": rows, "seconds": {}, **about}))
"""


@pytest.fixture(autouse=True)
def fixture_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "LOOK_AGAIN", 0.05)


def write_grid(folder: Path, rows: dict[str, dict[str, object]]) -> Path:
    path = folder / "grid.yml"
    path.write_text(yaml.safe_dump({"tables": [{"title": "t", "rows": rows}]}, sort_keys=False))
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Ablation]:
    """An ablation over some rows, with the stand-in for the training."""
    (tmp_path / "training.py").write_text(TRAINING)

    def build(rows: dict[str, dict[str, object]], seeds: Sequence[int] = (0,), **options: Any) -> Ablation:
        grid = write_grid(tmp_path, rows)
        return Ablation(CONFIG, grid, seeds, tmp_path / "out", tmp_path, training="training.py", **options)

    return build


def planned(folder: Path, rows: dict[str, dict[str, object]], seeds: Sequence[int] = (0,)) -> dict[str, Run]:
    """Row name and seed -> run."""
    (table,) = plan(CONFIG, write_grid(folder, rows), [])
    runs = {(run.config, run.seed): run for run in runs_of([table], seeds, folder / "out", {})}
    return {f"{row.name} {seed}": runs[row.config, seed] for seed in seeds for row in table.rows}


def starts(run: Run) -> list[dict[str, str]]:
    return [json.loads(line) for line in (run.folder / "starts").read_text().splitlines()]


def test_who_shares_with_whom(tmp_path: Path) -> None:
    rows: dict[str, dict[str, object]] = {
        **ROWS,
        "longer": {"SOLVER.MAX_EPOCH": 7},
        "other weights": {"MODEL.WEIGHTS": "x.pth"},
        "intra only": {"MGOT.MODE": "intra_only"},
        "one stage": {"MGOT.CROSS_START_EPOCH": 0},
        "not kept": {"MGOT.CHECKPOINT.INTRA": False},
        "from elsewhere": {"MGOT.CROSS_STAGE.FROM": "x.pth"},
    }
    groups = {name.removesuffix(" 0"): run.config.intra for name, run in planned(tmp_path, rows).items()}
    assert groups["full"] == groups["hungarian"] == groups["ccl"] != ""
    alone = ["full", "adversary", "longer", "other weights"]
    assert len({groups[name] for name in alone}) == len(alone) and "" not in {groups[name] for name in alone}
    nobody = ("supervised", "intra only", "one stage", "not kept", "from elsewhere")
    assert {groups[name] for name in nobody} == {""}
    starts_at = {name.removesuffix(" 0"): run.config.cross_start for name, run in planned(tmp_path, rows).items()}
    assert (starts_at["full"], starts_at["intra only"], starts_at["one stage"]) == (250, None, 0)


def intra_of(run: Run) -> Path:
    path = run.folder / "model_intra.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_run_waits_for_its_groups_intra_stage_and_others_go_first(tmp_path: Path) -> None:
    runs = planned(tmp_path, ROWS, (0, 1))
    todo = Agenda(runs.values(), list(runs.values()))
    taken = [todo.take() for _ in range(6)]
    names = ["full 0", "adversary 0", "supervised 0", "full 1", "adversary 1", "supervised 1"]
    assert taken == [(runs[name], None) for name in names]
    path = intra_of(runs["full 1"])
    assert todo.take() == (runs["hungarian 1"], path)
    todo.ended(runs["full 0"])  # without having left its intra stage
    assert todo.take() == (runs["hungarian 0"], None)
    assert todo.take() == (runs["ccl 1"], path)
    threading.Timer(0.2, lambda: intra_of(runs["hungarian 0"])).start()
    assert todo.take() == (runs["ccl 0"], runs["hungarian 0"].folder / "model_intra.pth")
    with pytest.raises(CancelledError):
        todo.take()


def test_what_was_begun_goes_first_and_on_its_own_and_what_has_finished_gives(tmp_path: Path) -> None:
    runs = planned(tmp_path, ROWS, (0, 1))
    begun = runs["ccl 0"]
    begun.folder.mkdir(parents=True)
    (begun.folder / "last_checkpoint").write_text("model_0000.pth")
    path = intra_of(runs["full 1"])
    left = [runs[name] for name in ("hungarian 0", "ccl 0", "hungarian 1")]
    todo = Agenda(left, list(runs.values()))
    assert [todo.take() for _ in range(2)] == [(begun, None), (runs["hungarian 1"], path)]
    todo.stop()
    with pytest.raises(CancelledError):
        todo.take()
    alone = Agenda(left, list(runs.values()), share=False)
    assert [alone.take()[1] for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_grid_is_trained_with_one_intra_stage(make: Callable[..., Ablation], tmp_path: Path, jobs: int) -> None:
    assert make(ROWS, (0, 1)).run(jobs) == 0
    runs = planned(tmp_path, ROWS, (0, 1))
    for seed in (0, 1):
        assert [starts(runs[f"{name} {seed}"])[0]["from"] for name in ("adversary", "supervised")] == ["", ""]
        donors = [starts(runs[f"{name} {seed}"])[0]["from"] for name in ("full", "hungarian", "ccl")]
        assert donors == ["", *[str(runs[f"full {seed}"].folder / "model_intra.pth")] * 2]
    rows = json.loads((tmp_path / "out/table.json").read_text())["tables"][0]["rows"]
    assert [row["collapsed"] for row in rows] == [2] * 5  # of an epoch of the shared stage, too
    assert [row["matching_at_start"]["mean"] for row in rows] == [0.25] * 5


def test_where_the_first_fails_the_next_trains_the_stage(make: Callable[..., Ablation], tmp_path: Path) -> None:
    rows: dict[str, dict[str, object]] = {"vote": {"MGOT.MATCHER.NAME": "vote"}, **ROWS}
    assert make(rows).run(2) == 1
    runs = planned(tmp_path, rows)
    first = [starts(runs[f"{name} 0"])[0]["from"] for name in ("vote", "full", "ccl")]
    assert first == ["", "", str(runs["full 0"].folder / "model_intra.pth")]
    assert make(rows).run(2) == 1
    assert starts(runs["vote 0"])[1]["from"] == first[2] and len(starts(runs["ccl 0"])) == 1


def test_each_seed_has_its_own_data(make: Callable[..., Ablation], tmp_path: Path) -> None:
    rows, roots = {"full": ROWS["full"]}, {0: Path("a"), 4: Path("b")}
    make(rows, (0, 4), roots=roots, share=False).run(1)
    runs = planned(tmp_path, rows, (0, 4))
    assert [starts(run)[0]["root"] for run in runs.values()] == ["a", "b"]
    assert "FASTREID_DATASETS of 0: a, 4: b" in (tmp_path / "out/table.md").read_text()
    with pytest.raises(UserError, match=r"holds runs of seed 4 on --roots b, not c: give the same"):
        make(rows, (4,), roots={4: Path("c")})
    with pytest.raises(UserError, match=r"holds runs of seed 0 on --roots a, not \(none\)"):
        make(rows, (0,))


def parsed(*words: str) -> Namespace:
    parse = runpy.run_path(str(REPO / "tools/ablate.py"))["parse"]
    args = parse(["--config-file", CONFIG, "--grid", "grid.yml", *words])
    assert isinstance(args, Namespace)
    return args


def test_roots_go_with_seeds_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = parsed("--seeds", "2", "1", "--roots", "a", "b", "KEY", "VALUE")
    assert (args.seeds, args.roots, args.opts) == ([1, 2], {2: Path("a"), 1: Path("b")}, ["KEY", "VALUE"])
    assert parsed("--seeds", "1", "KEY", "VALUE", "--no-share").roots == {}
    for words in (["1", "2", "--roots", "a"], ["1", "1", "--roots", "a", "b"], ["1", "--roots", "a", str(tmp_path)]):
        with pytest.raises(SystemExit):
            parsed("--seeds", *words)
        assert "--roots takes a folder for each" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_of_a_shared_stage_are_those_of_runs_alone(
    tiny_options: Callable[..., list[str]], tmp_path: Path
) -> None:
    words = tiny_options("MGOT.DIAGNOSTICS", False, "TEST.EVAL_PERIOD", 1)
    pairs = zip(words[::2], words[1::2], strict=True)
    options = [word for pair in pairs if pair[0] not in ("SEED", "OUTPUT_DIR") for word in pair]
    grid = write_grid(tmp_path, {name: ROWS[name] for name in ("full", "hungarian")})
    figures = []
    for name, share in (("shared", True), ("alone", False)):
        out = tmp_path / name
        assert Ablation(CONFIG, grid, (3,), out, REPO, options, share=share).run(1) == 0
        rows = json.loads((out / "table.json").read_text())["tables"][0]["rows"]
        figures.append([{key: row[key] for key in ("rank1", "mAP", "matching_accuracy", "collapsed")} for row in rows])
        begun = [path for path in out.glob("*/*/results.json") if "intra_from" in path.read_text()]
        assert len(begun) == share and len(list(out.glob("*/*/model_intra.pth"))) == 2 - share
        assert all(row["seconds"]["mean"] > 0 for row in rows)
    assert figures[0] == figures[1]
