"""tools/rehearse.py: every stage of a run is in its table, and what would fail is named with the key that mends it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mgot.analysis.rehearsal import extraction, machine, material, room
from mgot.analysis.rehearsal.footprint import Footprint, LiveBytes, ShapesOnly, footprint
from mgot.analysis.rehearsal.rehearse import explained, rehearse
from mgot.analysis.rehearsal.scene import Scene
from mgot.analysis.rehearsal.schedule import schedule_of
from mgot.analysis.rehearsal.stand_in import repeated, spread
from mgot.analysis.rehearsal.table import Row, duration, gigabytes, told, total
from mgot.clustering import cluster
from mgot.data.synthetic.other_layouts import write_llcm, write_regdb
from mgot.data.synthetic.settings import Settings
from mgot.engine.run import train
from mgot.engine.setup import load_config
from mgot.engine.step import TrainingStep
from mgot.errors import UserError
from tests.scripts import script

REPO = Path(__file__).resolve().parents[1]
CONFIGS = REPO / "projects/MGOT/configs"
DEMO = str(CONFIGS / "demo.yml")
STAGES = [
    "start", "data", "images", "memory", "weights", "trainer", "extract", "cluster", "match", "intra steps",
    "cross steps", "save", "score", "resume", "whole run", "GPU memory", "RAM", "disk", "/dev/shm",
]  # fmt: skip
Options = Callable[..., list[str]]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return script("tools/rehearse.py")


@pytest.fixture(autouse=True)
def all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of all images and steps of whole batches, however busy the machine is."""
    for module, name in (
        (material, "SECONDS_OF_READING"),
        (material, "SECONDS_OF_A_STEP"),
        (extraction, "SECONDS_OF_EXTRACTION"),
    ):
        monkeypatch.setattr(module, name, 1e9)


def rows_of(options: list[str], **given: Any) -> dict[str, Row]:
    report = rehearse(load_config(DEMO, options), **{"steps": 1, **given})
    return {row.name: row for row in report.rows}


def failures(rows: dict[str, Row]) -> dict[str, str]:
    return {name: row.failure for name, row in rows.items() if row.failure}


def test_every_stage_is_in_the_table_and_nothing_is_left_behind(
    tool: ModuleType, tiny_options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--config-file", DEMO, "--steps", "2", *tiny_options()]) == 0
    out, progress = capsys.readouterr()
    lines = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("| ")]
    assert [line[0].strip() for line in lines[1:]] == STAGES
    assert {line[4].strip() for line in lines[1:]} == {"ok"}
    cells = {line[0].strip(): [cell.strip() for cell in line] for line in lines}
    assert cells["data"][3] == "192 visible and 96 infrared training images, 144 test images, 2 searches"
    assert cells["extract"][3].startswith("480 of 480 images") and cells["extract"][2].startswith("3 x ")
    assert cells["resume"][3] == "the next loss is the same"
    assert "nothing would fail" in out and "cross steps: ok" in progress
    assert os.listdir(tmp_path) == []


def test_broken_pieces_are_told_and_the_later_stages_tried(
    tool: ModuleType, tiny_options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [
        "MODEL.BACKBONE.PRETRAIN",
        "True",
        "MODEL.BACKBONE.PRETRAIN_PATH",
        "nowhere.pth",
        "MGOT.CLUSTER.EPS",
        "1e-6",
    ]
    assert tool.main(["--config-file", DEMO, "--steps", "1", *tiny_options(*keys)]) == 1
    out = capsys.readouterr().out
    assert "- weights FAILS: MODEL.BACKBONE.PRETRAIN_PATH: no file nowhere.pth" in out
    assert "- cluster FAILS: epoch 0: the visible images form no cluster" in out and "raise MGOT.CLUSTER.EPS" in out
    assert "2 of these would fail" in out and "- note: the stages after the weights used random weights" in out
    assert "the next loss is the same" in out


class Loader:
    """Meets a signal in its end, where Python drops what is raised."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


def in_a_loaders_end(number: int, scene: Scene) -> list[Row]:
    Loader(number)
    return [Row("first")]


def with_a_loaders_process(number: int, scene: Scene) -> list[Row]:
    try:
        signal.raise_signal(number)
    finally:
        signal.raise_signal(signal.SIGCHLD)
    return [Row("first")]


def worker_died(number: int, frame: object) -> None:
    raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")


def not_reached(scene: Scene) -> list[Row]:
    raise AssertionError("a stage after the signal")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", [in_a_loaders_end, with_a_loaders_process])
def test_a_signal_that_a_loader_swallows_ends_the_rehearsal(
    stage: Callable[[int, Scene], list[Row]],
    number: int,
    tiny_options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = (("first", partial(stage, number)), ("second", not_reached))
    monkeypatch.setattr("mgot.analysis.rehearsal.rehearse.TIMED", stages)
    before = signal.getsignal(number)
    pytorchs = signal.signal(signal.SIGCHLD, worker_died)
    try:
        with pytest.raises(SystemExit) as ended:
            rehearse(load_config(DEMO, tiny_options()), steps=1)
    finally:
        signal.signal(signal.SIGCHLD, pytorchs)
    assert ended.value.code == 128 + number
    assert os.listdir(tmp_path) == [] and signal.getsignal(number) is before


def test_mistakes_of_the_command_line_end_with_two(
    tool: ModuleType, tiny_options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        tool.main(["--config-file", DEMO, "--steps", "0", *tiny_options()])
    assert "argument --steps: must be 1 to 10000, not '0'" in capsys.readouterr().err
    assert tool.main(["--config-file", DEMO, "MGOT.CLUSTER.EPSS", "1"]) == 2
    assert "did you mean 'MGOT.CLUSTER.EPS'" in capsys.readouterr().err


def test_missing_data_leave_what_needs_none(tiny_options: Options, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    rows = rows_of(tiny_options())
    assert "set FASTREID_DATASETS" in rows["data"].failure
    assert [name for name, row in rows.items() if not row.tried] == [
        "images", "trainer", "extract", "cluster", "match", "intra steps", "cross steps", "save", "score", "resume",
    ]  # fmt: skip
    assert rows["weights"].verdict == rows["GPU memory"].verdict == rows["disk"].verdict == "ok"
    assert rows["whole run"].found.startswith("without data, images, trainer")


def test_a_disk_too_small_is_told(tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_disk", lambda folder: -(10**9))
    rows = rows_of(tiny_options("DATALOADER.CACHE", "disk", "DATALOADER.CACHE_LIMIT_GB", 0.001))
    assert set(failures(rows)) == {"disk", "image cache"}
    assert "lower MGOT.CHECKPOINT.KEEP" in rows["disk"].failure
    assert "over DATALOADER.CACHE_LIMIT_GB 0.001" in rows["image cache"].failure
    assert "DATALOADER.CACHE_DIR" in rows["image cache"].failure


def test_loader_processes_without_shared_memory_are_told(tiny_options: Options, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "free_shared_memory", lambda: 1000)
    rows = rows_of(tiny_options("DATALOADER.CACHE", "off", "DATALOADER.NUM_WORKERS", 1))
    assert set(failures(rows)) == {"/dev/shm"}
    assert "lower DATALOADER.NUM_WORKERS" in rows["/dev/shm"].failure
    assert rows["images"].each == "in the rows below"


def test_a_card_too_small_is_told_with_the_key_that_mends_it(tiny_options: Options, monkeypatch: Any) -> None:
    monkeypatch.setattr(material, "SECONDS_OF_A_STEP", 1e-6)  # the steps that are taken are small
    options = tiny_options("SOLVER.IMS_PER_BATCH", 256, "INPUT.SIZE_TRAIN", [128, 64])
    whole = footprint(load_config(DEMO, options), torch.bfloat16).at(384)
    rows = rows_of(options, card_gb=(whole - 1e8 + room.CUDA_BYTES) / 1e9)
    assert set(failures(rows)) == {"GPU memory"}
    advice = "set MGOT.RECOMPUTE \"['layer1', 'layer2', 'layer3', 'layer4']\", which brings it to"
    assert advice in rows["GPU memory"].failure
    recomputed = [*options, "MGOT.RECOMPUTE", "['layer1', 'layer2', 'layer3', 'layer4']"]
    assert footprint(load_config(DEMO, recomputed), torch.bfloat16).at(384) < whole - 1e8
    rows = rows_of(recomputed, card_gb=1.0)
    (lowered,) = [word for word in rows["GPU memory"].failure.split() if word.isdigit()]
    smaller = footprint(load_config(DEMO, recomputed), torch.bfloat16).at(3 * int(lowered) // 2)
    assert int(lowered) % 8 == 0 and 0 < smaller + room.CUDA_BYTES <= 1e9


def test_too_little_ram_is_told(tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ram_to_have", lambda: 10**6)
    rows = rows_of(tiny_options())
    assert set(failures(rows)) == {"RAM"}
    assert "set DATALOADER.CACHE disk, or set MGOT.RECOMPUTE" in rows["RAM"].failure


def test_a_slow_cpu_takes_smaller_steps_and_scales_them(tiny_options: Options, monkeypatch: Any) -> None:
    monkeypatch.setattr(material, "SECONDS_OF_A_STEP", 1e-6)
    rows = rows_of(tiny_options())
    assert rows["cross steps"].found == "1 step of 6 views, scaled to 48" and failures(rows) == {}
    assert rows["RAM"].found.endswith("a step of 48 views")


def test_steps_that_a_gpu_does_not_hold_are_halved_and_told(tiny_options: Options, monkeypatch: Any) -> None:
    plain = TrainingStep.__call__

    def small_only(self: TrainingStep, iteration: int) -> None:
        if self.data_loader.sampler.n_classes > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        plain(self, iteration)

    monkeypatch.setattr(TrainingStep, "__call__", small_only)
    rows = rows_of(tiny_options())
    assert "does not fit the GPU's memory: set MGOT.RECOMPUTE, or lower SOLVER" in rows["intra steps"].failure
    assert rows["cross steps"].found == "1 step of 12 views, scaled to 48" and not rows["cross steps"].failure


def a_scene(options: list[str], folder: Path, *, device: str = "cpu", card: float | None = None) -> Scene:
    """A scene before its first stage; a GPU need not be there."""
    cfg = load_config(DEMO, options)
    cfg.defrost()
    cfg.MODEL.DEVICE = device
    return Scene(cfg, folder, 1, card, schedule_of(cfg))


def test_a_gpu_that_took_whole_steps_is_measured(tiny_options: Options, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "card_peak", lambda device: 5 * 10**9)
    scene = a_scene(tiny_options(), tmp_path, device="cuda", card=5.5e9)
    scene.lines["card"] = Footprint(np.array([1e9]), np.array([1e6]))
    scene.views_taken = scene.views
    (row,) = room.card(scene)
    assert row.found == "measured; estimated: 1.85 GB" and row.whole == "5.80 GB of 5.50 GB" and row.failure
    scene.views_taken, scene.card = 6, 8e9
    (row,) = room.card(scene)
    assert row.found.startswith("estimated for 48 views") and row.whole == "1.85 GB of 8.00 GB" and not row.failure


@pytest.mark.parametrize(("device", "workers", "seconds"), [("cuda", 1, 3.0), ("cuda", 0, 4.0), ("cpu", 1, 4.0)])
def test_a_gpu_works_while_images_are_decoded(
    device: str, workers: int, seconds: float, tiny_options: Options, tmp_path: Path
) -> None:
    scene = a_scene(tiny_options("DATALOADER.NUM_WORKERS", workers), tmp_path, device=device)
    assert extraction.with_decoding(scene, 3.0, 1.0) == seconds


def test_an_output_dir_of_another_run_is_told_and_not_touched(tiny_options: Options, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.json").write_text("{}")
    before = {path: path.stat().st_mtime_ns for path in (folder, folder / "metrics.json")}
    rows = rows_of(tiny_options())
    assert set(failures(rows)) == {"disk"} and "MGOT.OVERWRITE True" in rows["disk"].failure
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert failures(rows_of(tiny_options("MGOT.OVERWRITE", True))) == {}


def test_an_unreadable_image_is_told_and_stood_in_for(tiny_options: Options, tmp_path: Path, monkeypatch: Any) -> None:
    from tests.conftest import write_coloured_people

    write_coloured_people(tmp_path / "data")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    broken = tmp_path / "data/SYSU-MM01/cam1/0001/0002.jpg"
    broken.write_bytes(b"")
    rows = rows_of(tiny_options())
    assert set(failures(rows)) == {"images"}
    assert str(broken) in rows["images"].failure and "MGOT.DATA.SKIP_UNREADABLE True" in rows["images"].failure
    assert failures(rows_of(tiny_options("MGOT.DATA.SKIP_UNREADABLE", True))) == {}


@pytest.mark.slow
def test_other_data_sets_and_many_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_options: Options) -> None:
    people = Settings(train_identities=6, test_identities=4, visible_per_camera=6, infrared_per_camera=6, width=32)
    write_regdb(tmp_path, people, 1)
    write_llcm(tmp_path, Settings(train_identities=4, test_identities=3, visible_per_camera=2, width=32), 1)
    for name in ("RegDB", "LLCM"):
        options = tiny_options(
            "DATASETS.NAMES", f"('{name}',)", "DATASETS.TESTS", f"('{name}',)", "MGOT.MATCHER.NAME", "hungarian",
            "MGOT.RECOMPUTE", ["layer1"], "MGOT.MODE", "intra_only", "TEST.RERANK.ENABLED", True,
            "MGOT.AUG.BY", "host", "MGOT.DIAGNOSTICS", False, "DATALOADER.NUM_INSTANCE", 2, "MGOT.CLUSTER.EPS", 0.7,
        )  # fmt: skip
        monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
        rows = rows_of(options)
        assert failures(rows) == {} and "cross steps" not in rows


def test_a_cross_stage_on_another_runs_intra_stage(tiny_options: Options, tmp_path: Path) -> None:
    donor = load_config(DEMO, tiny_options("MGOT.TEST.STAGES", ["final"]))
    train(donor, resume=False)
    names = ["OUTPUT_DIR", str(tmp_path / "other"), "MGOT.CROSS_STAGE.FROM", str(tmp_path / "run/model_intra.pth")]
    rows = rows_of(tiny_options(*names))
    assert failures(rows) == {} and "intra steps" not in rows
    assert rows["cross steps"].each.startswith("2 x ") and rows["save"].each.startswith("1 x ")
    assert rows["extract"].each.startswith("2 x ") and rows["score"].each.startswith("2 x ")
    rows = rows_of(tiny_options(*names, "SEED", 5))
    assert "its run had SEED 0" in rows["trainer"].failure


SCHEDULES = [
    ({}, (1, 1, 2, 4, 3, 5, 1)),
    ({"SOLVER.MAX_EPOCH": 5}, (1, 4, 2, 4, 6, 5, 4)),
    ({"MGOT.MODE": "intra_only", "MGOT.CHECKPOINT.KEEP": 1}, (2, 0, 2, 2, 2, 3, 0)),
    ({"SOLVER.MAX_EPOCH": 7, "TEST.EVAL_PERIOD": 2, "SOLVER.CHECKPOINT_PERIOD": 3}, (1, 6, 2, 7, 4, 5, 6)),
    ({"MGOT.TEST.STAGES": ["final"], "MGOT.CROSS_START_EPOCH": 0}, (0, 2, 2, 1, 2, 4, 0)),
]


@pytest.mark.parametrize(("keys", "expected"), SCHEDULES)
def test_the_schedule_counts_what_a_run_does(
    keys: dict[str, Any], expected: tuple[int, ...], tiny_options: Options
) -> None:
    cfg = load_config(DEMO, tiny_options(*(part for pair in keys.items() for part in pair)))
    assert tuple(schedule_of(cfg)) == expected


def test_the_schedule_is_that_of_a_real_run(tiny_options: Options, tmp_path: Path) -> None:
    cfg = load_config(DEMO, tiny_options("SOLVER.MAX_EPOCH", 4))
    train(cfg, resume=False)
    plan = schedule_of(cfg)
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert len(results["seconds"]) == plan.scorings
    assert len(list((tmp_path / "run").glob("model_*.pth"))) == plan.kept - 1  # none is being written now
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()]
    assert len({line["epoch"] for line in lines if "epoch" in line}) == plan.epochs


def test_live_bytes_are_those_that_are_alive() -> None:
    with LiveBytes() as live:
        kept = torch.zeros(1000)
        view = kept[10:]
        torch.ones(500) + 1
        del view
        small = kept[:5] * 2
    assert live.now == 4000 + 20 and max(live.trace) == 4000 + 2 * 2000
    assert small.sum() == 0


def test_a_steps_memory_is_a_line_in_its_images(tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config(DEMO, tiny_options())
    line = footprint(cfg, torch.float32)
    monkeypatch.setattr("mgot.analysis.rehearsal.footprint.SMALL", (8, 16))
    larger = footprint(cfg, torch.float32)
    assert larger.at(48) == pytest.approx(line.at(48), rel=0.02)
    assert line.room(2e8) == 0 or line.at(line.room(2e8)) == pytest.approx(2e8, rel=1e-3)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_step_that_computes_no_products_takes_the_same_memory(
    precision: torch.dtype, tiny_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = load_config(DEMO, tiny_options("MGOT.RECOMPUTE", ["layer1"]))
    shapes = footprint(cfg, precision)
    monkeypatch.setattr("mgot.analysis.rehearsal.footprint._PRODUCTS", set())
    computed = footprint(cfg, precision)
    assert [shapes.at(views) for views in (0, 6, 48, 480)] == [computed.at(views) for views in (0, 6, 48, 480)]


def test_shapes_only_are_zeros_of_a_products_shape() -> None:
    x, conv = torch.ones(2, 3, 8, 6, requires_grad=True), torch.nn.Conv2d(3, 5, 3, stride=2)
    with ShapesOnly():
        y = conv(x)
        y.sum().backward()
        product = torch.ones(2, 3) @ torch.ones(3, 4)
    assert y.shape == (2, 5, 3, 2) and x.grad is not None and x.grad.shape == x.shape
    assert not any(each.any() for each in (y, x.grad, product)) and (torch.ones(1, 2) @ torch.ones(2, 1)).item() == 2


def test_the_peak_is_wherever_it_is_at_that_size() -> None:
    line = Footprint(np.array([10.0, 2.0]), np.array([1.0, 3.0]))
    assert [line.at(views) for views in (1, 4, 10)] == [11.0, 14.0, 32.0]
    assert line.room(14.0) == 4.0 and line.room(1.0) == 0.0


def test_features_repeated_to_the_full_size_cluster() -> None:
    cone = F.normalize(
        torch.ones(1, 64) + 0.05 * torch.randn(40, 64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    rows = repeated(cone, 600, seed=0)
    assert rows.shape == (600, 64) and torch.allclose(rows.norm(dim=1), torch.ones(600))
    assert torch.equal(rows, repeated(cone, 600, seed=0)) and repeated(cone, 40, seed=0) is cone
    labels, n_clusters, _ = cluster(rows)
    assert 10 <= n_clusters <= 40 and (labels >= 0).mean() > 0.8
    assert spread(3, 10).tolist() == [0, 4, 9] and spread(20, 4).tolist() == [0, 1, 2, 3]


def test_words_of_the_table() -> None:
    seconds = (0.0123, 0.254, 12.3, 200, 9000, 500_000)
    assert [duration(x) for x in seconds] == ["12 ms", "0.25 s", "12 s", "3.3 min", "2.5 h", "5.8 days"]
    assert gigabytes(1.234e9) == "1.23 GB" and gigabytes(4.56e10) == "45.6 GB"
    rows = [Row("a", 5.0), Row("b", whole="-"), Row("c", tried=False), Row("d", failure="set KEY")]
    assert total(rows).seconds == 5.0 and total(rows).found == "without c, d"
    text = told(rows, ["once", "once"])
    assert text.count("- note: once") == 1 and "- d FAILS: set KEY" in text and "1 of these would fail" in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("plain"), "plain"),
        (torch.cuda.OutOfMemoryError("full"), "set MGOT.RECOMPUTE, or lower SOLVER.IMS_PER_BATCH"),
        (RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error"), "lower DATALOADER.NUM_WORKERS"),
        (OSError(28, "No space left on device"), "choose another OUTPUT_DIR"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero; no key is known to help"),
    ],
)
def test_errors_are_explained(error: Exception, words: str, tiny_options: Options, tmp_path: Path) -> None:
    assert words in explained(error, a_scene(tiny_options(), tmp_path))


def test_the_machine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.existing(tmp_path / "a/b") == tmp_path
    assert machine.free_disk(tmp_path / "a") > 0
    assert machine.ram_peak() > 10**7
    limit, used = tmp_path / "limit", tmp_path / "used"
    limit.write_text("3000000\n")
    used.write_text("1000000\n")
    free = machine.ram_to_have()
    monkeypatch.setattr(machine, "_GROUPS", ((limit, used),))
    held = machine.ram_to_have()
    assert free is not None and held is not None and held < free
    own = machine._kilobytes(machine._STATUS, "VmRSS")
    assert own is not None and abs(held - own - 2_000_000) < 5e7
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "nothing")
    assert machine.ram_to_have() is None


@pytest.mark.parametrize("name", ["sysu-8gb", "sysu-12gb"])
def test_configs_of_small_cards_differ_by_memory_alone(name: str) -> None:
    off = ["MODEL.BACKBONE.PRETRAIN", "False", "SEED", "0"]
    recipe, small = (load_config(str(CONFIGS / f"{each}.yml"), off) for each in ("sysu", name))
    small.defrost()
    assert small.MGOT.RECOMPUTE and Path(small.OUTPUT_DIR) == Path("logs") / name
    small.MGOT.RECOMPUTE, small.OUTPUT_DIR = [], recipe.OUTPUT_DIR
    assert small.dump() == recipe.dump()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "card"), [("sysu-8gb", 8 * 2.0**30), ("sysu-12gb", 12 * 2.0**30)])
def test_configs_of_small_cards_fit_them(name: str, card: float) -> None:
    cfg = load_config(str(CONFIGS / f"{name}.yml"), ["MODEL.BACKBONE.PRETRAIN", "False"])
    need = footprint(cfg, torch.bfloat16).at(384) + room.CUDA_BYTES
    assert 0.5 * card < need < 0.9 * card
    head = (CONFIGS / f"{name}.yml").read_text()
    assert f"{gigabytes(need)}" in head
