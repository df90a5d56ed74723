"""Which format a device computes in, and that losses and gradients hardly notice it."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from mgot.errors import UserError
from mgot.modeling import DEN
from mgot.modeling.precision import cpu_multiplies_bfloat16, resolve_precision
from tests.test_modeling import bank, batch, small_config


@pytest.fixture
def has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgot.modeling.precision.cpu_multiplies_bfloat16", lambda: True)


def model(precision: str) -> DEN:
    torch.manual_seed(0)
    cfg = small_config("MGOT.PRECISION", precision, "MGOT.DEN.DROPOUT", 0.0)
    cfg.MODEL.BACKBONE.PRETRAIN = False
    built = DEN(cfg)
    built.heads.bank = bank(512, cross=True)
    return built


def losses_and_gradients(precision: str) -> tuple[dict[str, Tensor], Tensor]:
    den = model(precision).train()
    losses = den(batch())
    torch.stack(list(losses.values())).sum().backward()
    gradients = [p.grad.flatten() for p in den.parameters() if p.grad is not None]
    return losses, torch.cat(gradients)


def test_bfloat16_gives_nearly_the_losses_and_gradients_of_float32(has_bfloat16: None) -> None:
    exact, exact_gradient = losses_and_gradients("float32")
    rough, rough_gradient = losses_and_gradients("bfloat16")
    assert exact.keys() == rough.keys()
    for name, value in exact.items():
        assert rough[name].dtype == torch.float32
        assert not torch.equal(rough[name], value), f"{name} was not computed in bfloat16"
        torch.testing.assert_close(rough[name], value, rtol=0.05, atol=0.05)
    assert bool(rough_gradient.isfinite().all())
    assert float(torch.cosine_similarity(rough_gradient, exact_gradient, dim=0)) > 0.9


def test_features_are_float32_in_every_format(has_bfloat16: None) -> None:
    exact, rough = (model(name).eval()(batch()) for name in ("float32", "bfloat16"))
    assert exact.dtype == rough.dtype == torch.float32
    assert float(torch.cosine_similarity(exact, rough).detach().min()) > 0.999


def test_auto_is_float32_on_a_processor() -> None:
    assert resolve_precision("auto", "cpu") == torch.float32


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), torch.bfloat16), ((7, 5), torch.float16)])
def test_auto_on_a_gpu_goes_by_its_capability(
    capability: tuple[int, int], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", "cuda") == expected


def test_a_processor_without_bfloat16_computes_in_float32_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not cpu_multiplies_bfloat16()
    monkeypatch.setattr(logging.getLogger("mgot"), "propagate", True)
    assert resolve_precision("bfloat16", "cpu") == torch.float32
    assert "no instructions for bfloat16" in caplog.text


@pytest.mark.parametrize(("name", "message"), [("half", "must be one of"), ("float16", "needs a GPU")])
def test_what_cannot_be_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_precision(name, "cpu")
