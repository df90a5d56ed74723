"""Grids of trainings: planned, shared, resumed, averaged, interrupted: with a stand-in for the training, once real."""

from __future__ import annotations

import json
import math
import os
import runpy
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mgot.analysis.ablation.grid import plan
from mgot.analysis.ablation.runs import runs_of
from mgot.analysis.ablation.session import Ablation
from mgot.engine.setup import load_config
from mgot.errors import UserError

REPO = Path(__file__).resolve().parent.parent
CONFIG = str(REPO / "projects/MGOT/configs/ablation.yml")
GRID = REPO / "projects/MGOT/ablations/demo.yml"

# Rank-1 is the matcher's lambda plus the seed; "vote" fails, and every start is counted.
TRAINING = """
import json, os, pathlib, sys, time
resume = "--resume" in sys.argv
words = [w for w in sys.argv[1:] if w != "--resume"]
keys = dict(zip(words[::2], words[1::2]))
folder, seed = pathlib.Path(keys["OUTPUT_DIR"]), int(keys["SEED"])
with (folder / "starts").open("a") as stream:
    stream.write(f"{resume} {os.environ['OMP_NUM_THREADS']}\\n")
if keys.get("MGOT.MATCHER.NAME") == "vote":
    print("working")
    sys.exit("train_net.py: the vote was rigged")
if keys.get("MGOT.MATCHER.NAME") == "nearest":
    (folder / "sleeping").touch()
    time.sleep(60)
rank1 = float(keys.get("MGOT.MATCHER.LAMBDA", 25)) + seed
rows = [{"stage": s, "protocol": "p", "rank1": r, "mAP": 1.0} for s, r in (("initial", 20.0), ("final", rank1))]
kept = 1.0 if keys.get("MGOT.MATCHER.SUPPLY") == "infrared" else 0.0
epochs = [
    {"iteration": 250 * n, "truth/matching_accuracy": a, "visible/labels_kept": kept, "seconds/train": 2.0}
    for n, a in enumerate((0.1, 0.3, 0.5))
]
(folder / "metrics.json").write_text("\\n".join(['{"cut', *map(json.dumps, epochs), '{"total_loss": 1}']))
(folder / "results.json").write_text(json.dumps({"rows": rows, "seconds": {}}))
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Ablation]:
    """An ablation over a grid, given as {title: {row: keys}}, with the stand-in for the training."""
    (tmp_path / "training.py").write_text(TRAINING)

    def build(
        tables: dict[str, object],
        seeds: tuple[int, ...] = (0, 1),
        options: tuple[str, ...] = (),
        rows: tuple[str, ...] = (),
    ) -> Ablation:
        grid = tmp_path / "grid.yml"
        grid.write_text(yaml.safe_dump({"tables": [{"title": t, "rows": r} for t, r in tables.items()]}))
        return Ablation(CONFIG, grid, seeds, tmp_path / "out", tmp_path, options, "training.py", rows=rows)

    return build


def rows_of(folder: Path) -> dict[str, dict]:  # type: ignore[type-arg]
    tables = json.loads((folder / "out/table.json").read_text())["tables"]
    return {row["name"]: row for table in tables for row in table["rows"]}


def starts(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in folder.glob("out/*/*/starts"))


def test_mean_deviation_and_collapse(make: Callable[..., Ablation], tmp_path: Path) -> None:
    rows = {
        "low": {"MGOT.MATCHER.LAMBDA": 18},
        "high": {"MGOT.MATCHER.LAMBDA": 30},
        "kept": {"MGOT.MATCHER.SUPPLY": "infrared"},
        "oracle": {"MGOT.MATCHER.NAME": "oracle"},
    }
    assert make({"t": rows}, seeds=(0, 1, 3)).run(jobs=2) == 0
    low, high, kept, oracle = (rows_of(tmp_path)[name] for name in rows)
    assert high["rank1"] == {"mean": pytest.approx(94 / 3), "deviation": pytest.approx(7 / 3**0.5 / 7**0.5 * 1.0)}
    assert high["matching_accuracy"]["mean"] == 0.5 and high["mAP"]["deviation"] == 0.0
    assert high["matching_at_start"]["mean"] == 0.3 and high["seconds"]["mean"] == 6.0
    assert [low["collapsed"], high["collapsed"], kept["collapsed"]] == [2, 0, 3]
    assert [run["seed"] for run in low["runs"]] == [0, 1, 3] and low["done"] == low["asked"] == 3
    text = (tmp_path / "out/table.md").read_text()
    assert "31.33 +- 1.53" in text and "SEED s" in text and "Seeds s: 0, 1, 3" in text
    assert "\n\nRuns of each row: 3.\n\n|" in text and "| collapsed " in text and "| runs " not in text
    assert "oracle (ground truth, diagnosis only)" in text and oracle["ground_truth"] == "matches"
    assert high["command"].endswith("MGOT.MATCHER.LAMBDA 30 SEED s")
    drawn = (tmp_path / "out/table.svg").read_text()
    assert "31.33 ± 1.53, 0.50" in drawn and "oracle (ground truth, diagnosis only)" in drawn
    assert (tmp_path / "out/table.png").read_bytes().startswith(b"\x89PNG")


def test_one_configuration_is_one_run_whatever_it_is_called(make: Callable[..., Ablation], tmp_path: Path) -> None:
    tables = {
        "a": {"plain": {}},
        "b": {"by name": {"MGOT.MATCHER.NAME": "otpa"}, "by value": {"MGOT.MATCHER.LAMBDA": 25}},
    }
    make(tables, seeds=(0,)).run(jobs=1)
    assert starts(tmp_path) == 1
    assert {row["rank1"]["mean"] for row in rows_of(tmp_path).values()} == {25.0}
    assert make(tables, seeds=(0, 1)).listing().endswith("2 tables, 3 rows, 2 runs: 1 done, 1 left")
    make(tables, seeds=(0, 1)).run(jobs=1)
    assert starts(tmp_path) == 2
    make(tables, seeds=(0,), options=("MGOT.MATCHER.SUPPLY", "infrared")).run(jobs=1)
    assert starts(tmp_path) == 3


def test_some_rows_are_trained_first_and_the_others_by_a_later_call(
    make: Callable[..., Ablation], tmp_path: Path
) -> None:
    tables = {"t": {"Low, plain": {"MGOT.MATCHER.LAMBDA": 18}, "high": {"MGOT.MATCHER.LAMBDA": 30}, "full": {}}}
    with pytest.raises(UserError, match=r"^--row lo: no row begins so; there are: high$"):
        make({"t": {"high": {}}}, rows=("lo",))
    make(tables, seeds=(0,), rows=("lo", "fu")).run(jobs=1)
    assert {name: row["done"] for name, row in rows_of(tmp_path).items()} == {"Low, plain": 1, "full": 1}
    make({**tables, "u": {"other": {"MGOT.MATCHER.LAMBDA": 7}}}, seeds=(0,), rows=("fu",)).run(jobs=1)
    assert {name: row["done"] for name, row in rows_of(tmp_path).items()} == {"Low, plain": 1, "full": 1}
    make(tables, seeds=(0,)).run(jobs=1)
    assert starts(tmp_path) == 3 and all(row["done"] == 1 for row in rows_of(tmp_path).values())


def test_figures_of_no_use_are_left_out_of_the_means(make: Callable[..., Ablation], tmp_path: Path) -> None:
    tables: dict[str, object] = {"t": {"full": {}}}
    make(tables).run(jobs=1)
    for number, path in enumerate(tmp_path.glob("out/*/*/metrics.json")):
        line = {"iteration": 500, "truth/matching_accuracy": math.inf, "seconds/train": (1e308, math.nan)[number]}
        path.write_text(f"{path.read_text()}\n{json.dumps(line)}")
    make(tables).run(jobs=1)
    full = rows_of(tmp_path)["full"]
    assert full["matching_accuracy"] == {"mean": 0.5, "deviation": 0.0} and full["seconds"]["mean"] == 6.0


def test_a_failure_is_shown_and_the_others_go_on(make: Callable[..., Ablation], tmp_path: Path) -> None:
    tables = {"t": {"vote": {"MGOT.MATCHER.NAME": "vote"}, "otpa": {}}}
    assert make(tables, seeds=(0,)).run(jobs=1) == 1
    rows = rows_of(tmp_path)
    assert rows["otpa"]["done"] == 1 and rows["vote"]["done"] == 0
    assert rows["vote"]["rank1"]["mean"] is None
    text = (tmp_path / "out/table.md").read_text()
    assert "seed 0 failed: train_net.py: the vote was rigged" in text
    assert "\n\nNo run collapsed.\n\n|" in text and "| collapsed " not in text and "| runs " in text
    make(tables, seeds=(0,)).run(jobs=1)
    assert starts(tmp_path) == 3


@pytest.mark.parametrize("said, threads", [(None, "2"), ("3", "3")])
def test_a_broken_run_with_a_checkpoint_is_resumed_and_cores_are_divided(
    make: Callable[..., Ablation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, threads: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    tables: dict[str, object] = {"t": {"plain": {}}}
    (run,) = runs_of(plan(CONFIG, GRID, [])[1:2], (0,), tmp_path / "out", {})[:1]
    run.folder.mkdir(parents=True)
    (run.folder / "last_checkpoint").write_text("model_0001.pth")
    make(tables).run(jobs=4)
    assert (run.folder / "starts").read_text() == f"True {threads}\n"
    assert (run.folder.parent / "seed_1/starts").read_text() == f"False {threads}\n"


def test_an_interrupt_ends_the_children(make: Callable[..., Ablation], tmp_path: Path) -> None:
    ablation = make({"t": {"nearest": {"MGOT.MATCHER.NAME": "nearest"}, "otpa": {}}}, seeds=(0,))

    def interrupt() -> None:
        while not list(tmp_path.glob("out/*/*/sleeping")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            ablation.run(jobs=1)
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path / "out") in _text(path)] == []
    assert starts(tmp_path) == 1


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tables: []", "must hold 'tables:'"),
        ("- 1", "must hold 'tables:'"),
        ("tables: [1", "no YAML"),
        ("tables: [{title: a, rows: {b: {}, b: {MGOT.CLUSTER.EPS: 0.4}}}]", "no YAML .*the key 'b' comes twice"),
        ("tables: [{title: a, rows: {b: {MODEL.WEIGHTS: 2020-01-01}}}]", "no YAML .*if it is text, put it in quotes"),
        ("tables: [{title: a}]", "table 'a' needs 'title' and 'rows'"),
        ("tables: [{title: a, rows: {b: 3}}]", "row 'b' of 'a' must hold KEY: VALUE pairs"),
        ("tables: [{title: a, rows: {b: {MGOT.LOS.W_CCL: 1}}}]", "'a', row 'b': .*did you mean 'MGOT.LOSS.W_CCL'"),
        ("tables: [{title: a, rows: {b: {SEED: 1}}}]", "SEED is set by --seeds"),
    ],
)
def test_mistakes_are_met_before_the_first_training(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "grid.yml").write_text(text)
    with pytest.raises(UserError, match=message):
        plan(CONFIG, tmp_path / "grid.yml", [])
    with pytest.raises(UserError, match=r"No such file"):
        plan(CONFIG, tmp_path / "none.yml", [])
    os.mkfifo(tmp_path / "pipe.yml")
    with pytest.raises(UserError, match=r"pipe\.yml: not a regular file"):
        plan(CONFIG, tmp_path / "pipe.yml", [])


def test_keys_of_the_tool_are_refused_behind_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "more.yml").write_text("MGOT: {MATCHER: {LAMBDA: 30}}")
    (tmp_path / "grid.yml").write_text("tables: [{title: a, rows: {b: {MGOT.CLUSTER.EPS: 0.4}}}]")
    files = [str(tmp_path / "more.yml")]
    (table,) = plan(CONFIG, tmp_path / "grid.yml", files)
    assert table.rows[0].config.options == (*files, "MGOT.CLUSTER.EPS", "0.4")
    for key, value, flag in (("SEED", "5", "--seeds"), ("OUTPUT_DIR", "out", "--output")):
        with pytest.raises(UserError, match=f"{key} is set by {flag}: leave it out"):
            plan(CONFIG, tmp_path / "grid.yml", [*files, key, value])
        (tmp_path / "row.yml").write_text(f"tables: [{{title: a, rows: {{b: {{{key}: {value}}}}}}}]")
        with pytest.raises(UserError, match=f"row 'b': {key} is set by {flag}: leave it out"):
            plan(CONFIG, tmp_path / "row.yml", files)


def test_the_projects_grid_holds_the_five_tables() -> None:
    tables = plan(CONFIG, GRID, [])
    assert len(tables) == 5
    slugs = {row.config.slug for table in tables for row in table.rows}
    assert len(slugs) == len({row.config for table in tables for row in table.rows}) == 31
    truth = {row.name for table in tables for row in table.rows if row.config.ground_truth}
    assert truth == {"oracle", "oracle: matches by ground truth", "supervised: clusters and matches by ground truth"}


def ablate(*arguments: str) -> int:
    """The command's main function, in this process."""
    return int(runpy.run_path(str(REPO / "tools/ablate.py"))["main"](["--config-file", CONFIG, *arguments]))


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Put back the handler that the command sets."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
@pytest.mark.usefixtures("own_signals")
def test_the_command_trains_a_grid(
    tiny_options: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid, out = tmp_path / "grid.yml", tmp_path / "out"
    grid.write_text("tables: [{title: Two, rows: {full: {}, bad: {MGOT.CLUSTER.MIN_SAMPLES: 500}}}]")
    options = tiny_options("SOLVER.MAX_EPOCH", 1, "MGOT.CROSS_START_EPOCH", 0)
    pairs = zip(options[::2], options[1::2], strict=True)
    keys = [word for pair in pairs if pair[0] not in ("SEED", "OUTPUT_DIR") for word in pair]
    arguments = ["--grid", str(grid), "--output", str(out), "--seeds", "4"]
    assert ablate(*arguments, *keys) == 1
    full, bad = json.loads((out / "table.json").read_text())["tables"][0]["rows"]
    assert full["done"] == 1 and 0 <= full["rank1"]["mean"] <= 100 and full["matching_accuracy"]["mean"] is not None
    assert "form no cluster" in bad["runs"][0]["error"]
    assert "python tools/train_net.py --config-file projects/MGOT/configs/ablation.yml" in capsys.readouterr().out
    assert ablate(*arguments, "--list", *keys) == 0
    assert "1 done, 1 left" in capsys.readouterr().out


@pytest.mark.usefixtures("own_signals")
def test_the_commands_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("--grid", str(tmp_path / "none.yml"), "--seeds", "0", "MGOT.MATCHER.LAMBDA", "5") == 2
    errors = capsys.readouterr().err
    assert errors.startswith("ablate.py: --grid") and len(errors.splitlines()) == 1


@pytest.mark.parametrize("seeds", ["9" * 5000, "2147483648", "x"])
def test_seeds_that_are_none(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        ablate("--grid", str(GRID), "--seeds", seeds)
    assert capsys.readouterr().err.endswith("error: --seeds takes numbers, 0 to 2147483647\n")


@pytest.mark.parametrize("content", ["[" * 20_000, "[]", "{", '{"seeds": 3}'])
@pytest.mark.usefixtures("own_signals")
def test_a_damaged_table(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.json").write_text(content)
    assert ablate("--grid", str(GRID), "--output", str(tmp_path), "--list") == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}/table.json is damaged: remove it" in error and error.count("\n") == 1


@pytest.mark.parametrize("grid", sorted((REPO / "projects/MGOT/ablations").glob("*.yml")), ids=lambda path: path.stem)
def test_every_grid_of_the_project_is_planned_and_its_oracle_is_believed_in_full(grid: Path) -> None:
    for table in plan(CONFIG, grid, []):
        assert len({row.config.slug for row in table.rows}) == len(table.rows), "two rows of one configuration"
        for row in table.rows:
            if row.keys.get("MGOT.MATCHER.NAME") == "oracle":
                cfg = load_config(CONFIG, row.config.options)
                assert (cfg.MGOT.BELIEF.NAME, cfg.MGOT.CROSS_STAGE.GROWTH) == ("full", "epochs")
