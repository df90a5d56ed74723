"""What plain values out of a file must look like: it may have been cut, edited, or written by another program."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mgot.errors import reason, shortened

_OPTIONAL = "?"
_LARGEST = 2**63
_LARGEST_FIGURE = 1e30
_LONGEST_YAML = 1_000_000  # in characters, with each alias written out
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_PLAIN = {*(f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")), _MERGE}


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


def figure(value: Any) -> bool:
    """A number that is finite, and small enough for a mean or a picture of several."""
    return number(value) and abs(value) <= _LARGEST_FIGURE


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


def parsed_yaml(content: str | bytes) -> Any:
    """YAML as None, flags, numbers, text, lists and mappings.

    Raises:
        ValueError: no YAML, a key that comes twice, a value of another kind such as a date, or more than a million
            characters where each alias is written out. The message is one line.
    """
    try:
        loader = yaml.SafeLoader(content)
        root = loader.get_single_node()
        if root is None:
            return None
        if _length(root, loader, {}) > _LONGEST_YAML:
            raise yaml.YAMLError(f"it is longer than {_LONGEST_YAML} characters with each alias written out")
        found = loader.construct_document(root)
        repr(found)  # Python refuses to write a number of very many digits
        return found
    except yaml.YAMLError as error:
        raise ValueError(shortened(" ".join(str(error).split()), 200)) from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    except Exception as error:  # a tag that does not fit its value raises almost anything
        raise ValueError(f"a value cannot be read: {reason(error, 200)}") from None


def _length(node: yaml.Node, loader: yaml.SafeLoader, known: dict[yaml.Node, float]) -> float:
    """Characters of a node with all below it. A node that holds itself has no end."""
    if node in known:
        return known[node]
    known[node] = math.inf
    if node.tag not in _PLAIN:
        kind = shortened(repr(node.tag.removeprefix(_TAG)), 60)
        raise yaml.YAMLError(f"{_line(node)}: a value of the kind {kind} is not read; if it is text, put it in quotes")
    own, below = 1.0, []
    if isinstance(node, yaml.MappingNode):
        _refuse_repeats([key for key, _ in node.value], loader)
        below = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    else:
        own += len(node.value)
    known[node] = own + sum(_length(part, loader, known) for part in below)
    return known[node]


def _refuse_repeats(keys: Sequence[yaml.Node], loader: yaml.SafeLoader) -> None:
    names = set()
    for key in keys:
        if key.tag not in _PLAIN - {_MERGE}:
            continue
        name = str(loader.construct_object(key))
        if name in names:
            raise yaml.YAMLError(f"{_line(key)}: the key {shortened(repr(name), 100)} comes twice: keep one of them")
        names.add(name)


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
