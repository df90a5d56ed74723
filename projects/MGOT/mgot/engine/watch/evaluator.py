"""Scores a model by MGOT's protocols with fast-reid's evaluator, and decides when a training does this."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.engine.train_loop import HookBase
from fastreid.evaluation import ReidEvaluator, inference_on_dataset
from fastreid.utils import comm
from torch import Tensor, nn

from mgot.analysis.diagnostics.images import add_rankings, rank_some
from mgot.data.image_set import OFF, ImageSet
from mgot.data.items import cameras, identities
from mgot.data.loaders import build_dataset, build_ordered_loader, cache_options, data_root
from mgot.data.registered import FastreidDataset
from mgot.evaluation.expand import Expansion
from mgot.evaluation.protocols import Protocol
from mgot.evaluation.rerank import Reranking
from mgot.evaluation.results import ResultsFile, format_rows
from mgot.evaluation.scoring import score_expanded, score_protocols, score_reranked

logger = logging.getLogger("mgot")


class CrossModalityEvaluator(ReidEvaluator):
    """Gathers the features of the whole test pool once and scores every protocol of the data set on them.

    Args:
        cfg: the config, kept by fast-reid's class.
        data: the data set. The loader must return its pool, query + gallery, in that order.

    Raises:
        UserError: the data set's protocols cannot be built.
    """

    def __init__(self, cfg: CfgNode, data: FastreidDataset) -> None:
        super().__init__(cfg, num_query=len(data.query))
        self._data, self._protocols = data, data.protocols()

    def _compile_dependencies(self) -> None:
        """Do nothing. fast-reid would compile Cython in site-packages here, and end the process if that fails."""

    def evaluate(self) -> dict[str, Any]:
        """``{"rows": [row per protocol], "rankings": [...]}`` on the main process, {} on the others.

        First come the rows of ``score_protocols``. Then come rows that look at all queries at once, under other names:
        with TEST.AQE.ENABLED expanded ones, with TEST.RERANK.ENABLED re-ranked ones, with both keys also both combined.
        Rankings are what some queries found in the first protocol; none without MGOT.DIAGNOSTICS.
        """
        predictions = self._predictions
        if comm.get_world_size() > 1:
            predictions = list(itertools.chain(*comm.gather(predictions, dst=0)))
        if not comm.is_main_process():
            return {}
        pool = [*self._data.query, *self._data.gallery]
        features = torch.cat([prediction["feats"] for prediction in predictions])
        protocols, test = self._protocols, self.cfg.TEST
        rows = self._rows(protocols, identities(pool), cameras(pool), features)
        kept = protocols[:1] if self.cfg.MGOT.DIAGNOSTICS else []
        rankings = [rank_some(each, pool, features.numpy(), data_root(), roc=test.ROC.ENABLED) for each in kept]
        return {"rows": [{**row, "flip": bool(test.FLIP.ENABLED)} for row in rows], "rankings": rankings}

    def _rows(
        self, protocols: Sequence[Protocol], ids: np.ndarray, cams: np.ndarray, features: Tensor
    ) -> list[dict[str, Any]]:
        test = self.cfg.TEST
        searches, roc = (protocols, ids, cams), bool(test.ROC.ENABLED)
        aqe = Expansion(test.AQE.QE_TIME, test.AQE.QE_K, test.AQE.ALPHA) if test.AQE.ENABLED else None
        rerank = Reranking(test.RERANK.K1, test.RERANK.K2, test.RERANK.LAMBDA) if test.RERANK.ENABLED else None
        rows = score_protocols(*searches, features=features, roc=roc)
        rows += score_expanded(*searches, features, aqe, roc=roc) if aqe else []
        rows += score_reranked(*searches, features, rerank, roc=roc) if rerank else []
        rows += score_expanded(*searches, features, aqe, rerank=rerank, roc=roc) if aqe and rerank else []
        return rows


class Scores(NamedTuple):
    """The result of a scoring: a row for each protocol, and what some queries found. Only the first process has it."""

    rows: list[dict[str, Any]]
    rankings: list[dict[str, Any]]


def score_model(cfg: CfgNode, model: nn.Module) -> Scores:
    """Score a model on the config's test sets; every process must call this."""
    rows: list[dict[str, Any]] = []
    rankings: list[dict[str, Any]] = []
    for name in cfg.DATASETS.TESTS:
        data = build_dataset(cfg, name)
        evaluator, loader = CrossModalityEvaluator(cfg, data), build_test_loader(cfg, data)
        results = inference_on_dataset(model, loader, evaluator, flip_test=cfg.TEST.FLIP.ENABLED)
        rows.extend(results.get("rows", []))
        rankings.extend(results.get("rankings", []))
    return Scores(rows, rankings)


def build_test_loader(cfg: CfgNode, data: FastreidDataset) -> Any:
    """The images of a data set's test pool, in order."""
    # Memory is for the training images; a file on disk serves every scoring of every run.
    cache = cache_options(cfg) if cfg.DATALOADER.CACHE == "disk" else OFF
    images = ImageSet([*data.query, *data.gallery], cfg.INPUT.SIZE_TEST, cache=cache)
    return build_ordered_loader(images, cfg.TEST.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS, device=cfg.MODEL.DEVICE)


class ScoringHook(HookBase):
    """Scores the model before training, after the intra-modality stage, at each period and at the end.

    A run that starts from another run's intra-modality stage copies the rows of the first two.

    Args:
        results: where the rows go.
        cross_start: first epoch of the cross-modality stage.
        period: TEST.EVAL_PERIOD; 0 scores at the stages' ends only.
        stages: of "initial", "intra" and "final", those to score.
    """

    def __init__(self, results: ResultsFile, *, cross_start: int, period: int, stages: Sequence[str]) -> None:
        self._results = results
        self._cross_start, self._period, self._stages = cross_start, period, stages
        self._stage_began = time.perf_counter()

    def before_train(self) -> None:
        donor = self.trainer.donor
        if donor is not None:
            shared = [stage for stage in self._stages if stage in ("initial", "intra")]
            self._results.take_over(donor.parent / "results.json", shared, write=comm.is_main_process())
        elif self.trainer.start_iter == 0:
            self._results.clear()
            self._score_stage("initial")
        self._stage_began = time.perf_counter()

    def after_epoch(self) -> None:
        done = self.trainer.epoch + 1
        if done >= self.trainer.max_epoch:
            self._score_stage("final")
        elif done == self._cross_start:
            self._score_stage("intra")
        elif self._period > 0 and done % self._period == 0:
            table = format_rows(self._score().rows, self._results.content["ground_truth"])
            logger.info(f"epoch {self.trainer.epoch:3d} scored\n{table}")

    def _score_stage(self, stage: str) -> None:
        if stage not in self._stages:
            return
        rows, rankings = self._score()
        now = time.perf_counter()
        if comm.is_main_process():
            self._results.add(stage, rows, now - self._stage_began)
        if rankings:
            add_rankings(self._results.path.parent, stage, rankings)
        self._stage_began = now
        logger.info(format_rows([{"stage": stage, **row} for row in rows], self._results.content["ground_truth"]))

    def _score(self) -> Scores:
        """Score the model and log the figures."""
        start, storage = time.perf_counter(), self.trainer.storage
        scores = score_model(self.trainer.cfg, self.trainer.network)
        storage.put_scalar("seconds/score", time.perf_counter() - start, smoothing_hint=False)
        for row in scores.rows:
            figures = {f"{row['protocol']}/{key}": row[key] for key in ("rank1", "mAP", "mINP")}
            storage.put_scalars(**figures, smoothing_hint=False)
        return scores
