"""Registries, all of the same form: a name, its part, and config keys for the part's constants.

A part is a function, or a dataclass whose instances are called like one. A dataclass field ``min_size`` becomes the
key MIN_SIZE of the part's group; parts with the same field name share its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from mgot.errors import UserError

E = TypeVar("E")
Part = Callable[..., Any]

_KEY_OF_FIELD = {"sharpness": "LAMBDA"}  # lambda is a word of Python's


class Registry(dict[str, E]):
    """Parts of one kind by their names.

    Args:
        kind: the word for a part in errors, such as "matcher".
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, entry: E) -> None:
        """Register an entry under a name; UserError if the name is taken."""
        if name in self:
            raise UserError(f"a {self.kind} named '{name}' is registered already: choose another name")
        self[name] = entry

    def register(self, name: str) -> Callable[[E], E]:
        """Decorator: register a function or class under ``name``."""

        def add(entry: E) -> E:
            self.add(name, entry)
            return entry

        return add


def keys_of(part: Part, prefix: str = "") -> dict[str, str]:
    """Field -> key of a part, each key with the prefix; none if the part is not a dataclass."""
    if not is_dataclass(part):
        return {}
    return {field.name: prefix + _KEY_OF_FIELD.get(field.name, field.name.upper()) for field in fields(part)}


def add_keys(group: MutableMapping[str, Any], part: Part, named: str, prefix: str = "") -> None:
    """Add keys for a part's fields with their defaults, in place; an existing key does not change.

    Args:
        group: key to value, such as the keys below MGOT.MATCHER.
        part: of a registry.
        named: its name in errors, such as "matcher 'otpa'".
        prefix: of its keys.

    Raises:
        UserError: a field has no plain default.
    """
    for field, key in keys_of(part, prefix).items():
        if key in group:
            continue
        if not hasattr(part, field):
            raise UserError(f"{named}: give the field '{field}' a default, so that it can be a key")
        group[key] = getattr(part, field)


def made(part: Part, group: Mapping[str, Any], prefix: str = "") -> Part:
    """What is called: the function itself, or an instance of the class with its fields from the group's keys."""
    if not isinstance(part, type):
        return part
    return part(**{field: group[key] for field, key in keys_of(part, prefix).items()})
