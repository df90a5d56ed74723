"""Features of a list of images, in order."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Any

import torch
import torch.nn.functional as F
from fastreid.evaluation.evaluator import inference_context
from torch import Tensor, nn

from mgot.progress import progress


def embed(model: nn.Module, batch: dict[str, Any], flip: bool) -> Tensor:
    """(B, D) features of a batch of images; with ``flip`` the mean of each image and its mirror image."""
    features = model(batch)
    if flip:
        mirrored = {**batch, "images": batch["images"].flip(dims=[3])}
        features = (features + model(mirrored)) / 2
    return features.float()


@torch.inference_mode()
def extract(model: nn.Module, loader: Iterable[dict[str, Any]], *, flip: bool = False, desc: str = "extract") -> Tensor:
    """L2-normalised features of every image of a loader.

    Args:
        model: DEN; in eval mode during the extraction.
        loader: batches with ``images`` (B, 3, H, W) in 0..255 and ``is_visible`` (B,).
        flip: average with the mirror image before normalising.
        desc: label of the progress bar.

    Returns:
        (N, D) float32 on the CPU, rows in the loader's order.
    """
    total = len(loader) if isinstance(loader, Sized) else None
    with inference_context(model):
        features = [embed(model, batch, flip).cpu() for batch in progress(loader, desc, total)]
    return F.normalize(torch.cat(features), dim=1)
