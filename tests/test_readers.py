"""Whatever a file holds, its reader reads it or says in one line which it is: what fuzzing found, and more."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mgot.engine.resume.checkpoint import load_tensors
from mgot.retrieval.onnx_model import FEATURES, IMAGES
from tests.readers import FACTS, MAKERS, Reader, onnx_model, require_sound

ODD: tuple[Any, ...] = (None, True, -1, 2**70, 0.5, float("nan"), "", "x", "9" * 5000, [], {}, [[1]], {"a": None}, "\0")


@pytest.fixture(name="sound", scope="module")
def fixture_sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Reader, bytes]]:
    """A reader's sound file, made once, and its bytes; the file is as it was at each call."""
    made: dict[str, tuple[Reader, bytes]] = {}

    def sound(name: str) -> tuple[Reader, bytes]:
        if name not in made:
            reader = MAKERS[name](tmp_path_factory.mktemp("reader"))
            made[name] = reader, reader.path.read_bytes()
        reader, raw = made[name]
        reader.path.write_bytes(raw)
        return reader, raw

    return sound


Sound = Callable[[str], tuple[Reader, bytes]]


@pytest.mark.parametrize("name", MAKERS)
def test_a_sound_file_is_read_and_no_file_is_told(name: str, sound: Sound) -> None:
    reader, _ = sound(name)
    assert require_sound(reader)
    for raw in (b"", b"\0" * 40, b"\xff\xfe\x00"):
        reader.path.write_bytes(raw)
        require_sound(reader)
    reader.path.unlink()
    reader.path.mkdir()
    try:
        require_sound(reader)
    finally:
        reader.path.rmdir()


def damaged(raw: bytes, seed: int) -> bytes:
    """A few bytes flipped, cut, doubled, or put in."""
    rng, found = random.Random(seed), raw
    for _ in range(rng.choice((1, 1, 3, 9))):
        at = rng.randrange(len(found) + 1)
        ways = {
            1: bytes([rng.randrange(256)]),
            rng.choice((1, 8, len(found))): b"",
            0: rng.choice((found[: rng.randrange(40)], b"[" * 20_000, b"9" * 5000, b"\n", b"\xc3")),
            4: b"\xff\xff\xff\x7f",
        }
        cut, put = rng.choice(list(ways.items()))
        found = found[:at] + put + found[at + cut :]
    return found


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(seed=840867)
@given(seed=st.integers(0, 2**32))
def test_damaged_bytes(name: str, seed: int, sound: Sound) -> None:
    reader, raw = sound(name)
    reader.path.write_bytes(damaged(raw, seed))
    require_sound(reader)


@pytest.mark.parametrize("name", [IMAGES, FEATURES])
def test_a_name_of_an_onnx_graph_that_is_no_text(name: str, sound: Sound) -> None:
    reader, raw = sound("onnx")
    reader.path.write_bytes(raw.replace(name.encode(), b"\xff" * len(name)))
    assert not require_sound(reader)


def grafted(tree: Any, rng: random.Random) -> Any:
    """The tree with one of its parts replaced, left out, doubled or renamed."""
    tree = copy.deepcopy(tree)
    here: Any = tree
    key = _some_key(here, rng)
    while rng.random() < 0.6 and isinstance(here[key], dict | list) and here[key]:
        here, key = here[key], _some_key(here[key], rng)
    way = rng.randrange(4)
    if way == 0:
        del here[key]
    elif way == 1 and isinstance(here, list):
        here.append(here[key])
    elif way == 1:
        here["other"] = here.pop(key)
    else:
        here[key] = rng.choice(ODD)
    return tree


def _some_key(here: dict[Any, Any] | list[Any], rng: random.Random) -> Any:
    return rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))


OF_JSON = ("metrics", "results", "images.json", "rankings")


@pytest.mark.parametrize("name", OF_JSON)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_json_of_another_form(name: str, seed: int, sound: Sound) -> None:
    reader, raw = sound(name)
    lines = [json.loads(line) for line in (raw.splitlines() if name == "metrics" else [raw])]
    reader.path.write_text("\n".join(json.dumps(line) for line in grafted(lines, random.Random(seed))))
    require_sound(reader)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_what_an_export_says_of_itself(seed: int, sound: Sound) -> None:
    reader, _ = sound("onnx")
    reader.path.write_bytes(onnx_model(grafted(FACTS, random.Random(seed))))
    require_sound(reader)


def odd_tensors(value: torch.Tensor) -> Iterator[torch.Tensor]:
    """Of other kinds and shapes, and with other numbers, than a tensor."""
    yield from (value.double(), value.to(torch.complex64), value.flatten()[:0], value[None], value.to_sparse())
    yield from (torch.full(value.shape, float("nan")), torch.full(value.shape, 7), torch.empty(3, device="meta"))
    yield torch.full(value.shape, -5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
@example(seed=0)
def test_checkpoints_of_another_form(seed: int, sound: Sound) -> None:
    rng = random.Random(seed)
    reader, _ = sound("checkpoint")
    found = grafted(load_tensors(reader.path), rng)
    flat = [(part, key) for part in ("labels", "memories", "model", "optimizer") if isinstance(found.get(part), dict)
            for key, value in found[part].items() if isinstance(value, torch.Tensor) and value.ndim]  # fmt: skip
    if flat and rng.random() < 0.6:
        part, key = rng.choice(flat)
        found[part][key] = rng.choice(list(odd_tensors(found[part][key])))
    torch.save(found, reader.path)
    require_sound(reader)
