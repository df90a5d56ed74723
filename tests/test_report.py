"""The diagnosis in words, rule by rule and on real collapsed runs, and the page around it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mgot.analysis.diagnostics.run import Run, read_run
from mgot.analysis.report.contents import results_table
from mgot.analysis.report.diagnosis import GOOD, NOTE, PROBLEM, WARNING, Finding, diagnose
from mgot.analysis.report.page import write_report
from mgot.engine.run import train
from mgot.engine.setup import load_config
from tests.runs import STEPS, metrics_lines, write_run
from tests.scripts import script

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


Changes = dict[str, dict[int, float]]


def findings(changes: Changes, config: dict[str, object] | None = None, epochs: int = 6) -> list[Finding]:
    keys = {"MGOT.ITERS_PER_EPOCH": STEPS, "SOLVER.MAX_EPOCH": epochs, **(config or {})}
    return diagnose(Run(Path("run"), "run", config=keys, metrics=metrics_lines(epochs, changes)))


def only(found: list[Finding]) -> Finding:
    """The one finding that is no note."""
    (finding,) = [each for each in found if each.level != NOTE]
    return finding


def test_a_healthy_run_is_told_so() -> None:
    finding = only(findings({}))
    assert finding.level == GOOD and finding.text.startswith("Healthy")
    assert "90% of the matches are mutual" in finding.text


def test_a_crowded_matching_names_the_epoch_the_load_and_the_prior() -> None:
    load: Changes = {"matching/load_top3": {3: 0.6, 4: 0.7}, "matching/load_empty": {3: 0.4}}
    finding = only(findings(load))
    assert finding.level == PROBLEM
    assert "crowded from epoch 3 on: 3 infrared clusters take 60% of the visible ones, and 40%" in finding.text
    off = only(findings(load, {"MGOT.MATCHER.UNIFORM_PRIOR": False, "MGOT.MATCHER.SUPPLY": "infrared"}))
    assert off.text.startswith(
        "The uniform prior is off (MGOT.MATCHER.UNIFORM_PRIOR False) and the matching is crowded"
    )
    assert "3 visible clusters take 60% of the infrared ones" in off.text
    assert off.remedy == "set MGOT.MATCHER.UNIFORM_PRIOR True"


def test_few_clusters_are_not_taken_for_a_crowd() -> None:
    few = {"visible/clusters": 3.0, "infrared/clusters": 3.0, "matching/load_top3": 1.0}
    changes = {name: dict.fromkeys(range(6), value) for name, value in few.items()}
    assert only(findings(changes)).level == GOOD


def test_fairness_that_falls_names_epoch_and_load() -> None:
    finding = only(findings({"fairness/r_c": {4: 0.7}, "matching/load_top3": {4: 0.25}}))
    assert finding.level == PROBLEM
    assert "Fairness of the infrared predictions fell at epoch 4, from 0.97 to 0.70" in finding.text
    assert "3 infrared clusters take 25%" in finding.text


@pytest.mark.parametrize(
    ("changes", "level", "text", "remedy"),
    [
        ({"visible/outliers": {0: 0.8}}, PROBLEM, "80% of the visible images are outliers at epoch 0",
         "too small (now 0.2): raise it"),
        ({"infrared/size_max_share": {2: 0.9}, "infrared/clusters": {2: 11}}, PROBLEM,
         "One cluster of 11 has 90% of the clustered infrared images at epoch 2", "too large (now 0.2): lower it"),
        ({"visible/clusters": {1: 120}}, WARNING, "epoch 1: 120 visible clusters, 30 infrared", "one eps"),
        ({"transport/converged": {1: 0, 5: 0}, "transport/marginal_error": {5: 0.25}}, WARNING,
         "did not converge in 2 of 6 epochs, first in epoch 1; the marginals are off by up to 25.0%", "MAX_ITERATIONS"),
        ({"truth/matching_accuracy": dict.fromkeys(range(6), 0.3)}, WARNING, "stuck: 30% of it is right", "later"),
        ({"total_loss": {5: 9.0}}, WARNING, "The loss rose from 3.00 in epoch 0 to 9.00 in epoch 5", "BASE_LR"),
    ],
)  # fmt: skip
def test_each_rule_names_what_it_saw_and_a_remedy(changes: Changes, level: str, text: str, remedy: str) -> None:
    finding = only(findings(changes, {"MGOT.CLUSTER.EPS": 0.2}))
    assert finding.level == level and text in finding.text and remedy in finding.remedy


def test_a_matching_that_still_improves_is_not_stuck() -> None:
    rising = {epoch: 0.2 + 0.04 * epoch for epoch in range(6)}
    assert only(findings({"truth/matching_accuracy": rising})).level == GOOD


def test_a_run_without_an_epoch_and_one_that_got_worse(tmp_path: Path) -> None:
    nothing = diagnose(Run(tmp_path, "run", config={"MGOT.CLUSTER.EPS": 0.01}))
    assert nothing[0].text.startswith("No epoch was recorded") and "(now 0.01)" in nothing[0].remedy
    run = read_run(write_run(tmp_path / "worse"), "worse")
    assert any("20.00 before training, 40.00 after" in finding.text for finding in diagnose(run))
    run.rows[0]["rank1"] = 10.0
    assert diagnose(run)[0].text.startswith("Training made it worse")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("MGOT.MATCHER.UNIFORM_PRIOR", False), "uniform prior is off (MGOT.MATCHER.UNIFORM_PRIOR False)"),
        (("MGOT.CLUSTER.EPS", 0.95, "MGOT.CLUSTER.K1", 150, "MGOT.CLUSTER.K2", 30), "One cluster of "),
        (("MGOT.CLUSTER.EPS", 0.3), "images are outliers at epoch 0"),
    ],
)
def test_a_real_run_that_collapsed_is_told_why(
    keys: tuple[object, ...], text: str, tiny_options: Callable[..., list[str]]
) -> None:
    cfg = load_config(DEMO, tiny_options("SOLVER.MAX_EPOCH", 1, "MGOT.TEST.SYSU_MODES", ["all"], *keys))
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir()
    train(cfg, resume=False)
    found = [finding for finding in diagnose(read_run(folder, "run")) if finding.level in (PROBLEM, WARNING)]
    assert any(text in finding.text for finding in found), found


def fill_images(run: Path) -> None:
    """Images for all that the records and one ranking list speak of."""
    images = json.loads((run / "diagnostics/images.json").read_text())
    for path in images["visible"]["paths"] + images["infrared"]["paths"]:
        target = run / "data" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 16), (200, 80, 40)).save(target)
    found = [
        {"path": f"visible/{n}.jpg", "identity": n, "camera": 1, "distance": 0.25 * n, "right": n == 1} for n in (1, 2)
    ]
    query = {"path": "infrared/0.jpg", "identity": 1, "camera": 3, "found": found}
    worst = {"queries": [query], "worst": [{**query, "ap": 12.5}]}
    lists = {"initial": [{"protocol": "toy", **worst}], "final": [{"protocol": "toy", **worst}]}
    (run / "diagnostics/rankings.json").write_text(json.dumps(lists))


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_escapes_what_it_shows(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    run = write_run(tmp_path / "a<b>&c", epochs=2, config=f"  NOTE: '{evil}'\n")
    fill_images(run)
    page = write_report(run).read_text(encoding="utf-8")
    assert evil not in page and "&lt;script&gt;alert(1)" in page and "<title>MGOT: a&lt;b&gt;&amp;c</title>" in page
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', page))
    assert not re.search(r"https?://|<link|url\(", page)
    assert page.count('class="picture plan"') == 2
    assert "✓</span> 0.250" in page and "✗</span> 0.500" in page
    assert "missing</span>" not in page and "Healthy" in page
    titles = re.findall(r"<summary>(.*toy.*)</summary>", page)
    assert titles == ["final, toy", "final, toy, worst first", "initial, toy"] and page.count("AP 12.5 %") == 1


@pytest.mark.slow
def test_unfinished_runs_missing_images_and_damaged_records_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=2, finished=False)
    (run / "diagnostics/epoch_001.npz").write_bytes(b"cut")
    page = write_report(run, tmp_path / "pages/one.html").read_text(encoding="utf-8")
    assert "epoch_001.npz: not a readable record" in page
    assert "images could not be read" in page and "missing</span>" in page
    assert "No ranking was recorded." in page
    shutil.rmtree(run / "diagnostics")
    page = write_report(run).read_text(encoding="utf-8")
    assert "no epoch was recorded (MGOT.DIAGNOSTICS False" in page and 'id="slider"' not in page


def test_the_table_shows_percent_and_deviation(tmp_path: Path) -> None:
    table = results_table(read_run(write_run(tmp_path / "run"), "run"))
    assert table["rows"][1][:4] == ["final", "sysu-all-single", "40.00 ± 1.00", "60.00"]


def test_what_is_no_run_is_a_mistake_of_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("tools/report.py").main([str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")
def test_a_browser_opens_it_from_disk(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=2)
    fill_images(run)
    page, shot = write_report(run), tmp_path / "shot.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]

    def browse(*more: str) -> str:
        command = [str(BROWSER), *options, *more, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    dom = browse("--dump-dom")
    plans = re.findall(r'<img class="picture plan"[^>]*?>', dom)
    assert ["hidden" in plan.split("src=")[1].split('"', 2)[2] for plan in plans] == [True, False]
    browse(f"--screenshot={shot}", "--window-size=1160,1600")
    with Image.open(shot) as image:
        assert image.size == (1160, 1600)
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None and len(colours) > 50
