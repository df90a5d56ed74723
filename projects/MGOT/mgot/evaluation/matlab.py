"""Cells of numbers out of a MATLAB 5 file. [ours]: some damage ends a process that reads by scipy, with SIGSEGV.

Source: MathWorks, MAT-File Format, level 5.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mgot.files import require_regular

_HEADER = 128
_LARGEST = 1 << 28  # bytes of an unpacked variable
_MATRIX, _COMPRESSED = 14, 15  # kinds of elements
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CELL, _NUMERIC = 1, range(6, 16)  # classes of arrays
_DEEPEST = 3


def read_cells(path: Path, name: str) -> Any:
    """The variable of that name: an array of numbers, or a list, column by column, of what its cells hold.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no MATLAB 5 file, is damaged, or holds no such variable of cells and numbers.
    """
    require_regular(path)
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("it does not begin as one")
    for kind, data in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, data = next(_elements(_unpacked(data), order), (0, b""))
        if kind == _MATRIX:
            found, value = _matrix(data, order, wanted=name)
            if found == name:
                return value
    raise ValueError("no such variable")


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _LARGEST)
    except zlib.error as error:
        raise ValueError(error) from None


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(kind, data) of the elements that follow one another."""
    start = 0
    while start < len(data):
        if start + 8 > len(data):
            raise ValueError("it is cut short")
        kind, size = struct.unpack_from(f"{order}II", data, start)
        small = kind >> 16  # bytes of data that stand in the place of the size
        begin = start + (4 if small else 8)
        kind, size = (kind & 0xFFFF, small) if small else (kind, size)
        if begin + size > len(data) or small > 4:
            raise ValueError("it is cut short")
        yield kind, data[begin : begin + size]
        start = begin + size + (0 if kind == _COMPRESSED else -(begin + size - start) % 8)


def _matrix(data: bytes, order: str, *, wanted: str = "", depth: int = 0) -> tuple[str, Any]:
    """(name, value); no value where another name is wanted."""
    if not data:
        return "", np.zeros((0, 0))
    elements = _elements(data, order)
    head = [next(elements, (0, b"")) for _ in range(3)]
    flags, shape = (_numbers(*each, order) for each in head[:2])
    name = head[2][1].decode("latin-1")
    if wanted and name != wanted:
        return name, None
    if not len(flags) or len(shape) < 2 or shape.dtype.kind not in "iu" or (shape < 0).any() or depth > _DEEPEST:
        raise ValueError("an array has no class or shape")
    kind, sizes = int(flags[0]) & 0xFF, [int(each) for each in shape]
    if kind == _CELL:
        cells = [_matrix(part, order, depth=depth + 1)[1] for what, part in elements if what == _MATRIX]
        if len(cells) != math.prod(sizes):
            raise ValueError(f"a cell array of {sizes} holds {len(cells)} cells")
        return name, cells
    if kind not in _NUMERIC:
        raise ValueError(f"an array of class {kind}, which holds neither cells nor numbers")
    values = _numbers(*next(elements, (0, b"")), order)
    if len(values) != math.prod(sizes):
        raise ValueError(f"an array of {sizes} holds {len(values)} numbers")
    return name, values.reshape(sizes, order="F")


def _numbers(kind: int, data: bytes, order: str) -> np.ndarray:
    if kind not in _NUMBERS:
        raise ValueError(f"an element of kind {kind} where numbers should stand")
    return np.frombuffer(data, order + _NUMBERS[kind])
