"""The host's evaluator, scoring by MGOT's protocols."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.evaluation import ReidEvaluator
from fastreid.utils import comm
from torch import Tensor

from mgot.analysis.diagnostics.images import rank_some
from mgot.data.items import cameras, identities
from mgot.data.loaders import data_root
from mgot.data.registered import TwoModalityDataset
from mgot.evaluation.expand import Expansion
from mgot.evaluation.protocols import Protocol
from mgot.evaluation.rerank import Reranking
from mgot.evaluation.scoring import score_expanded, score_protocols, score_reranked


class CrossModalityEvaluator(ReidEvaluator):
    """Gathers the features of the whole test pool once and scores every protocol of the data set on them.

    Args:
        cfg: the config, kept by the host's class.
        data: the data set; its pool, query + gallery, is what the loader must hand out, in that order.
    """

    def __init__(self, cfg: CfgNode, data: TwoModalityDataset) -> None:
        super().__init__(cfg, num_query=len(data.query))
        self._data = data

    def _compile_dependencies(self) -> None:
        """Nothing: the host would build Cython in site-packages here, and end the process where it cannot."""

    def evaluate(self) -> dict[str, Any]:
        """``{"rows": [row per protocol], "rankings": [...]}`` on the main process, {} on the others.

        Rows are those of ``score_protocols``; what looks at all queries at once follows, under names of its own: with
        TEST.AQE.ENABLED the expanded ones, with TEST.RERANK.ENABLED the re-ranked ones, with both also both. Rankings
        are what some queries found by the first protocol; none without MGOT.DIAGNOSTICS.
        """
        predictions = self._predictions
        if comm.get_world_size() > 1:
            predictions = list(itertools.chain(*comm.gather(predictions, dst=0)))
        if not comm.is_main_process():
            return {}
        pool = [*self._data.query, *self._data.gallery]
        features = torch.cat([prediction["feats"] for prediction in predictions])
        protocols, test = self._data.protocols(), self.cfg.TEST
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
