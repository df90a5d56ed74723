"""Small files that fuzzing found readers to break on: they are read now, or told in one line."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch

from mgot.analysis.comparison.curves import draw_curves as draw_comparison
from mgot.analysis.diagnostics.images import add_rankings
from mgot.analysis.diagnostics.record import recorded_epochs, require_images
from mgot.analysis.diagnostics.run import read_metrics, read_run
from mgot.analysis.pictures.curves import draw_curves
from mgot.analysis.report.diagnosis import diagnose
from mgot.data.sets.llcm import UNKNOWN_CAMERA, _camera
from mgot.data.sets.sysu import read_sysu
from mgot.engine.config.keys import saved_keys
from mgot.engine.resume.checkpoint import load_tensors
from mgot.engine.resume.fittest import FittestHook
from mgot.errors import UserError
from mgot.evaluation import read_official_draws
from mgot.evaluation.results import read_results
from mgot.forms import parsed_yaml
from mgot.modeling.weights import read_state
from mgot.retrieval.onnx_model import OnnxEmbedder
from tests.readers import FACTS, MAKERS, Reader, content, onnx_model, require_sound
from tests.runs import a_record, write_run
from tests.trees import sysu_tree

LARGE = f'{{"iteration": 1, "a": {10**400}}}'
DEEP = '{"a":' * 20_000

Sound = Callable[[str], tuple[Reader, bytes]]


@pytest.fixture(name="sound")
def fixture_sound(tmp_path: Path) -> Sound:
    """Makes a reader's sound file; it and its bytes."""

    def sound(name: str) -> tuple[Reader, bytes]:
        reader = MAKERS[name](tmp_path)
        return reader, reader.path.read_bytes()

    return sound


LISTS: dict[str, tuple[str, str]] = {
    "an identity of 5000 digits": ("identities", "9" * 5000),
    "an identity over 64 bits": ("identities", "9" * 20),
    "a label of 5000 digits": ("list", f"Visible/1/v_00.bmp {'9' * 5000}\n"),
    "a label over 64 bits": ("list", f"Visible/1/v_00.bmp {'9' * 20}\n"),
    "a path that is too long": ("list", f"Visible/{'a' * 5000} 1\n"),
    "a path with a zero byte": ("list", "Visible/\0/v_00.bmp 1\n"),
}


@pytest.mark.parametrize("what", LISTS)
def test_lists(what: str, sound: Sound) -> None:
    name, text = LISTS[what]
    reader, _ = sound(name)
    reader.path.write_text(text)
    assert not require_sound(reader)


def test_a_camera_of_thirty_digits_is_unknown_and_a_circle_of_links_is_told(tmp_path: Path) -> None:
    assert _camera(Path(f"0001_c{'9' * 30}_s1_vis.jpg")) == UNKNOWN_CAMERA
    assert _camera(Path("0001_c03_s1_vis.jpg")) == 3
    place = sysu_tree(tmp_path) / "cam1/0001"
    place.rename(place.with_name("elsewhere"))
    place.symlink_to(place)
    with pytest.raises(UserError, match=r"0001 cannot be looked into"):
        read_sysu(tmp_path)


@pytest.mark.parametrize("at", range(128, 400, 4))
def test_a_matlab_file_of_other_kinds_is_told(at: int, sound: Sound) -> None:
    """scipy 1.17 ended the process with SIGSEGV on a number whose kind is none."""
    reader, raw = sound("draws")
    reader.path.write_bytes(raw[:at] + b"\xc8" + raw[at + 1 :])
    require_sound(reader)


def test_a_matlab_file_that_is_cut_or_has_no_such_variable(sound: Sound) -> None:
    reader, raw = sound("draws")
    for spoilt in (raw[:-60], raw[:130], raw.replace(b"rand_perm_cam", b"other_perm_ca")):
        reader.path.write_bytes(spoilt)
        with pytest.raises(UserError, match="is not a MATLAB 5 file with rand_perm_cam"):
            read_official_draws(reader.path)


def index_of(sound: Sound, **parts: Any) -> Reader:
    reader, _ = sound("index")
    with np.load(reader.path) as stored:
        about, vectors = json.loads(stored["about"].tobytes()), stored["vectors"]
    vectors = parts.pop("vectors", vectors)
    np.savez(reader.path, about=np.frombuffer(json.dumps({**about, **parts}).encode(), np.uint8), vectors=vectors)
    return reader


@pytest.mark.parametrize(
    "parts",
    [
        {"files": [[["a"], 1, 2]]},
        {"files": [["a", 1]]},
        {"files": []},
        {"files": [["a", 1, 2]]},
        {"unreadable": [["a", 1, 2, 3]]},
        {"fingerprint": None},
        {"vectors": np.zeros((3, 3), np.uint8)},
        {"vectors": np.zeros(90, np.uint8)},
    ],
)
def test_an_index_of_another_form(parts: dict[str, Any], sound: Sound) -> None:
    reader = index_of(sound, **parts)
    assert require_sound(reader) is (parts == {"files": []})


def flat(width: int, count: int, value: float) -> np.ndarray:
    index = faiss.IndexFlatIP(width)
    index.add(np.full((count, width), value, np.float32))
    return faiss.serialize_index(index)


@pytest.mark.parametrize(
    "vectors",
    [np.zeros(90, np.uint8), np.zeros((3, 3), np.float32), flat(8, 5, float("nan")), flat(8, 4, 0.5)],
    ids=["of no kind", "no bytes", "not finite", "too few"],
)
def test_an_index_whose_digest_is_right_and_whose_features_are_not(vectors: np.ndarray, sound: Sound) -> None:
    reader = index_of(sound, vectors=vectors, digest=hashlib.sha256(vectors.tobytes()).hexdigest())
    with pytest.raises(UserError, match=r"index\.npz is damaged: delete it"):
        reader.read()


HEADERS: dict[str, str] = {
    "a huge shape": "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000000,)}",
    "no end": "{'descr': '|u1', 'fortran",
    "a kind that is none": "{'descr': ',', 'fortran_order': False, 'shape': (1,)}",
}


@pytest.mark.parametrize("name", ["index", "record"])
@pytest.mark.parametrize("header", HEADERS)
def test_arrays_whose_headers_are_damaged(name: str, header: str, sound: Sound) -> None:
    reader, _ = sound(name)
    head = HEADERS[header].encode()
    with zipfile.ZipFile(reader.path) as stored:
        first = stored.namelist()[0]
    with zipfile.ZipFile(reader.path, "w") as made:
        made.writestr(first, b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head)
    assert not require_sound(reader)


@pytest.mark.parametrize(
    "name", ["jpg", "identities", "list", "draws", "index", "checkpoint", "record", "onnx", "images.json"]
)
def test_a_named_pipe_is_not_waited_for(name: str, sound: Sound) -> None:
    reader, _ = sound(name)
    reader.path.unlink()
    os.mkfifo(reader.path)
    assert not require_sound(reader)


@pytest.mark.parametrize(
    "facts",
    [{"feature_dim": "5"}, {"feature_dim": 6}, {"two_stream": True}, {"input_size": [4, 2, 1]}, {"input_size": [2, 4]}],
)
def test_an_export_that_is_another_model_than_it_says(facts: dict[str, Any], sound: Sound) -> None:
    reader, _ = sound("onnx")
    reader.path.write_bytes(onnx_model({**FACTS, **facts}))
    assert not require_sound(reader)
    reader.path.write_bytes(onnx_model(FACTS, images="other"))
    with pytest.raises(UserError, match="is another model than it says"):
        OnnxEmbedder(reader.path)


RUNS: dict[str, tuple[str, str]] = {
    "rows of text": ("results.json", '{"rows": ["final"], "seconds": {}}'),
    "a figure in a list": ("results.json", '{"rows": [{"stage": "final", "protocol": "a", "rank1": [1]}]}'),
    "seconds in a list": ("results.json", '{"rows": [], "seconds": [1]}'),
    **{
        f"a figure of {value}": (
            "results.json",
            f'{{"rows": [{{"stage": "final", "protocol": "a", "rank1": {value}, "mAP": 1.0}}]}}',
        )
        for value in ("Infinity", "-Infinity", "NaN", "1e308", "-1e308")
    },
    "endless seconds": ("results.json", '{"rows": [], "seconds": {"final": Infinity}}'),
    "a deep results.json": ("results.json", DEEP),
    "no steps in an epoch": ("config.yaml", "MGOT: {ITERS_PER_EPOCH: 0}"),
    "words for steps": ("config.yaml", "MGOT: {ITERS_PER_EPOCH: ten}"),
    **{
        f"a cross stage from {start}": ("config.yaml", f"MGOT: {{CROSS_START_EPOCH: {start}}}")
        for start in ("ten", "null", ".nan", ".inf", "[1]", "-1")
    },
    "a day that is none": ("config.yaml", "SEED: 2001-99-99"),
    "a deep config.yaml": ("config.yaml", "[" * 900),
    "a config in a circle": ("config.yaml", "&a\nb: *a\n"),
}


def bomb(first: str, next_one: str) -> str:
    """YAML of forty lines, each of which holds the one before twice."""
    return first + "".join(f"a{n}: &a{n} {next_one.replace('@', f'*a{n - 1}')}\n" for n in range(1, 40))


YAMLS: dict[str, tuple[str, str]] = {
    "a key twice": ("SEED: 1\nSOLVER: {}\nSEED: 2\n", "line 3: the key 'SEED' comes twice: keep one of them"),
    "a key twice, further down": ("SOLVER:\n  OPT: Adam\n  'OPT': SGD\n", "line 3: the key 'OPT' comes twice"),
    "a number and the same in words": ("1: a\n0x1: b\n", "line 2: the key '1' comes twice"),
    "a number of no digits": ("SEED: !!int ''", "a value cannot be read"),
    "a flag that is none": ("SEED: !!bool x", "a value cannot be read"),
    "a fraction that is none": ("SEED: !!float x", "a value cannot be read"),
    "a number of 5000 digits": (f"SEED: {'9' * 5000}", "a value cannot be read: Exceeds the limit"),
    "a number of 5000 digits to base 16": (f"SEED: 0x{'9' * 5000}", "a value cannot be read: Exceeds the limit"),
    "a day": ("SEED: 2020-01-01", "line 1: a value of the kind 'timestamp' is not read; if it is text, put it in"),
    "a day that is none": ("SEED: 2001-99-99", "the kind 'timestamp' is not read"),
    "no day at all": ("SEED: !!timestamp x", "the kind 'timestamp' is not read"),
    "a set": ("SEED: !!set {a, b}", "the kind 'set' is not read"),
    "a deep list": ("[" * 900, "nested too deep"),
    "a circle": ("&a\nb: *a\n", "longer than 1000000 characters with each alias written out"),
    "a bomb of mappings": (bomb("a0: &a0 {}\n", "{p: @, q: @}"), "longer than 1000000 characters with each alias"),
    "a bomb of lists": (bomb("a0: &a0 []\n", "[@, @]"), "longer than 1000000 characters with each alias written out"),
    "a bomb of merges": (bomb("a0: &a0 {b: c}\n", "{<<: [@, @]}"), "longer than 1000000 characters with each alias"),
}


@pytest.mark.parametrize("name", ["config", "grid", "config.yaml"])
@pytest.mark.parametrize("what", YAMLS)
def test_yaml(what: str, name: str, sound: Sound) -> None:
    text, message = YAMLS[what]
    reader, _ = sound(name)
    reader.path.write_text(text)
    assert not require_sound(reader)
    with pytest.raises(UserError, match=re.escape(message)):
        reader.read()
    assert saved_keys({"config": text}) == {}


def test_yaml_with_aliases_that_say_what_they_stand_for() -> None:
    text = "a: &a {p: 1, q: [x]}\nb: {<<: *a, p: 2}\nc: [*a, *a]\n"
    first = {"p": 1, "q": ["x"]}
    assert parsed_yaml(text) == {"a": first, "b": {"p": 2, "q": ["x"]}, "c": [first, first]}
    assert parsed_yaml(b"") is None
    assert parsed_yaml('OUTPUT_DIR: "x\\udcff"') == {"OUTPUT_DIR": "x\udcff"}  # the name of a folder that is no UTF-8


@pytest.mark.parametrize("what", RUNS)
def test_runs(what: str, tmp_path: Path) -> None:
    name, text = RUNS[what]
    run = write_run(tmp_path / "run", epochs=1)
    (run / name).write_text(text)
    assert not require_sound(Reader(run / name, lambda: read_run(run, "run")))
    if name == "results.json":
        with pytest.raises(UserError, match=r"results\.json is damaged: remove it"):
            read_results(run / name)


def test_lines_of_metrics_that_are_no_numbers_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    good = '{"iteration": 1, "lr": 0.5, "total_loss": NaN}'
    bad = (
        '{"iteration": 1, "lr": "x"}',
        '{"iteration": -1}',
        '{"iteration": 1.5}',
        f'{{"iteration": 1, "a": {10**400}}}',
    )
    path.write_text("\n".join([good, *bad, DEEP, "[]", '{"lr": 1}']))
    assert [line["lr"] for line in read_metrics(path)] == [0.5]


def test_figures_that_no_picture_holds_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", epochs=2)
    lines = [{"iteration": n, "total_loss": loss, "lr": n} for n, loss in enumerate((1e308, -1e308, 1e30, 2.0))]
    (run / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    found = read_run(run, "run")
    assert found.curve("total_loss") == ([0.3, 0.4], [1e30, 2.0]) and found.last("lr") == 3
    for figure in (draw_curves(found), draw_comparison([found])):
        assert figure is not None
        figure.savefig(tmp_path / "curves.png")
    assert diagnose(found)


@pytest.mark.parametrize(
    "change",
    [
        {"labels_v": np.full(25, 9, np.int32)},
        {"labels_v": np.full(25, 0.5)},
        {"v2r": np.full(6, 99)},
        {"kept_v": np.zeros(6, np.int64)},
        {"scores": np.full((6, 5), np.nan)},
        {"scores": np.zeros((5, 6))},
        {"sample_v": np.arange(25) + 1},
        {"supply": np.array("thermal")},
        {"features_r": np.zeros((3, 12))},
        {"distances": np.zeros((3, 2, 3), np.int64)},
    ],
)
def test_a_record_whose_fields_do_not_fit(change: dict[str, np.ndarray], sound: Sound) -> None:
    reader, _ = sound("record")
    np.savez_compressed(reader.path, **{**a_record(0)._asdict(), **change})
    assert not require_sound(reader)


@pytest.mark.parametrize("name", ["record", "index", "checkpoint"])
@pytest.mark.parametrize(("field", "value"), [(4, 255), (6, 1), (8, 12), (8, 14), (8, 99)], ids=str)
def test_zips_of_a_newer_kind_encrypted_or_packed_otherwise(name: str, field: int, value: int, sound: Sound) -> None:
    reader, raw = sound(name)
    changed = bytearray(raw)
    for signature, extra in ((b"PK\3\4", 0), (b"PK\1\2", 2)):  # each part's own header, and the list at the end
        for found in re.finditer(re.escape(signature), raw):
            changed[found.start() + field + extra] = value
    reader.path.write_bytes(changed)
    assert not require_sound(reader)


def test_records_of_other_images_and_files_of_other_names(tmp_path: Path) -> None:
    images = {name: {"paths": ["a"] * n} for name, n in (("visible", 25), ("infrared", 3))}
    with pytest.raises(UserError, match=r"speaks of 25 visible and 21 infrared images, images\.json .* of 25 and 3"):
        require_images(a_record(0), images, tmp_path)
    (tmp_path / "diagnostics").mkdir()
    for name in ("epoch_000", "epoch_1000", "epoch_001_copy", "epoch_²²²"):
        (tmp_path / f"diagnostics/{name}.npz").touch()
    assert recorded_epochs(tmp_path) == [0, 1000]
    (tmp_path / "diagnostics/rankings.json").write_text("{")
    with pytest.raises(UserError, match=r"rankings\.json cannot be read"):
        add_rankings(tmp_path, "final", [])


def spoilt(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(found: dict[str, Any]) -> None:
        for key in path[:-1]:
            found = found[key]
        found[path[-1]] = to

    return spoil


CHECKPOINTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a model of text": spoilt("model", to="x"),
    "a layer of text": spoilt("model", "weight", to="x"),
    "a sparse layer": spoilt("model", "weight", to=torch.eye(2).to_sparse()),
    "a layer of 4 TB in 4 bytes": spoilt("model", "weight", to=torch.zeros(1).expand(1 << 40)),
    "labels of 8 TB in 8 bytes": spoilt("labels", "labels", "visible", to=torch.zeros(1).long().expand(1 << 40)),
    "memories of 4 TB in 4 bytes": spoilt("memories", "visible", to=torch.zeros(1).expand(1 << 39, 2)),
    "a layer without numbers": spoilt("model", "weight", to=torch.empty(2, 2, device="meta")),
    "a config of numbers": spoilt("config", to=3),
    "an epoch in words": spoilt("epoch", to="two"),
    "steps below 0": spoilt("step", to=-1),
    "labels of one modality": lambda found: found["labels"]["labels"].pop("infrared"),
    "labels of text": spoilt("labels", to="x"),
    "a table too many": spoilt("labels", "matching", "UNASSIGNED", to=torch.tensor([0])),
    "a match that is not there": spoilt("labels", "matching", "v2r", to=torch.tensor([5, 0])),
    "a label that is not there": spoilt("labels", "labels", "visible", to=torch.tensor([5])),
    "memories of NaN": spoilt("memories", "visible", to=torch.full((2, 2), float("nan"))),
    "memories of other widths": spoilt("memories", "infrared", to=torch.ones(1, 3)),
    "a cross memory alone": spoilt("memories", "cross", to=torch.ones(1, 2)),
    "no memories within an epoch": spoilt("memories", to=None),
    "a state of text": lambda found: found["random"][0].update(python="x"),
    "a state of five numbers": lambda found: found["random"][0].update(numpy=(1, 2, 3, 4, 5)),
    "scalars of text": spoilt("scalars", to={"lr": "x"}),
    "facts in a list": spoilt("about", to=[]),
    "moments of another shape": lambda found: found["optimizer"]["state"][0].update(exp_avg=torch.zeros(7)),
    "no moments": lambda found: found["optimizer"].pop("state"),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_checkpoints(what: str, sound: Sound) -> None:
    reader, _ = sound("checkpoint")
    found = load_tensors(reader.path)
    CHECKPOINTS[what](found)
    torch.save(found, reader.path)
    assert not require_sound(reader)


def test_other_files_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"model": {"a": torch.zeros(1)}, "epoch": "x", "fitness": 1.0}, path)
    with pytest.raises(UserError, match="holds no fittest epoch"):
        FittestHook._kept(path)
    path.write_bytes(b"\x80\x02ccopy_reg\n_reconstructor\nq\0.")
    with pytest.raises(UserError, match="not a readable file of tensors"):
        read_state(path)


def test_a_config_that_cannot_be_read_counts_as_none() -> None:
    assert saved_keys(content())["SEED"] == 1
    for config in ("[1", "[1]", "SEED: 2001-99-99", "[" * 900, "&a\nb: *a\n"):
        assert saved_keys({"config": config}) == {}
