"""Whatever a user gets wrong, the real command says in one line what it is and what to do, before the first epoch."""

from __future__ import annotations

import logging
import os
import runpy
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mgot.engine.resume import output

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
Options = Callable[..., list[str]]

CONFIGS: dict[str, tuple[list[str], str]] = {
    "a key of ours misspelt": (["MGOT.CLUSTER.EPSS", "0.5"], "did you mean 'MGOT.CLUSTER.EPS'"),
    "a key of fast-reid's misspelt": (["SOLVER.BASE_LRR", "0.5"], "did you mean 'SOLVER.BASE_LR'"),
    "a key without a value": (["MGOT.CLUSTER.EPS"], "KEY VALUE pairs: 'MGOT.CLUSTER.EPS' has no value"),
    "a word for a number": (["MGOT.CLUSTER.EPS", "much"], "MGOT.CLUSTER.EPS cannot be 'much'"),
    "a number for a list": (["MGOT.TEST.SYSU_MODES", "3"], "MGOT.TEST.SYSU_MODES cannot be"),
    "eps 0": (["MGOT.CLUSTER.EPS", "0"], "MGOT.CLUSTER.EPS must be between 0 and 1"),
    "k2 above k1": (["MGOT.CLUSTER.K2", "99"], "MGOT.CLUSTER.K2 must be between 1 and K1"),
    "no matcher of that name": (["MGOT.MATCHER.NAME", "otp"], "MGOT.MATCHER.NAME must be one of"),
    "no modality of that name": (["MGOT.MATCHER.SUPPLY", "thermal"], "MGOT.MATCHER.SUPPLY must be one of"),
    "lambda below 0": (["MGOT.MATCHER.LAMBDA", "-1.0"], "MGOT.MATCHER.LAMBDA must be more than 0"),
    "no Sinkhorn iterations": (["MGOT.MATCHER.MAX_ITERATIONS", "0"], "MGOT.MATCHER.MAX_ITERATIONS must be 1 or more"),
    "a weight below 0": (["MGOT.LOSS.W_CCL", "-1.0"], "MGOT.LOSS.W_CCL must be 0 or more"),
    "momentum 1": (["MGOT.LOSS.MOMENTUM", "1.0"], "MGOT.LOSS.MOMENTUM must be in [0, 1)"),
    "temperature 0": (["MGOT.LOSS.TEMPERATURE", "0"], "MGOT.LOSS.TEMPERATURE must be more than 0"),
    "dropout 1": (["MGOT.DEN.DROPOUT", "1.0"], "MGOT.DEN.DROPOUT must be in [0, 1)"),
    "a chance of 2": (["MGOT.AUG.GRAY_PROB", "2"], "MGOT.AUG.GRAY_PROB must be in [0, 1]"),
    "an unknown cache": (["DATALOADER.CACHE", "tape"], "DATALOADER.CACHE must be one of"),
    "an unknown precision": (["MGOT.PRECISION", "int8"], "MGOT.PRECISION must be one of"),
    "an unknown mode": (["MGOT.MODE", "magic"], "MGOT.MODE must be one of"),
    "no epochs": (["SOLVER.MAX_EPOCH", "0"], "SOLVER.MAX_EPOCH must be 1 or more"),
    "no steps": (["MGOT.ITERS_PER_EPOCH", "0"], "MGOT.ITERS_PER_EPOCH must be 1 or more"),
    "keep no checkpoint": (["MGOT.CHECKPOINT.KEEP", "0"], "MGOT.CHECKPOINT.KEEP must be 1 or more"),
    "a ratio below 1": (["MGOT.GUARD.MAX_CLUSTER_RATIO", "0.5"], "MGOT.GUARD.MAX_CLUSTER_RATIO must be 1 or more"),
    "an eleventh split": (["MGOT.TEST.REGDB_TRIAL", "11"], "MGOT.TEST.REGDB_TRIAL must be 1 to 10"),
    "fast-reid's head": (["MODEL.HEADS.NAME", "EmbeddingHead"], "MODEL.HEADS.NAME must be MGOTHead"),
    "an optimiser that is not there": (["SOLVER.OPT", "Foo"], "SOLVER.OPT must be one of"),
    "an image of no size": (["INPUT.SIZE_TRAIN", "[0, 0]"], "INPUT.SIZE_TRAIN must be [height, width]"),
    "an expansion by nobody": (["TEST.AQE.QE_K", "0"], "TEST.AQE.QE_K must be 1 or more"),
    "an expansion with a negative power": (["TEST.AQE.ALPHA", "-1"], "TEST.AQE.ALPHA must be 0 or more"),
    "no expansion at all": (["TEST.AQE.QE_TIME", "0"], "TEST.AQE.QE_TIME must be 1 to 100"),
    "precise BN": (["TEST.PRECISE_BN.ENABLED", "True"], "TEST.PRECISE_BN.ENABLED must be False"),
    "more GPUs than there are": (["--num-gpus", "99"], "--num-gpus 99: this machine has"),
    "scoring without weights": (["--eval-only"], "--eval-only needs a checkpoint: add MODEL.WEIGHTS"),
}

FILES: dict[str, tuple[bytes, str]] = {
    "broken": (b"a: [1\n", "not a safe YAML mapping"),
    "a list": (b"- 1\n", "not a safe YAML mapping"),
    "binary": (b"\xff\xfe\x00", "not a safe YAML mapping"),
    "a python tag": (b"SEED: !!python/object/apply:os.mkdir [payload_ran]\n", "not a safe YAML mapping"),
    "without its base": (b"_BASE_: nowhere.yml\n", "nowhere"),
    "misspelt": (b"MGOT:\n  LOSS:\n    W_CCLL: 1.0\n", "did you mean 'MGOT.LOSS.W_CCL'"),
}


@pytest.fixture(autouse=True)
def fixture_logging() -> Iterator[None]:
    """The command sets up logging for its process; other tests get theirs back."""
    loggers = [logging.getLogger(name) for name in ("mgot", "fastreid")]
    before = [(each, each.propagate, each.level, list(each.handlers)) for each in loggers]
    yield
    for each, propagate, level, handlers in before:
        each.propagate, each.handlers = propagate, handlers
        each.setLevel(level)


@pytest.fixture(name="launch", scope="module")
def fixture_launch() -> Callable[[list[str]], int]:
    return runpy.run_path(str(REPO / "tools/train_net.py"))["launch"]


@pytest.fixture(name="refused")
def fixture_refused(
    launch: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str], str], None]:
    """Runs the command and sees that it says so in one last line, without a traceback, and fails."""

    def check(argv: list[str], message: str) -> None:
        assert launch(argv) == 2
        told = capsys.readouterr()
        assert message in told.err.strip().splitlines()[-1]
        assert "Traceback" not in told.err + told.out

    return check


@pytest.mark.parametrize("mistake", CONFIGS)
def test_options(mistake: str, refused: Any, tiny_options: Options) -> None:
    argv, message = CONFIGS[mistake]
    flags = [word for word in argv if word.startswith("--")]
    words = argv if flags else [*tiny_options(), *argv]
    refused(["--config-file", DEMO, *words, *(tiny_options() if flags else [])], message)


@pytest.mark.parametrize("mistake", FILES)
def test_config_files(mistake: str, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, message = FILES[mistake]
    (tmp_path / "config.yml").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    refused(["--config-file", "config.yml"], message)
    assert not (tmp_path / "payload_ran").exists()
    refused(["--config-file", "nowhere.yml"], "nowhere.yml: no such file")


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT"


class Payload:
    """What a hostile checkpoint holds."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("payload_ran",)


def spoil_weights(folder: Path) -> list[str]:
    torch.save({"model": {"backbone.conv1.weight": torch.zeros(64, 3, 7, 7)}}, folder / "other.pth")
    return ["MODEL.WEIGHTS", str(folder / "other.pth")]


def spoil_hostile(folder: Path) -> list[str]:
    torch.save({"model": Payload()}, folder / "hostile.pth")
    return ["MODEL.WEIGHTS", str(folder / "hostile.pth")]


def spoil_garbage(folder: Path) -> list[str]:
    (folder / "garbage.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    return ["MODEL.WEIGHTS", str(folder / "garbage.pth")]


def spoil_output_file(folder: Path) -> list[str]:
    (folder / "file").write_text("")
    return ["OUTPUT_DIR", str(folder / "file")]


def spoil_output_run(folder: Path) -> list[str]:
    (folder / "old").mkdir()
    (folder / "old" / "metrics.json").write_text('{"iteration": 0}\n')
    return ["OUTPUT_DIR", str(folder / "old")]


def circle(folder: Path) -> Path:
    (folder / "circle").symlink_to(folder / "circle")
    return folder / "circle"


def spoil_results(folder: Path) -> list[str]:
    (folder / "damaged").mkdir()
    (folder / "damaged" / "results.json").write_text("{")
    return ["MGOT.OVERWRITE", "False", "OUTPUT_DIR", str(folder / "damaged")]


SURROUNDINGS: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "weights that are not there": (
        lambda folder: ["MODEL.WEIGHTS", str(folder / "no.pth")],
        "no such weights file",
    ),
    "weights of another architecture": (spoil_weights, "weights of another architecture (backbone."),
    "weights with a payload": (spoil_hostile, "hostile.pth: not a readable checkpoint"),
    "weights that are garbage": (spoil_garbage, "garbage.pth: not a readable checkpoint"),
    "pretrained weights that are not there": (
        lambda folder: ["MODEL.BACKBONE.PRETRAIN", "True", "MODEL.BACKBONE.PRETRAIN_PATH", str(folder / "no.pth")],
        "MODEL.BACKBONE.PRETRAIN_PATH",
    ),
    "an output folder that is a file": (spoil_output_file, "file cannot be written"),
    "an output folder of another run": (
        spoil_output_run,
        "holds another run (metrics.json): continue it with",
    ),
    "an output folder of no possible name": (
        lambda folder: ["OUTPUT_DIR", str(folder / ("o" * 300))],
        "cannot be written: File name too long",
    ),
    "a donor and an output folder of no possible name": (
        lambda folder: ["MGOT.CROSS_STAGE.FROM", __file__, "OUTPUT_DIR", str(circle(folder))],
        "OUTPUT_DIR",
    ),
    "an unknown data set": (lambda folder: ["DATASETS.NAMES", "('SYSU',)"], "no data set named 'SYSU' is registered"),
    "a batch that does not divide": (lambda folder: ["SOLVER.IMS_PER_BATCH", "30"], "must be a multiple of 2 x"),
    "channels that are not so": (lambda folder: ["MODEL.BACKBONE.FEAT_DIM", "99"], "this backbone gives 256 channels"),
    "a stage that is not there": (lambda folder: ["MGOT.DEN.STAGES", "['layer9']"], "layer9"),
    "a depth that is not there": (lambda folder: ["MODEL.BACKBONE.DEPTH", "11x"], "MODEL.BACKBONE.DEPTH"),
}


@pytest.mark.parametrize("mistake", SURROUNDINGS)
def test_surroundings(
    mistake: str, refused: Any, tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, message = SURROUNDINGS[mistake]
    refused(["--config-file", DEMO, *tiny_options(*spoil(tmp_path))], message)
    assert not Path("payload_ran").exists()


def test_a_damaged_results_file(refused: Any, tiny_options: Options, tmp_path: Path) -> None:
    argv = ["--config-file", DEMO, "--resume", *tiny_options(*spoil_results(tmp_path))]
    refused(argv, "results.json is damaged: remove it")


def test_a_run_to_go_on_with_whose_folder_has_no_possible_name(refused: Any, tiny_options: Options) -> None:
    argv = ["--config-file", DEMO, "--resume", *tiny_options("OUTPUT_DIR", "o" * 300)]
    refused(argv, "cannot be written: File name too long")


def test_a_root_of_no_possible_name(
    refused: Any, tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--config-file", DEMO, *tiny_options()]
    monkeypatch.setenv("FASTREID_DATASETS", "d" * 300)
    refused(argv, "is not a folder: set FASTREID_DATASETS")
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room(refused: Any, tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(output.shutil, "disk_usage", lambda folder: usage)
    refused(["--config-file", DEMO, *tiny_options()], "make room, lower MGOT.CHECKPOINT.KEEP")


@pytest.mark.parametrize("damage", ["no folder", "no people", "bomb", "truncated"])
def test_data(
    damage: str, refused: Any, tiny_options: Options, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--config-file", DEMO, *tiny_options()]
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    if damage == "no folder":
        refused(argv, "is not a folder: set FASTREID_DATASETS")
        return
    folder = tmp_path / "SYSU-MM01"
    if damage == "no people":
        shutil.copytree(tiny_root / "SYSU-MM01" / "exp", folder / "exp")
        refused(argv, "cam1 is missing: the copy is incomplete")
        return
    shutil.copytree(tiny_root / "SYSU-MM01", folder)
    image = folder / "cam1" / "0001" / "0001.jpg"
    image.write_bytes(png_header(50_000, 50_000) if damage == "bomb" else image.read_bytes()[:-100])
    refused(argv, "0001.jpg cannot be decoded (" + ("Image size (2500000000 pixels)" if damage == "bomb" else ""))


@pytest.mark.slow
def test_as_a_process(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(REPO / "tools/train_net.py"),
        "--config-file",
        DEMO,
        "OUTPUT_DIR",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPO / "projects/MGOT"), "FASTREID_DATASETS": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPO, check=False)
    assert (
        done.returncode == 2
        and "is not a folder: set FASTREID_DATASETS" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_there_are_thirty_kinds() -> None:
    assert len(CONFIGS) + len(FILES) + len(SURROUNDINGS) >= 30
