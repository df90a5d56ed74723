"""The host's default trainer with MGOT's loader, hooks and evaluation."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.engine.hooks import EvalHook, LRScheduler, PeriodicCheckpointer, PeriodicWriter
from fastreid.evaluation import inference_on_dataset
from fastreid.modeling.meta_arch import build_model
from fastreid.solver import build_lr_scheduler
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.events import JSONWriter, TensorboardXWriter
from torch import nn

from mgot import distributed  # noqa: F401  readies the host for several processes
from mgot.data.image_set import OFF, ImageSet
from mgot.data.loaders import (
    CrossModalityLoader,
    EpochLabels,
    build_dataset,
    build_ordered_loader,
    build_train_loader,
    cache_options,
)
from mgot.data.registered import configured
from mgot.engine.builders import (
    build_believer,
    build_clusterer,
    build_matcher,
    cross_start_epoch,
    cross_weight,
    ground_truth_used,
)
from mgot.engine.epoch import EpochState
from mgot.engine.evaluator import CrossModalityEvaluator
from mgot.engine.guards import EpochGuardHook, StepGuard
from mgot.engine.hooks import (
    ClusteringHook,
    EpochWriter,
    GatherHook,
    MatchingHook,
    MemoryUpdateHook,
    ProgressHook,
    StageResultsHook,
)
from mgot.engine.records import RecordHook, SummaryHook
from mgot.engine.resume.checkpoint import AtomicCheckpointer
from mgot.engine.resume.fittest import FittestHook
from mgot.engine.resume.fork import writes_intra
from mgot.engine.resume.resumable import CheckpointHook, ResumableTrainer
from mgot.engine.solver import StageHook, build_fused_optimizer, log_rate_of, stages
from mgot.engine.step import StepTrainer
from mgot.evaluation.results import ResultsFile
from mgot.modeling import DEN, MGOTHead

logger = logging.getLogger("mgot")


class MGOTTrainer(ResumableTrainer):
    """Trains DEN by MGOT's loop.

    Args:
        cfg: checked.
        weights_follow: a checkpoint will bring all weights, so that MODEL.BACKBONE.PRETRAIN is not looked at.

    Attributes:
        epoch_state: labels, prototypes and matches in force, None before the first epoch.
        previous_state: those of the epoch before.
        rankings: what some queries found at the last scoring, one a protocol; empty without MGOT.DIAGNOSTICS.
    """

    rankings: Sequence[dict[str, Any]] = ()
    previous_state: EpochState | None = None
    _trainer: Any

    def __init__(self, cfg: CfgNode, *, weights_follow: bool = False) -> None:
        if weights_follow:  # the host's constructor asks for the model by the config alone
            self.build_model = lambda cfg: type(self).build_model(without_pretraining(cfg))  # type: ignore[method-assign]
        super().__init__(cfg)
        self._trainer = StepTrainer(
            self._trainer,
            scaled=self.network.precision == torch.float16,
            guard=StepGuard(self.network, cfg.MGOT.GUARD.MAX_SKIPPED_STEPS),
        )
        hosts = self.checkpointer
        self.checkpointer = AtomicCheckpointer(
            self.model,
            cfg.OUTPUT_DIR,
            about=describe_training_set(cfg),
            keep=cfg.MGOT.CHECKPOINT.KEEP,
            save_to_disk=hosts.save_to_disk,
            **hosts.checkpointables,
            **({"grad_scaler": self.grad_scaler} if self.grad_scaler.is_enabled() else {}),
        )

    @property
    def network(self) -> DEN:
        """DEN itself, also where it is wrapped for several processes."""
        network = getattr(self.model, "module", self.model)
        assert isinstance(network, DEN)
        return network

    @property
    def heads(self) -> MGOTHead:
        """The head that holds the memories."""
        return self.network.heads

    @property
    def device(self) -> torch.device:
        """Where the model trains."""
        return self.network.device

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        logging.getLogger("fastreid").debug(f"Model:\n{model}")
        return model

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> CrossModalityLoader:
        return build_train_loader(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Any:
        return build_fused_optimizer(stages(cfg)[0].cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Any, iters_per_epoch: int) -> Any:
        return build_lr_scheduler(stages(cfg)[0].cfg, optimizer, cfg.MGOT.ITERS_PER_EPOCH)

    def build_hooks(self) -> list[Any]:
        """The host's hooks, with MGOT's between the scheduler and the checkpointer."""
        cfg = self.cfg
        # The host counts iterations from the size of the data set; MGOT's epochs have a length of their own.
        self.iters_per_epoch = cfg.MGOT.ITERS_PER_EPOCH
        self.max_iter = self.max_epoch * self.iters_per_epoch
        replaced = EvalHook | PeriodicWriter | PeriodicCheckpointer
        hosts = [hook for hook in super().build_hooks() if not isinstance(hook, replaced)]
        for hook in hosts:
            if isinstance(hook, LRScheduler):
                log_rate_of(hook, self.optimizer, stages(cfg)[0].cfg.SOLVER.BASE_LR)
        loss, cross_start = cfg.MGOT.LOSS, cross_start_epoch(cfg)
        results = ResultsFile(Path(cfg.OUTPUT_DIR) / "results.json", describe_run(cfg))
        ours = [
            StageHook(stages(cfg), self.optimizer),
            ClusteringHook(
                build_clusterer(cfg),
                cfg.TEST.IMS_PER_BATCH,
                cfg.DATALOADER.NUM_WORKERS,
                spectral_too=cfg.MGOT.MATCHER.VIEW != "colour",
            ),
            MatchingHook(
                build_matcher(cfg),
                build_believer(cfg),
                weigh=partial(
                    cross_weight,
                    start=cross_start,
                    growth=cfg.MGOT.CROSS_STAGE.GROWTH,
                    belief_goal=cfg.MGOT.CROSS_STAGE.BELIEF_GOAL,
                    ramp_epochs=cfg.MGOT.CROSS_STAGE.RAMP_EPOCHS,
                    ramp_from=cfg.MGOT.CROSS_STAGE.RAMP_FROM,
                ),
                momentum=loss.MOMENTUM,
                temperature=loss.TEMPERATURE,
                paired=cfg.MGOT.PAIRED_SAMPLING,
                view=cfg.MGOT.MATCHER.VIEW,
            ),
            EpochGuardHook(min_spread=cfg.MGOT.GUARD.MIN_SPREAD, max_ratio=cfg.MGOT.GUARD.MAX_CLUSTER_RATIO),
            MemoryUpdateHook(),
            GatherHook(),
            *([RecordHook(Path(cfg.OUTPUT_DIR), cross_start=cross_start)] if cfg.MGOT.DIAGNOSTICS else []),
            ProgressHook(),
            SummaryHook(cfg.SOLVER.IMS_PER_BATCH, cross_start=cross_start),
            *(
                [FittestHook(Path(cfg.OUTPUT_DIR), results, cross_start=cross_start)]
                if "fittest" in cfg.MGOT.TEST.STAGES
                else []
            ),
            StageResultsHook(
                results, cross_start=cross_start, period=cfg.TEST.EVAL_PERIOD, stages=cfg.MGOT.TEST.STAGES
            ),
        ]
        writers = [EpochWriter(Path(cfg.OUTPUT_DIR), self.open_writers)] if comm.is_main_process() else []
        saver = CheckpointHook(cfg.SOLVER.CHECKPOINT_PERIOD, intra=cross_start if writes_intra(cfg) else 0)
        return hosts[:2] + ours + hosts[2:] + writers + [saver]

    def build_writers(self) -> list[Any]:
        """None: the host asks when it builds its hooks, before it is known which lines of metrics.json stay."""
        return []

    def open_writers(self) -> list[Any]:
        """metrics.json and TensorBoard, losses as medians over the epoch; the terminal gets MGOT's line per epoch."""
        out, window = Path(self.cfg.OUTPUT_DIR), self.iters_per_epoch
        return [JSONWriter(str(out / "metrics.json"), window), TensorboardXWriter(str(out), window)]

    def finish_log(self) -> None:
        """The losses of the steps so far leave the device."""
        self._trainer.write_losses(self.storage)

    def start_batches(
        self,
        labels: EpochLabels,
        v2r: np.ndarray | None = None,
        r2v: np.ndarray | None = None,
        *,
        skip: int = 0,
    ) -> None:
        """Draw this epoch's batches from these labels, but for the first ``skip``, which were trained on already.

        Everything random in an epoch follows from the seed and the epoch's number alone, so that a resumed run repeats
        what an unbroken one would have done.
        """
        seed_all_rng(self.cfg.SEED + 1009 * (self.epoch + 1) + comm.get_rank())
        self.data_loader.set_epoch(self.epoch, labels, v2r, r2v, skip=skip)
        self._trainer._data_loader_iter = iter(self.data_loader)

    def score(self) -> list[dict[str, Any]]:
        """Score the model on all protocols, log the figures, and return a row per protocol."""
        start = time.perf_counter()
        results = self.test(self.cfg, self.network)
        self.storage.put_scalar("seconds/score", time.perf_counter() - start, smoothing_hint=False)
        rows = results.pop("rows") if "rows" in results else []
        self.rankings = results.pop("rankings") if "rankings" in results else []
        for row in rows:
            figures = {f"{row['protocol']}/{key}": row[key] for key in ("rank1", "mAP", "mINP")}
            self.storage.put_scalars(**figures, smoothing_hint=False)
        return rows

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_dir: str | None = None) -> Any:
        data = build_dataset(cfg, dataset_name)
        evaluator = CrossModalityEvaluator(cfg, data)
        # Memory is for the training images; a file on disk serves every scoring of every run.
        cache = cache_options(cfg) if cfg.DATALOADER.CACHE == "disk" else OFF
        images = ImageSet([*data.query, *data.gallery], cfg.INPUT.SIZE_TEST, cache=cache)
        workers = cfg.DATALOADER.NUM_WORKERS
        loader = build_ordered_loader(images, cfg.TEST.IMS_PER_BATCH, workers, device=cfg.MODEL.DEVICE)
        return loader, evaluator

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Score a model on the config's test sets.

        Returns:
            ``{"rows": [row per protocol], "rankings": [...]}`` on the main process, {} on the others; the rankings as
            the evaluator gives them.
        """
        rows: list[dict[str, Any]] = []
        rankings: list[dict[str, Any]] = []
        for name in cfg.DATASETS.TESTS:
            loader, evaluator = cls.build_evaluator(cfg, name)
            results = inference_on_dataset(model, loader, evaluator, flip_test=cfg.TEST.FLIP.ENABLED)
            rows.extend(results.get("rows", []))
            rankings.extend(results.get("rankings", []))
        return OrderedDict(rows=rows, rankings=rankings) if comm.is_main_process() else OrderedDict()


def without_pretraining(cfg: CfgNode) -> CfgNode:
    """The config of a model whose weights come from a checkpoint: no pretrained ones are read or fetched."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.freeze()
    return cfg


def describe_training_set(cfg: CfgNode) -> dict[str, Any]:
    """What a checkpoint says of its training: the data set, whom it leaves to score, and the ground truth it took."""
    about: dict[str, Any] = {"dataset": cfg.DATASETS.NAMES[0]}
    if cfg.MGOT.DATA.VALIDATION:
        about["people"] = people_scored(cfg)
    split = configured(cfg, cfg.DATASETS.NAMES[0]).split
    if split is not None:
        about["split"] = split
    if ground_truth_used(cfg):
        about["ground_truth"] = ground_truth_used(cfg)
    return about


def people_scored(cfg: CfgNode) -> str:
    """Who is scored: "test", or "validation" where MGOT.DATA.VALIDATION is on."""
    return "validation" if cfg.MGOT.DATA.VALIDATION else "test"


def describe_run(cfg: CfgNode) -> dict[str, Any]:
    """What holds for every row of a run's results; and where it began, if that was at another run's intra stage."""
    donor = cfg.MGOT.CROSS_STAGE.FROM
    return {
        **({"intra_from": str(Path(donor).resolve())} if donor else {}),
        "flip": bool(cfg.TEST.FLIP.ENABLED),
        "mode": cfg.MGOT.MODE,
        "matcher": cfg.MGOT.MATCHER.NAME,
        "people": people_scored(cfg),
        "ground_truth": ground_truth_used(cfg),
        "seed": cfg.SEED,
        "config": "config.yaml",
        "checkpoint": cfg.MODEL.WEIGHTS or "model_final.pth",
    }
