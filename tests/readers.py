"""A small sound file for each reader of the project, and the reader; what test_readers damages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import nn

from mgot.analysis.ablation.grid import read_grid
from mgot.analysis.diagnostics.images import read_images, read_rankings
from mgot.analysis.diagnostics.record import read_record, write_record
from mgot.analysis.diagnostics.run import read_run
from mgot.analysis.pictures.roc import draw_roc
from mgot.analysis.report.contents import results_table
from mgot.analysis.report.diagnosis import diagnose
from mgot.data.images import read_image_checked
from mgot.data.items import cameras, identities
from mgot.data.sets.regdb import read_regdb
from mgot.data.sets.sysu import read_sysu
from mgot.engine.resume.checkpoint import AtomicCheckpointer
from mgot.engine.resume.output import trim_metrics
from mgot.engine.resume.snapshot import random_states
from mgot.engine.setup import load_config
from mgot.errors import UserError
from mgot.evaluation import read_official_draws
from mgot.retrieval.gallery import ImageFile
from mgot.retrieval.index import build_index, kept, load_index, save_index
from mgot.retrieval.onnx_model import METADATA_KEY, ModelFacts, OnnxEmbedder
from tests.runs import a_record, write_run
from tests.trees import random_draws, regdb_tree, save_draws, sysu_tree

DEMO = Path(__file__).resolve().parent.parent / "projects/MGOT/configs/demo.yml"
CONFIG = "SEED: 1\nMGOT:\n  CLUSTER:\n    EPS: 0.5\nSOLVER:\n  STEPS: [30, 50]\n  BASE_LR: 0.001\n"
BASED = f"_BASE_: {DEMO}\n{CONFIG}"
GRID = "tables:\n- title: a\n  rows:\n    full: {}\n    other: {MGOT.CLUSTER.EPS: 0.4}\n"


class Reader(NamedTuple):
    """A file that can be read, and what reads it."""

    path: Path
    read: Callable[[], object]


def images_read(folder: Path) -> None:
    """RegDB's and SYSU-MM01's lists, and all that a training asks of them."""
    lists = read_regdb(folder, 1)
    for items in lists[:4]:
        identities(items)
        cameras(items)


def make_image(folder: Path, name: str) -> Reader:
    """Noise, as that kind of file."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 8, 3), dtype=np.uint8)
    path = folder / name
    Image.fromarray(noise).save(path)
    return Reader(path, lambda: read_image_checked(path))


def make_index(folder: Path) -> Reader:
    """Five images and one that cannot be read."""
    found: dict[ImageFile, np.ndarray | str] = {
        ImageFile(f"{n}.jpg", n, n): row for n, row in enumerate(np.eye(5, 8, dtype=np.float32))
    }
    save_index(build_index("f", {**found, ImageFile("bad.jpg", 3, 4): "empty"}), folder / "index.npz")

    def read() -> None:
        index = load_index(folder / "index.npz")
        if index is not None and index.files:
            kept(index, index.files)
            index.search(np.eye(2, 8, dtype=np.float32), 3)

    return Reader(folder / "index.npz", read)


def onnx_model(facts: dict[str, Any], images: str = "images") -> bytes:
    """A graph of one product that says that of itself."""
    taken = helper.make_tensor_value_info(images, TensorProto.FLOAT, ["batch", 3, 4, 2])
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 5])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [24, 5], [0.5] * 120)
    nodes = [helper.make_node("Flatten", [images], ["f"]), helper.make_node("MatMul", ["f", "w"], ["features"])]
    graph = helper.make_graph(nodes, "g", [taken], [given], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(facts)})
    return model.SerializeToString()


FACTS = json.loads(ModelFacts((4, 2), 5, 17, True, False, "net", "w.pth").to_json())


def make_onnx(folder: Path) -> Reader:
    """A graph as the export writes it, but for its network."""
    path = folder / "model.onnx"
    path.write_bytes(onnx_model(FACTS))

    def read() -> None:
        OnnxEmbedder(path).embed(np.zeros((2, 3, 4, 2), np.uint8))

    return Reader(path, read)


def checkpointer(folder: Path) -> AtomicCheckpointer:
    """Of a model of one layer and its optimiser."""
    model = nn.Linear(2, 2)
    return AtomicCheckpointer(model, str(folder), optimizer=torch.optim.Adam(model.parameters()))


def content() -> dict[str, Any]:
    """What a checkpoint within an epoch holds beside model and optimiser."""
    labels = {"visible": torch.tensor([0, 1, -1]), "infrared": torch.tensor([0, 0])}
    matching = {"v2r": torch.tensor([0, -1]), "r2v": torch.tensor([0]), "unassigned": torch.tensor([1])}
    both = [torch.tensor([3, 4]), torch.tensor([3])]
    return {
        "epoch": 0, "step": 1, "config": CONFIG, "random": [random_states()],
        "labels": {"epoch": 1, "labels": labels, "identities": both, "matching": matching, "supply": "visible"},
        "memories": {"momentum": 0.1, "visible": torch.eye(2), "infrared": torch.ones(1, 2)},
        "scalars": {"lr": (False, [(0.1, 3)])},
    }  # fmt: skip


def make_checkpoint(folder: Path) -> Reader:
    """One that stands within an epoch."""
    saver = checkpointer(folder)
    saver.model(torch.ones(1, 2)).sum().backward()
    saver.checkpointables["optimizer"].step()
    saver.save("model_0001", **content())
    return Reader(folder / "model_0001.pth", lambda: checkpointer(folder).resume())


def make_run(folder: Path, name: str) -> Reader:
    """A file of a finished run, and what tells of the run."""
    run = write_run(folder / "run", epochs=2)

    def read() -> None:
        found = read_run(run, "run")
        diagnose(found)
        results_table(found)
        trim_metrics(run / "metrics.json", 5)

    return Reader(run / name, read)


def make_rankings(folder: Path) -> Reader:
    """One query and a curve."""
    hit = {"path": "a.jpg", "identity": 1, "camera": 1, "distance": 0.5, "right": True}
    query = {"path": "b.jpg", "identity": 1, "camera": 3, "ap": 50.0, "found": [hit]}
    ranking = {"protocol": "toy", "queries": [query], "worst": [query], "roc": {"fpr": [0.0, 1.0], "tpr": [0.5, 1.0]}}
    path = folder / "diagnostics/rankings.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"final": [ranking]}))
    return Reader(path, lambda: draw_roc({stage: each[0] for stage, each in read_rankings(folder).items()}))


def make_images_json(folder: Path) -> Reader:
    """Two images of each modality."""
    path = folder / "diagnostics/images.json"
    path.parent.mkdir(exist_ok=True)
    listed = {"paths": ["a.jpg", "b.jpg"], "identities": [1, 2]}
    path.write_text(json.dumps({"root": "r", "versions": {"torch": "2"}, "visible": listed, "infrared": listed}))
    return Reader(path, lambda: read_images(folder))


def make_record(folder: Path) -> Reader:
    """Of one epoch."""
    path = write_record(folder, a_record(0))
    return Reader(path, lambda: read_record(path))


def make_lists(folder: Path, name: str) -> Reader:
    """A list of one of the data sets."""
    if name.startswith("SYSU-MM01"):
        sysu_tree(folder)
        return Reader(folder / name, lambda: read_sysu(folder))
    regdb_tree(folder, splits=[1])
    return Reader(folder / name, lambda: images_read(folder))


def make_draws(folder: Path) -> Reader:
    """Of two cameras that saw two people."""
    path = folder / "draws.mat"
    save_draws(path, random_draws({(1, 1): 3, (3, 2): 2}))
    return Reader(path, lambda: read_official_draws(path))


def make_text(folder: Path, name: str, text: str, read: Callable[[Path], object]) -> Reader:
    """A file of text."""
    (folder / name).write_text(text)
    return Reader(folder / name, lambda: read(folder / name))


MAKERS: dict[str, Callable[[Path], Reader]] = {
    "config": lambda folder: make_text(folder, "c.yml", BASED, lambda path: load_config(str(path))),
    "grid": lambda folder: make_text(folder, "g.yml", GRID, read_grid),
    "identities": lambda folder: make_lists(folder, "SYSU-MM01/exp/test_id.txt"),
    "list": lambda folder: make_lists(folder, "RegDB/idx/test_visible_1.txt"),
    "draws": make_draws,
    "jpg": lambda folder: make_image(folder, "a.jpg"),
    "png": lambda folder: make_image(folder, "a.png"),
    "bmp": lambda folder: make_image(folder, "a.bmp"),
    "index": make_index,
    "onnx": make_onnx,
    "checkpoint": make_checkpoint,
    "config.yaml": lambda folder: make_run(folder, "config.yaml"),
    "metrics": lambda folder: make_run(folder, "metrics.json"),
    "results": lambda folder: make_run(folder, "results.json"),
    "record": make_record,
    "images.json": make_images_json,
    "rankings": make_rankings,
}
"""Name of a reader to what makes its file in a folder."""


def require_sound(reader: Reader) -> bool:
    """Whether the file was read; AssertionError where a refusal is not one line about it."""
    try:
        reader.read()
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 1000, repr(str(error))
        named = reader.path.name in str(error) or reader.path.parent.name in str(error)
        assert named or re.match(r"[A-Z]+(\.[A-Z0-9_]+)* (must be|cannot be)", str(error)), str(error)
        return False
    return True
