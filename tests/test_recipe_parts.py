"""The parts of other methods' recipes against plain loops of their equations, and what degenerate input gives."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mgot.engine.config.rules import RANGES
from mgot.errors import UserError
from mgot.losses import (
    ACCL,
    LOSSES,
    CrossBatch,
    Distil,
    Dual,
    Hybrid,
    Joint,
    Marginal,
    Neighbour,
    distilled,
    dual_cross_entropy,
    hybrid_prototypes,
    joint_contrastive,
    marginal_cross_entropy,
    neighbour_relations,
    view_discrepancy,
    views,
)
from mgot.matching import (
    ADCA,
    OTLA,
    PGM,
    RPNR,
    UNMATCHED,
    Hungarian,
    Members,
    Prototypes,
    aggregated,
    correspondence,
    pair_votes,
)
from mgot.transport import uniform_transport
from tests.test_losses import TAU, ce_loop, dot, softmax_loop, unit_rows
from tests.test_matchers import HUB, drawn, from_similarity


def a_batch(*, epoch: int = 0, b_v: int = 6, b_r: int = 4, k_v: int = 3, k_r: int = 2) -> CrossBatch:
    """A step; the last visible cluster has no match."""
    y_v, y_r = torch.arange(b_v) % k_v, torch.arange(b_r) % k_r
    v2r = torch.arange(k_v) % k_r if k_r else torch.full((k_v,), -1)
    v2r[-1:] = -1
    r2v = torch.arange(k_r) % k_v if k_v else torch.full((k_r,), -1)
    rows = [unit_rows(n, 5, seed).float() for seed, n in enumerate((b_v, b_r, k_v, k_r, k_r))]
    f_v, f_r, phi_v, phi_r, phi_c = rows
    labels = v2r[y_v], r2v[y_r], v2r[y_v], y_r
    return CrossBatch(f_v, f_r, y_v, y_r, *2 * (phi_v, phi_r), TAU, phi_c, *labels, None, None, 1.0, v2r, r2v, epoch)


def doubted(batch: CrossBatch) -> CrossBatch:
    """The step with a belief of its own for each image."""
    n_v, n_r = len(batch.f_v), len(batch.f_r)
    return replace(batch, belief_v=torch.linspace(0.2, 0.9, n_v), belief_r=torch.linspace(0.7, 0.1, n_r))


# Losses


@pytest.mark.parametrize("believed", [False, True])
@pytest.mark.parametrize("epoch", [0, 1, 2, 7])
def test_accl_is_one_direction_of_ccl_by_the_parity_of_the_epoch(epoch: int, believed: bool) -> None:
    batch = doubted(a_batch(epoch=epoch)) if believed else a_batch(epoch=epoch)
    if epoch % 2 == 0:
        expected = ce_loop(batch.f_v, batch.phi_r, batch.y_v2r, batch.belief_v)
    else:
        expected = ce_loop(batch.f_r, batch.phi_v, batch.y_r2v, batch.belief_r)
    assert float(ACCL()(batch)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("believed", [False, True])
@pytest.mark.parametrize("epoch", [0, 1])
def test_hybrid_contrasts_with_the_means_of_pairs(epoch: int, believed: bool) -> None:
    batch = doubted(a_batch(epoch=epoch)) if believed else a_batch(epoch=epoch)
    means = []
    for j in range(2):
        mean = (batch.phi_r[j] + batch.phi_v[batch.r2v[j]]).double() / 2
        means.append(mean / math.sqrt(dot(mean, mean)))
    if epoch == 0:
        f, y, belief = batch.f_v, batch.y_v2r, batch.belief_v
    else:
        f, y, belief = batch.f_r, batch.y_r, None  # own labels, which need no belief
    assert float(Hybrid()(batch)) == pytest.approx(ce_loop(f, torch.stack(means), y, belief), rel=1e-4)


@pytest.mark.parametrize("believed", [False, True])
@pytest.mark.parametrize("epoch", [0, 1])
def test_terms_across_the_modalities_meet_both_memories(epoch: int, believed: bool) -> None:
    batch = doubted(a_batch(epoch=epoch)) if believed else a_batch(epoch=epoch)
    batch = replace(batch, hard_v=unit_rows(3, 5, 8).float(), hard_r=unit_rows(2, 5, 9).float())
    plain = replace(batch, phi_v=batch.hard_v, phi_r=batch.hard_r)
    for loss in (ACCL, Hybrid):
        mean, hard = float(loss()(batch)), float(loss()(plain))
        assert mean > 0.2 and hard != pytest.approx(mean, rel=1e-3)
        weights = (batch.belief_v, batch.y_v2r) if epoch == 0 else (batch.belief_r, batch.y_r2v)
        w = 1.0 if weights[0] is None or (loss is Hybrid and epoch == 1) else float(weights[0][weights[1] >= 0].mean())
        for floor in (0.0, 0.2, 1.5):
            expected = 0.5 * hard + 0.5 * max(mean - w * floor, 0.0)
            assert float(loss(dual=True, floor=floor)(batch)) == pytest.approx(expected, rel=1e-4)


def test_a_floor_sinks_with_the_belief_so_that_doubted_images_train_both_memories() -> None:
    f, phi, hard = unit_rows(4, 5, 0).float(), unit_rows(3, 5, 1).float(), unit_rows(3, 5, 2).float()
    y, little = torch.tensor([0, 1, 2, -1]), torch.full((4,), 0.01)
    loss = dual_cross_entropy(f, phi, hard, y, TAU, 0.2, little)
    assert float(loss) == pytest.approx(0.01 * float(dual_cross_entropy(f, phi, hard, y, TAU, 0.2)), rel=1e-4)


def test_mcl_leaves_out_images_without_a_match_whichever_side_supplies() -> None:
    batch = doubted(a_batch())  # the last visible cluster has no match
    batch = replace(batch, y_r2v=torch.where(batch.y_r == 1, -1, batch.y_r2v), c_v=batch.y_v % 2)
    assert (batch.y_v2r < 0).any() and (batch.y_r2v < 0).any() and (batch.c_v >= 0).all() and (batch.c_r >= 0).all()
    c_v, c_r = (c.where(match >= 0, -1) for c, match in ((batch.c_v, batch.y_v2r), (batch.c_r, batch.y_r2v)))
    expected = ce_loop(batch.f_v, batch.phi_c, c_v, batch.belief_v)
    expected += ce_loop(batch.f_r, batch.phi_c, c_r, batch.belief_r)
    assert float(LOSSES["mcl"].part(batch)) == pytest.approx(expected, rel=1e-4)


def test_an_infrared_cluster_without_a_match_is_its_own_hybrid() -> None:
    phi_v, phi_r = unit_rows(3, 5, 0), unit_rows(2, 5, 1)
    mixed = hybrid_prototypes(phi_v, phi_r, torch.tensor([-1, 2]))
    torch.testing.assert_close(mixed[0], phi_r[0])
    torch.testing.assert_close(mixed[1], (phi_r[1] + phi_v[2]) / (phi_r[1] + phi_v[2]).norm())
    torch.testing.assert_close(hybrid_prototypes(phi_v[:0], phi_r, torch.tensor([-1, -1])), phi_r)


@pytest.mark.parametrize("floor", [0.0, 0.2, 1e3])
def test_dual_is_half_of_each_memory_and_the_first_counts_above_a_floor(floor: float) -> None:
    batch, hard_v, hard_r = a_batch(), unit_rows(3, 5, 8).float(), unit_rows(2, 5, 9).float()
    batch = replace(batch, hard_v=hard_v, hard_r=hard_r, y_v=torch.tensor([0, 1, 2, -1, 1, 0]))
    expected = 0.0
    for f, phi, hard, y in (
        (batch.f_v, batch.phi_v, hard_v, batch.y_v),
        (batch.f_r, batch.phi_r, hard_r, batch.y_r),
    ):
        expected += 0.5 * ce_loop(f, hard, y) + 0.5 * max(ce_loop(f, phi, y) - floor, 0.0)
    assert float(Dual(floor)(batch)) == pytest.approx(expected, rel=1e-4)


def test_dual_of_nothing_is_zero_and_has_a_gradient() -> None:
    f, phi = unit_rows(3, 5, 0).float().requires_grad_(), unit_rows(2, 5, 1).float()
    loss = dual_cross_entropy(f, phi, phi, torch.full((3,), -1), TAU)
    loss.backward()
    assert loss.item() == 0.0 and f.grad is not None and not f.grad.any()


def discrepancy_loop(x: Tensor, y: Tensor) -> float:
    def squared(a: Tensor, b: Tensor) -> float:
        return math.dist(a.tolist(), b.tolist()) ** 2

    n, rows = len(x), [*x, *y]
    pairs = [(i, j) for i in range(2 * n) for j in range(2 * n) if i != j]
    s = sum(squared(rows[i], rows[j]) for i, j in pairs) / len(pairs)

    def kernel(a: Tensor, b: Tensor) -> float:
        return sum(math.exp(-squared(a, b) / (w * s)) for w in (0.25, 0.5, 1, 2, 4))

    within = sum(kernel(side[i], side[j]) for side in (x, y) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(a, b) for a in x for b in y)
    return within / (n * (n - 1)) - 2 * across / n**2


@given(st.integers(2, 7), st.integers(0, 9999))
def test_views_is_the_discrepancy_of_the_two_halves(n: int, seed: int) -> None:
    batch = replace(a_batch(), f_v=unit_rows(2 * n, 5, seed).float())
    assert float(views(batch)) == pytest.approx(discrepancy_loop(batch.f_v[:n], batch.f_v[n:]), rel=1e-3, abs=1e-5)


def test_the_discrepancy_grows_as_two_views_part_and_its_gradient_brings_them_together() -> None:
    x = unit_rows(40, 5, 0).float()
    away = [torch.nn.functional.normalize(x + shift, dim=1) for shift in (0.0, 0.5, 2.0)]
    found = [float(view_discrepancy(x, y)) for y in away]
    assert found[0] < 0.05 < found[1] < found[2]  # an unbiased estimate of 0 may be below it
    y = away[1].clone().requires_grad_()
    view_discrepancy(x, y).backward()
    assert y.grad is not None and float(view_discrepancy(x, (y - 0.1 * y.grad / y.grad.norm()).detach())) < found[1]


def test_the_width_of_the_kernels_takes_no_part_in_the_gradient() -> None:
    x, y = unit_rows(4, 5, 0).float(), unit_rows(4, 5, 1).float()
    away = y.clone().requires_grad_()
    view_discrepancy(x, away).backward()
    rows = torch.cat([x, y]).double()
    s = float((torch.cdist(rows, rows) ** 2).sum() / 56)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        d = torch.cdist(a, b) ** 2
        return torch.stack([torch.exp(-d / (w * s)) for w in (0.25, 0.5, 1, 2, 4)]).sum(dim=0)

    def value(second: Tensor) -> Tensor:
        first = x.double()
        within = kernel(first, first).sum() + kernel(second, second).sum() - 2 * 5 * 4
        return within / 12 - 2 * kernel(first, second).mean()

    step, direction = 1e-4, unit_rows(4, 5, 2)
    slope = (value(y.double() + step * direction) - value(y.double() - step * direction)) / (2 * step)
    assert away.grad is not None
    assert float((away.grad * direction).sum()) == pytest.approx(float(slope), rel=1e-3)


def test_views_that_are_all_the_same_have_no_nan() -> None:
    f = unit_rows(1, 5, 0).float().repeat(4, 1).requires_grad_()
    loss = view_discrepancy(f[:2], f[2:])
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-3) and f.grad is not None and torch.isfinite(f.grad).all()


def test_the_gradient_of_views_is_bounded_however_near_they_are() -> None:
    x = unit_rows(8, 16, 0).float()
    for apart in (1.0, 1e-2, 1e-4, 1e-6):
        f = (x[:1] + apart * x).repeat(2, 1)
        f = torch.nn.functional.normalize(f, dim=1).requires_grad_()
        view_discrepancy(f[:8], f[8:]).backward()
        assert f.grad is not None and float(f.grad.norm()) < 300


def relations_loop(f: Tensor, sigma: float, delta: float) -> float:
    n, total = len(f), 0.0
    distance = [[math.dist(a.tolist(), b.tolist()) for b in f] for a in f]
    for i in range(n):
        mean = sum(distance[i]) / n
        for j in range(n):
            if i != j:
                relative, near = distance[i][j] / mean, math.exp(-(distance[i][j] ** 2) / sigma)
                total += near * relative**2 + (1 - near) * max(delta - relative, 0) ** 2
    return total / (n * (n - 1))


@pytest.mark.parametrize(("n", "sigma", "delta"), [(2, 1.0, 1.0), (7, 1.0, 1.0), (30, 0.5, 1.5)])
def test_neighbour_relations_are_the_loop(n: int, sigma: float, delta: float) -> None:
    f = unit_rows(n, 5, n)
    assert float(neighbour_relations(f.float(), sigma, delta)) == pytest.approx(
        relations_loop(f, sigma, delta), rel=1e-4
    )


def test_neighbour_relations_sum_both_modalities_and_bear_images_that_are_the_same() -> None:
    batch = a_batch()
    expected = relations_loop(batch.f_v, 0.5, 1.5) + relations_loop(batch.f_r, 0.5, 1.5)
    assert float(Neighbour(0.5, 1.5)(batch)) == pytest.approx(expected, rel=1e-4)
    same = unit_rows(1, 5, 0).float().repeat(4, 1).requires_grad_()
    loss = neighbour_relations(same)
    loss.backward()
    assert loss.item() == 0.0 and same.grad is not None and torch.isfinite(same.grad).all()
    for n in (0, 1):
        few = unit_rows(n, 5, 0).requires_grad_()
        neighbour_relations(few).backward()
        assert neighbour_relations(few).item() == 0.0 and few.grad is not None


def test_the_weights_of_neighbour_relations_have_no_gradient() -> None:
    fixed, f, g = unit_rows(6, 5, 0), unit_rows(6, 5, 0).requires_grad_(), unit_rows(6, 5, 0).requires_grad_()
    neighbour_relations(f, 0.5, 1.5).backward()
    near = torch.exp(-torch.cdist(fixed, fixed).square() / 0.5)
    distance = (g[:, None] - g).square().sum(2).add(1e-30).sqrt()
    relative = distance / distance.mean(dim=1, keepdim=True)
    ((near * relative.square() + (1 - near) * torch.relu(1.5 - relative).square()).sum() / 30).backward()
    torch.testing.assert_close(f.grad, g.grad)


def marginal_loop(f: Tensor, y: Tensor, phis: list[Tensor], labels: list[list[int]], shares: list[float]) -> float:
    total, count = 0.0, 0
    for row, label in zip(f.double(), y.tolist(), strict=True):
        if label < 0:
            continue
        p = 0.0
        for phi, of, share in zip(phis, labels, shares, strict=True):
            predicted = softmax_loop([dot(row, each) / TAU for each in phi])
            p += share * sum(q for q, own in zip(predicted, of, strict=True) if own == label)
        total, count = total - math.log(p), count + 1
    return total / count


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("share", [0.3, 0.5])
def test_marginal_sums_a_label_over_both_memories(epoch: int, share: float) -> None:
    batch = a_batch(epoch=epoch, k_v=4, k_r=3, b_v=9, b_r=7)
    if epoch == 0:
        labels, y_v, y_r = [batch.v2r.tolist(), [0, 1, 2]], batch.y_v2r, batch.y_r
    else:
        labels, y_v, y_r = [[0, 1, 2, 3], batch.r2v.tolist()], batch.y_v, batch.y_r2v
    phis, shares = [batch.phi_v, batch.phi_r], [share, 1 - share]
    expected = sum(marginal_loop(f, y, phis, labels, shares) for f, y in ((batch.f_v, y_v), (batch.f_r, y_r)))
    assert float(Marginal(visible=share)(batch)) == pytest.approx(expected, rel=1e-4)


def test_marginal_of_a_label_that_one_memory_lacks_has_a_gradient() -> None:
    f = unit_rows(3, 5, 0).float().requires_grad_()
    phis = unit_rows(2, 5, 1).float(), unit_rows(2, 5, 2).float()
    loss = marginal_cross_entropy(
        f, phis, (torch.tensor([0, -1]), torch.tensor([0, 1])), (0.5, 0.5), torch.tensor([1, 1, -1])
    )
    loss.backward()
    assert f.grad is not None and torch.isfinite(f.grad).all() and f.grad[:2].abs().sum() > 0
    assert f.grad[2].abs().sum() == 0


def joint_loop(f: Tensor, phi: Tensor, positives: list[list[int]]) -> float:
    total, count = 0.0, 0
    for row, those in zip(f.double(), positives, strict=True):
        predicted = softmax_loop([dot(row, each) / TAU for each in phi])
        if those:
            total, count = total - sum(math.log(predicted[k]) for k in those) / len(those), count + 1
    return total / count


@pytest.mark.parametrize("matches", [True, False])
def test_joint_is_one_softmax_over_both_memories(matches: bool) -> None:
    batch = a_batch(k_v=4, k_r=3, b_v=9, b_r=7)
    phi = torch.cat([batch.phi_v, batch.phi_r])
    visible, infrared = [[y] for y in batch.y_v.tolist()], [[4 + y] for y in batch.y_r.tolist()]
    if matches:
        visible = [[*own, 4 + m] if m >= 0 else own for own, m in zip(visible, batch.y_v2r.tolist(), strict=True)]
        infrared = [[*own, m] for own, m in zip(infrared, batch.y_r2v.tolist(), strict=True)]
    expected = joint_loop(batch.f_v, phi, visible) + joint_loop(batch.f_r, phi, infrared)
    assert float(Joint(matches)(batch)) == pytest.approx(expected, rel=1e-4)
    nothing = torch.full((9,), -1)
    assert float(joint_contrastive(batch.f_v, phi, (nothing, nothing), TAU)) == 0.0


def distilled_loop(f: Tensor, phi: Tensor, teacher: Tensor, sharpen: float) -> float:
    total = 0.0
    for row, other in zip(f.double(), teacher.double(), strict=True):
        targets = softmax_loop([dot(other, each) / (sharpen * TAU) for each in phi])
        predicted = softmax_loop([dot(row, each) / TAU for each in phi])
        total -= sum(t * math.log(p) for t, p in zip(targets, predicted, strict=True))
    return total / len(f)


@pytest.mark.parametrize("sharpen", [0.5, 1.0])
def test_distil_is_the_loop_across_modalities_and_views(sharpen: float) -> None:
    batch = a_batch(k_v=4, k_r=3, b_v=8, b_r=7)
    f_v, both = batch.f_v, torch.cat([batch.phi_v, batch.phi_r])
    expected = distilled_loop(f_v, batch.phi_r, batch.phi_v[batch.y_v], sharpen)
    expected += distilled_loop(batch.f_r, batch.phi_v, batch.phi_r[batch.y_r], sharpen)
    expected += distilled_loop(f_v[:4], both, f_v[4:], sharpen) + distilled_loop(f_v[4:], both, f_v[:4], sharpen)
    assert float(Distil(sharpen)(batch)) == pytest.approx(expected, rel=1e-4)


def test_a_teacher_learns_nothing() -> None:
    f, phi, teacher = (unit_rows(n, 5, seed).float() for seed, n in enumerate((3, 4, 3)))
    f, teacher = f.requires_grad_(), teacher.requires_grad_()
    distilled(f, phi, teacher, TAU).backward()
    assert f.grad is not None and f.grad.abs().sum() > 0 and teacher.grad is None


@pytest.mark.parametrize(
    "loss",
    [
        ACCL(),
        ACCL(dual=True),
        Hybrid(),
        Hybrid(dual=True),
        Neighbour(),
        Marginal(),
        Joint(),
        Joint(matches=False),
        Distil(),
        Dual(),
        views,
        *(LOSSES[name].part for name in ("vcl", "icl", "ccl", "mcl")),
        LOSSES["cpal"].part(),
    ],
)
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize(
    "sizes",
    [
        {"b_v": 0, "k_v": 0},
        {"b_r": 0, "k_r": 0},
        {"k_v": 1, "k_r": 1},
        {"b_v": 40, "k_v": 20, "k_r": 1},
        {"b_v": 0, "b_r": 0},
    ],
)
def test_degenerate_steps_are_finite_and_keep_the_graph(loss, epoch: int, sizes: dict[str, int]) -> None:  # type: ignore[no-untyped-def]
    batch = a_batch(epoch=epoch, **sizes)
    batch = replace(batch, f_v=batch.f_v.requires_grad_(), f_r=batch.f_r.requires_grad_())
    value = loss(batch)
    assert torch.isfinite(value) and value.requires_grad
    value.backward()
    assert all(f.grad is None or torch.isfinite(f.grad).all() for f in (batch.f_v, batch.f_r))


# Matchers


def assignment_loop(cost: list[list[float]], rows: list[int]) -> dict[int, int]:
    """The cheapest one-to-one pairs of some rows and all columns, by trying every one."""
    few = len(cost[0])
    if len(rows) <= few:
        options = [dict(zip(rows, p, strict=True)) for p in _arrangements(list(range(few)), len(rows))]
    else:
        options = [dict(zip(p, range(few), strict=True)) for p in _arrangements(rows, few)]
    return min(options, key=lambda pairs: sum(cost[i][j] for i, j in pairs.items()))


def _arrangements(items: list[int], n: int) -> list[tuple[int, ...]]:
    if n == 0:
        return [()]
    return [(first, *rest) for first in items for rest in _arrangements([x for x in items if x != first], n - 1)]


@settings(max_examples=30, deadline=None)
@given(k_v=st.integers(1, 6), k_r=st.integers(1, 4), seed=st.integers(0, 9999))
def test_pgm_is_the_passes_of_the_exponential_cost(k_v: int, k_r: int, seed: int) -> None:
    p = drawn(k_v, k_r, seed)
    matching = PGM()(p)
    larger_first = k_v >= k_r
    s = p.similarity if larger_first else p.similarity.T
    cost = [[math.exp(-x) for x in row] for row in s.tolist()]
    forward, backward = (matching.v2r, matching.r2v) if larger_first else (matching.r2v, matching.v2r)
    expected: dict[int, int] = {}
    while left := [i for i in range(len(cost)) if i not in expected]:
        pairs = assignment_loop(cost, left)
        if not expected:  # the first pass takes every cluster of the smaller side
            taken_by = {j: i for i, j in pairs.items()}
            assert backward.tolist() == [taken_by[j] for j in range(len(cost[0]))]
        expected.update(pairs)
    assert forward.tolist() == [expected[i] for i in range(len(cost))]


def test_pgm_minds_a_bad_pair_more_than_hungarian() -> None:
    # On the diagonal S sums to more, 0.45 to 0.40, and exp(-S) to more, 1.97 to 1.64.
    s = from_similarity(np.array([[0.9, 0.2], [0.2, -0.45]]))
    assert Hungarian()(s).v2r.tolist() == [0, 1] and PGM()(s).v2r.tolist() == [1, 0]


@pytest.mark.parametrize(("k_v", "k_r"), [(6, 4), (1, 5), (9, 2)])
def test_rpnr_is_the_argmax_of_the_plan(k_v: int, k_r: int) -> None:
    p = drawn(k_v, k_r, 1)
    cost = np.array([[math.exp(-x) for x in row] for row in p.similarity.tolist()])
    plan = ot.sinkhorn(np.full(k_v, 1 / k_v), np.full(k_r, 1 / k_r), cost, 5.0, stopThr=1e-9)
    matching = RPNR()(p)
    assert matching.transport is not None and matching.transport.converged
    np.testing.assert_allclose(matching.scores, plan, rtol=2e-3)
    assert matching.v2r.tolist() == [max(range(k_r), key=lambda j: matching.scores[i, j]) for i in range(k_v)]
    assert matching.r2v.tolist() == [max(range(k_v), key=lambda i: matching.scores[i, j]) for j in range(k_r)]


def test_rpnr_spreads_over_a_hub_and_refuses_no_entropy() -> None:
    assert RPNR()(HUB).v2r.tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="regularisation"):
        RPNR(regularisation=0.0)


@settings(max_examples=30, deadline=None)
@given(
    k_v=st.integers(1, 6), k_r=st.integers(1, 6), seed=st.integers(0, 9999), c=st.sampled_from([-1.0, 0.0, 0.5, 0.99])
)
def test_adca_is_the_plain_greedy_loop(k_v: int, k_r: int, seed: int, c: float) -> None:
    p = drawn(k_v, k_r, seed)
    assert p.members is not None
    votes, closest = np.zeros((k_v, k_r), dtype=int), np.full((k_v, k_r), -np.inf)
    for f, i in zip(p.members.f_v, p.members.y_v, strict=True):
        for g, j in zip(p.members.f_r, p.members.y_r, strict=True):
            if i >= 0 and j >= 0:
                votes[i, j] += f @ g >= c
                closest[i, j] = max(closest[i, j], f @ g)
    ours, near = pair_votes(p.members, (k_v, k_r), c)
    assert ours.tolist() == votes.tolist()
    np.testing.assert_allclose(near, closest)
    v2r, r2v = {}, {}
    while pairs := [
        (votes[i, j], closest[i, j], i, j)
        for i in range(k_v) for j in range(k_r) if i not in v2r and j not in r2v and votes[i, j] > 0
    ]:  # fmt: skip
        *_, i, j = max(pairs)
        v2r[i], r2v[j] = j, i
    matching = ADCA(min_cosine=c)(p)
    assert matching.v2r.tolist() == [v2r.get(i, UNMATCHED) for i in range(k_v)]
    assert matching.r2v.tolist() == [r2v.get(j, UNMATCHED) for j in range(k_r)]


def test_adca_takes_images_that_are_the_same() -> None:
    two, y = np.eye(2), np.arange(2)
    assert ADCA(min_cosine=1.0)(Prototypes(two, two, Members(two, two, y, y))).v2r.tolist() == [0, 1]


def test_scores_are_what_the_choice_is_based_on() -> None:
    p = drawn(6, 4, 1)
    assert p.members is not None
    np.testing.assert_allclose(Hungarian()(p).scores, (p.similarity + 1) / 2)
    np.testing.assert_allclose(PGM()(p).scores, np.exp(p.similarity))
    np.testing.assert_array_equal(ADCA(min_cosine=0.2)(p).scores, pair_votes(p.members, (6, 4), 0.2)[0])


def test_adca_needs_members_and_a_cosine() -> None:
    with pytest.raises(UserError, match="members"):
        ADCA()(HUB)
    with pytest.raises(UserError, match="cosine"):
        ADCA(min_cosine=1.5)


@pytest.mark.parametrize("supply", ["visible", "infrared"])
@pytest.mark.parametrize(("k_v", "k_r"), [(5, 3), (1, 4), (9, 2), (2, 1)])
def test_otla_counts_the_images_that_the_transport_sends(supply: str, k_v: int, k_r: int) -> None:
    p = drawn(k_v, k_r, 4)
    assert p.members is not None
    f_v, f_r, y_v, y_r = p.members
    f, y, phi = (f_v, y_v, p.infrared) if supply == "visible" else (f_r, y_r, p.visible)
    plan = uniform_transport(np.array([row @ phi.T for row, label in zip(f, y, strict=True) if label >= 0])).plan
    votes = np.zeros((k_v, k_r))
    for label, row in zip(y[y >= 0], plan, strict=True):
        target = max(range(len(phi)), key=lambda k: row[k])
        votes[(label, target) if supply == "visible" else (target, label)] += 1
    matching, s = OTLA(supply=supply)(p), p.similarity
    assert matching.v2r.tolist() == [max(range(k_r), key=lambda j: (votes[i, j], s[i, j])) for i in range(k_v)]
    assert matching.r2v.tolist() == [max(range(k_v), key=lambda i: (votes[i, j], s[i, j])) for j in range(k_r)]
    assert matching.transport is not None and matching.transport.converged
    with pytest.raises(UserError, match="members"):
        OTLA()(HUB)


def test_otla_sends_images_by_its_settings() -> None:
    p = drawn(6, 4, 1)
    assert p.members is not None
    f_v = p.members.f_v[p.members.y_v >= 0]
    plan = OTLA(sharpness=5.0, max_iterations=7)(p).transport
    assert plan is not None and plan.iterations == 7
    np.testing.assert_array_equal(plan.plan, uniform_transport(f_v @ p.infrared.T, 5.0, max_iterations=7).plan)


# Aggregation of memories


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9, 1.0])
def test_aggregation_draws_a_prototype_to_its_match(share: float) -> None:
    phi_v, phi_r = unit_rows(4, 5, 0), unit_rows(2, 5, 1)
    v2r, r2v = np.array([1, UNMATCHED, 0, 1]), np.array([2, 0])
    matching = correspondence(v2r, r2v, np.zeros((4, 2)), "visible")
    before = phi_v.clone()
    drawn_there = aggregated(phi_v, phi_r, matching, share)
    assert torch.equal(phi_v, before)
    for i, j in enumerate(v2r):
        row = phi_v[i] if j == UNMATCHED else (1 - share) * phi_v[i] + share * phi_r[j]
        torch.testing.assert_close(drawn_there[i], row / math.sqrt(dot(row, row)))


def test_aggregation_without_a_cluster_or_a_match_leaves_what_there_is() -> None:
    for k_v, k_r in ((0, 2), (3, 0), (3, 2)):
        phi_v, phi_r = unit_rows(k_v, 5, 0), unit_rows(k_r, 5, 1)
        nothing = correspondence(np.full(k_v, UNMATCHED), np.full(k_r, UNMATCHED), np.zeros((k_v, k_r)), "visible")
        assert torch.equal(aggregated(phi_v, phi_r, nothing, 0.9), phi_v)


def test_what_a_part_refuses_its_key_refuses() -> None:
    assert not RANGES["MGOT.MATCHER.MIN_COSINE"].holds(1.5) and not RANGES["MGOT.MATCHER.REGULARISATION"].holds(0.0)
