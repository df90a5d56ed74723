"""A run that is broken off goes on as if it had not been, and damaged checkpoints are passed over or named."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mgot.engine.resume import checkpoint
from mgot.engine.resume.checkpoint import by_progress, checkpoint_files, layer_differences, load_tensors
from mgot.engine.resume.output import claim_folder, clear_folder
from mgot.engine.run import evaluate, train, weights_follow
from mgot.engine.setup import _tell_changes, load_config
from mgot.engine.trainer import MGOTTrainer
from mgot.errors import Interrupted, UserError
from tests.test_saving import full_disk

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
TIMES = ("time", "data_time", "images_per_second", "eta_seconds")
Options = Callable[..., list[str]]


def run(options: list[str], *, resume: bool = False) -> Path:
    cfg = load_config(DEMO, options, resume=resume)
    torch.manual_seed(cfg.SEED)
    train(cfg, resume=resume)
    return Path(cfg.OUTPUT_DIR)


def figures(folder: Path) -> list[dict[str, float]]:
    """metrics.json by iteration, without times, and without lines of nothing but times."""
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in TIMES and not k.startswith("seconds/")} for line in lines]
    return sorted((line for line in kept if len(line) > 1), key=lambda line: line["iteration"])


def signal_at(monkeypatch: pytest.MonkeyPatch, iteration: int, number: int = signal.SIGTERM) -> None:
    """Send a signal to this process while the training is in that iteration."""
    step = MGOTTrainer.run_step

    def run_step(self: MGOTTrainer) -> None:
        if self.iter == iteration:
            os.kill(os.getpid(), number)
        step(self)

    monkeypatch.setattr(MGOTTrainer, "run_step", run_step)


@pytest.fixture(name="short")
def fixture_short(tiny_options: Options) -> Options:
    """Options of a training of three epochs of three steps, the last two in the cross stage, scored by one protocol.

    The learning rate falls after the first epoch of each stage. Two keys that draw more random numbers are on.
    """

    def options(*extra: object) -> list[str]:
        base = (
            "SOLVER.MAX_EPOCH",
            3,
            "MGOT.ITERS_PER_EPOCH",
            3,
            "SOLVER.STEPS",
            [1],
            "MGOT.CROSS_STAGE.STEPS",
            [1],
            "MGOT.TEST.SYSU_MODES",
            ["all"],
            "TEST.FLIP.ENABLED",
            False,
            "MGOT.AUG.COLOUR_JITTER",
            0.3,
            "MGOT.OTHER_CAMERAS",
            True,
        )
        return tiny_options(*base, *extra)

    return options


@pytest.fixture(name="unbroken", scope="module")
def fixture_unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Options], Path]:
    """The run that no signal stops; it is trained once."""
    folder = tmp_path_factory.mktemp("unbroken") / "straight"
    return lambda short: folder if (folder / "results.json").exists() else run(short("OUTPUT_DIR", folder))


@pytest.mark.parametrize(
    ("iteration", "name"),
    [
        (0, "model_0000_00001"),
        (2, "model_0000"),  # the intra stage's last: the next epoch begins the cross stage's optimiser
        (3, "model_0001_00001"),
        (4, "model_0001_00002"),
        (5, "model_0001"),
        (6, "model_0002_00001"),
    ],
)
def test_a_run_that_a_signal_stopped_goes_on_bit_for_bit(
    short: Options,
    unbroken: Callable[[Options], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    iteration: int,
    name: str,
) -> None:
    straight = unbroken(short)
    with monkeypatch.context() as patched:
        signal_at(patched, iteration)
        with pytest.raises(Interrupted, match=r"stopped by SIGTERM: .*--resume continues") as stop:
            run(short())
    assert stop.value.status == 143
    assert by_progress(tmp_path / "run")[0][0][1].stem == name
    broken = run(short(), resume=True)
    assert figures(broken) == figures(straight)
    rates = [line["lr"] for line in figures(broken) if "total_loss" in line]
    assert rates == pytest.approx([3.5e-4, 3.5e-4, 3.5e-5])
    ends = [load_tensors(folder / "model_final.pth")["model"] for folder in (broken, straight)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    rows = [json.loads((folder / "results.json").read_text())["rows"] for folder in (broken, straight)]
    assert rows[0] == rows[1]


def test_a_signal_in_the_last_step_lets_the_run_end(
    short: Options, unbroken: Callable[[Options], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = unbroken(short)
    signal_at(monkeypatch, 8)
    assert figures(run(short())) == figures(straight)


def test_pretrained_weights_are_asked_for_where_no_checkpoint_brings_weights(
    tiny_options: Options, tmp_path: Path
) -> None:
    folder = run(tiny_options("SOLVER.MAX_EPOCH", 1, "MGOT.TEST.SYSU_MODES", ["all"]))
    final = folder / "model_final.pth"
    absent = ("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", tmp_path / "absent.pth")
    options = tiny_options("SOLVER.MAX_EPOCH", 2, "MGOT.TEST.SYSU_MODES", ["all"], *absent)
    run(options, resume=True)
    assert "PRETRAIN: true" in load_tensors(final)["config"]  # as the user has it, whatever the build was given
    evaluate(load_config(DEMO, [*options, "MODEL.WEIGHTS", str(final)]))
    assert (folder / "evaluation" / "results.json").is_file()
    with pytest.raises(UserError, match=r"PRETRAIN_PATH: no file .*absent\.pth"):
        run([*options, "OUTPUT_DIR", str(tmp_path / "new")], resume=True)


@pytest.mark.parametrize(
    ("extra", "resume", "expected"),
    [
        ((), False, False),
        ((), True, False),
        (("MODEL.WEIGHTS", "model.pth"), False, True),
        (("MGOT.CROSS_STAGE.FROM", "model_intra.pth"), False, True),
    ],
)
def test_where_weights_follow(tiny_options: Options, extra: tuple[str, ...], resume: bool, expected: bool) -> None:
    assert weights_follow(load_config(DEMO, tiny_options(*extra)), resume=resume) is expected


def test_an_interrupt_counts_too_and_the_old_handlers_come_back(
    short: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signal_at(monkeypatch, 1, signal.SIGINT)
    with pytest.raises(Interrupted) as stop:
        run(short())
    assert stop.value.status == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.fixture(name="finished", scope="module")
def fixture_finished(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training of four epochs of one step; copy it before you touch it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FASTREID_DATASETS", str(tiny_root))
        run([*tiny_keys(folder), "SOLVER.MAX_EPOCH", "4"])
    return folder


def tiny_keys(folder: Path) -> list[str]:
    """Keys of the shortest training of the tiny tree."""
    keys: tuple[object, ...] = (
        "MODEL.BACKBONE.PRETRAIN", False, "INPUT.SIZE_TRAIN", [64, 32], "INPUT.SIZE_TEST", [64, 32],
        "MGOT.CROSS_START_EPOCH", 1, "MGOT.ITERS_PER_EPOCH", 1, "SOLVER.IMS_PER_BATCH", 16,
        "DATALOADER.NUM_INSTANCE", 2, "MGOT.CLUSTER.K1", 8, "MGOT.CLUSTER.K2", 3, "MGOT.TEST.TRIALS", 1,
        "MGOT.TEST.SYSU_MODES", ["all"], "TEST.FLIP.ENABLED", False, "MGOT.LOSS.W_ADV", 1.0, "SEED", 0,
        "OUTPUT_DIR", folder,
    )  # fmt: skip
    return [str(key) for key in keys]


@pytest.fixture(name="copy")
def fixture_copy(finished: Path, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, to be damaged."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tiny_root))
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def go_on(folder: Path, *extra: object) -> Path:
    return run([*tiny_keys(folder), *(str(part) for part in extra)], resume=True)


def test_the_newest_are_kept_and_say_what_they_are(finished: Path) -> None:
    names = ["model_0001.pth", "model_0002.pth", "model_final.pth", "model_intra.pth"]
    assert [path.name for path in checkpoint_files(finished)] == names
    assert (finished / "last_checkpoint").read_text() == "model_final.pth"
    content = load_tensors(finished / "model_0002.pth")
    assert (content["epoch"], content["step"], content["about"]["dataset"]) == (2, 0, "SYSUMM01")
    assert {"optimizer", "lr_sched", "random", "labels", "memories", "scalars"} <= set(content)
    assert "SEED: 0" in content["config"] and set(content["versions"]) >= {"python", "torch", "numpy", "POT"}
    assert set(content["memories"]) >= {"visible", "infrared", "cross", "v2r", "r2v", "c_v", "c_r"}
    assert len(content["labels"]["labels"]["visible"]) > 0


def hostile(path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(path.parent / "payload_ran"),)

    torch.save({"model": Payload(), "optimizer": {}, "epoch": 3, "step": 0}, path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "not a readable checkpoint"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-5000]), "not a readable checkpoint"),
    "garbage": (lambda path: path.write_bytes(os.urandom(5000)), "not a readable checkpoint"),
    "text": (lambda path: path.write_bytes(b"<html>404 Not Found</html>"), "not a readable checkpoint"),
    "one bit": (flip, "damaged: the checksum"),
    "weights alone": (lambda path: torch.save({"model": {}}, path), "optimizer, epoch, step is missing"),
    "a list": (lambda path: torch.save([1, 2], path), "model, optimizer, epoch, step is missing"),
    "a folder": (replace_by_folder, "not a readable checkpoint"),
    "hostile": (hostile, "not a readable checkpoint"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_by_name(copy: Path, damage: str) -> None:
    hurt, reason = DAMAGES[damage]
    hurt(copy / "model_final.pth")
    cfg = load_config(DEMO, [*tiny_keys(copy), "SOLVER.MAX_EPOCH", "4"])
    trainer = MGOTTrainer(cfg)
    content, skipped = trainer.checkpointer.resume()
    assert content is not None and content["epoch"] == 2
    assert len(skipped) == 1 and skipped[0].startswith("model_final.pth: ") and reason in skipped[0]
    assert not (copy / "payload_ran").exists()


def test_a_run_whose_last_checkpoints_are_lost_ends_the_same(copy: Path, finished: Path) -> None:
    (copy / "model_final.pth").write_bytes(b"")
    (copy / "model_0002.pth").unlink()
    (copy / "last_checkpoint").write_text("nowhere.pth")
    (copy / "model_0003.pth.tmp").write_bytes(b"half")  # as an earlier version named it
    for name in ("model_0003.pth", "fittest.pth", "results.json", "diagnostics/epoch_003.npz"):
        (copy / f"{name}.0123456789ab.tmp").write_bytes(b"half")
    with (copy / "metrics.json").open("a") as stream:
        stream.write('{"iteration": 3, "to')
    assert figures(go_on(copy, "SOLVER.MAX_EPOCH", 4)) == figures(finished)
    assert not list(copy.rglob("*.tmp"))


def test_a_finished_run_whose_results_are_lost_is_scored_by_its_last_checkpoint(copy: Path) -> None:
    (copy / "results.json").unlink()
    with pytest.raises(UserError, match=r"results\.json is missing .* --eval-only MODEL\.WEIGHTS .*/model_final\.pth"):
        go_on(copy, "SOLVER.MAX_EPOCH", 4)
    evaluate(load_config(DEMO, [*tiny_keys(copy), "MODEL.WEIGHTS", str(copy / "model_final.pth")]))
    assert [row["stage"] for row in json.loads((copy / "results.json").read_text())["rows"]] == ["final"]


def test_nothing_of_a_run_outlives_the_next_one(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    clear_folder(copy)
    left = {"config.yaml", "log.txt", "notes.txt", "diagnostics/images.json"}
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} <= left
    assert (copy / "notes.txt").read_text() == "mine"


def test_keys_that_changed_or_were_not_there_are_told_when_a_run_goes_on(
    copy: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in checkpoint_files(copy):
        content = load_tensors(path)
        keys = yaml.safe_load(content["config"])
        keys["MGOT"]["CLUSTER"]["K2"] = 5
        del keys["MGOT"]["CLUSTER"]["EPS"]
        torch.save({**content, "config": yaml.safe_dump(keys)}, path)
    monkeypatch.setattr(logging.getLogger("mgot"), "propagate", True)
    cfg = load_config(DEMO, tiny_keys(copy), resume=True)
    _tell_changes(cfg)
    before, unknown = (record.message for record in caplog.records if "--resume: the run began" in record.message)
    assert before.startswith(f"--resume: the run began with other keys: MGOT.CLUSTER.K2 5 -> {cfg.MGOT.CLUSTER.K2}, ")
    assert unknown == f"--resume: the run began before these keys were there: MGOT.CLUSTER.EPS {cfg.MGOT.CLUSTER.EPS}"


def test_no_usable_checkpoint_is_an_error_and_no_checkpoint_a_beginning(copy: Path, finished: Path) -> None:
    for path in checkpoint_files(copy):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"--resume: no checkpoint in .*model_0001\.pth: .*MGOT\.OVERWRITE True"):
        go_on(copy)
    for path in checkpoint_files(copy):
        path.unlink()
    assert figures(go_on(copy, "SOLVER.MAX_EPOCH", 4)) == figures(finished)


def test_another_architecture_is_named_by_its_layers(copy: Path) -> None:
    with pytest.raises(UserError, match=r"the model of another config \(backbone\.layer1\.1\.conv1\.weight is missing"):
        go_on(copy, "MODEL.BACKBONE.DEPTH", "18x")
    lines = layer_differences({"a": torch.zeros(2), "c": 3}, {"a": torch.zeros(3), "b": torch.zeros(1)})
    assert lines == ["b is missing", "a is (2,) and not (3,)", "c is unknown"]


def test_a_run_of_other_keys_of_the_adversary_and_the_rates_is_refused_with_these_keys(copy: Path) -> None:
    for path in checkpoint_files(copy):
        content = load_tensors(path)  # as an earlier version left it
        content["model"] = {k: v for k, v in content["model"].items() if "logit_norm" not in k}
        content["model"]["discriminator.necks.4.weight"] = torch.ones(256)
        torch.save(content, path)
    with pytest.raises(
        UserError, match=r"discriminator\.logit_norm\.weight is missing.*MGOT\.DEN\.SHARED_NECK and MGOT"
    ):
        go_on(copy)


def test_a_run_does_not_go_on_with_other_images(copy: Path) -> None:
    with pytest.raises(UserError, match=r"--resume: the run in .* cannot go on: .* and 96 infrared images"):
        go_on(copy, "SOLVER.MAX_EPOCH", 5, "MGOT.DATA.OVERLAP", 0.5, "MGOT.DATA.OVERLAP_DROPS", "infrared")


def test_other_parameter_groups_are_told(copy: Path) -> None:
    with pytest.raises(UserError, match=r"parameter groups of \[\d+\] and not .*MGOT\.DEN\.BACKBONE_LR_FACTOR"):
        go_on(copy, "MGOT.DEN.BACKBONE_LR_FACTOR", 0.1)


def test_a_drawn_seed_is_taken_up(copy: Path) -> None:
    keys = [*tiny_keys(copy), "SEED", "-1"]
    assert load_config(DEMO, keys, resume=True).SEED == 0
    assert load_config(DEMO, [*keys, "SEED", "5"], resume=True).SEED == 5
    assert load_config(DEMO, keys).SEED > 0


def test_a_full_disk_costs_a_checkpoint_within_the_run_and_stops_it_at_its_end(
    copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = (copy / "model_0002.pth").read_bytes()
    (copy / "model_final.pth").unlink()
    monkeypatch.setattr(checkpoint, "_save_atomically", full_disk)
    with pytest.raises(UserError, match=r"model_final\.pth could not be written: make room .*--resume"):
        go_on(copy, "SOLVER.MAX_EPOCH", 5)
    assert "model_0003.pth could not be written" in caplog.text and "No space left on device" in caplog.text
    assert (copy / "model_0002.pth").read_bytes() == before


def test_weights_that_broke_are_not_saved(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "model_final.pth").unlink()
    step = MGOTTrainer.run_step

    def break_weights(self: MGOTTrainer) -> None:
        step(self)
        self.network.get_parameter("discriminator.necks.0.weight").data[0] = float("nan")

    monkeypatch.setattr(MGOTTrainer, "run_step", break_weights)
    with pytest.raises(UserError, match=r"epoch 3: 1 layers hold NaN .*discriminator.necks.0.weight.*SOLVER.BASE_LR"):
        go_on(copy, "SOLVER.MAX_EPOCH", 4)
    assert not (copy / "model_final.pth").exists()


def test_an_output_folder_is_one_runs_own(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds another run \(metrics\.json\): continue it with --resume"):
        claim_folder(finished, resume=False, overwrite=False)
    claim_folder(finished, resume=True, overwrite=False)
    claim_folder(tmp_path / "new" / "run", resume=False, overwrite=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"OUTPUT_DIR .*file cannot be written"):
        claim_folder(tmp_path / "file", resume=False, overwrite=False)
