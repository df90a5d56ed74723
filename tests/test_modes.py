"""MGOT.MODE, the ground truth's mark, incomplete overlap, matchers from outside, and the stages that are scored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgot.clustering import DBSCAN, HDBSCAN, TrueClusters
from mgot.data.items import INFRARED, VISIBLE, Item
from mgot.data.overlap import incomplete_overlap
from mgot.engine.config.builders import build_clusterer, build_matcher, ground_truth_used
from mgot.engine.run import evaluate, train
from mgot.engine.schedule.cross import cross_start_epoch
from mgot.engine.setup import load_config
from mgot.errors import UserError
from mgot.evaluation.results import format_rows
from mgot.matching import MATCHERS, OTPA, Matching, Oracle, Prototypes, Unbalanced, argmax_both_ways, register_matcher

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
FAST = ("MGOT.TEST.STAGES", ["final"], "MGOT.TEST.SYSU_MODES", ["all"], "MGOT.CROSS_START_EPOCH", 0,
        "SOLVER.MAX_EPOCH", 1)  # fmt: skip
DEN = ("MODEL.META_ARCHITECTURE", "DEN", "MODEL.HEADS.NAME", "MGOTHead")
Options = Callable[..., list[str]]


def run(options: list[str]) -> tuple[dict, list[dict[str, float]]]:  # type: ignore[type-arg]
    """results.json and the lines of metrics.json of a training."""
    cfg = load_config(DEMO, options)
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(cfg.SEED)
    train(cfg, resume=False)
    lines = (folder / "metrics.json").read_text().splitlines()
    return json.loads((folder / "results.json").read_text()), [json.loads(line) for line in lines]


def test_each_identity_is_a_cluster() -> None:
    result = TrueClusters()(torch.zeros(4, 2), np.array([9, 2, 9, 5]))
    assert result.labels.tolist() == [2, 0, 2, 1] and result.n_clusters == 3


def test_supervised_trains_on_the_ground_truth_and_says_so(tiny_options: Options) -> None:
    results, lines = run(tiny_options(*FAST, "MGOT.MODE", "supervised"))
    logged = [line for line in lines if "truth/visible_ari" in line]
    assert all(line["truth/visible_ari"] == line["truth/matching_accuracy"] == 1.0 for line in logged) and logged
    assert any("loss_mcl" in line for line in lines)
    assert (results["mode"], results["ground_truth"]) == ("supervised", "clusters and matches")
    weights = Path(load_config(DEMO, tiny_options()).OUTPUT_DIR) / "model_final.pth"
    evaluate(load_config(DEMO, tiny_options(*FAST, "MODEL.WEIGHTS", weights)))
    again = json.loads((weights.parent / "evaluation/results.json").read_text())
    assert again["ground_truth"] == "clusters and matches"


def test_tables_of_a_training_with_ground_truth_are_marked() -> None:
    rows = [{"stage": "final", "rank1": 50.0}]
    assert "ground truth, diagnosis only: matches" in format_rows(rows, "matches")
    assert "ground truth" not in format_rows(rows)


def test_intra_only_never_starts_the_cross_terms(tiny_options: Options) -> None:
    results, lines = run(tiny_options(*FAST, "MGOT.MODE", "intra_only"))
    assert not any({"loss_ccl", "loss_mcl", "loss_cpal"} & set(line) for line in lines)
    assert {row["stage"] for row in results["rows"]} == {"final"}


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ([], ""),
        (["MGOT.MODE", "supervised"], "clusters and matches"),
        (["MGOT.MATCHER.NAME", "oracle"], "matches"),
        (["MGOT.MATCHER.NAME", "oracle", "MGOT.MODE", "intra_only"], ""),
        (["MGOT.CLUSTER.NAME", "oracle"], "clusters"),
        (["MGOT.CLUSTER.NAME", "oracle", "MGOT.MATCHER.NAME", "oracle"], "clusters and matches"),
    ],
)
def test_what_counts_as_ground_truth(options: list[str], used: str) -> None:
    cfg = load_config(DEMO, options)
    assert ground_truth_used(cfg) == used
    assert (cross_start_epoch(cfg) >= cfg.SOLVER.MAX_EPOCH) == ("intra_only" in options)


def test_matchers_take_their_keys() -> None:
    keys = ["MGOT.MATCHER.LAMBDA", "7", "MGOT.MATCHER.SUPPLY", "infrared", "MGOT.MATCHER.OPPOSITE_TRANSPORT", "False"]
    assert build_matcher(load_config(DEMO, keys)) == OTPA(7.0, supply="infrared", opposite_transport=False)
    keys = ["MGOT.MATCHER.NAME", "unbalanced", "MGOT.MATCHER.RELAXATION", "0.3", "MGOT.MATCHER.MIN_MASS", "0.2"]
    assert build_matcher(load_config(DEMO, keys)) == Unbalanced(relaxation=0.3, min_mass=0.2)
    assert build_matcher(load_config(DEMO, ["MGOT.MODE", "supervised"])) == Oracle()


def test_clusterers_take_their_keys() -> None:
    keys = ["MGOT.CLUSTER.K1", "7", "MGOT.CLUSTER.K2", "2", "MGOT.CLUSTER.EPS", "0.3", "MGOT.CLUSTER.MIN_SAMPLES", "5"]
    assert build_clusterer(load_config("", [*DEN, *keys])) == DBSCAN(7, 2, 0.3, 5)
    keys += ["MGOT.CLUSTER.NAME", "hdbscan", "MGOT.CLUSTER.REACH", "0.9", "MGOT.CLUSTER.MIN_CLUSTER_SIZE", "12"]
    assert build_clusterer(load_config("", [*DEN, *keys])) == HDBSCAN(7, 2, 5, 12, 0.9)
    assert build_clusterer(load_config(DEMO, ["MGOT.MODE", "supervised"])) == TrueClusters()


@pytest.fixture
def outside() -> Iterator[type]:
    """A matcher with a field of its own, registered for one test."""

    @register_matcher("sharp")
    @dataclass(frozen=True)
    class Sharp:
        power: float = 3.0
        supply: str = "visible"

        def __call__(self, prototypes: Prototypes) -> Matching:
            return argmax_both_ways(prototypes.similarity**self.power, self.supply)

    yield Sharp
    del MATCHERS["sharp"]


def test_a_matcher_from_outside_brings_its_keys(outside: type) -> None:
    assert build_matcher(load_config(DEMO, ["MGOT.MATCHER.NAME", "sharp"])) == outside()
    keys = ["MGOT.MATCHER.NAME", "sharp", "MGOT.MATCHER.POWER", "2", "MGOT.MATCHER.SUPPLY", "infrared"]
    assert build_matcher(load_config(DEMO, keys)) == outside(2.0, "infrared")


def test_a_field_without_default_is_refused() -> None:
    @dataclass
    class Wanting:
        power: float

    register_matcher("wanting")(Wanting)
    try:
        with pytest.raises(UserError, match="'power' a default"):
            load_config(DEMO)
    finally:
        del MATCHERS["wanting"]


def people(ids: range, modality: int) -> list[Item]:
    return [Item(f"{modality}/{i}/{n}.jpg", i, 1, modality) for i in ids for n in range(2)]


@given(
    n=st.integers(2, 12),
    share=st.floats(0.2, 1.0),
    drops=st.sampled_from(["visible", "infrared", "both"]),
    seed=st.integers(0, 99),
)
def test_who_loses_a_modality(n: int, share: float, drops: str, seed: int) -> None:
    visible, infrared = people(range(n + 1), VISIBLE), people(range(1, n + 2), INFRARED)
    kept_v, kept_r = incomplete_overlap(visible, infrared, share, drops, seed)
    ids_v, ids_r = {item.identity for item in kept_v}, {item.identity for item in kept_r}
    assert len(ids_v & ids_r) == round(share * n)
    assert ids_v | ids_r == set(range(n + 2))
    lost_v, lost_r = n + 1 - len(ids_v), n + 1 - len(ids_r)
    assert lost_v + lost_r == n - round(share * n)
    assert {"visible": lost_r == 0, "infrared": lost_v == 0, "both": 0 <= lost_v - lost_r <= 1}[drops]
    assert kept_v == [item for item in visible if item.identity in ids_v]
    assert (kept_v, kept_r) == incomplete_overlap(visible, infrared, share, drops, seed)


def test_smaller_shares_keep_a_part_of_the_larger_ones() -> None:
    visible, infrared = people(range(20), VISIBLE), people(range(20), INFRARED)

    def both(share: float, seed: int = 0) -> set[int]:
        kept = incomplete_overlap(visible, infrared, share, "both", seed)
        return {item.identity for item in kept[0]} & {item.identity for item in kept[1]}

    assert both(0.25) < both(0.5) < both(0.75) < both(1.0)
    assert both(0.5, 1) != both(0.5)


def test_a_modality_without_images_is_refused() -> None:
    with pytest.raises(UserError, match="no infrared training image"):
        incomplete_overlap(people(range(3), VISIBLE), people(range(3), INFRARED), 0.0, "infrared", 0)


@pytest.mark.parametrize("matcher", ["unbalanced", "vote"])
def test_matchers_train_on_incomplete_overlap(
    matcher: str, tiny_options: Options, caplog: pytest.LogCaptureFixture
) -> None:
    overlap = ("MGOT.DATA.OVERLAP", 0.5, "MGOT.DATA.OVERLAP_DROPS", "infrared")
    with caplog.at_level("INFO", logger="mgot"):
        results, lines = run(tiny_options(*overlap, *FAST, "MGOT.MATCHER.NAME", matcher))
    assert "4 of 8 identities keep both modalities; 0 visible and 48 infrared images left out" in caplog.text
    assert {row["stage"] for row in results["rows"]} == {"final"}
    assert all(np.isfinite(line["total_loss"]) for line in lines if "total_loss" in line)
    assert any("loss_cpal" in line for line in lines) and results["matcher"] == matcher


def test_nobody_matched_still_trains(tiny_options: Options) -> None:
    """Losses, cross labels, memories and paired draws where a matcher leaves every cluster unmatched."""

    @register_matcher("nobody")
    class Nobody:
        def __call__(self, prototypes: Prototypes) -> Matching:
            alone = [np.full(len(p), -1) for p in prototypes[:2]]
            scores = np.zeros(prototypes.similarity.shape)
            return Matching(alone[0], alone[1], scores, "visible", np.arange(len(alone[1])))

    try:
        _, lines = run(tiny_options("MGOT.MATCHER.NAME", "nobody", "MGOT.CROSS_START_EPOCH", 0, "SOLVER.MAX_EPOCH", 1))
    finally:
        del MATCHERS["nobody"]
    assert all(np.isfinite(line["total_loss"]) for line in lines if "total_loss" in line)
    assert any(line.get("loss_ccl") == 0.0 for line in lines)
