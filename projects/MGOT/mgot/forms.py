"""What plain values out of a file must look like: it may have been cut, edited, or written by another program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_OPTIONAL = "?"
_LARGEST = 2**63


def fits(value: Any, form: Any) -> bool:
    """Whether a value is of a form.

    Args:
        value: out of a JSON or YAML file, or out of a checkpoint.
        form: a test of the value; ``[form]``, a list or tuple of such values; or ``{key: form}``, a mapping with these
            keys, which may have others. A key that ends in "?" may be missing, and ``...`` stands for all keys.
    """
    if isinstance(form, list):
        return isinstance(value, list | tuple) and all(fits(each, form[0]) for each in value)
    if isinstance(form, Mapping):
        return isinstance(value, Mapping) and all(_fits_key(value, key, own) for key, own in form.items())
    return bool(form(value))


def _fits_key(value: Mapping[Any, Any], key: Any, form: Any) -> bool:
    if key is ...:
        return all(isinstance(name, str) and fits(each, form) for name, each in value.items())
    name = key.removesuffix(_OPTIONAL)
    return fits(value[name], form) if name in value else key.endswith(_OPTIONAL)


def text(value: Any) -> bool:
    """Text."""
    return isinstance(value, str)


def flag(value: Any) -> bool:
    """Whether the value is True or False."""
    return isinstance(value, bool)


def whole(value: Any) -> bool:
    """A whole number of at most 64 bits; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value < _LARGEST


def count(value: Any) -> bool:
    """A whole number, 0 or more."""
    return whole(value) and value >= 0


def number(value: Any) -> bool:
    """A number, be it infinite or NaN."""
    return isinstance(value, float) or whole(value)


def share(value: Any) -> bool:
    """A number in [0, 1]."""
    return number(value) and 0 <= value <= 1


def parsed(content: str | bytes) -> Any:
    """JSON as Python's parser has it.

    Raises:
        ValueError: no JSON, or nested too deep.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
