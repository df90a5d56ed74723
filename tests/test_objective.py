"""The terms of a step: the plain formula to the last bit; what has no weight is not computed; no memory changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mgot.losses import (
    LOSSES,
    Batch,
    CrossBatch,
    Objective,
    Term,
    add_loss_keys,
    cross_contrastive,
    cross_prediction_alignment,
    mutual_contrastive,
    prototype_cross_entropy,
    register_loss,
    terms_of,
    view,
    weight_key,
)
from mgot.memory import MemoryBank, PrototypeMemory

TAU = 0.07  # not the default, so that a temperature that gets lost shows
GROUP = {"W_VCL": 1.0, "W_ICL": 1.0, "W_CCL": 0.7, "W_MCL": 0.3, "W_CPAL": 1.7, "CPAL_VISIBLE": 0.2,
         "CPAL_INFRARED": 0.7}  # fmt: skip
add_loss_keys(GROUP)  # those of other recipes, which have no weight


def rows(n: int, d: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def bank(*, cross: bool = True, believed: bool = True) -> MemoryBank:
    """Five visible and four infrared clusters, of which the last visible one has no match."""
    made = MemoryBank(PrototypeMemory(rows(5, 16, 0)), PrototypeMemory(rows(4, 16, 1)))
    if cross:
        made.cross, made.cross_weight = PrototypeMemory(rows(4, 16, 2)), 0.37
        made.v2r, made.r2v = torch.tensor([0, 1, 2, 3, -1]), torch.tensor([1, 0, 3, 2])
        made.c_v, made.c_r = torch.tensor([3, 2, 1, 0, -1]), torch.tensor([2, 3, 0, 1])
        made.cross_epoch = 3
    if cross and believed:
        made.belief_v, made.belief_r = torch.tensor([0.9, 0.1, 0.5, 1.0, 0.0]), torch.tensor([0.2, 0.4, 0.6, 0.8])
    return made


def step() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features with gradient and labels: 12 visible images, 8 infrared ones."""
    f = rows(20, 16, 3).requires_grad_()
    return f[:12], f[12:], torch.arange(12) % 5, torch.arange(8) % 4


def plain_terms(bank: MemoryBank, f_v: Tensor, f_r: Tensor, y_v: Tensor, y_r: Tensor) -> dict[str, Tensor]:
    """The objective of GROUP, written out."""
    phi_v, phi_r = bank.visible.prototypes, bank.infrared.prototypes
    terms = {
        "loss_vcl": prototype_cross_entropy(f_v, phi_v, y_v, TAU),
        "loss_icl": prototype_cross_entropy(f_r, phi_r, y_r, TAU),
    }
    if bank.cross is None:
        return terms
    assert bank.v2r is not None and bank.r2v is not None and bank.c_v is not None and bank.c_r is not None
    belief_v = None if bank.belief_v is None else bank.belief_v[y_v]
    belief_r = None if bank.belief_r is None else bank.belief_r[y_r]
    phi_c, g = bank.cross.prototypes, bank.cross_weight
    ccl = cross_contrastive(f_v, f_r, phi_v, phi_r, bank.v2r[y_v], bank.r2v[y_r], TAU, belief_v, belief_r)
    mcl = mutual_contrastive(f_v, f_r, phi_c, bank.c_v[y_v], bank.c_r[y_r], TAU, belief_v, belief_r)
    cpal = cross_prediction_alignment(f_v @ phi_c.t() / TAU, f_r @ phi_c.t() / TAU, 0.2, 0.7)
    return {**terms, "loss_ccl": g * (0.7 * ccl), "loss_mcl": g * (0.3 * mcl), "loss_cpal": g * (1.7 * cpal)}


def of_group(**changes: float) -> Objective:
    return Objective(terms_of({**GROUP, **changes}), TAU)


def with_gradient(compute: Callable[..., dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
    """Terms of the step, and the gradient of their sum with respect to the features."""
    f = rows(20, 16, 3).requires_grad_()
    terms = compute(f[:12], f[12:], torch.arange(12) % 5, torch.arange(8) % 4)
    torch.stack(list(terms.values())).sum().backward()
    assert f.grad is not None
    return terms, f.grad


@pytest.mark.parametrize(("cross", "believed"), [(False, False), (True, False), (True, True)])
def test_the_terms_and_their_gradient_are_the_plain_formulas_to_the_last_bit(cross: bool, believed: bool) -> None:
    memories = bank(cross=cross, believed=believed)
    ours, our_gradient = with_gradient(lambda a, b, c, d: of_group()(view(memories, a, b, c, d, TAU)))
    plain, plain_gradient = with_gradient(lambda a, b, c, d: plain_terms(memories, a, b, c, d))
    assert list(ours) == list(plain)
    assert all(torch.equal(ours[name], plain[name]) for name in plain)
    assert torch.equal(our_gradient, plain_gradient)


@pytest.mark.parametrize("name", ["vcl", "icl", "ccl", "mcl", "cpal"])
def test_a_weight_of_zero_leaves_one_term_out(name: str) -> None:
    batch = view(bank(), *step(), TAU)
    terms = set(of_group()(batch))
    assert set(of_group(**{f"W_{name.upper()}": 0.0})(batch)) == terms - {f"loss_{name}"}


def refuse(batch: Batch) -> Tensor:
    raise AssertionError("computed")


def test_what_has_no_weight_or_whose_stage_it_is_not_is_not_computed() -> None:
    objective = Objective([Term("loss_off", refuse, 0.0, "intra"), Term("loss_late", refuse, 1.0, "cross")], TAU)
    assert objective(view(bank(cross=False), *step(), TAU)) == {}
    with pytest.raises(AssertionError, match="computed"):
        objective(view(bank(), *step(), TAU))


def test_the_view_is_of_the_stage_and_looks_tables_up() -> None:
    f_v, f_r, y_v, y_r = step()
    assert type(view(bank(cross=False), f_v, f_r, y_v, y_r, TAU)) is Batch
    memories = bank()
    batch = view(memories, f_v, f_r, y_v, y_r, TAU)
    assert isinstance(batch, CrossBatch) and batch.belief_v is not None and memories.belief_v is not None
    for i, label in enumerate(y_v.tolist()):
        assert batch.y_v2r[i] == [0, 1, 2, 3, -1][label] and batch.c_v[i] == [3, 2, 1, 0, -1][label]
        assert batch.belief_v[i] == memories.belief_v[label]
    for i, label in enumerate(y_r.tolist()):
        assert batch.y_r2v[i] == [1, 0, 3, 2][label] and batch.c_r[i] == [2, 3, 0, 1][label]
    assert batch.cross_epoch == 3 and not batch.to_infrared
    assert batch.cross_weight == 0.37 and batch.temperature == TAU and batch.phi_r.shape == (4, 16)


@pytest.fixture
def outside() -> Iterator[Callable[[Batch], Tensor]]:
    """A loss of both modalities' mean features, registered for one test."""

    @register_loss("means", weight=0.5)
    def means(batch: Batch) -> Tensor:
        return (batch.f_v.mean(0) - batch.f_r.mean(0)).square().sum()

    yield means
    del LOSSES["means"]


def test_a_loss_from_outside_is_one_function(outside: Callable[[Batch], Tensor]) -> None:
    group: dict[str, float] = dict(GROUP)
    add_loss_keys(group)
    assert {key: value for key, value in group.items() if key not in GROUP} == {"W_MEANS": 0.5}
    batch = view(bank(cross=False), *step(), TAU)
    terms = Objective(terms_of(group), TAU)(batch)
    assert list(terms) == ["loss_vcl", "loss_icl", "loss_means"]
    assert torch.equal(terms["loss_means"], 0.5 * outside(batch))


def test_no_loss_changes_a_memory() -> None:
    memories = bank()
    before = [memory.prototypes.clone() for memory in (memories.visible, memories.infrared, memories.cross) if memory]
    terms = of_group(**{weight_key(name): 1.0 for name in LOSSES})(view(memories, *step(), TAU))
    assert len(terms) == len(LOSSES) > 5
    torch.stack(list(terms.values())).sum().backward()
    after = [memory.prototypes for memory in (memories.visible, memories.infrared, memories.cross) if memory]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
