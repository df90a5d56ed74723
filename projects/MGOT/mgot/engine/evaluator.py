"""The host's evaluator, scoring by MGOT's protocols."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm

from mgot.analysis.diagnostics.images import rank_some
from mgot.data.items import cameras, identities
from mgot.data.loaders import data_root
from mgot.data.registered import HostDataset
from mgot.evaluation.rerank import Reranking
from mgot.evaluation.scoring import score_protocols, score_reranked


class CrossModalityEvaluator(ReidEvaluator):
    """Gathers the features of the whole test pool once and scores every protocol of the data set on them.

    Args:
        cfg: the config, kept by the host's class.
        data: the data set; its pool, query + gallery, is what the loader must hand out, in that order.

    Raises:
        UserError: the data set's protocols cannot be had.
    """

    def __init__(self, cfg: CfgNode, data: HostDataset) -> None:
        super().__init__(cfg, num_query=len(data.query))
        self._data, self._protocols = data, data.protocols()

    def _compile_dependencies(self) -> None:
        """Nothing: the host would build Cython in site-packages here, and end the process where it cannot."""

    def evaluate(self) -> dict[str, Any]:
        """``{"rows": [row per protocol], "rankings": [...]}`` on the main process, {} on the others.

        Rows are those of ``score_protocols``; with TEST.RERANK.ENABLED the re-ranked ones follow, under names of their
        own. Rankings are what some queries found by the first protocol; none without MGOT.DIAGNOSTICS.
        """
        predictions = self._predictions
        if comm.get_world_size() > 1:
            predictions = list(itertools.chain(*comm.gather(predictions, dst=0)))
        if not comm.is_main_process():
            return {}
        pool = [*self._data.query, *self._data.gallery]
        features = torch.cat([prediction["feats"] for prediction in predictions])
        protocols, ids, cams = self._protocols, identities(pool), cameras(pool)
        rows = score_protocols(protocols, ids, cams, features=features)
        keys = self.cfg.TEST.RERANK
        if keys.ENABLED:
            rows += score_reranked(protocols, ids, cams, features, Reranking(keys.K1, keys.K2, keys.LAMBDA))
        rankings = [rank_some(protocols[0], pool, features.numpy(), data_root())] if self.cfg.MGOT.DIAGNOSTICS else []
        return {"rows": [{**row, "flip": bool(self.cfg.TEST.FLIP.ENABLED)} for row in rows], "rankings": rankings}
