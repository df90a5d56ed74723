"""Memories against the sample-by-sample loop of docs/method.md section 4."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mgot.engine.epoch import MemoryRules, build_bank, describe_epoch, match_epoch
from mgot.engine.resume.snapshot import pack_bank, unpack_bank
from mgot.errors import UserError
from mgot.matching import (
    MATCHERS,
    OTPA,
    SUPPLIES,
    Matching,
    Prototypes,
    aggregated,
    believe,
    correspondence,
    cross_labels,
    cross_prototypes,
    members_of_labels,
)
from mgot.memory import UPDATES, MemoryBank, PrototypeMemory, cluster_means
from mgot.principles import prediction_entropies
from tests.test_guards import labelled


def update_loop(phi: Tensor, f: Tensor, y: Tensor, momentum: float) -> Tensor:
    phi = phi.clone()
    for feature, label in zip(f, y, strict=True):
        if label >= 0:
            phi[label] = F.normalize(momentum * phi[label] + (1 - momentum) * feature, dim=0)
    return phi


def rows(n: int, d: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(-1, 4), min_size=0, max_size=30),
    momentum=st.floats(0, 0.99),
    seed=st.integers(0, 1000),
)
def test_update_is_the_loop_in_batch_order(labels: list[int], momentum: float, seed: int) -> None:
    phi, f, y = rows(5, 4, seed), rows(len(labels), 4, seed + 1), torch.tensor(labels, dtype=torch.long)
    memory = PrototypeMemory(phi, momentum)
    memory.update(f, y)
    torch.testing.assert_close(memory.prototypes, update_loop(phi, f, y, momentum), atol=1e-5, rtol=1e-5)


def hardest_loop(phi: Tensor, hard: Tensor, f: Tensor, y: Tensor, momentum: float) -> Tensor:
    """The released codes' hard memory: a class's feature that is least similar to ``phi``, before anything moved."""
    moved = hard.clone()
    for k in range(len(phi)):
        own = [i for i in range(len(y)) if int(y[i]) == k]
        if own:
            least = min(own, key=lambda i: float(f[i] @ phi[k]))
            moved[k] = F.normalize(momentum * hard[k] + (1 - momentum) * f[least], dim=0)
    return moved


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(-1, 4), max_size=30), momentum=st.floats(0, 0.99), seed=st.integers(0, 1000))
def test_a_hard_update_is_one_move_towards_the_least_similar(labels: list[int], momentum: float, seed: int) -> None:
    phi, f, y = rows(5, 4, seed), rows(len(labels), 4, seed + 1), torch.tensor(labels, dtype=torch.long)
    memory = PrototypeMemory(phi, momentum, by="hardest")
    memory.update(f, y)
    torch.testing.assert_close(memory.prototypes, hardest_loop(phi, phi, f, y, momentum), atol=1e-5, rtol=1e-5)


def test_of_equally_similar_features_the_first_moves_a_hard_prototype() -> None:
    phi, f = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    memory = PrototypeMemory(phi, 0.0, by="hardest")
    memory.update(f, torch.tensor([0, 0, 0]))
    assert torch.equal(memory.prototypes, f[:1])


def mean_loop(phi: Tensor, f: Tensor, y: Tensor, momentum: float) -> Tensor:
    """RPNR's first memory: once a step, towards the mean of a class's features."""
    moved = phi.clone()
    for k in range(len(phi)):
        own = [feature for feature, label in zip(f, y, strict=True) if int(label) == k]
        if own:
            mean = sum(own[1:], own[0]) / len(own)
            moved[k] = F.normalize(momentum * phi[k] + (1 - momentum) * mean, dim=0)
    return moved


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(-1, 4), max_size=30), momentum=st.floats(0.1, 0.99), seed=st.integers(0, 1000))
def test_a_mean_update_is_one_move_towards_the_mean(labels: list[int], momentum: float, seed: int) -> None:
    phi, f, y = rows(5, 4, seed), rows(len(labels), 4, seed + 1), torch.tensor(labels, dtype=torch.long)
    memory = PrototypeMemory(phi, momentum, by="mean")
    memory.update(f, y)
    torch.testing.assert_close(memory.prototypes, mean_loop(phi, f, y, momentum), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("by", UPDATES)
def test_a_bank_moves_after_its_checkpoint_as_it_would_have_moved(by: str) -> None:
    f, y = rows(6, 4, 3), torch.tensor([0, 1, 0, 1, 1, 0])
    first, second = (PrototypeMemory(rows(2, 4, seed), 0.3, by=by) for seed in (0, 1))
    bank = MemoryBank(first, second)
    packed = pack_bank(bank)
    assert packed is not None
    again = unpack_bank(packed, torch.device("cpu"))
    for each in (bank, again):
        each.update(f, y, f.flip(0), y)
    assert torch.equal(bank.visible.prototypes, again.visible.prototypes)
    assert torch.equal(bank.infrared.prototypes, again.infrared.prototypes)
    del packed["by"]  # as in a checkpoint of an earlier version
    assert unpack_bank(packed, torch.device("cpu")).visible.by == "each"
    assert unpack_bank({**packed, "hardest": True}, torch.device("cpu")).visible.by == "hardest"


@pytest.mark.parametrize(
    ("weight", "cross_by", "expected"), [(None, "hardest", "mean"), (0.5, "hardest", "hardest"), (0.5, "", "mean")]
)
def test_the_cross_stages_memories_may_move_by_another_rule(weight: float | None, cross_by: str, expected: str) -> None:
    state = labelled(0, [0, 0, 1, 1], None)
    matched = match_epoch(state, OTPA(), partial(believe, "full"))
    state.matching, state.belief = matched.matching, matched.belief
    cpu = torch.device("cpu")
    bank = build_bank(state, MemoryRules(momentum=0.2, by="mean", cross_by=cross_by), cross_weight=weight, device=cpu)
    assert bank.visible.by == bank.infrared.by == expected


@settings(max_examples=40, deadline=None)
@given(
    y_v=st.lists(st.integers(-1, 2), max_size=8),
    y_r=st.lists(st.integers(-1, 3), max_size=8),
    v2r=st.lists(st.integers(-1, 3), min_size=3, max_size=3),
    r2v=st.lists(st.integers(-1, 2), min_size=4, max_size=4),
    epoch=st.integers(0, 3),
)
def test_an_exchange_moves_first_the_prototypes_of_one_modalitys_matches(
    y_v: list[int], y_r: list[int], v2r: list[int], r2v: list[int], epoch: int
) -> None:
    phi_v, phi_r = rows(3, 4, 0), rows(4, 4, 1)
    f_v, f_r = rows(len(y_v), 4, 2), rows(len(y_r), 4, 3)
    bank = MemoryBank(PrototypeMemory(phi_v, 0.2), PrototypeMemory(phi_r, 0.2), cross_epoch=epoch, exchange=True)
    bank.v2r, bank.r2v = torch.tensor(v2r), torch.tensor(r2v)
    packed = pack_bank(bank)
    assert packed is not None
    again = unpack_bank({**packed, "visible": phi_v.clone(), "infrared": phi_r.clone()}, torch.device("cpu"))
    if epoch % 2 == 0:
        phi_r = update_loop(phi_r, f_v, torch.tensor([v2r[k] if k >= 0 else -1 for k in y_v]), 0.2)
    else:
        phi_v = update_loop(phi_v, f_r, torch.tensor([r2v[k] if k >= 0 else -1 for k in y_r]), 0.2)
    labels_v, labels_r = torch.tensor(y_v, dtype=torch.long), torch.tensor(y_r, dtype=torch.long)
    for each in (bank, again):
        each.update(f_v, labels_v, f_r, labels_r)
        for memory, phi, f, y in ((each.visible, phi_v, f_v, labels_v), (each.infrared, phi_r, f_r, labels_r)):
            torch.testing.assert_close(memory.prototypes, update_loop(phi, f, y, 0.2), atol=1e-5, rtol=1e-5)


def test_a_second_memory_follows_the_images_that_are_least_similar_to_the_first_ones_prototypes() -> None:
    state = labelled(0, [0, 0, 1, 1], None)
    state.phi_v, state.phi_r = rows(2, 4, 0), rows(2, 4, 1)
    rules = MemoryRules(momentum=0.3, by="mean", hard=True)
    bank = build_bank(state, rules, cross_weight=None, device=torch.device("cpu"))
    phis, hards = [state.phi_v, state.phi_r], [state.phi_v, state.phi_r]
    for step in range(3):
        f_v, f_r, y_v, y_r = (
            rows(6, 4, 3 + step),
            rows(4, 4, 9 + step),
            torch.tensor([0, 1, 1, -1, 0, 1]),
            torch.arange(4) % 2,
        )
        for i, (f, y) in enumerate(((f_v, y_v), (f_r, y_r))):
            hards[i], phis[i] = hardest_loop(phis[i], hards[i], f, y, 0.3), mean_loop(phis[i], f, y, 0.3)
        bank.update(f_v, y_v, f_r, y_r)
        packed = pack_bank(bank)
        assert packed is not None
        bank = unpack_bank(packed, torch.device("cpu"))
    assert bank.hard_visible is not None and bank.hard_infrared is not None
    for memory, expected in zip(
        (bank.visible, bank.infrared, bank.hard_visible, bank.hard_infrared), phis + hards, strict=True
    ):
        torch.testing.assert_close(memory.prototypes, expected, atol=1e-5, rtol=1e-5)


def test_an_exchange_moves_the_second_memory_too() -> None:
    phi_v, phi_r, f, y = rows(2, 4, 0), rows(2, 4, 1), rows(4, 4, 2), torch.tensor([0, 1, 1, 0])
    memories = [PrototypeMemory(phi, 0.2) for phi in (phi_v, phi_r, phi_v, phi_r)]
    bank = MemoryBank(memories[0], memories[1], exchange=True, hard_visible=memories[2], hard_infrared=memories[3])
    bank.v2r, bank.r2v = torch.tensor([1, -1]), torch.tensor([0, 0])
    bank.update(f, y, f[:0], y[:0])
    matched = torch.tensor([1, -1, -1, 1])
    torch.testing.assert_close(
        memories[3].prototypes, hardest_loop(phi_r, phi_r, f, matched, 0.2), atol=1e-5, rtol=1e-5
    )


def test_the_matcher_sees_the_means_of_the_view_without_colour() -> None:
    state = labelled(0, [0, 1, 1, 0], None)
    state.spectral_v = rows(4, 4, 3)
    seen = match_epoch(state, OTPA(), partial(believe, "full"), "spectral").seen
    expected = cluster_means(state.spectral_v, torch.tensor([0, 1, 1, 0]), 2)
    np.testing.assert_allclose(seen.visible, expected.numpy())
    np.testing.assert_allclose(seen.infrared, state.phi_r.numpy())


def test_the_belief_is_in_what_the_matcher_saw() -> None:
    state = labelled(0, [0, 1, 1, 0], None)
    state.spectral_v = rows(4, 4, 3)
    by_view = {view: match_epoch(state, OTPA(), partial(believe, "mutual"), view) for view in ("colour", "spectral")}
    for view in by_view.values():
        expected = believe("mutual", view.seen, view.matching)
        np.testing.assert_allclose(np.concatenate(view.belief), np.concatenate(expected))
    assert not np.allclose(by_view["colour"].belief.visible, by_view["spectral"].belief.visible)


def test_an_epoch_is_described_by_each_modality_against_each_memory() -> None:
    state = labelled(0, [0, 1, 1, 0], None)
    state.f_v, state.f_r = rows(4, 4, 1), rows(4, 4, 2)
    matched = match_epoch(state, OTPA(), partial(believe, "full"))
    state.matching, state.belief = matched.matching, matched.belief
    told = describe_epoch(state, None, np.arange(4), np.arange(4), 0.07)
    phi_c = cross_prototypes(state.phi_v, state.phi_r, matched.matching)
    memories = {"v": state.phi_v, "r": state.phi_r, "c": phi_c}
    for x, f in (("v", state.f_v), ("r", state.f_r)):
        for name, phi in memories.items():
            expected = prediction_entropies(f, phi, 0.07)
            assert (told[f"sharpness/{x}_{name}"], told[f"fairness/{x}_{name}"]) == expected
    assert len({value for key, value in told.items() if key.startswith("sharpness/")}) == 6


def test_a_cross_stages_bank_has_its_weight_its_epoch_and_its_draw_to_the_matches() -> None:
    state = labelled(5, [0, 0, 1, 1], None)
    state.phi_v, state.phi_r = rows(2, 4, 0), rows(2, 4, 1)
    matched = match_epoch(state, OTPA(), partial(believe, "mutual"))
    state.matching, state.belief = matched.matching, matched.belief
    rules = MemoryRules(momentum=0.2, exchange=True, aggregation=0.4, hard=True)
    bank = build_bank(state, rules, cross_weight=0.5, device=torch.device("cpu"), cross_start=3)
    packed = pack_bank(bank)
    assert packed is not None
    drawn = aggregated(state.phi_v, state.phi_r, matched.matching, 0.4)
    for each in (bank, unpack_bank(packed, torch.device("cpu"))):
        assert (each.cross_weight, each.cross_epoch, each.exchange) == (0.5, 2, True)
        torch.testing.assert_close(each.visible.prototypes, drawn)
        assert each.belief_v is not None and each.belief_v.tolist() == pytest.approx(list(matched.belief.visible))
        assert each.cross is not None and each.cross.momentum == each.visible.momentum == 0.2
        assert each.hard_visible is not None
        torch.testing.assert_close(each.hard_visible.prototypes, drawn)


def test_order_matters_and_is_kept() -> None:
    phi, f, y = rows(1, 4, 0), rows(3, 4, 1), torch.tensor([0, 0, 0])
    forward, backward = PrototypeMemory(phi, 0.5), PrototypeMemory(phi, 0.5)
    forward.update(f, y)
    backward.update(f.flip(0), y)
    assert not torch.allclose(forward.prototypes, backward.prototypes, atol=1e-3)


def test_update_leaves_autograd_and_its_input_alone() -> None:
    phi = rows(2, 3, 0).requires_grad_()
    kept = phi.detach().clone()
    f = rows(2, 3, 1).requires_grad_()
    memory = PrototypeMemory(phi)
    memory.update(f, torch.tensor([0, 1]))
    assert not memory.prototypes.requires_grad
    assert torch.equal(phi, kept)


def test_cluster_means_are_normalised_means_without_outliers() -> None:
    f, y = rows(6, 4, 0), torch.tensor([0, 1, -1, 1, 0, 1])
    means = cluster_means(f, y, 2)
    torch.testing.assert_close(means[0], F.normalize(f[[0, 4]].mean(0), dim=0))
    torch.testing.assert_close(means[1], F.normalize(f[[1, 3, 5]].mean(0), dim=0))
    assert cluster_means(f, torch.full((6,), -1), 0).shape == (0, 4)


@pytest.mark.parametrize(("labels", "empty"), [([0, 2, 0], 1), ([0, 1, 0], 2)])
def test_a_cluster_without_members_is_refused(labels: list[int], empty: int) -> None:
    with pytest.raises(UserError, match=rf"clusters \[{empty}\] have no member"):
        cluster_means(rows(3, 4, 0), torch.tensor(labels), 3)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(UserError, match="momentum"):
        PrototypeMemory(rows(2, 3, 0), momentum)


def bank_of(matching: Matching, phi_v: Tensor, phi_r: Tensor) -> MemoryBank:
    members = [torch.as_tensor(each) for each in members_of_labels(matching)]
    tables = [torch.as_tensor(each) for each in (matching.v2r, matching.r2v, *cross_labels(matching))]
    phi_c = PrototypeMemory(cross_prototypes(phi_v, phi_r, matching))
    bank = MemoryBank(PrototypeMemory(phi_v), PrototypeMemory(phi_r), phi_c)
    bank.v2r, bank.r2v, bank.c_v, bank.c_r = tables
    bank.members_v, bank.members_r = members
    return bank


def cross_loop(
    phi: tuple[Tensor, Tensor, Tensor], step: tuple[Tensor, Tensor, Tensor, Tensor], matching: Matching, momentum: float
) -> Tensor:
    """Phi_c after a step, label by label; ``phi`` holds Phi_v and Phi_r as they are after it, and Phi_c before."""
    phi_v, phi_r, phi_c = phi
    f_v, y_v, f_r, y_r = step
    members_v, members_r = members_of_labels(matching)
    moved = phi_c.clone()
    for label in range(len(phi_c)):
        means, met = [], False
        for f, y, rows_of, members in ((f_v, y_v, phi_v, members_v), (f_r, y_r, phi_r, members_r)):
            behind = members[0][members[1] == label].tolist()
            seen = [f[k] for c in behind for k in range(len(f)) if y[k] == c]
            kept = [rows_of[c] for c in behind]
            met = met or bool(seen)
            if seen or kept:
                means.append(F.normalize(torch.stack(seen or kept).sum(0), dim=0))
        if met:
            target = F.normalize(torch.stack(means).sum(0), dim=0)
            moved[label] = F.normalize(momentum * phi_c[label] + (1 - momentum) * target, dim=0)
    return moved


@settings(max_examples=40, deadline=None)
@given(k_v=st.integers(1, 6), k_r=st.integers(1, 6), seed=st.integers(0, 1000), supply=st.sampled_from(SUPPLIES))
@pytest.mark.parametrize("name", ["otpa", "nearest", "unbalanced"])
def test_the_cross_memory_moves_once_a_label_by_the_means_of_both_sides(
    name: str, k_v: int, k_r: int, seed: int, supply: str
) -> None:
    phi_v, phi_r = rows(k_v, 4, seed), rows(k_r, 4, seed + 1)
    matching = MATCHERS[name](supply=supply)(Prototypes(phi_v.numpy(), phi_r.numpy()))
    bank = bank_of(matching, phi_v, phi_r)
    assert bank.cross is not None
    before = bank.cross.prototypes.clone()
    generator = torch.Generator().manual_seed(seed)
    y_v, y_r = (torch.randint(-1, k, (7,), generator=generator) for k in (k_v, k_r))
    step = rows(7, 4, seed + 2), y_v, rows(7, 4, seed + 3), y_r
    bank.update(*step)
    after = bank.visible.prototypes, bank.infrared.prototypes, before
    torch.testing.assert_close(bank.cross.prototypes, cross_loop(after, step, matching, 0.1), atol=1e-5, rtol=1e-5)


def test_both_modalities_weigh_the_same_in_the_cross_memory_whatever_their_counts() -> None:
    phi_v, phi_r = rows(3, 64, 0), rows(3, 64, 1)
    one_to_one = np.arange(3)
    matching = correspondence(one_to_one, one_to_one, np.eye(3), "visible")
    bank = bank_of(matching, phi_v, phi_r)
    y_v, y_r = torch.tensor([0] * 8 + [1] * 8 + [2] * 8), torch.tensor([0, 0, 1, 1, 2, 2])
    noise_v, noise_r = rows(24, 64, 2), rows(6, 64, 3)
    f_v = F.normalize(phi_v[y_v] + 0.5 * noise_v, dim=1)
    f_r = F.normalize(phi_r[y_r] + 0.5 * noise_r, dim=1)
    bank.update(f_v, y_v, f_r, y_r)
    assert bank.cross is not None
    for k in range(3):
        mean_v, mean_r = (F.normalize(f[y == k].sum(0), dim=0) for f, y in ((f_v, y_v), (f_r, y_r)))
        to_v, to_r = float(bank.cross.prototypes[k] @ mean_v), float(bank.cross.prototypes[k] @ mean_r)
        assert abs(to_v - to_r) < 0.1
        assert min(to_v, to_r) > 0.5


def test_a_label_that_meets_one_modality_only_keeps_the_other_in_view() -> None:
    phi_v, phi_r = rows(2, 32, 0), rows(2, 32, 1)
    one_to_one = np.arange(2)
    bank = bank_of(correspondence(one_to_one, one_to_one, np.eye(2), "visible"), phi_v, phi_r)
    assert bank.cross is not None
    untouched = bank.cross.prototypes[1].clone()
    nobody = torch.full((4,), -1)
    for _ in range(20):
        bank.update(rows(4, 32, 3), nobody, phi_r[:1].repeat(4, 1), torch.zeros(4, dtype=torch.long))
    to_v, to_r = (float(bank.cross.prototypes[0] @ phi[0]) for phi in (phi_v, phi_r))
    assert to_v == pytest.approx(to_r, abs=1e-4)
    torch.testing.assert_close(bank.cross.prototypes[1], untouched)
