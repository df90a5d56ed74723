"""Memories against the sample-by-sample loop of METHOD.md section 4."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mgot.errors import UserError
from mgot.memory import MemoryBank, PrototypeMemory, cluster_means


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


def test_order_matters_and_is_kept() -> None:
    phi, f, y = rows(1, 4, 0), rows(3, 4, 1), torch.tensor([0, 0, 0])
    forward, backward = PrototypeMemory(phi, 0.5), PrototypeMemory(phi, 0.5)
    forward.update(f, y)
    backward.update(f.flip(0), y)
    assert not torch.allclose(forward.prototypes, backward.prototypes, atol=1e-3)


def test_update_leaves_autograd_and_its_input_alone() -> None:
    phi = rows(2, 3, 0)
    kept = phi.clone()
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


def test_a_cluster_without_members_is_refused() -> None:
    with pytest.raises(UserError, match=r"clusters \[1\] have no member"):
        cluster_means(rows(3, 4, 0), torch.tensor([0, 2, 0]), 3)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(UserError, match="momentum"):
        PrototypeMemory(rows(2, 3, 0), momentum)


def test_bank_moves_the_cross_memory_by_both_modalities_visible_first() -> None:
    phi_v, phi_r, phi_c = rows(3, 4, 0), rows(2, 4, 1), rows(2, 4, 2)
    f_v, f_r = rows(5, 4, 3), rows(4, 4, 4)
    y_v, y_r = torch.tensor([0, 1, 2, 2, 0]), torch.tensor([1, 0, 1, 1])
    c_v, c_r = torch.tensor([1, 0, -1]), torch.tensor([0, 1])
    bank = MemoryBank(PrototypeMemory(phi_v), PrototypeMemory(phi_r), PrototypeMemory(phi_c), c_v, c_r, c_v, c_r)
    bank.update(f_v, y_v, f_r, y_r)
    torch.testing.assert_close(bank.visible.prototypes, update_loop(phi_v, f_v, y_v, 0.1))
    torch.testing.assert_close(bank.infrared.prototypes, update_loop(phi_r, f_r, y_r, 0.1))
    after_visible = update_loop(phi_c, f_v, c_v[y_v], 0.1)
    assert bank.cross is not None
    torch.testing.assert_close(bank.cross.prototypes, update_loop(after_visible, f_r, c_r[y_r], 0.1))
