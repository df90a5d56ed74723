"""DEN, its adversary, its stages and its head."""

from __future__ import annotations

import math
from functools import partialmethod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY, build_model
from torch import Tensor, nn

from mgot.engine.setup import default_config
from mgot.errors import UserError
from mgot.memory import MemoryBank, PrototypeMemory
from mgot.modeling.discriminator import ModalityDiscriminator, reversal_coefficient, reverse_gradient
from mgot.modeling.stages import StageTap, probe, split_stem


def small_config(*options: object) -> CfgNode:
    cfg = default_config()
    cfg.merge_from_list(
        ["MODEL.META_ARCHITECTURE", "DEN", "MODEL.HEADS.NAME", "MGOTHead", "MODEL.HEADS.WITH_BNNECK", True,
         "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", 512,
         "INPUT.SIZE_TRAIN", [64, 32], *options]
    )  # fmt: skip
    return cfg


def rows(n: int, d: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def bank(d: int, cross: bool) -> MemoryBank:
    made = MemoryBank(PrototypeMemory(rows(3, d, 0)), PrototypeMemory(rows(2, d, 1)))
    if cross:
        made.cross = PrototypeMemory(rows(2, d, 2))
        made.v2r, made.c_v = torch.tensor([0, 1, -1]), torch.tensor([0, 1, -1])
        made.r2v, made.c_r = torch.tensor([0, 1]), torch.tensor([0, 1])
    return made


def batch(n_visible: int = 6, n_infrared: int = 4) -> dict[str, Tensor]:
    is_visible = torch.arange(n_visible + n_infrared) < n_visible
    y = torch.cat([torch.arange(n_visible) % 3, torch.arange(n_infrared) % 2])
    images = torch.rand(len(y), 3, 64, 32, generator=torch.Generator().manual_seed(3)) * 255
    return {"images": images, "is_visible": is_visible, "targets": y}


def test_registered_with_the_host() -> None:
    assert META_ARCH_REGISTRY.get("DEN") and REID_HEADS_REGISTRY.get("MGOTHead")


def test_reversal_coefficient_climbs_from_zero_to_one() -> None:
    start, middle, end = (float(reversal_coefficient(torch.tensor(t), 10_000)) for t in (0, 5_000, 10_000))
    assert start == 0.0
    assert middle == pytest.approx(2 / (1 + 2.718281828459045**-5) - 1)
    assert end == pytest.approx(1, abs=1e-4)


def test_gradient_is_reversed_and_scaled() -> None:
    x = torch.ones(3, requires_grad=True)
    (2 * reverse_gradient(x, 0.25)).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((3,), -0.5))


def test_discriminator_is_the_stated_network() -> None:
    net = ModalityDiscriminator((4, 6), dropout=0.0)
    stages = [torch.randn(5, 4), torch.randn(5, 6)]
    x = torch.cat([neck(stage) for neck, stage in zip(net.necks, stages, strict=True)], dim=1)
    first, second, last = (layer for layer in net.mlp if isinstance(layer, nn.Linear))
    assert (first.out_features, second.out_features) == (5, 5)
    logit = last(torch.relu(second(torch.relu(first(x))))).squeeze(1)
    centred = logit - logit.mean()
    torch.testing.assert_close(net(stages), centred / (centred.square().mean() + 1e-5).sqrt())
    assert not any(neck.get_parameter("bias").requires_grad for neck in [*net.necks, net.logit_norm])
    net.eval()
    plain = ModalityDiscriminator((4, 6), dropout=0.0, logit_norm=False).eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    x = torch.cat([neck(stage) for neck, stage in zip(net.necks, stages, strict=True)], dim=1)
    torch.testing.assert_close(plain(stages), last(torch.relu(second(torch.relu(first(x))))).squeeze(1))


def test_features_with_a_neck_of_their_own_stand_beside_the_stages() -> None:
    net = ModalityDiscriminator((4,), shared_dim=6, dropout=0.0, logit_norm=False)
    stage, shared = torch.randn(5, 4), torch.randn(5, 6)
    torch.testing.assert_close(net([stage], shared), net.mlp(torch.cat([net.necks[0](stage), shared], 1)).squeeze(1))


def test_the_discriminator_starts_as_otlas() -> None:
    torch.manual_seed(0)
    net = ModalityDiscriminator((400, 600))
    first, second, last = (layer for layer in net.mlp if isinstance(layer, nn.Linear))
    for layer in (first, second):
        fan_out = layer.out_features
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.01)
        assert float(layer.weight.detach().mean()) == pytest.approx(0, abs=1e-3)
    assert float(last.weight.detach().std()) == pytest.approx(0.001, rel=0.1)
    assert not any(float(layer.bias.detach().abs().sum()) for layer in (first, second, last))
    necks = torch.cat([neck.get_parameter("weight").detach() for neck in net.necks])
    assert float(necks.std()) == pytest.approx(0.01, rel=0.1) and float(necks.mean()) == pytest.approx(1, abs=0.002)
    torch.manual_seed(0)
    plain = ModalityDiscriminator((400, 600), init="torch")
    torch.manual_seed(0)
    assert torch.equal(plain.mlp[0].get_parameter("weight"), nn.Linear(1000, 500).weight)
    assert torch.equal(plain.necks[0].get_parameter("weight"), torch.ones(400))


def test_discriminator_learns_modality_while_the_backbone_unlearns_it() -> None:
    torch.manual_seed(0)
    net = ModalityDiscriminator((32,), dropout=0.0, horizon=10)
    net.iteration.fill_(10)
    x = torch.randn(8, 32, requires_grad=True)
    is_visible = torch.arange(8) < 4
    net.loss([x], is_visible).backward()
    assert x.grad is not None
    stepped = (x - 5 * x.grad).detach()
    with torch.no_grad():
        before = F.binary_cross_entropy_with_logits(net([x.detach()]), is_visible.float())
        after = F.binary_cross_entropy_with_logits(net([stepped]), is_visible.float())
    assert after > before
    assert int(net.iteration) == 11


@pytest.mark.parametrize("cross", [False, True])
def test_training_step_gives_the_terms_of_its_stage(cross: bool) -> None:
    model = build_model(small_config())
    model.heads.bank = bank(512, cross)
    losses = model(batch())
    expected = {"loss_vcl", "loss_icl", "loss_adv"} | ({"loss_ccl", "loss_mcl", "loss_cpal"} if cross else set())
    assert set(losses) == expected
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert float(model.backbone.conv1.weight.grad.abs().sum()) > 0
    assert not model.heads.bottleneck.bias.requires_grad and model.heads.bottleneck.weight.requires_grad
    assert model.heads.step.f_v.shape == (6, 512) and not model.heads.step.f_v.requires_grad


@pytest.mark.parametrize(
    ("key", "term"),
    [(f"W_{name}", f"loss_{name.lower()}") for name in ("VCL", "ICL", "CCL", "MCL", "CPAL", "ADV")],
)
def test_weight_zero_switches_a_term_off(key: str, term: str) -> None:
    model = build_model(small_config(f"MGOT.LOSS.{key}", 0.0))
    model.heads.bank = bank(512, cross=True)
    assert term not in model(batch())


def test_a_step_never_changes_a_memory() -> None:
    model = build_model(small_config())
    model.heads.bank = bank(512, cross=True)
    memories = (model.heads.bank.visible, model.heads.bank.infrared, model.heads.bank.cross)
    before = [memory.prototypes.clone() for memory in memories]
    sum(model(batch()).values()).backward()
    assert all(torch.equal(a, memory.prototypes) for a, memory in zip(before, memories, strict=True))


def test_features_do_not_change_the_input_nor_depend_on_the_batch() -> None:
    model = build_model(small_config()).eval()
    images = torch.rand(3, 3, 64, 32) * 255
    kept = images.clone()
    with torch.no_grad():
        features = model({"images": images, "is_visible": torch.ones(3, dtype=torch.bool)})
        torch.testing.assert_close(model(images[:1]), features[:1], rtol=1e-4, atol=1e-5)
    assert features.shape == (3, 512) and torch.equal(images, kept)


def test_wrong_feature_dimension_names_the_right_one() -> None:
    with pytest.raises(UserError, match=r"MODEL\.BACKBONE\.FEAT_DIM is 2048, but this backbone gives 512"):
        build_model(small_config("MODEL.BACKBONE.FEAT_DIM", 2048))


def test_unknown_stage_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'layer4'"):
        build_model(small_config("MGOT.DEN.STAGES", ["layer44"]))


def test_resnet_stages_are_the_methods() -> None:
    cfg = small_config("MODEL.BACKBONE.DEPTH", "50x", "MODEL.BACKBONE.FEAT_DIM", 2048)
    backbone = build_backbone(cfg)
    assert probe(backbone, StageTap(backbone), (64, 32)) == ([64, 256, 512, 1024, 2048], 2048, True)
    assert not probe(backbone, StageTap(backbone, ["layer1", "layer3"]), (64, 32)).ends_in_output


def adversarys_gradients(*options: object) -> tuple[dict[str, Tensor], Any]:
    """Gradients of L_D alone at the end of the reversal's climb, by parameter."""
    torch.manual_seed(0)
    model = build_model(small_config("MGOT.DEN.DROPOUT", 0.0, *options))
    model.heads.bank = bank(512, cross=True)
    model.discriminator.iteration.fill_(10_000)
    model(batch())["loss_adv"].backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, model


def test_the_reversal_reaches_the_retrieval_neck_where_it_is_shared() -> None:
    shared, model = adversarys_gradients()
    assert [len(neck.get_parameter("weight")) for neck in model.discriminator.necks] == [64, 64, 128, 256]
    assert float(shared["heads.bottleneck.weight"].abs().sum()) > 0
    own, model = adversarys_gradients("MGOT.DEN.SHARED_NECK", False)
    assert [len(neck.get_parameter("weight")) for neck in model.discriminator.necks] == [64, 64, 128, 256, 512]
    assert "heads.bottleneck.weight" not in own
    assert float(own["discriminator.necks.4.weight"].abs().sum()) > 0
    none, model = adversarys_gradients("MODEL.HEADS.WITH_BNNECK", False)
    assert len(model.discriminator.necks) == 5 and not any(name.startswith("heads.") for name in none)


def test_the_shared_neck_gives_the_loss_of_the_plain_formula() -> None:
    _, model = adversarys_gradients()
    seen: dict[str, Tensor] = {}
    layers = {name: model.backbone.get_submodule(name) for name in ("maxpool", "layer1", "layer2", "layer3", "layer4")}
    for name, layer in layers.items():
        last = layer if name == "maxpool" else list(layer.children())[-1]
        last.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output}))
    found = model(batch())["loss_adv"]
    pooled = [seen[name].mean((2, 3)) for name in layers]
    net = model.discriminator
    necked = [neck(x) for neck, x in zip([*net.necks, lambda x: norm(model.heads.bottleneck, x)], pooled, strict=True)]
    logit = norm(net.logit_norm, net.mlp(torch.cat(necked, 1))).squeeze(1)
    expected = F.binary_cross_entropy_with_logits(logit, batch()["is_visible"].float())
    torch.testing.assert_close(found, expected)


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    """Batch normalisation over the rows of x (B, C) by their own statistics, written out."""
    centred = x - x.mean(0)
    return centred / (centred.square().mean(0) + 1e-5).sqrt() * layer.get_parameter("weight")


@pytest.mark.parametrize("stages", [["layer1", "layer3"], ["layer1"]])
def test_features_come_beside_stages_that_end_before_the_output(stages: list[str]) -> None:
    gradients, model = adversarys_gradients("MGOT.DEN.STAGES", stages)
    assert len(model.discriminator.necks) == len(stages)
    assert float(gradients["heads.bottleneck.weight"].abs().sum()) > 0


def test_the_tap_reads_the_training_forward_alone() -> None:
    model = build_model(small_config())
    model.heads.bank = bank(512, cross=True)
    model(batch())
    assert not model.tap.enabled
    with torch.no_grad():
        model.eval()(batch())
    assert not model.tap._outputs
    model.train()
    with pytest.raises(KeyError):
        model({"images": batch()["images"], "is_visible": batch()["is_visible"]})
    assert not model.tap.enabled
    with pytest.raises(RuntimeError), model.tap.reading():
        raise RuntimeError
    assert not model.tap.enabled


def test_two_stream_stem_gives_each_modality_its_own_weights() -> None:
    backbone = nn.Sequential()
    backbone.add_module("stem", nn.Conv2d(3, 4, 1))
    (stream,) = split_stem(backbone, ["stem"])
    x, mask = torch.randn(5, 3, 2, 2), torch.tensor([True, False, True, True, False])
    stream.is_visible = mask
    torch.testing.assert_close(backbone(x), stream.visible(x))
    with torch.no_grad():
        next(stream.infrared.parameters()).mul_(2)
    torch.testing.assert_close(backbone(x)[mask], stream.visible(x[mask]))
    torch.testing.assert_close(backbone(x)[~mask], stream.infrared(x[~mask]))


@pytest.mark.slow
def test_a_compiled_backbone_gives_the_same_losses_and_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    plain, compiled = (
        build_model(small_config("MGOT.COMPILE", flag, "MGOT.DEN.DROPOUT", 0.0)) for flag in (False, True)
    )
    compiled.load_state_dict(plain.state_dict())
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for model in (plain, compiled):
        model.heads.bank = bank(512, cross=True)
    losses = [model.train()(batch()) for model in (plain, compiled)]
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value)
    torch.testing.assert_close(compiled.eval()(batch()), plain.eval()(batch()))


@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format])
def test_two_stream_stem_keeps_the_memory_format(form: torch.memory_format) -> None:
    backbone = nn.Sequential()
    backbone.add_module("stem", nn.Conv2d(3, 4, 1).to(memory_format=form))
    (stream,) = split_stem(backbone, ["stem"])
    stream.is_visible = torch.tensor([True, False, True])
    out = backbone(torch.randn(3, 3, 5, 2).contiguous(memory_format=form))
    assert out.is_contiguous(memory_format=form)


@pytest.mark.parametrize("stem", [["conv1", "bn1"], ["conv1", "bn1", "relu", "maxpool"], ["conv1", "bn1", "layer1"]])
def test_two_stream_model_trains(stem: list[str]) -> None:
    model = build_model(small_config("MGOT.DEN.TWO_STREAM_STEM", stem, "MGOT.LOSS.W_ADV", 1.0))
    model.heads.bank = bank(512, cross=True)
    sum(model(batch()).values()).backward()
    assert float(model.backbone.conv1.infrared.weight.grad.abs().sum()) > 0
    if "layer1" in stem:
        assert all(float(block.infrared.conv1.weight.grad.abs().sum()) > 0 for block in model.backbone.layer1)


def test_training_without_memories_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no memories"):
        build_model(small_config())(batch())


def test_the_reversal_climbs_by_its_horizon_and_both_hidden_layers_drop_out() -> None:
    torch.manual_seed(0)
    net, x = ModalityDiscriminator((32,), dropout=0.0, horizon=10), torch.randn(8, 32)

    def gradient(iteration: int) -> Tensor:
        net.iteration.fill_(iteration)
        y = x.clone().requires_grad_()
        net.loss([y], torch.arange(8) < 4).backward()
        assert y.grad is not None
        return y.grad

    assert not gradient(0).any() and gradient(10_000).any()
    torch.testing.assert_close(gradient(5), math.tanh(2.5) * gradient(10_000))
    drops = [layer.p for layer in ModalityDiscriminator((4,), dropout=0.3).mlp if isinstance(layer, nn.Dropout)]
    assert drops == [0.3, 0.3]
