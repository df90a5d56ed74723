"""The retrieval model as an ONNX file. The file is kept only if onnxruntime agrees with PyTorch."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model
from torch import Tensor, nn

from mgot.engine.resume.checkpoint import AtomicCheckpointer
from mgot.errors import UserError, reason
from mgot.files import beside
from mgot.modeling import DEN
from mgot.modeling.extraction import embed
from mgot.retrieval.onnx_model import EXTRA, FEATURES, IMAGES, IS_VISIBLE, METADATA_KEY, ModelFacts, OnnxEmbedder

logger = logging.getLogger("mgot")

DEFAULT_OPSET = 17
OPSETS = range(11, 21)  # 10 cannot mirror an image, and PyTorch 2.4 ends at 20
TOLERANCE = 1e-4
_CHECKED_BATCHES = (1, 5)
_TRACED_BATCH = 2


class RetrievalModel(nn.Module):
    """The part of DEN that retrieval uses: images (B, 3, H, W) in 0..255 to features (B, D) of unit length.

    Args:
        network: in eval mode.
        flip: average with the mirror image before normalising, as TEST.FLIP does.
    """

    def __init__(self, network: DEN, *, flip: bool) -> None:
        super().__init__()
        self.network = network
        self.flip = flip

    def forward(self, images: Tensor, is_visible: Tensor | None = None) -> Tensor:
        """(B, D); ``is_visible`` (B,) bool is for two-stream stems."""
        batch = {"images": images} if is_visible is None else {"images": images, "is_visible": is_visible}
        return F.normalize(embed(self.network, batch, self.flip), dim=1)


def export_onnx(cfg: CfgNode, output: str | Path, *, opset: int = DEFAULT_OPSET) -> ModelFacts:
    """Write the retrieval model of ``cfg`` with the weights of MODEL.WEIGHTS, and check the file.

    Source: [ours]. The batch is dynamic; height and width are INPUT.SIZE_TEST's. The file appears under its name only
    after onnxruntime's features agree with PyTorch's to 1e-4 on random images, for two sizes of batch. The graph
    computes in float32, for any MGOT.PRECISION.

    Returns:
        The content of the file's metadata.

    Raises:
        UserError: the extra is not installed, no weights are named, they cannot be read, the opset is none of
            OPSETS, the exporter refuses an operation, the output cannot be written, or the features differ.
    """
    _require_extra()
    if opset not in OPSETS:
        raise UserError(f"--opset must be {OPSETS.start} to {OPSETS.stop - 1}, not {opset}")
    if not cfg.MODEL.WEIGHTS:
        raise UserError("MODEL.WEIGHTS: name the checkpoint to export, such as <OUTPUT_DIR>/model_final.pth")
    cfg = cfg.clone()
    cfg.defrost()
    # onnxruntime has no convolution in bfloat16.
    cfg.merge_from_list(["MGOT.PRECISION", "float32", "MGOT.COMPILE", False])
    network = build_model(cfg)
    AtomicCheckpointer(network).load(cfg.MODEL.WEIGHTS)
    model = RetrievalModel(network.eval(), flip=cfg.TEST.FLIP.ENABLED).cpu().eval()
    size = (int(cfg.INPUT.SIZE_TEST[0]), int(cfg.INPUT.SIZE_TEST[1]))
    facts = ModelFacts(
        input_size=size,
        feature_dim=cfg.MODEL.BACKBONE.FEAT_DIM,
        opset=opset,
        flip=model.flip,
        two_stream=bool(network.streams),
        backbone=f"{cfg.MODEL.BACKBONE.NAME} {cfg.MODEL.BACKBONE.DEPTH}",
        weights=Path(cfg.MODEL.WEIGHTS).name,
    )
    target = Path(output)
    temporary = beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_graph(model, facts, temporary)
        difference = largest_difference(model, OnnxEmbedder(temporary))
        if difference > TOLERANCE:
            raise UserError(f"{target} not written: its features differ from PyTorch's by {difference:.1e}")
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    logger.info(f"{target}: {facts.to_json()}; differs from PyTorch by at most {difference:.1e}")
    return facts


def _require_extra() -> None:
    for module in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(module) is None:
            raise UserError(f"the export needs {module}: type `{EXTRA}`")


def _random_inputs(facts: ModelFacts, n: int) -> tuple[Tensor, ...]:
    """Images of noise and, for a two-stream model, alternating modalities."""
    images = torch.rand(n, 3, *facts.input_size, generator=torch.Generator().manual_seed(n)) * 255
    return (images, torch.arange(n) % 2 == 0) if facts.two_stream else (images,)


def write_graph(model: RetrievalModel, facts: ModelFacts, path: Path) -> None:
    """Trace ``model`` into the ONNX file ``path``, one file, with its metadata.

    Raises:
        UserError: the exporter refuses an operation of the network.
    """
    import onnx

    inputs = _random_inputs(facts, _TRACED_BATCH)
    names = [IMAGES, IS_VISIBLE][: len(inputs)]
    # PyTorch's tracing exporter: it writes one file and needs no further package, from 2.4 to the newest.
    options: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                inputs,
                str(path),
                opset_version=facts.opset,
                input_names=names,
                output_names=[FEATURES],
                dynamic_axes={name: {0: "batch"} for name in (*names, FEATURES)},
                **options,
            )
    except (ValueError, RuntimeError) as error:  # torch's own exporter errors are RuntimeErrors
        raise UserError(f"PyTorch cannot export this with opset {facts.opset}: {reason(error)}") from None
    graph = onnx.load(str(path))
    onnx.helper.set_model_props(graph, {METADATA_KEY: facts.to_json()})
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


@torch.no_grad()
def largest_difference(model: RetrievalModel, embedder: OnnxEmbedder) -> float:
    """The largest absolute difference of a coordinate between PyTorch and onnxruntime, over two sizes of batch.

    Raises:
        UserError: onnxruntime cannot run the graph.
    """
    worst = 0.0
    for n in _CHECKED_BATCHES:
        inputs = _random_inputs(embedder.facts, n)
        expected = model(*inputs).numpy()
        found = embedder.embed(*(each.numpy() for each in inputs))
        worst = max(worst, float(np.abs(expected - found).max()))
    return worst
