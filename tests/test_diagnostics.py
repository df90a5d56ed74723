"""The records of an epoch: what they hold, that they are bounded, survive a round trip, and follow a real run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mgot.analysis.diagnostics.images import rank_some
from mgot.analysis.diagnostics.record import (
    DISTANCE_BINS,
    EpochRecord,
    distance_counts,
    kept_prototypes,
    read_record,
    record_epoch,
    record_path,
    recorded_epochs,
    sample,
    write_record,
)
from mgot.data.items import INFRARED, VISIBLE, Item
from mgot.engine.run import train
from mgot.engine.setup import load_config
from mgot.engine.watch.records import epoch_line
from mgot.errors import UserError
from mgot.evaluation.protocols import Protocol, Trial
from mgot.matching import OTPA, Matching, Prototypes

DEMO = str(Path(__file__).resolve().parent.parent / "projects/MGOT/configs/demo.yml")


def unit(rows: int, dimension: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dimension, generator=torch.Generator().manual_seed(seed)), dim=1)


def a_record(epoch: int = 3) -> EpochRecord:
    phi_v, phi_r = unit(5, 8, 0), unit(4, 8, 1)
    labels = np.arange(20) % 5, np.arange(12) % 4
    return record_epoch(
        epoch,
        cross=True,
        features=(phi_v[labels[0]], phi_r[labels[1]]),
        labels=labels,
        identities=labels,
        prototypes=(phi_v, phi_r),
        majorities=(np.arange(5), np.arange(4)),
        matching=OTPA()(Prototypes(phi_v.numpy(), phi_r.numpy())),
    )


def test_a_record_survives_writing_and_its_plan_is_the_matchers(tmp_path: Path) -> None:
    record = a_record()
    again = read_record(write_record(tmp_path, record))
    assert all(np.array_equal(a, b) for a, b in zip(record, again, strict=True))
    assert again.scores.sum(axis=1) == pytest.approx(np.ones(5), abs=0.01)
    assert again.scores.argmax(axis=1).tolist() == again.v2r.tolist()
    assert again.similarity.astype(float) == pytest.approx((unit(5, 8, 0) @ unit(4, 8, 1).T).numpy(), abs=1e-3)
    assert recorded_epochs(tmp_path) == [3]
    assert recorded_epochs(tmp_path / "nowhere") == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY"])
def test_a_damaged_record_is_named(content: bytes, tmp_path: Path) -> None:
    path = record_path(tmp_path, 0)
    with pytest.raises(UserError, match="no such record"):
        read_record(path)
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"epoch_000\.npz: not a readable record"):
        read_record(path)


def test_matrices_and_samples_are_bounded() -> None:
    v2r = np.arange(900) % 40
    many = Matching(v2r, np.arange(700), np.ones((900, 700)), "visible", np.arange(40, 700))
    kept_v, kept_r = kept_prototypes(many, limit=100)
    assert len(kept_v) == len(kept_r) == 100 and set(v2r[kept_v]) <= set(kept_r)
    assert (np.diff(kept_v) > 0).all() and (np.diff(kept_r) > 0).all()
    few = Matching(np.array([0, -1]), np.array([0, -1, -1]), np.ones((2, 3)), "visible", np.array([1, 2]))
    assert [len(kept) for kept in kept_prototypes(few)] == [2, 3]
    assert len(sample(100_000, 256)) == 2000 and sample(7, 256).tolist() == list(range(7))
    assert 2 * 2048 * len(sample(100_000, 2048)) <= 1 << 21


def test_distances_are_the_loop_over_pairs() -> None:
    f_v, f_r = unit(7, 4, 2), unit(5, 4, 3)
    ids_v, ids_r = np.arange(7) % 3, np.arange(5) % 2
    expected = np.zeros((3, 2, DISTANCE_BINS), dtype=int)
    pairs = [(0, f_v[i], f_v[j], ids_v[i] != ids_v[j]) for i in range(7) for j in range(i)]
    pairs += [(1, f_r[i], f_r[j], ids_r[i] != ids_r[j]) for i in range(5) for j in range(i)]
    pairs += [(2, f_v[i], f_r[j], ids_v[i] != ids_r[j]) for i in range(7) for j in range(5)]
    for row, a, b, differ in pairs:
        expected[row, int(differ), int((1 - float(a @ b)) / 2 * DISTANCE_BINS)] += 1
    assert np.array_equal(distance_counts(f_v, f_r, ids_v, ids_r), expected)


def test_pairs_of_unknown_identity_count_nowhere() -> None:
    f_v, f_r, unknown = unit(6, 4, 0), unit(5, 4, 1), np.full(5, -1)
    ids = np.array([0, 0, 1, -1, -1, 2])
    counts = distance_counts(f_v, f_r, ids, unknown)
    assert not counts[1:].any()
    assert counts[0].sum(axis=1).tolist() == [1, 5]
    known = ids >= 0
    assert np.array_equal(counts[0], distance_counts(f_v[torch.as_tensor(known)], f_r, ids[known], unknown)[0])


def test_rankings_leave_out_what_the_protocol_does_and_are_in_order() -> None:
    pool = [Item(f"root/q{n}.jpg", n % 2, 3, INFRARED) for n in range(4)]
    pool += [Item(f"root/g{n}.jpg", n % 3, 2 if n == 0 else 1, VISIBLE) for n in range(6)]
    protocol = Protocol("toy", (Trial(np.arange(4), np.arange(4, 10)),), "sysu-same-place", True, "seeded")
    found = rank_some(protocol, pool, unit(10, 8, 4).numpy(), "root", queries=3, depth=4)
    assert found == rank_some(protocol, pool, 2 * unit(10, 8, 4).numpy(), "root", queries=3, depth=4)
    assert len(found["queries"]) == 3
    for query in found["queries"]:
        distances = [each["distance"] for each in query["found"]]
        assert distances == sorted(distances) and len(distances) == 4
        assert all(each["right"] == (each["identity"] == query["identity"]) for each in query["found"])
        assert "g0.jpg" not in {each["path"] for each in query["found"]}


def test_the_queries_that_find_their_person_worst_come_first() -> None:
    pool = [Item(f"root/q{n}.jpg", n % 3, 3, INFRARED) for n in range(8)]
    pool += [Item(f"root/g{n}.jpg", n % 2, 2 if n == 0 else 1, VISIBLE) for n in range(9)]
    features = unit(17, 4, 5)
    protocol = Protocol("toy", (Trial(np.arange(8), np.arange(8, 17)),), "sysu-same-place", True, "seeded")
    precision = {}
    for n, query in enumerate(pool[:8]):
        seen = sorted(range(9, 17), key=lambda g: -float(features[n] @ features[g]))
        places = [place for place, g in enumerate(seen, start=1) if pool[g].identity == query.identity]
        if places:
            precision[f"q{n}.jpg"] = 100 * float(np.mean([k / place for k, place in enumerate(places, start=1)]))
    worst = rank_some(protocol, pool, features.numpy(), "root", queries=4, depth=3)["worst"]
    told = {each["path"]: each["ap"] for each in worst}
    assert list(told) == sorted(precision, key=lambda name: precision[name])[:4]
    assert told == pytest.approx({name: precision[name] for name in told}, abs=0.01)
    assert len(precision) == 6 and "q2.jpg" not in precision  # nobody of its identity is in the gallery


def test_the_roc_curve_is_told_where_it_is_asked_for() -> None:
    pool = [Item(f"root/q{n}.jpg", n % 2, 3, INFRARED) for n in range(4)]
    pool += [Item(f"root/g{n}.jpg", n % 3, 1, VISIBLE) for n in range(6)]
    protocol = Protocol("toy", (Trial(np.arange(4), np.arange(4, 10)),), "sysu-same-place", True, "seeded")
    features = unit(10, 8, 4).numpy()
    assert "roc" not in rank_some(protocol, pool, features, "root")
    curve = rank_some(protocol, pool, features, "root", roc=True)["roc"]
    assert (curve["fpr"][0], curve["tpr"][-1]) == (0, 1) and len(curve["fpr"]) == len(curve["tpr"]) > 2
    assert json.loads(json.dumps(curve)) == curve


def test_the_line_of_an_epoch_leaves_out_what_is_not_known() -> None:
    line = epoch_line(3, "cross", {"total_loss": 2.5, "lr": 3.5e-4, "seconds/train": 20.0, "seconds/match": 1.4})
    assert line == "epoch   3 cross | loss 2.50 | lr 3.5e-04 | 21 s"


def test_a_run_leaves_its_records_and_another_one_replaces_them(tiny_options: Callable[..., list[str]]) -> None:
    cfg = load_config(DEMO, tiny_options("MGOT.TEST.SYSU_MODES", ["all"]))
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir()
    write_record(folder, a_record(epoch=77))
    train(cfg, resume=False)
    assert recorded_epochs(folder) == [0, 1]
    images = json.loads((folder / "diagnostics/images.json").read_text())
    first, last = (read_record(record_path(folder, epoch)) for epoch in (0, 1))
    assert (int(first.cross), int(last.cross)) == (0, 1)
    assert len(first.labels_v) == len(images["visible"]["paths"]) == len(images["visible"]["identities"])
    assert np.array_equal(first.sample_r, last.sample_r)
    assert (Path(images["root"]) / images["infrared"]["paths"][0]).is_file()
    rankings = json.loads((folder / "diagnostics/rankings.json").read_text())
    assert list(rankings) == ["initial", "intra", "final"]
    queries = [[query["path"] for query in rankings[stage][0]["queries"]] for stage in rankings]
    assert queries[0] == queries[2] and len(queries[0]) == 12
    assert not list(folder.rglob("*.tmp"))


def test_without_diagnostics_nothing_is_kept(tiny_options: Callable[..., list[str]]) -> None:
    cfg = load_config(DEMO, tiny_options("MGOT.DIAGNOSTICS", False, "SOLVER.MAX_EPOCH", 1))
    Path(cfg.OUTPUT_DIR).mkdir()
    train(cfg, resume=False)
    assert not (Path(cfg.OUTPUT_DIR) / "diagnostics").exists()
