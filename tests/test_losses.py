"""Each loss against a plain-loop reference of docs/method.md's equation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mgot.losses import (
    cross_contrastive,
    cross_prediction_alignment,
    distilled,
    joint_contrastive,
    marginal_cross_entropy,
    mutual_contrastive,
    prototype_cross_entropy,
)

TAU = 0.07  # not the default, so that a temperature that gets lost shows


def unit_rows(n: int, d: int, seed: int) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def softmax_loop(logits: list[float]) -> list[float]:
    largest = max(logits)
    weights = [math.exp(x - largest) for x in logits]
    return [w / sum(weights) for w in weights]


def dot(a: Tensor, b: Tensor) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def ce_loop(f: Tensor, phi: Tensor, y: Tensor, weight: Tensor | None = None) -> float:
    """The mean over the images that have a label, whatever the weights."""
    total, count = 0.0, 0
    for i, label in enumerate(y.tolist()):
        if label >= 0:
            loss = -math.log(softmax_loop([dot(f[i], p) / TAU for p in phi])[label])
            total, count = total + (1.0 if weight is None else float(weight[i])) * loss, count + 1
    return total / max(count, 1)


def kl_loop(p: list[float], q: list[float]) -> float:
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def affinity_loop(s_x: Tensor, s_y: Tensor) -> list[list[float]]:
    return [softmax_loop([dot(a / a.norm(), b / b.norm()) for b in s_y]) for a in s_x]


def mix_loop(affinity: list[list[float]], s: Tensor) -> list[list[float]]:
    return [[sum(w * float(s[j, k]) for j, w in enumerate(row)) for k in range(s.shape[1])] for row in affinity]


def cpal_loop(s_v: Tensor, s_r: Tensor) -> float:
    s_vr = mix_loop(affinity_loop(s_v, s_r), s_r)
    s_rv = mix_loop(affinity_loop(s_r, s_v), s_v)
    s_rr = mix_loop(affinity_loop(s_r, s_r), s_r)
    visible = sum(kl_loop(softmax_loop(a.tolist()), softmax_loop(b)) for a, b in zip(s_v, s_vr, strict=True))
    infrared = sum(kl_loop(softmax_loop(a), softmax_loop(b)) for a, b in zip(s_rv, s_rr, strict=True))
    return 0.1 * visible / len(s_v) + 0.5 * infrared / len(s_r)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_prototype_cross_entropy_is_the_loop(k: int) -> None:
    f, phi = unit_rows(6, 5, 0), unit_rows(k, 5, 1)
    y = torch.arange(6) % k
    actual = prototype_cross_entropy(f.float(), phi.float(), y, TAU)
    assert float(actual) == pytest.approx(ce_loop(f, phi, y), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("y", [[0, 2, -1, 1], [-1, 2, -1, -1], [1], [-1, -1]])
def test_images_without_a_label_take_no_part_and_weights_weigh_images(y: list[int]) -> None:
    f, phi, labels = unit_rows(len(y), 5, 0), unit_rows(3, 5, 1), torch.tensor(y)
    for weight in (None, torch.tensor([0.3, 0.7, 0.9, 0.0][: len(y)])):
        actual = prototype_cross_entropy(f.float(), phi.float(), labels, TAU, weight)
        assert float(actual) == pytest.approx(ce_loop(f, phi, labels, weight), rel=1e-4)


WEIGHTS = (torch.tensor([0.9, 0.1, 0.5, 1.0, 0.3, 0.0]), torch.tensor([0.2, 0.4, 0.6, 0.8]))


@pytest.mark.parametrize("weights", [(None, None), WEIGHTS])
def test_ccl_is_the_sum_of_both_directions(weights: tuple[Tensor | None, Tensor | None]) -> None:
    f_v, f_r, phi_v, phi_r = unit_rows(6, 5, 0), unit_rows(4, 5, 1), unit_rows(3, 5, 2), unit_rows(2, 5, 3)
    y_v2r, y_r2v = torch.tensor([0, 1, 1, 0, -1, 0]), torch.tensor([2, 0, -1, 2])
    expected = ce_loop(f_v, phi_r, y_v2r, weights[0]) + ce_loop(f_r, phi_v, y_r2v, weights[1])
    actual = cross_contrastive(f_v.float(), f_r.float(), phi_v.float(), phi_r.float(), y_v2r, y_r2v, TAU, *weights)
    assert float(actual) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("weights", [(None, None), WEIGHTS])
def test_mcl_contrasts_both_modalities_with_the_cross_memory(weights: tuple[Tensor | None, Tensor | None]) -> None:
    f_v, f_r, phi_c = unit_rows(6, 5, 0), unit_rows(4, 5, 1), unit_rows(3, 5, 2)
    c_v, c_r = torch.tensor([0, 1, 2, 0, -1, 2]), torch.tensor([2, 2, -1, 1])
    expected = ce_loop(f_v, phi_c, c_v, weights[0]) + ce_loop(f_r, phi_c, c_r, weights[1])
    actual = mutual_contrastive(f_v.float(), f_r.float(), phi_c.float(), c_v, c_r, TAU, *weights)
    assert float(actual) == pytest.approx(expected, rel=1e-4)


def test_the_temperature_is_the_fields_unless_said() -> None:
    f, phi, y = unit_rows(4, 5, 0).float(), unit_rows(3, 5, 1).float(), torch.tensor([0, 2, 1, 1])
    own = torch.arange(3)
    assert torch.equal(prototype_cross_entropy(f, phi, y), prototype_cross_entropy(f, phi, y, 0.05))
    assert torch.equal(cross_contrastive(f, f, phi, phi, y, y), cross_contrastive(f, f, phi, phi, y, y, 0.05))
    assert torch.equal(mutual_contrastive(f, f, phi, y, y), mutual_contrastive(f, f, phi, y, y, 0.05))
    assert torch.equal(joint_contrastive(f, phi, (y, y)), joint_contrastive(f, phi, (y, y), 0.05))
    assert torch.equal(distilled(f, phi, f), distilled(f, phi, f, 0.05))
    both = (phi, phi), (own, own), (0.5, 0.5), y
    assert torch.equal(marginal_cross_entropy(f, *both), marginal_cross_entropy(f, *both, 0.05))


@pytest.mark.parametrize(("b_v", "b_r", "k"), [(5, 4, 6), (3, 7, 2), (1, 1, 3)])
def test_cpal_is_the_loop(b_v: int, b_r: int, k: int) -> None:
    s_v, s_r = 3 * unit_rows(b_v, k, 0), 3 * unit_rows(b_r, k, 1)
    actual = cross_prediction_alignment(s_v.float(), s_r.float())
    assert float(actual) == pytest.approx(cpal_loop(s_v, s_r), rel=1e-4, abs=1e-7)


def test_cpal_is_never_negative_and_zero_where_all_predictions_agree() -> None:
    s = unit_rows(1, 5, 0).float().repeat(4, 1)
    assert float(cross_prediction_alignment(s, s)) == pytest.approx(0.0, abs=1e-6)
    for seed in range(20):
        value = cross_prediction_alignment(9 * unit_rows(4, 5, seed).float(), 9 * unit_rows(3, 5, seed + 50).float())
        assert float(value) >= 0


def test_the_features_gradient_is_the_formulas_and_the_memory_stays_as_it_is() -> None:
    f, phi, y = unit_rows(4, 5, 0).float().requires_grad_(), unit_rows(3, 5, 1).float(), torch.tensor([0, 1, 2, 0])
    before = phi.clone()
    prototype_cross_entropy(f, phi, y, TAU).backward()
    expected = torch.zeros(4, 5)
    for i in range(4):
        shares = softmax_loop([dot(f[i].detach(), p) / TAU for p in phi])
        for k in range(3):
            expected[i] += (shares[k] - (k == int(y[i]))) * phi[k] / (4 * TAU)
    torch.testing.assert_close(f.grad, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(phi, before)


def test_an_empty_batch_costs_nothing_and_keeps_the_graph() -> None:
    f = torch.empty(0, 5, requires_grad=True)
    loss = prototype_cross_entropy(f, unit_rows(3, 5, 0).float(), torch.empty(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    s = torch.empty(0, 3, requires_grad=True)
    loss = cross_prediction_alignment(s, unit_rows(2, 3, 0).float())
    loss.backward()
    assert loss.item() == 0.0
