"""What the command line starts: a training, or the scoring of a checkpoint."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode
from fastreid.utils import comm

from mgot.data.loaders import build_dataset
from mgot.data.registered import configured
from mgot.engine.resume.checkpoint import FINAL, AtomicCheckpointer, checkpoint_files
from mgot.engine.resume.fork import writes_intra
from mgot.engine.resume.output import check_space, claim_folder, clear_folder, remove_temporaries, unless_refused
from mgot.engine.trainer import MGOTTrainer, without_pretraining
from mgot.engine.watch.about import describe_run
from mgot.engine.watch.evaluator import score_model
from mgot.errors import UserError
from mgot.evaluation.results import ResultsFile, format_rows, read_results
from mgot.files import release_folder

logger = logging.getLogger("mgot")


def train(cfg: CfgNode, *, resume: bool) -> None:
    """Train by the config, from the newest checkpoint of OUTPUT_DIR if ``resume``.

    Raises:
        UserError: OUTPUT_DIR holds another run or has no room, no checkpoint can be used, or the training fails in a
            way that the user can fix.
        Interrupted: a signal ended the training.
    """
    folder = Path(cfg.OUTPUT_DIR)
    claim_folder(folder, resume=resume, overwrite=cfg.MGOT.OVERWRITE)
    try:
        _train(cfg, folder, resume=resume)
    finally:
        release_folder(folder)


def _train(cfg: CfgNode, folder: Path, *, resume: bool) -> None:
    start, path = time.perf_counter(), folder / "results.json"
    with unless_refused(folder):
        trainer = MGOTTrainer(cfg, weights_follow=weights_follow(cfg, resume=resume))
        trainer.resume_or_load(resume=resume)
        _check_test_sets(cfg)
        if trainer.start_epoch >= trainer.max_epoch and not os.path.isfile(path):
            raise UserError(
                f"{path} is missing and the training is finished: score it with --eval-only MODEL.WEIGHTS"
                f" {folder}/{FINAL}.pth"
            )
        if comm.is_main_process():
            remove_temporaries(folder)
            check_space(folder, trainer.network, cfg.MGOT.CHECKPOINT.KEEP + writes_intra(cfg))
    if comm.is_main_process() and not resume:
        clear_folder(folder)
    if trainer.start_epoch < trainer.max_epoch:
        trainer.train()
    else:
        logger.info(f"{cfg.OUTPUT_DIR} holds a finished training of {trainer.start_epoch} epochs: nothing left to do")
    if comm.is_main_process():
        results = read_results(path)
        table = format_rows(results["rows"], results.get("ground_truth", ""))
        logger.info(f"\n{table}\n{time.perf_counter() - start:.0f} s; results in {path}")


def _check_test_sets(cfg: CfgNode) -> None:
    """Check before training that the test set can be scored; UserError if not.

    The training set was checked when the loader was built.
    """
    for name in set(cfg.DATASETS.TESTS) - set(cfg.DATASETS.NAMES):
        build_dataset(cfg, name).protocols()


def weights_follow(cfg: CfgNode, *, resume: bool) -> bool:
    """Whether a training gets all its weights from a checkpoint: its own, another run's, or MODEL.WEIGHTS."""
    going_on = resume and bool(checkpoint_files(Path(cfg.OUTPUT_DIR)))
    return going_on or bool(cfg.MODEL.WEIGHTS or cfg.MGOT.CROSS_STAGE.FROM)


def evaluate(cfg: CfgNode) -> None:
    """Score MODEL.WEIGHTS and write a results file; that of a training is not replaced.

    Raises:
        UserError: no weights are named, or they were trained on another split or on the validation people.
    """
    folder = Path(cfg.OUTPUT_DIR)
    try:
        with unless_refused(folder):
            _evaluate(cfg)
    finally:
        release_folder(folder)


def _evaluate(cfg: CfgNode) -> None:
    if not cfg.MODEL.WEIGHTS:
        raise UserError("--eval-only needs a checkpoint: add MODEL.WEIGHTS <OUTPUT_DIR>/model_final.pth")
    start = time.perf_counter()
    model = MGOTTrainer.build_model(without_pretraining(cfg))
    checkpoint = AtomicCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    _refuse_other_split(cfg, checkpoint)
    _refuse_trained_people(cfg, checkpoint)
    rows = score_model(cfg, model).rows
    if comm.is_main_process():
        folder = Path(cfg.OUTPUT_DIR)
        if (folder / "results.json").exists():
            folder = folder / "evaluation"
            folder.mkdir(exist_ok=True)
        ground_truth = checkpoint.get("about", {}).get("ground_truth", "")
        about = {**describe_run(cfg), "ground_truth": ground_truth}
        results = ResultsFile(folder / "results.json", about, fresh=True)
        results.add("final", rows, time.perf_counter() - start)
        logger.info(f"{format_rows(results.content['rows'], ground_truth)}\nresults in {results.path}")


def _refuse_other_split(cfg: CfgNode, checkpoint: dict[str, Any]) -> None:
    """Refuse another split: the test people of one split are training people of others (docs/protocols.md, RegDB)."""
    about = checkpoint.get("about", {})
    name, trained = about.get("dataset"), about.get("split")
    if trained is None or name not in cfg.DATASETS.TESTS or cfg.MGOT.TEST.OTHER_TRIAL:
        return
    asked = configured(cfg, name)
    if asked.split != trained:
        raise UserError(
            f"{cfg.MODEL.WEIGHTS} was trained on split {trained} of {name}: set {asked.split_key} {trained},"
            " or MGOT.TEST.OTHER_TRIAL True to score it anyway"
        )


def _refuse_trained_people(cfg: CfgNode, checkpoint: dict[str, Any]) -> None:
    """Refuse weights that were trained on the validation people, as all are without MGOT.DATA.VALIDATION."""
    about = checkpoint.get("about", {})
    trained = about.get("dataset") in cfg.DATASETS.TESTS and about.get("people") != "validation"
    if cfg.MGOT.DATA.VALIDATION and trained:
        raise UserError(
            f"{cfg.MODEL.WEIGHTS} was trained on the validation people too: set MGOT.DATA.VALIDATION False, or train"
            " with True first"
        )
