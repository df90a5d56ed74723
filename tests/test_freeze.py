"""Layers that rest for the first steps: their weights and statistics, and what a resumed run makes of them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mgot.engine.schedule.freeze import FreezeHook, build_freeze_hook, frozen_parameters
from mgot.engine.schedule.solver import build_fused_optimizer
from mgot.engine.trainer import MGOTTrainer
from mgot.errors import Interrupted, UserError
from tests.test_modeling import small_config
from tests.test_resume import figures, run, signal_at
from tests.test_step import WithBackbone


class WithNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.heads = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Linear(4, 2)


@pytest.mark.parametrize("clipped", [False, True])
def test_frozen_layers_rest_for_their_steps_whatever_happens_between(clipped: bool) -> None:
    torch.manual_seed(0)
    model = WithNorm()
    keys = ("SOLVER.FREEZE_ITERS", 2, "MODEL.FREEZE_LAYERS", ["backbone"], "SOLVER.CLIP_GRADIENTS.ENABLED", clipped)
    optimizer, _ = build_fused_optimizer(small_config(*keys), model)
    hook = FreezeHook(model, optimizer, ["backbone"], 2)
    data = torch.randn(5, 3)
    start = [value.detach().clone() for value in model.backbone.state_dict().values()]
    for iteration in range(3):
        model.train()  # as after each extraction
        hook.trainer = SimpleNamespace(iter=iteration)
        hook.before_step()
        before = model.heads.weight.detach().clone()
        optimizer.zero_grad()
        model.heads(model.backbone(data)).square().mean().backward()
        optimizer.step()
        rests = [torch.equal(a, b) for a, b in zip(start, model.backbone.state_dict().values(), strict=True)]
        assert (all(rests), any(rests)) == ((True, True) if iteration < 2 else (False, False))
        assert not torch.equal(model.heads.weight, before)


def test_no_layer_rests_for_no_steps() -> None:
    model = WithBackbone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert build_freeze_hook(small_config("MODEL.FREEZE_LAYERS", ["neck"]), model, optimizer) is None
    assert build_freeze_hook(small_config("SOLVER.FREEZE_ITERS", 2), model, optimizer) is None


def test_layers_are_named_by_how_their_names_begin() -> None:
    model = WithBackbone()
    assert frozen_parameters(model, ["back", r"heads\.w"]) == [*model.backbone.parameters(), model.heads.weight]
    for pattern, told in (("neck", "no layer's name begins with 'neck'"), ("(", "is not a regular expression")):
        with pytest.raises(UserError, match=told):
            frozen_parameters(model, [pattern])


@pytest.mark.parametrize(("stop", "rests"), [(1, [True, True, False, False]), (4, [False])])
def test_a_resumed_run_freezes_neither_longer_nor_again(
    stop: int,
    rests: list[bool],
    tiny_options: Callable[..., list[str]],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = ("MGOT.ITERS_PER_EPOCH", 3, "MODEL.FREEZE_LAYERS", ["backbone"], "SOLVER.FREEZE_ITERS", 4,
            "MGOT.TEST.STAGES", ["final"], "MGOT.TEST.SYSU_MODES", ["all"])  # fmt: skip
    straight = run(tiny_options(*keys, "OUTPUT_DIR", tmp_path_factory.mktemp("straight")))
    stopped = tiny_options(*keys, "OUTPUT_DIR", tmp_path_factory.mktemp("stopped"))
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        signal_at(patch, stop)
        run(stopped)
    frozen: list[bool] = []
    step = MGOTTrainer.run_step

    def run_step(self: MGOTTrainer) -> None:
        frozen.append(not self.network.backbone.training)
        step(self)

    monkeypatch.setattr(MGOTTrainer, "run_step", run_step)
    assert figures(run(stopped, resume=True)) == figures(straight)
    assert frozen == rests
