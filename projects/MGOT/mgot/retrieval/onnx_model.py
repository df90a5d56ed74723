"""A retrieval model in an ONNX file, read and run without PyTorch's modules, the config or fast-reid.

``tools/export_onnx.py`` writes such files. The graph normalises pixels, runs the network and L2-normalises.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mgot.errors import UserError, reason
from mgot.forms import fits, flag, parsed, text, whole

EXTRA = "pip install 'mgot[onnx]'"
METADATA_KEY = "mgot"
IMAGES, IS_VISIBLE, FEATURES = "images", "is_visible", "features"


def _side(value: Any) -> bool:
    return whole(value) and value > 0


_FACTS = {
    "input_size": [_side], "feature_dim": _side, "opset": _side, "flip": flag, "two_stream": flag, "backbone": text,
    "weights": text, "pixels?": text, "resize?": text,
}  # fmt: skip
_FLOATS, _FLAGS = "tensor(float)", "tensor(bool)"  # onnxruntime's names


@dataclass(frozen=True)
class ModelFacts:
    """The facts about an ONNX file, kept in its metadata as JSON under ``mgot``.

    Attributes:
        input_size: (height, width) of the images.
        feature_dim: D.
        opset: the ONNX operator set of the graph.
        flip: whether the graph averages each image's feature with that of its mirror image, as with TEST.FLIP.
        two_stream: whether the graph needs to know which images are visible, because each modality has its own stem.
        pixels: what the graph takes.
        resize: how images were resized in training and scoring.
        backbone: fast-reid's name and the depth.
        weights: name of the checkpoint's file; empty for random weights.
    """

    input_size: tuple[int, int]
    feature_dim: int
    opset: int
    flip: bool
    two_stream: bool
    backbone: str
    weights: str
    pixels: str = "RGB, float32, 0..255, (B, 3, H, W)"
    resize: str = "bicubic"

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> ModelFacts:
        """Read :meth:`to_json`'s line; keys of a newer version are passed over.

        Raises:
            ValueError: it is no such line.
        """
        told: dict[str, Any] = parsed(line)
        if not fits(told, _FACTS) or len(told["input_size"]) != 2:
            raise ValueError("not what an export says of itself")
        known = {field.name: told[field.name] for field in fields(cls) if field.name in told}
        height, width = known.pop("input_size")
        return cls(input_size=(height, width), **known)


def _takes_what_it_says(session: Any, facts: ModelFacts) -> bool:
    """Whether the graph has the inputs and the output that an export of these facts has."""
    try:
        inputs = [(end.name, end.type, end.shape[1:]) for end in session.get_inputs()]
        outputs = [(end.name, end.type) for end in session.get_outputs()]
    except UnicodeDecodeError:  # a name of a damaged graph
        return False
    flags: list[tuple[str, str, list[int]]] = [(IS_VISIBLE, _FLAGS, [])] if facts.two_stream else []
    return inputs == [(IMAGES, _FLOATS, [3, *facts.input_size]), *flags] and outputs == [(FEATURES, _FLOATS)]


class OnnxEmbedder:
    """Images to L2-normalised features, by onnxruntime.

    Args:
        path: a file that ``tools/export_onnx.py`` wrote.
        provider: onnxruntime's name of the backend.

    Attributes:
        facts: the file's metadata.

    Raises:
        UserError: the file is missing, is no ONNX model of ours, or onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, *, provider: str = "CPUExecutionProvider") -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{path}: reading ONNX files needs onnxruntime: type `{EXTRA}`") from None
        self._path = path
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; tools/export_onnx.py makes one from a checkpoint")
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=[provider])
        except Exception as error:  # onnxruntime raises types of its own, with no common base but Exception
            raise UserError(f"{path}: not a readable ONNX model ({reason(error)})") from None
        try:
            self.facts = ModelFacts.from_json(self._session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        except (KeyError, ValueError):
            raise UserError(f"{path}: an ONNX model, but not one that tools/export_onnx.py made") from None
        if not _takes_what_it_says(self._session, self.facts):
            raise UserError(f"{path} is another model than it says: export it anew with tools/export_onnx.py")

    def embed(self, images: np.ndarray, is_visible: np.ndarray | None = None) -> np.ndarray:
        """(B, D) float32 features of unit length.

        Args:
            images: (B, 3, H, W) RGB in 0..255, uint8 or float, H and W as ``facts.input_size`` says.
            is_visible: (B,) bool, which images are visible ones; only two-stream models read it, and they need it.

        Returns:
            Features in the images' order; (0, D) for no image.

        Raises:
            UserError: images of another shape, a two-stream model without ``is_visible``, or a graph that cannot run.
        """
        if images.ndim != 4 or images.shape[1:] != (3, *self.facts.input_size):
            height, width = self.facts.input_size
            raise UserError(f"this model takes images of shape (B, 3, {height}, {width}), not {images.shape}")
        if not len(images):
            return np.zeros((0, self.facts.feature_dim), dtype=np.float32)
        feed = {IMAGES: np.ascontiguousarray(images, dtype=np.float32)}
        if self.facts.two_stream:
            if is_visible is None:
                raise UserError("a two-stream model needs the modality of each image: give is_visible")
            feed[IS_VISIBLE] = np.ascontiguousarray(is_visible, dtype=bool)
        try:
            features: np.ndarray = self._session.run([FEATURES], feed)[0]
        except Exception as error:  # as above
            raise UserError(
                f"{self._path}: onnxruntime cannot run it with {len(images)} images: {reason(error)}"
            ) from None
        if features.shape != (len(images), self.facts.feature_dim):
            told = f"features of shape {features.shape}, not (B, {self.facts.feature_dim})"
            raise UserError(f"{self._path} gives {told}: export it anew with tools/export_onnx.py")
        return features
