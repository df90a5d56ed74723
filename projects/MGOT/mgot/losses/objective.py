"""From the registered losses to the weighted terms of a step."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from mgot.losses.base import LOSSES, Batch, CrossBatch, Loss
from mgot.memory import MemoryBank
from mgot.registry import add_keys, keys_of, made


class Term(NamedTuple):
    """A loss in training.

    Attributes:
        name: in the log, ``loss_<name>``.
        loss: what is called.
        weight: 0 or more.
        stage: "intra" or "cross".
    """

    name: str
    loss: Loss
    weight: float
    stage: str


class Objective:
    """The weighted terms of a step, by name (docs/method.md section 7).

        w L for a loss of the intra stage,   g w L for one of the cross stage, g the growth of the epoch

    Args:
        terms: in the order of their computation. Those with weight 0 are not computed.
        temperature: tau of all.
    """

    def __init__(self, terms: Sequence[Term], temperature: float = 0.05) -> None:
        self.terms = tuple(term for term in terms if term.weight)
        self.temperature = temperature

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Name to weighted scalar; with the terms of the cross stage if the batch is a :class:`CrossBatch`."""
        crossing = isinstance(batch, CrossBatch)
        return {term.name: _weighted(term, batch) for term in self.terms if crossing or term.stage == "intra"}


def _weighted(term: Term, batch: Batch) -> Tensor:
    loss = _times(term.weight, term.loss(batch))
    return _times(batch.cross_weight, loss) if term.stage == "cross" and isinstance(batch, CrossBatch) else loss


def _times(factor: float, loss: Tensor) -> Tensor:
    """The product; a factor of 1 needs no operation."""
    return loss if factor == 1.0 else factor * loss


def weight_key(name: str) -> str:
    """Key of a loss's weight, below MGOT.LOSS."""
    return f"W_{name.upper()}"


def loss_keys(name: str) -> list[str]:
    """All keys of a registered loss, below MGOT.LOSS: its weight, and its own fields."""
    return [weight_key(name), *keys_of(LOSSES[name].part, _prefix(name)).values()]


def add_loss_keys(group: MutableMapping[str, Any]) -> None:
    """Add the keys of each registered loss, in place; existing keys do not change.

    Raises:
        UserError: a field of a loss has no plain default.
    """
    for name, loss in LOSSES.items():
        group.setdefault(weight_key(name), float(loss.weight))
        add_keys(group, loss.part, f"loss '{name}'", _prefix(name))


def terms_of(group: Mapping[str, Any]) -> list[Term]:
    """The registered losses with the values of their keys, in the order of their registration."""
    return [
        Term(f"loss_{name}", made(loss.part, group, _prefix(name)), group[weight_key(name)], loss.stage)
        for name, loss in LOSSES.items()
    ]


def _prefix(name: str) -> str:
    return f"{name.upper()}_"


def view(bank: MemoryBank, f_v: Tensor, f_r: Tensor, y_v: Tensor, y_r: Tensor, temperature: float) -> Batch:
    """A step and the memories as losses see them; a :class:`CrossBatch` if there is a cross memory.

    Args:
        bank: of the epoch.
        f_v, f_r: (B_v, D), (B_r, D) L2-normalised features.
        y_v, y_r: (B_v,), (B_r,) int64 labels, 0 or more, on the CPU: reading tables then waits for no device.
        temperature: tau.
    """

    def sent(labels: Tensor) -> Tensor:
        return labels.to(f_v.device, non_blocking=True)

    phi_v, phi_r = bank.visible.prototypes, bank.infrared.prototypes
    hard_v = phi_v if bank.hard_visible is None else bank.hard_visible.prototypes
    hard_r = phi_r if bank.hard_infrared is None else bank.hard_infrared.prototypes
    own = (f_v, f_r, sent(y_v), sent(y_r), phi_v, phi_r, hard_v, hard_r, temperature)
    if bank.cross is None:
        return Batch(*own)
    assert bank.v2r is not None and bank.r2v is not None and bank.c_v is not None and bank.c_r is not None
    return CrossBatch(
        *own,
        phi_c=bank.cross.prototypes,
        y_v2r=sent(bank.v2r[y_v]),
        y_r2v=sent(bank.r2v[y_r]),
        c_v=sent(bank.c_v[y_v]),
        c_r=sent(bank.c_r[y_r]),
        belief_v=None if bank.belief_v is None else sent(bank.belief_v[y_v]),
        belief_r=None if bank.belief_r is None else sent(bank.belief_r[y_r]),
        cross_weight=bank.cross_weight,
        v2r=sent(bank.v2r),
        r2v=sent(bank.r2v),
        cross_epoch=bank.cross_epoch,
    )
