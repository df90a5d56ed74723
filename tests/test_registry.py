"""Registries of one shape: names, functions and dataclasses, and the keys of their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mgot.clustering import CLUSTERERS
from mgot.errors import UserError
from mgot.losses import LOSSES, register_loss
from mgot.matching import BELIEFS, MATCHERS
from mgot.registry import Part, Registry, add_keys, keys_of, made


@dataclass(frozen=True)
class Adder:
    first: int = 1
    sharpness: float = 2.0

    def __call__(self, x: float) -> float:
        return x + self.first + self.sharpness


def double(x: float) -> float:
    return 2 * x


def test_all_registries_have_the_shape() -> None:
    kinds = {registry.kind for registry in (CLUSTERERS, MATCHERS, LOSSES, BELIEFS)}
    assert kinds == {"clusterer", "matcher", "loss", "belief"}
    assert list(LOSSES)[:5] == ["vcl", "icl", "ccl", "mcl", "cpal"]  # the order in which a step computes them
    assert set(CLUSTERERS) == {"dbscan", "hdbscan", "oracle"}


@pytest.mark.parametrize("registry", [CLUSTERERS, MATCHERS, LOSSES, BELIEFS], ids=lambda registry: registry.kind)
def test_a_name_is_given_once(registry: Registry[Any]) -> None:
    name, before = next(iter(registry)), dict(registry)
    with pytest.raises(UserError, match=f"a {registry.kind} named '{name}' is registered already"):
        registry.register(name)(double)
    assert dict(registry) == before


def test_what_is_registered_stays_what_it_is() -> None:
    registry: Registry[Part] = Registry("thing")
    assert registry.register("double")(double) is double and registry.register("adder")(Adder) is Adder
    assert registry == {"double": double, "adder": Adder}


def test_fields_become_keys_and_keys_become_fields() -> None:
    group: dict[str, Any] = {"FIRST": 7}  # the key of a part before this one
    add_keys(group, Adder, "thing 'adder'")
    add_keys(group, double, "thing 'double'")
    assert group == {"FIRST": 7, "LAMBDA": 2.0}
    assert keys_of(Adder, "ADDER_") == {"first": "ADDER_FIRST", "sharpness": "ADDER_LAMBDA"} and keys_of(double) == {}
    assert made(Adder, group) == Adder(7, 2.0) and made(double, group)(4) == 8
    assert made(Adder, {"A_FIRST": 3, "A_LAMBDA": 0.5}, "A_")(1) == 4.5


def test_a_field_without_default_is_refused() -> None:
    @dataclass
    class Wanting:
        power: float

    with pytest.raises(UserError, match="thing 'wanting': give the field 'power' a default"):
        add_keys({}, Wanting, "thing 'wanting'")


@pytest.mark.parametrize("name", ["CCL", "two words", "", "3d", "adv", "vcl"])
def test_names_that_a_loss_cannot_have(name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be named|registered already"):
        register_loss(name)(double)
    assert name == "vcl" or name not in LOSSES


def test_a_loss_of_an_unknown_stage_or_of_negative_weight_is_refused() -> None:
    for wrong in ({"stage": "last"}, {"weight": -1.0}, {"weight": float("nan")}):
        with pytest.raises(UserError, match="loss 'new': its stage must be one of"):
            register_loss("new", **wrong)  # type: ignore[arg-type]
