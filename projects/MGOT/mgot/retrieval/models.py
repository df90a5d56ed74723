"""Weights files to embedders, by suffix."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mgot.compat import require_fastreid
from mgot.errors import UserError
from mgot.retrieval.embedder import Embedder
from mgot.retrieval.fingerprint import file_digest
from mgot.retrieval.onnx_model import OnnxEmbedder


def load_embedder(weights: Path, config_file: Path | None = None) -> Embedder:
    """The model of a weights file.

    Args:
        weights: a training's checkpoint (.pth), which needs fast-reid, or an export (.onnx), which does not need it.
        config_file: the config that a checkpoint was trained by; None for the config.yaml beside it. An export carries
            its own.

    Raises:
        UserError: a file is missing, damaged, or does not fit.
    """
    if not os.path.isfile(weights):
        raise UserError(f"--weights {weights}: no such file: name a checkpoint (.pth) or an export (.onnx)")
    if weights.suffix.lower() == ".onnx":
        if config_file is not None:
            raise UserError(f"--config-file {config_file}: {weights} carries its own settings: leave the option out")
        return OnnxFile(weights)
    require_fastreid()
    from mgot.retrieval.checkpoint import load_checkpoint

    return load_checkpoint(weights, config_file)


class OnnxFile:
    """A model that ``tools/export_onnx.py`` wrote; it normalises and flips images, and knows its input size."""

    def __init__(self, path: Path) -> None:
        self._model = OnnxEmbedder(path)
        self.weights = path
        self.size = self._model.facts.input_size
        self.two_stream = self._model.facts.two_stream
        self.fingerprint = file_digest(path)

    def embed(self, images: np.ndarray, is_visible: np.ndarray | None) -> np.ndarray:
        """As :class:`mgot.retrieval.embedder.Embedder` has it."""
        return self._model.embed(images, is_visible)
