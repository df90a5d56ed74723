"""The GPU's way through training and scoring on a GPU that is not there: every tensor is on its device.

:mod:`tests.fake_cuda` tells what a fake GPU is and what it cannot show; docs/usage.md, GPUs, what is left untested.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from mgot.data.items import INFRARED, VISIBLE, Item
from mgot.data.loaders import CrossModalityLoader, EpochLabels
from mgot.data.transforms import Augmentation
from mgot.engine.resume import signals
from mgot.engine.run import evaluate, train
from mgot.engine.setup import load_config
from mgot.engine.trainer import MGOTTrainer
from mgot.errors import Interrupted
from mgot.evaluation.protocols import Protocol, Trial
from mgot.evaluation.scoring import score_protocol
from mgot.losses import Dual, view
from mgot.matching import Matching, cross_prototypes
from mgot.memory import MemoryBank, PrototypeMemory
from mgot.modeling import DEN, gather, heads
from mgot.modeling.extraction import extract
from mgot.neighbours.external import on_device
from mgot.neighbours.features import check_features
from mgot.principles import prediction_entropies
from tests.fake_cuda import FakeCuda, fake_cuda
from tests.test_modeling import bank, batch, small_config

DEMO = str(Path(__file__).resolve().parent.parent / "projects/MGOT/configs/demo.yml")
# Features are made up, so that everybody is a neighbour of somebody: clusters of one image will do.
KEYS = ("MODEL.DEVICE", "cuda", "MGOT.CLUSTER.SEARCH", "symmetric", "MGOT.CLUSTER.MIN_SAMPLES", 1,
        "MGOT.TEST.SYSU_MODES", ["all"], "MGOT.TEST.SYSU_SHOTS", [1])  # fmt: skip
ELSEWHERE = "Expected all tensors to be on the same device|is on cpu, expected"
Options = Callable[..., list[str]]


@pytest.fixture(name="gpu")
def fixture_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A fake GPU with bfloat16."""
    with fake_cuda(monkeypatch) as gpu:
        yield gpu


def config(options: list[str]) -> CfgNode:
    cfg = load_config(DEMO, options)
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    return cfg


class Watched:
    """A trainer that is watched: waits for the GPU in steps and when losses are written, the backbone's formats."""

    def __init__(self, cfg: CfgNode, gpu: FakeCuda) -> None:
        self.waits: list[list[str]] = []
        self.written: list[list[str]] = []
        self.formats: set[torch.dtype] = set()
        self.trainer = MGOTTrainer(cfg)

        def watched(act: Callable[[], None], into: list[list[str]]) -> Callable[[], None]:
            def acting() -> None:
                before = len(gpu.waits)
                act()
                into.append(gpu.waits[before:])

            return acting

        self.trainer.run_step = watched(self.trainer.run_step, self.waits)  # type: ignore[method-assign]
        self.trainer.write_losses = watched(self.trainer.write_losses, self.written)  # type: ignore[method-assign]
        self.trainer.network.backbone.register_forward_hook(self._see)

    def _see(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.formats.add(output.dtype)

    def where(self) -> set[str]:
        """Devices of everything that a run stands on."""
        network, bank = self.trainer.network, self.trainer.state.bank
        assert bank is not None and bank.cross is not None
        tensors = [*network.parameters(), *network.buffers()]
        tensors += [memory.prototypes for memory in (bank.visible, bank.infrared, bank.cross)]
        tensors += [each for state in self.trainer.optimizer.state.values() for each in state.values()]
        return {str(each.device) for each in tensors}


def test_the_fake_gpu_raises_and_tells_as_a_real_one(gpu: FakeCuda) -> None:
    x = torch.ones(2, 3).to("cuda", non_blocking=True)
    assert x.device.type == "cuda" and gpu.waits == []
    with pytest.raises(RuntimeError, match=ELSEWHERE):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match=ELSEWHERE):
        x @ torch.ones(3, 2)
    assert float((x + torch.tensor(1.0)).sum()) == 1.0
    assert x.cpu().shape == (2, 3) and torch.tensor([1.0], device="cuda").device.type == "cuda"
    assert [wait.split()[1] for wait in gpu.waits] == [
        "aten::_local_scalar_dense", "aten::_to_copy", "aten::_to_copy",
    ]  # fmt: skip
    with pytest.raises(RuntimeError, match="generator is on cpu"):
        torch.rand(2, device="cuda", generator=torch.Generator())
    with pytest.raises(RuntimeError, match="generator is on cuda"):
        torch.rand(2, generator=torch.Generator(device="cuda"))
    assert (torch.arange(3) + 1).tolist() == [1, 2, 3] and torch.rand(2, device="cuda").shape == (2,)


LONG = pytest.mark.slow
TRAININGS = [
    pytest.param("float32", (), marks=LONG),
    pytest.param("float16", (), marks=LONG),
    ("bfloat16", ("MGOT.AUG.SPECTRAL_PROB", 0.5, "MGOT.AUG.COLOUR_JITTER", 0.5, "MGOT.LOSS.W_VIEWS", 1.0)),
    pytest.param("auto", ("MGOT.DEN.TWO_STREAM_STEM", ["conv1", "bn1"]), marks=LONG),
    pytest.param("bfloat16", ("MGOT.AUG.BY", "host", "DATALOADER.CACHE", "off"), marks=LONG),
    pytest.param(
        "float32", ("MGOT.DEN.SHARED_NECK", False, "MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPoolingP"), marks=LONG
    ),
    pytest.param("bfloat16", ("MGOT.RECOMPUTE", ["layer1", "layer3"]), marks=LONG),
]


@pytest.mark.parametrize(("precision", "keys"), TRAININGS)
def test_a_training_keeps_to_its_device(precision: str, keys: Any, gpu: FakeCuda, tiny_options: Options) -> None:
    cfg = config(tiny_options(*KEYS, "MGOT.PRECISION", precision, *keys))
    watched = Watched(cfg, gpu)
    watched.trainer.resume_or_load(resume=False)
    watched.trainer.train()
    assert watched.where() == {"cuda:0"}
    assert watched.formats == {torch.bfloat16 if precision == "auto" else getattr(torch, precision)}
    assert watched.trainer.grad_scaler.is_enabled() == (precision == "float16")
    assert ("grad_scaler" in watched.trainer.checkpointer.checkpointables) == (precision == "float16")
    rows = json.loads((Path(cfg.OUTPUT_DIR) / "results.json").read_text())["rows"]
    assert [row["stage"] for row in rows] == ["initial", "intra", "fittest", "final"]
    assert watched.waits == 4 * [["engine/watch/guards.py aten::_local_scalar_dense"]], "more than the look at the loss"
    assert watched.written == 2 * [["engine/step.py aten::_to_copy"]], "more than a copy an epoch"


def test_a_gpu_without_bfloat16_trains_in_float16(monkeypatch: pytest.MonkeyPatch, tiny_options: Options) -> None:
    with fake_cuda(monkeypatch, capability=(7, 5)):
        cfg = config(tiny_options(*KEYS, "MGOT.PRECISION", "auto"))
        assert MGOTTrainer.build_model(cfg).precision == torch.float16


@LONG
def test_a_run_that_was_stopped_goes_on_on_the_gpu(gpu: FakeCuda, tiny_options: Options) -> None:
    """Weights, moments, memories and the epoch's batches, from the middle of the cross stage."""
    options = tiny_options(*KEYS, "MGOT.ITERS_PER_EPOCH", 3)
    watched = Watched(config(options), gpu)
    watched.trainer.resume_or_load(resume=False)
    run_step = watched.trainer.run_step

    def stopped() -> None:
        run_step()
        if len(watched.waits) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    watched.trainer.run_step = stopped  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        watched.trainer.train()
    again = Watched(config(options), gpu)
    again.trainer.resume_or_load(resume=True)
    assert (again.trainer.start_epoch, again.trainer.beginning.step) == (1, 1)
    again.trainer.train()
    assert len(again.waits) == 2 and again.where() == {"cuda:0"}


@LONG
def test_a_checkpoint_is_scored_on_the_gpu(gpu: FakeCuda, tiny_options: Options) -> None:
    cfg = config(tiny_options(*KEYS, "SOLVER.MAX_EPOCH", 1, "MGOT.TEST.STAGES", ["final"]))
    train(cfg, resume=False)
    weights = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    keys = ("TEST.FLIP.ENABLED", True, "TEST.RERANK.ENABLED", True, "TEST.AQE.ENABLED", True, "TEST.ROC.ENABLED", True)
    evaluate(config(tiny_options(*KEYS, *keys, "MODEL.WEIGHTS", weights)))
    rows = json.loads((Path(cfg.OUTPUT_DIR) / "evaluation/results.json").read_text())["rows"]
    endings = [row["protocol"].removeprefix("sysu-all-single") for row in rows]
    assert endings == ["", "+aqe", "+rerank", "+aqe+rerank"]
    assert all("TPR@FPR=1e-02" in row for row in rows)


def test_extraction_reads_features_off_the_gpu_once_a_batch(gpu: FakeCuda) -> None:
    model = model_on_gpu()
    gpu.waits.clear()
    images = [{"images": torch.rand(5, 3, 64, 32), "is_visible": torch.ones(5, dtype=torch.bool)} for _ in range(3)]
    features = extract(model, images, flip=True)
    assert features.shape == (15, 512) and features.device.type == "cpu"
    assert gpu.waits == 3 * ["modeling/extraction.py aten::_to_copy"]


def test_neighbours_are_searched_on_the_gpu(gpu: FakeCuda) -> None:
    rows = check_features(np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32))
    assert on_device(rows, 5, "cuda").ids.shape == on_device(rows, 5, "cpu").ids.shape


def model_on_gpu(**keys: object) -> DEN:
    cfg = small_config("MODEL.DEVICE", "cuda", *(part for pair in keys.items() for part in pair))
    cfg.MODEL.BACKBONE.PRETRAIN = False
    model = DEN(cfg).to("cuda")
    made = bank(512, cross=True)
    assert made.cross is not None
    for memory in (made.visible, made.infrared, made.cross):
        memory.prototypes = memory.prototypes.to("cuda")
    made.members_v, made.members_r = (torch.tensor([[0, 1], [0, 1]]) for _ in "vr")
    model.heads.bank = made
    return model


class _Steps:
    """A sampler of one step: two clusters of two images in each modality."""

    n_classes, n_instances, seed = 2, 2, 0

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Any:
        yield np.arange(4), np.arange(4, 8)

    def set_epoch(self, *unused: Any, **unused_too: Any) -> None: ...


def test_several_processes_put_their_rows_in_order_on_the_gpu(
    gpu: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two processes; the other one's rows are a copy of its own."""
    from PIL import Image

    Image.new("RGB", (32, 64)).save(tmp_path / "one.png")
    visible, infrared = (
        [Item(str(tmp_path / "one.png"), n // 2, 1, kind) for n in range(4)] for kind in (VISIBLE, INFRARED)
    )
    steps: Any = _Steps()
    loader = CrossModalityLoader(
        visible, infrared, (64, 32), steps, Augmentation(), device=torch.device("cuda"), world_size=2
    )
    loader.set_epoch(0, EpochLabels(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])))
    monkeypatch.setattr(gather, "dist", SimpleNamespace(get_world_size=lambda: 2, all_gather=everybody_has_the_same))
    model = model_on_gpu().train()
    gpu.waits.clear()
    (shared,) = list(loader)
    losses = model(shared)
    assert {"loss_vcl", "loss_icl", "loss_ccl", "loss_mcl", "loss_cpal", "loss_adv"} == set(losses)
    assert {str(each.device) for each in losses.values()} == {"cuda:0"} and gpu.waits == []
    step = model.heads.step
    assert step is not None and (len(shared["images"]), len(step.f_v), len(step.f_r)) == (6, 8, 4)
    assert model.heads.bank is not None
    model.heads.bank.update(*step)
    assert gpu.waits == [] and model.heads.bank.visible.prototypes.device.type == "cuda"


def everybody_has_the_same(parts: list[Tensor], mine: Tensor) -> None:
    for part in parts:
        part.copy_(mine)


def test_second_memories_and_an_exchange_need_no_wait_for_the_gpu(gpu: FakeCuda) -> None:
    def memory(by: str = "mean") -> PrototypeMemory:
        return PrototypeMemory(torch.eye(2, 4, device="cuda"), by=by)

    match, none = torch.tensor([1, -1]), torch.tensor([0, 1, -1])
    for epoch in (0, 1):
        bank = MemoryBank(memory(), memory(), cross_epoch=epoch, exchange=True)
        bank.hard_visible, bank.hard_infrared, bank.v2r, bank.r2v = memory(), memory(), match, match
        f = torch.rand(3, 4, device="cuda")
        gpu.waits.clear()
        bank.update(f, none, f, none)
        loss = Dual()(view(bank, f, f, none, none, 0.05))
        assert gpu.waits == [] and loss.device.type == bank.hard_visible.prototypes.device.type == "cuda"


def test_labels_given_on_the_gpu_are_read_off_it_once(gpu: FakeCuda) -> None:
    model = model_on_gpu().train()
    given = {name: part.to("cuda") for name, part in batch().items()}
    gpu.waits.clear()
    losses = model(given)
    assert {str(each.device) for each in losses.values()} == {"cuda:0"}
    assert gpu.waits == 2 * ["modeling/heads.py aten::_to_copy"]
    memory = PrototypeMemory(torch.eye(2, 512, device="cuda"))
    gpu.waits.clear()
    memory.update(torch.rand(3, 512, device="cuda"), torch.tensor([0, 1, 0]).to("cuda", non_blocking=True))
    assert gpu.waits == ["memory.py aten::_to_copy"]


@pytest.mark.parametrize("by", ["mean", "hardest"])
def test_a_memory_that_moves_once_needs_no_wait_for_the_gpu(by: str, gpu: FakeCuda) -> None:
    memory = PrototypeMemory(torch.eye(2, 512, device="cuda"), by=by)
    f = torch.rand(3, 512, device="cuda")
    gpu.waits.clear()
    memory.update(f, torch.tensor([0, -1, 0]))
    assert gpu.waits == [] and memory.prototypes.device.type == "cuda"


def test_who_uses_the_library_may_hold_features_on_the_gpu(gpu: FakeCuda) -> None:
    f, phi = torch.rand(4, 4, device="cuda"), torch.rand(2, 4, device="cuda")
    assert check_features(f).rows.shape == (4, 4)
    everybody = np.arange(4)
    protocol = Protocol("plain", (Trial(everybody[:2], everybody[2:]),), "none", False, "seeded")
    assert score_protocol(protocol, everybody % 2, everybody, features=f)["protocol"] == "plain"
    assert len(prediction_entropies(torch.rand(4, 4), phi, 0.05)) == 2
    pairs = np.arange(2)
    assert cross_prototypes(phi, phi, Matching(pairs, pairs, np.eye(2), "visible", pairs[:0])).device.type == "cuda"


@pytest.mark.parametrize(("backend", "device"), [("nccl", "cuda"), ("gloo", "cpu")])
def test_processes_agree_to_stop_where_their_backend_can(
    backend: str, device: str, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def all_reduce(number: Tensor, op: object) -> None:
        asked.append(number.device.type)

    monkeypatch.setattr(signals.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(signals.dist, "get_backend", lambda: backend)
    monkeypatch.setattr(signals.dist, "all_reduce", all_reduce)
    signals.StopRequest().agreed(0)
    assert asked == [device]


def left_behind(labels: Tensor, f: Tensor) -> Tensor:
    return labels


def test_labels_that_stay_on_the_cpu_are_noticed(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_on_gpu().train()
    model(batch())
    monkeypatch.setattr(heads, "_sent", left_behind)
    with pytest.raises(RuntimeError, match=ELSEWHERE):
        model(batch())


def test_memories_and_weights_that_stay_on_the_cpu_are_noticed(gpu: FakeCuda) -> None:
    model = model_on_gpu().train()
    bank = model.heads.bank
    assert bank is not None
    model(batch())
    kept = bank.infrared
    bank.infrared = PrototypeMemory(torch.eye(2, 512))
    with pytest.raises(RuntimeError, match=ELSEWHERE):
        model(batch())
    bank.infrared = kept
    assert model.discriminator is not None
    model.discriminator.cpu()
    with pytest.raises(RuntimeError, match=ELSEWHERE):
        model(batch())
