"""Allowed values of a config key: a test for programs, and words for messages."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

LARGEST = 2**31 - 1  # of a whole number: seeds and counts of the libraries below end there


class Allowed(Protocol):
    """Allowed values; ``words`` come after "must be"."""

    def holds(self, value: Any) -> bool:
        """Whether a value is allowed, whatever its type."""

    @property
    def words(self) -> str:
        """What is allowed."""


@dataclass(frozen=True)
class Interval:
    """Numbers between two ends, infinite by default; only whole ones if ``whole`` is set."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    whole: bool = False

    def holds(self, value: Any) -> bool:
        if not (is_whole(value) if self.whole else is_number(value)):
            return False
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

    @property
    def words(self) -> str:
        if self.high == math.inf:
            return f"more than {self.low:g}" if self.open_low else f"{self.low:g} or more"
        if self.whole:
            return f"{self.low} to {self.high}"
        if self.open_low and self.open_high:
            return f"between {self.low:g} and {self.high:g}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


def at_least(low: float) -> Interval:
    """``low`` or more."""
    return Interval(low)


def more_than(low: float) -> Interval:
    """More than ``low``."""
    return Interval(low, open_low=True)


def within(low: float, high: float) -> Interval:
    """In [low, high]."""
    return Interval(low, high)


def below(low: float, high: float) -> Interval:
    """In [low, high)."""
    return Interval(low, high, open_high=True)


def above(low: float, high: float) -> Interval:
    """In (low, high]."""
    return Interval(low, high, open_low=True)


def between(low: float, high: float) -> Interval:
    """Between the two, without them."""
    return Interval(low, high, open_low=True, open_high=True)


def count(low: int, high: int) -> Interval:
    """A whole number, ``low`` to ``high``."""
    return Interval(low, high, whole=True)


@dataclass(frozen=True)
class OneOf:
    """One of some values; those of a registry are looked up each time, so later ones count too."""

    names: Collection[Any]

    def holds(self, value: Any) -> bool:
        return any(type(value) is type(name) and value == name for name in self.names)

    @property
    def words(self) -> str:
        names = tuple(sorted(self.names) if isinstance(self.names, Mapping) else self.names)
        return str(names[0]) if len(names) == 1 else f"one of {names}"


one_of = OneOf


@dataclass(frozen=True)
class SomeOf:
    """A list of one or more of some names, each at most once; it must contain ``always``."""

    names: Collection[str]
    always: str = ""

    def holds(self, value: Any) -> bool:
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            return False
        known = 0 < len(value) == len(set(value)) and set(value) <= set(self.names)
        return known and (not self.always or self.always in value)

    @property
    def words(self) -> str:
        always = f", {self.always!r} always" if self.always else ", one or more, each once"
        return f"of {tuple(self.names)}{always}"


some_of = SomeOf


@dataclass(frozen=True)
class ListOf:
    """A list whose parts are all of one kind; with ``length`` parts if that is given, with one or more if ``filled``.

    With ``rising`` no part is below the one before. ``words`` replace the words of the parts.
    """

    part: Allowed
    named: str
    length: int = 0
    filled: bool = False
    rising: bool = False

    def holds(self, value: Any) -> bool:
        if not isinstance(value, list | tuple) or not all(self.part.holds(each) for each in value):
            return False
        fits = len(value) == self.length if self.length else bool(value) or not self.filled
        return fits and (not self.rising or list(value) == sorted(value))

    @property
    def words(self) -> str:
        return self.named


def list_of(part: Allowed, named: str, *, length: int = 0, filled: bool = False, rising: bool = False) -> ListOf:
    """A list of such parts, with these words in messages."""
    return ListOf(part, named, length, filled, rising)


@dataclass(frozen=True)
class Text:
    """Text that matches a pattern as a whole."""

    pattern: str
    named: str

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(self.pattern, value, re.DOTALL) is not None

    @property
    def words(self) -> str:
        return self.named


WHOLE = count(0, LARGEST)
STEPS = list_of(WHOLE, "whole numbers from 0 on, none below another", rising=True)
FILLED = Text(".+", "a word")
NAMES = list_of(FILLED, "a list of names")


def is_number(value: Any) -> bool:
    """A finite number; True and False do not count."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """A whole number; True and False do not count."""
    return isinstance(value, int) and not isinstance(value, bool)
