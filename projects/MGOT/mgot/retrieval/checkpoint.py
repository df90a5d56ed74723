"""A training's checkpoint as an embedder; the one module here that needs fast-reid."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model
from torch import nn

from mgot.engine.resume.checkpoint import load_tensors
from mgot.engine.setup import load_config
from mgot.errors import UserError
from mgot.forms import fits
from mgot.modeling import DEN
from mgot.modeling.extraction import embed
from mgot.modeling.weights import plain_tensor
from mgot.retrieval.fingerprint import file_digest

_NAMED = 3  # tensors that an error names
_TRAINING_ONLY = ("discriminator.",)
# Keys that only training reads: they must neither fetch weights nor refuse a config of an earlier version.
_TRAINING_KEYS = {
    "MODEL.BACKBONE.PRETRAIN": "False",
    "MODEL.WEIGHTS": "",
    "MGOT.LOSS.W_ADV": "0",
    "SOLVER.AMP.ENABLED": "False",
}
_NO_PART_OF_THE_MODEL = (
    "DEVICE", "WEIGHTS", "LOSSES", "FREEZE_LAYERS", "PRETRAIN", "PRETRAIN_PATH",
    "SHARED_NECK", "LOGIT_NORM", "INIT", "BACKBONE_LR_FACTOR",
)  # fmt: skip


class CheckpointEmbedder:
    """DEN in eval mode, used as in the evaluation: INPUT.SIZE_TEST, and the flip by TEST.FLIP.ENABLED.

    Args:
        model: on its device.
        size: (height, width).
        flip: average each feature with the mirror image's before normalising.
        fingerprint: of weights and config.
        weights: file of the weights.
    """

    def __init__(self, model: DEN, *, size: tuple[int, int], flip: bool, fingerprint: str, weights: Path) -> None:
        self._model, self._flip, self.weights = model.eval(), flip, weights
        self.size, self.fingerprint = size, fingerprint
        self.two_stream = bool(model.streams)

    @torch.inference_mode()
    def embed(self, images: np.ndarray, is_visible: np.ndarray | None) -> np.ndarray:
        """See :class:`mgot.retrieval.embedder.Embedder`."""
        batch: dict[str, Any] = {"images": torch.from_numpy(images)}
        if is_visible is not None:
            batch["is_visible"] = torch.from_numpy(is_visible)
        return F.normalize(embed(self._model, batch, self._flip), dim=1).cpu().numpy()


def load_checkpoint(weights: Path, config_file: Path | None) -> CheckpointEmbedder:
    """Build the config's model and load its weights.

    Args:
        weights: a .pth file of a training.
        config_file: the config it was trained by; None for the config.yaml beside the weights.

    Raises:
        UserError: a file is missing or damaged, or the weights are of another architecture than the config's.
    """
    if config_file is None:
        config_file = weights.parent / "config.yaml"
        if not os.path.isfile(config_file):
            raise UserError(f"{weights} has no config.yaml beside it: name the config it was trained by, --config-file")
    cfg = load_config(str(config_file), [part for pair in _TRAINING_KEYS.items() for part in pair])
    content = load_tensors(weights)
    model = build_model(cfg)
    _fill(model, content, weights, config_file)
    return CheckpointEmbedder(
        model,
        size=(int(cfg.INPUT.SIZE_TEST[0]), int(cfg.INPUT.SIZE_TEST[1])),
        flip=bool(cfg.TEST.FLIP.ENABLED),
        fingerprint=_fingerprint(weights, cfg),
        weights=weights,
    )


def _fill(model: nn.Module, content: Any, weights: Path, config_file: Path) -> None:
    """Load the tensors that retrieval needs; UserError where one is missing, unknown or of another shape."""
    state: dict[str, Any] = content.get("model", content) if isinstance(content, dict) else {}
    if not state or not fits(state, {...: plain_tensor}):
        raise UserError(f"{weights} holds no model: name a checkpoint that a training left, such as model_final.pth")
    found = {name: value for name, value in state.items() if not name.startswith(_TRAINING_ONLY)}
    wanted = model.state_dict()
    shapes = [name for name in wanted if name in found and found[name].shape != wanted[name].shape]
    problems = [
        f"{len(names)} tensors {what} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
        for what, names in {
            "are missing": sorted(wanted.keys() - found.keys()),
            "are unknown": sorted(found.keys() - wanted.keys()),
            "have another shape": shapes,
        }.items()
        if names
    ]
    if problems:
        raise UserError(
            f"{weights} does not fit {config_file}: {'; '.join(problems)}; name the config it was trained by,"
            " --config-file"
        )
    model.load_state_dict(found)


def _fingerprint(weights: Path, cfg: CfgNode) -> str:
    """The fingerprint of the weights' bytes and of every key that features depend on."""
    keys = [_plain(cfg.MODEL), _plain(cfg.MGOT.DEN), cfg.MGOT.PRECISION, cfg.INPUT.SIZE_TEST, cfg.TEST.FLIP.ENABLED]
    return hashlib.sha256((file_digest(weights) + json.dumps(keys, sort_keys=True)).encode()).hexdigest()


def _plain(node: CfgNode) -> dict[str, Any]:
    return {
        key: _plain(value) if isinstance(value, CfgNode) else value
        for key, value in node.items()
        if key not in _NO_PART_OF_THE_MODEL
    }
