"""MGOT.COMPILE with inductor's CPU backend really built, once: its C++ computes what plain PyTorch does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from torch import Tensor

from mgot.modeling import DEN
from tests.test_modeling import bank, batch, small_config

SLIM = ("MODEL.BACKBONE.NAME", "build_slim_resnet_backbone", "MODEL.BACKBONE.DEPTH", "10x", "MODEL.BACKBONE.FEAT_DIM",
        256, "MODEL.BACKBONE.PRETRAIN", False, "MGOT.DEN.DROPOUT", 0.0)  # fmt: skip


@pytest.fixture(name="built")
def fixture_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is taken from an earlier build; skips where there is no C++ compiler."""
    from torch._inductor import config, metrics
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        compiler = get_cpp_compiler()
    except Exception as error:  # inductor has an error of its own for each way of finding none
        pytest.skip(f"torch.compile builds C++ on a CPU, and there is no compiler: {error}")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / compiler.rpartition("/")[2]))
    torch._dynamo.reset()
    metrics.reset()
    with config.patch(force_disable_caches=True):
        yield
    torch._dynamo.reset()


def losses_and_gradients(model: DEN) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model.heads.bank = bank(256, cross=True)
    losses = model.train()(batch())
    torch.stack(list(losses.values())).sum().backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.usefixtures("built")
def test_inductors_code_gives_the_losses_and_gradients_of_plain_pytorch() -> None:
    from torch._inductor import metrics

    plain, compiled = (build_model(small_config(*SLIM, "MGOT.COMPILE", flag)) for flag in (False, True))
    compiled.load_state_dict(plain.state_dict())
    expected, expected_gradients = losses_and_gradients(plain)
    assert metrics.generated_kernel_count == 0
    losses, gradients = losses_and_gradients(compiled)
    assert metrics.generated_kernel_count > 10, "nothing was built"
    assert losses.keys() == expected.keys() and gradients.keys() == expected_gradients.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-4)
    exact, found = (torch.cat([each[name].flatten() for name in gradients]) for each in (expected_gradients, gradients))
    assert float((found - exact).norm() / exact.norm()) < 1e-3
