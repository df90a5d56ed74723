"""A cross stage that begins at another run's intra stage is that of an unbroken run, and wrong beginnings are named."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mgot.engine.config.keys import same_intra_stage, told_of_a_donor
from mgot.engine.resume.checkpoint import INTRA, by_progress, checkpoint_files, load_tensors
from mgot.engine.resume.fork import begin_from_donor
from mgot.engine.setup import load_config
from mgot.errors import Interrupted, UserError
from tests.test_resume import DEMO, figures, run, signal_at, tiny_keys

# Keys that only the cross stage has.
OTHER = ("MGOT.MATCHER.NAME", "hungarian", "MGOT.LOSS.W_MCL", "0.0", "MGOT.PAIRED_SAMPLING", "False",
         "MGOT.CROSS_STAGE.BASE_LR", "1e-4")  # fmt: skip


def keys(folder: Path, *extra: object) -> list[str]:
    """Keys of a training of an epoch of the intra stage and two of the cross stage, two steps each."""
    own = ("SOLVER.MAX_EPOCH", 3, "MGOT.ITERS_PER_EPOCH", 2, "MGOT.DIAGNOSTICS", False)
    return [*tiny_keys(folder), *(str(part) for part in (*own, *extra))]


@pytest.fixture(name="donor", scope="module")
def fixture_donor(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unbroken run, which others begin from; leave it as it is."""
    folder = tmp_path_factory.mktemp("donor") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FASTREID_DATASETS", str(tiny_root))
        return run(keys(folder))


@pytest.fixture(autouse=True)
def fixture_root(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTREID_DATASETS", str(tiny_root))


def content_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text()))


def same(one: Path, other: Path, *, but: str = "") -> None:
    """Both runs logged the same from the cross stage on, but for a measure, end with the same weights, same rows."""
    lines = [[line for line in figures(folder) if line["iteration"] >= 2] for folder in (one, other)]
    for line in (*lines[0], *lines[1]):
        if line["iteration"] == 2:
            line.pop(but, None)
    assert lines[0] == lines[1] and len(lines[0]) >= 4
    ends = [load_tensors(folder / "model_final.pth")["model"] for folder in (one, other)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert content_of(one)["rows"] == content_of(other)["rows"]


def test_a_cross_stage_of_its_own_is_that_of_the_unbroken_run(
    donor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = keys(tmp_path / "fork", "MGOT.CROSS_STAGE.FROM", donor / "model_intra.pth", "SEED", -1)
    with monkeypatch.context() as patched:
        signal_at(patched, 4)
        with pytest.raises(Interrupted, match="--resume continues"):
            run(options)
    fork = run(options, resume=True)
    same(fork, donor)
    assert min(line["iteration"] for line in figures(fork)) == 2
    assert [path.stem for path in checkpoint_files(fork)] == ["model_0001", "model_0002_00001", "model_final"]
    content = content_of(fork)
    assert [row["stage"] for row in content["rows"]] == ["initial", "intra", "fittest", "final"]
    assert content["intra_from"] == str(donor / "model_intra.pth") and "intra_from" not in content_of(donor)
    assert content["seconds"]["intra"] == content_of(donor)["seconds"]["intra"]


def test_other_keys_of_the_cross_stage_alone(donor: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unbroken = run(keys(tmp_path / "unbroken", *OTHER))
    options = keys(tmp_path / "fork", *OTHER, "MGOT.CROSS_STAGE.FROM", donor / "model_intra.pth")
    fork = run(options)
    assert "other keys" not in caplog.text
    same(fork, unbroken, but="matching/agreement")  # of another matcher's epoch before
    assert not any("matching/agreement" in line for line in figures(fork) if line["iteration"] == 2)
    for path in checkpoint_files(fork):
        path.unlink()
    same(run(options, resume=True), unbroken, but="matching/agreement")  # begins again where it began


def test_the_checkpoint_of_the_intra_stage_stays_and_is_passed_by_newer_ones(donor: Path, tmp_path: Path) -> None:
    names = ["model_0000", "model_0001", "model_final", "model_intra"]
    assert [path.stem for path in checkpoint_files(donor)] == names
    assert [path.stem for _, path in by_progress(donor)[0]] == ["model_final", "model_0001", "model_0000", INTRA]
    copy = Path(shutil.copytree(donor, tmp_path / "copy"))
    for name in names[:-1]:
        (copy / f"{name}.pth").unlink()
    same(run(keys(copy), resume=True), donor)
    assert (copy / "model_intra.pth").is_file()


def begin(path: Path, *extra: object) -> dict[str, Any]:
    """The content that a run with these keys begins with; the model is left out."""
    cfg = load_config(DEMO, keys(path.parent / "new", "MGOT.CROSS_STAGE.FROM", path, *extra))
    about = {"dataset": cfg.DATASETS.NAMES[0]}
    saver: Any = SimpleNamespace(about=about, take_up=load_tensors)
    labels = load_tensors(path)["labels"]["labels"] if path.is_file() and path.suffix == ".pth" else {}
    images = (len(labels.get("visible", ())), len(labels.get("infrared", ())))
    return begin_from_donor(cfg, saver, images)[1]


def other(donor: Path, folder: Path, **changed: object) -> Path:
    """A copy of the donor's checkpoint with other content."""
    content = {**load_tensors(donor / "model_intra.pth"), **changed}
    torch.save(content, folder / "other.pth")
    return folder / "other.pth"


def test_a_checkpoint_of_no_intra_stages_end_is_refused(donor: Path, tmp_path: Path) -> None:
    intra = donor / "model_intra.pth"
    with pytest.raises(UserError, match=r"FROM .*none\.pth: no such file: name the model_intra\.pth"):
        begin(tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"FROM .* is in OUTPUT_DIR: choose another OUTPUT_DIR"):
        begin(intra, "OUTPUT_DIR", donor)
    with pytest.raises(UserError, match=r"from the end of epoch 0, and MGOT\.CROSS_START_EPOCH is 2: name one"):
        begin(intra, "MGOT.CROSS_START_EPOCH", 2)
    with pytest.raises(UserError, match=r"end of epoch 1, within the cross stage .* had MGOT\.CROSS_START_EPOCH 1"):
        begin(donor / "model_0001.pth", "MGOT.CROSS_START_EPOCH", 2)
    content = load_tensors(donor / "model_0001.pth")
    content["config"] = content["config"].replace("MODE: unsupervised", "MODE: intra_only")
    torch.save(content, tmp_path / "all_intra.pth")  # of a run that has no other stage
    assert begin(tmp_path / "all_intra.pth", "MGOT.CROSS_START_EPOCH", 2, "SOLVER.MAX_EPOCH", 3)["epoch"] == 1
    with pytest.raises(UserError, match=r"is from step 1 of epoch 1, and MGOT\.CROSS_START_EPOCH is 1"):
        begin(other(donor, tmp_path, step=1))
    with pytest.raises(UserError, match=r"no cross stage after an intra stage: .*MGOT\.MODE intra_only"):
        begin(intra, "MGOT.MODE", "intra_only")
    torch.save({"model": {}, "labels": {"labels": {}}}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth: not a checkpoint of a training"):
        begin(tmp_path / "weights.pth")
    assert begin(donor / "model_0000.pth")["epoch"] == 0


def test_another_seed_or_data_set_or_labels_by_truth_are_refused(donor: Path, tmp_path: Path) -> None:
    intra = donor / "model_intra.pth"
    with pytest.raises(UserError, match=r"its run had SEED 0, this one has SEED 3: set SEED 0, or -1"):
        begin(intra, "SEED", 3)
    with pytest.raises(UserError, match=r"trained on dataset LLCM, and this run is on dataset SYSUMM01"):
        begin(other(donor, tmp_path, about={"dataset": "LLCM"}))
    with pytest.raises(UserError, match=r"trained on split 3, and this run is on split None"):
        begin(other(donor, tmp_path, about={"dataset": "SYSUMM01", "split": 3}))
    supervised = {"dataset": "SYSUMM01", "ground_truth": "clusters and matches"}
    with pytest.raises(UserError, match=r"clusters came from the ground truth"):
        begin(other(donor, tmp_path, about=supervised))
    assert begin(other(donor, tmp_path, about={"dataset": "SYSUMM01", "ground_truth": "matches"}))["epoch"] == 0
    cfg = load_config(DEMO, keys(tmp_path / "new", "MGOT.CROSS_STAGE.FROM", intra))
    saver: Any = SimpleNamespace(about={"dataset": "SYSUMM01"}, take_up=load_tensors)
    with pytest.raises(UserError, match=r"visible and \d+ infrared images, and this run has 1 and 2: set FASTREID"):
        begin_from_donor(cfg, saver, (1, 2))


def test_other_keys_of_the_intra_stage_are_told(
    donor: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mgot"), "propagate", True)  # whatever another test has set up
    content = begin(donor / "model_intra.pth", "MGOT.CLUSTER.EPS", 0.5, *OTHER, "TEST.IMS_PER_BATCH", 7)
    assert content["other_matcher"]
    assert "the intra stage was trained with other keys: MGOT.CLUSTER.EPS 0.47 -> 0.5\n" in caplog.text
    caplog.clear()
    assert not begin(donor / "model_intra.pth", "MGOT.LOSS.W_CCL", 0.5)["other_matcher"]
    assert caplog.text == ""


def test_which_keys_leave_the_intra_stage_as_it_is() -> None:
    moves = ("MGOT.CROSS_STAGE.UPDATE", "MGOT.CROSS_STAGE.EXCHANGE")
    for key in (
        "MGOT.MATCHER.NAME",
        "MGOT.BELIEF.ANY",
        "MGOT.LOSS.W_CPAL",
        "MGOT.LOSS.CPAL_VISIBLE",
        "OUTPUT_DIR",
        *moves,
    ):
        assert same_intra_stage(key) and not told_of_a_donor(key)
    for key in ("MODEL.WEIGHTS", "SOLVER.MAX_EPOCH", "TEST.IMS_PER_BATCH", "MGOT.TEST.REGDB_TRIAL"):
        assert not same_intra_stage(key) and not told_of_a_donor(key)
    memories = ("MGOT.LOSS.TEMPERATURE", "MGOT.LOSS.UPDATE", "MGOT.LOSS.W_DUAL", "MGOT.LOSS.DUAL_FLOOR")
    for key in ("MGOT.LOSS.W_ADV", "MGOT.CLUSTER.EPS", "MGOT.CROSS_STAGE.OWN_OPTIMIZER", *memories):
        assert not same_intra_stage(key) and told_of_a_donor(key)
