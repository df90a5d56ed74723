"""The whole loop on a tiny tree: what it leaves, that it learns, resumes, evaluates and fails clearly."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mgot.data.loaders import CrossModalityLoader
from mgot.data.synthetic.other_layouts import write_llcm, write_regdb
from mgot.data.synthetic.settings import Settings
from mgot.engine import epoch, hooks
from mgot.engine.epoch import EpochState
from mgot.engine.run import evaluate, train
from mgot.engine.setup import load_config
from mgot.engine.trainer import MGOTTrainer
from mgot.errors import UserError
from mgot.memory import cluster_means

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
Options = Callable[..., list[str]]


def run(options: list[str], *, resume: bool = False) -> Path:
    cfg = load_config(DEMO, options, resume=resume)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(cfg.SEED)
    train(cfg, resume=resume)
    return Path(cfg.OUTPUT_DIR)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def test_two_epochs_end_to_end(tiny_options: Options) -> None:
    folder = run(tiny_options("MGOT.TEST.SYSU_MODES", ["all"]))
    results = json.loads((folder / "results.json").read_text())
    assert [row["stage"] for row in results["rows"]] == ["initial", "intra", "fittest", "final"]
    for row in results["rows"]:
        assert row["protocol"] == "sysu-all-single"
        assert {"rank1", "rank1_std", "rank5", "rank10", "rank20", "mAP", "mINP"} <= set(row)
        assert all(0 <= row[key] <= 100 for key in ("rank1", "rank5", "mAP", "mINP"))
    assert set(results["seconds"]) == {"initial", "intra", "fittest", "final"}
    logged: set[str] = set()
    for line in metrics(folder):
        logged |= set(line)
    assert {"loss_vcl", "loss_icl", "loss_ccl", "loss_mcl", "loss_cpal", "loss_adv", "total_loss", "lr"} <= logged
    assert {"visible/clusters", "infrared/outliers", "truth/visible_ari", "truth/infrared_nmi"} <= logged
    assert {
        "sharpness/v_v",
        "fairness/r_c",
        "matching/confidence",
        "matching/agreement",
        "matching/load_top3",
        "transport/converged",
        "visible/size_median",
        "seconds/extract",
        "seconds/train",
        "seconds/score",
        "images_per_second",
        "epoch",
        "truth/matching_accuracy",
    } <= logged
    assert (folder / "model_final.pth").is_file()
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"


def test_every_trained_parameter_moves(tiny_options: Options) -> None:
    cfg = load_config(DEMO, tiny_options())
    Path(cfg.OUTPUT_DIR).mkdir(parents=True)
    trainer = MGOTTrainer(cfg)
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters() if p.requires_grad}
    trainer.train()
    still = [name for name, p in trainer.network.named_parameters() if name in before and torch.equal(p, before[name])]
    assert still == []


def test_same_seed_same_losses(tiny_options: Options, tmp_path: Path) -> None:
    def losses(name: str, seed: int) -> list[dict[str, float]]:
        folder = run(tiny_options("OUTPUT_DIR", tmp_path / name, "SEED", seed))
        return [{key: line[key] for key in sorted(line) if "loss" in key} for line in metrics(folder)]

    assert losses("a", 1) == losses("b", 1)
    assert losses("c", 2) != losses("a2", 1)


@pytest.mark.parametrize(
    ("name", "write", "protocols"),
    [
        ("RegDB", write_regdb, {"regdb-visible-to-thermal", "regdb-thermal-to-visible"}),
        ("LLCM", write_llcm, {"llcm-visible-to-infrared", "llcm-infrared-to-visible"}),
    ],
)
def test_other_data_sets_train_and_score_end_to_end(
    name: str, write: Callable[..., Path], protocols: set[str], tiny_options: Options, tmp_path: Path, monkeypatch: Any
) -> None:
    per_camera = 8 if name == "RegDB" else 1
    people = Settings(train_identities=6, test_identities=3, width=32, seed=3)
    people = dataclasses.replace(people, visible_per_camera=per_camera, infrared_per_camera=per_camera)
    write(tmp_path / "data", people, processes=1)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
    names = ("DATASETS.NAMES", f"('{name}',)", "DATASETS.TESTS", f"('{name}',)")
    folder = run(tiny_options(*names, "MGOT.CLUSTER.MIN_SAMPLES", 2, "MGOT.CLUSTER.EPS", 0.9, "SOLVER.MAX_EPOCH", 1))
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert {row["protocol"] for row in rows} == protocols
    about = torch.load(folder / "model_final.pth", weights_only=True)["about"]
    assert about == ({"dataset": "RegDB", "split": 1} if name == "RegDB" else {"dataset": "LLCM"})


def test_intra_only_trains_no_cross_term(tiny_options: Options) -> None:
    folder = run(tiny_options("MGOT.CROSS_START_EPOCH", 9))
    assert not any("loss_ccl" in line for line in metrics(folder))
    stages = [row["stage"] for row in json.loads((folder / "results.json").read_text())["rows"]]
    assert set(stages) == {"initial", "final"}


def test_oracle_and_infrared_supply_train(tiny_options: Options) -> None:
    folder = run(
        tiny_options("MGOT.MATCHER.NAME", "oracle", "MGOT.MATCHER.SUPPLY", "infrared", "DATALOADER.CACHE", "off")
    )
    assert max(line.get("truth/matching_accuracy", 0) for line in metrics(folder)) > 0.9


def test_the_matcher_may_see_visible_images_under_laws_of_colour(
    tiny_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memories stay those of the images as they are; the same laws come again with the same seed."""
    kept: list[EpochState] = []
    matched = epoch.match_epoch

    def noted(state: EpochState, *rest: Any) -> Any:
        kept.append(state)
        return matched(state, *rest)

    monkeypatch.setattr(hooks, "match_epoch", noted)
    options = tiny_options("MGOT.MATCHER.VIEW", "auto", "MGOT.AUG.SPECTRAL_PROB", 0.5)
    folder = run(options)
    run([*options, "MGOT.OVERWRITE", "True"])
    assert len(kept) == 6  # two epochs, and once more at the end
    for first, again in zip(kept[:3], kept[3:], strict=True):
        assert first.spectral_v is not None and again.spectral_v is not None
        assert first.spectral_v.shape == first.f_v.shape and torch.equal(first.spectral_v, again.spectral_v)
        assert not torch.allclose(first.spectral_v, first.f_v)
        means = cluster_means(first.f_v, torch.as_tensor(first.labels.visible), len(first.phi_v))
        assert torch.equal(first.phi_v, means)
        assert first.mutual == again.mutual and set(first.mutual) == {"spectral", "both"}
    assert not torch.equal(kept[0].spectral_v, kept[1].spectral_v)  # type: ignore[arg-type]
    logged = set().union(*metrics(folder))
    assert {"matching/mutual_spectral", "matching/mutual_both"} <= logged


def test_resume_repeats_what_an_unbroken_run_does(tiny_options: Options, tmp_path: Path) -> None:
    run(tiny_options("SOLVER.MAX_EPOCH", 1))
    folder = run(tiny_options("SOLVER.MAX_EPOCH", 3), resume=True)
    straight = run(tiny_options("SOLVER.MAX_EPOCH", 3, "OUTPUT_DIR", tmp_path / "straight"))
    losses = [
        {line["iteration"]: line["total_loss"] for line in metrics(one) if "total_loss" in line}
        for one in (folder, straight)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    stages = [row["stage"] for row in json.loads((folder / "results.json").read_text())["rows"]]
    assert stages.count("initial") == stages.count("final") == 2


def test_resuming_a_finished_run_and_starting_over_it(tiny_options: Options) -> None:
    folder = run(tiny_options("SOLVER.MAX_EPOCH", 1))
    before = (folder / "results.json").read_text(), (folder / "metrics.json").read_text()
    run(tiny_options("SOLVER.MAX_EPOCH", 1), resume=True)
    assert (folder / "results.json").read_text() == before[0]
    with pytest.raises(UserError, match=r"holds another run .*--resume.*MGOT\.OVERWRITE True"):
        run(tiny_options("SOLVER.MAX_EPOCH", 1))
    assert (folder / "metrics.json").read_text() == before[1]
    run(tiny_options("SOLVER.MAX_EPOCH", 1, "MGOT.OVERWRITE", True))
    assert len(metrics(folder)) == len(before[1].splitlines())


def test_evaluation_of_a_checkpoint_repeats_the_final_rows(tiny_options: Options) -> None:
    folder = run(tiny_options())
    trained = json.loads((folder / "results.json").read_text())
    evaluate(load_config(DEMO, tiny_options("MODEL.WEIGHTS", folder / "model_final.pth")))
    assert json.loads((folder / "results.json").read_text()) == trained
    again = json.loads((folder / "evaluation/results.json").read_text())["rows"]
    final = [row for row in trained["rows"] if row["stage"] == "final"]
    assert [row["rank1"] for row in again] == pytest.approx([row["rank1"] for row in final])


def test_a_checkpoint_of_another_adversary_is_scored_and_trained_from(
    tiny_options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ("SOLVER.MAX_EPOCH", 1, "MGOT.TEST.STAGES", ["final"], "MGOT.TEST.SYSU_MODES", ["all"])
    earlier = ("MGOT.DEN.SHARED_NECK", False, "MGOT.DEN.LOGIT_NORM", False, "MGOT.DEN.STAGES", ["layer1", "layer4"])
    folder = run(tiny_options(*keys, *earlier))
    final = json.loads((folder / "results.json").read_text())["rows"]
    weights = folder / "model_final.pth"
    monkeypatch.setattr(logging.getLogger("mgot"), "propagate", True)
    evaluate(load_config(DEMO, tiny_options(*keys, "MODEL.WEIGHTS", weights)))
    assert "the adversary in the weights file has another form" in caplog.text
    again = json.loads((folder / "evaluation/results.json").read_text())["rows"]
    assert [row["rank1"] for row in again] == pytest.approx([row["rank1"] for row in final])
    begun = MGOTTrainer(load_config(DEMO, tiny_options("MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path)))
    begun.resume_or_load(resume=False)
    saved = torch.load(weights, weights_only=True)["model"]
    adversary = begun.network.discriminator
    assert adversary is not None and int(adversary.iteration) == 0 < int(saved["discriminator.iteration"])
    assert torch.equal(begun.network.backbone.get_parameter("conv1.weight"), saved["backbone.conv1.weight"])


def test_no_cluster_at_the_first_epoch_is_a_clear_error(tiny_options: Options) -> None:
    with pytest.raises(UserError, match=r"epoch 0: the visible images form no cluster .*MGOT\.CLUSTER\.EPS"):
        run(tiny_options("MGOT.CLUSTER.MIN_SAMPLES", 500))


def test_weights_that_are_no_checkpoint_are_refused(tiny_options: Options, tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    for weights in (tmp_path / "bad.pth", tmp_path / "none.pth"):
        with pytest.raises(UserError, match=weights.name):
            evaluate(load_config(DEMO, tiny_options("MODEL.WEIGHTS", weights)))


def test_memories_are_made_by_the_keys_of_the_cross_stage(
    tiny_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    def noted(state: EpochState, rules: epoch.MemoryRules, **given: Any) -> Any:
        made.append({"rules": rules, **given})
        return epoch.build_bank(state, rules, **given)

    monkeypatch.setattr(hooks, "build_bank", noted)
    stage = {"AGGREGATION": 0.4, "RAMP_EPOCHS": 4, "RAMP_FROM": 0.2, "UPDATE": "hardest", "EXCHANGE": True}
    keys = [part for name, value in stage.items() for part in (f"MGOT.CROSS_STAGE.{name}", value)]
    keys += ["MGOT.LOSS.MOMENTUM", 0.3, "MGOT.LOSS.UPDATE", "mean", "MGOT.LOSS.W_DUAL", 0.1]
    run(tiny_options("SOLVER.MAX_EPOCH", 3, "MGOT.TEST.STAGES", ["final"], *keys))
    assert [each["cross_weight"] for each in made] == [None, pytest.approx(0.2), pytest.approx(0.4)]
    rules = epoch.MemoryRules(momentum=0.3, by="mean", cross_by="hardest", aggregation=0.4, exchange=True, hard=True)
    assert {(each["cross_start"], each["rules"]) for each in made} == {(1, rules)}


@pytest.mark.parametrize("paired", [True, False])
def test_matched_clusters_are_drawn_together_in_the_cross_stage_if_the_key_says_so(
    paired: bool, tiny_options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bool] = []
    set_epoch = CrossModalityLoader.set_epoch

    def noted(self: Any, epoch: int, labels: Any, v2r: Any = None, r2v: Any = None, **rest: Any) -> None:
        given.append(v2r is not None and r2v is not None)
        set_epoch(self, epoch, labels, v2r, r2v, **rest)

    monkeypatch.setattr(CrossModalityLoader, "set_epoch", noted)
    run(tiny_options("MGOT.PAIRED_SAMPLING", paired, "MGOT.TEST.STAGES", ["final"]))
    assert given == [False, paired]


def test_each_epoch_has_laws_of_colour_of_its_own(tiny_options: Options, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = MGOTTrainer(load_config(DEMO, tiny_options("MGOT.MATCHER.VIEW", "spectral", "OUTPUT_DIR", tmp_path)))
    (hook,) = (each for each in trainer._hooks if isinstance(each, hooks.ClusteringHook))
    first, second, again = (hook.label(epoch).spectral_v for epoch in (0, 1, 0))
    assert first is not None and second is not None and again is not None
    assert torch.equal(first, again) and not torch.allclose(first, second)
