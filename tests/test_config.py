"""Every YAML is built, every key is read, and every mistake is named before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from fastreid.config import get_cfg
from fastreid.modeling.meta_arch import build_model

from mgot.clustering import CLUSTERERS
from mgot.config import DEFAULTS, RANGES, add_mgot_config
from mgot.engine.setup import check_config, default_config, load_config
from mgot.errors import UserError
from mgot.losses import LOSSES, loss_keys, weight_key
from mgot.matching import MATCHERS
from mgot.registry import Part, keys_of

REPO = Path(__file__).resolve().parent.parent
YAMLS = sorted([*REPO.glob("configs/*.yml"), *REPO.glob("projects/MGOT/configs/**/*.yml")])
BASE = REPO / "configs/Base-MGOT.yml"
GROUPS: dict[str, dict[str, Part]] = {"CLUSTER": CLUSTERERS, "MATCHER": MATCHERS}
SOURCES = sorted(REPO.glob("projects/MGOT/mgot/**/*.py"))


def leaves(node: dict, prefix: str = "") -> list[str]:  # type: ignore[type-arg]
    found = []
    for key, value in node.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return found


def test_there_are_recipes() -> None:
    assert {"Base-MGOT.yml", "sysu.yml", "demo.yml"} <= {path.name for path in YAMLS}


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.name)
def test_every_yaml_builds_a_model_with_and_without_the_adversary(path: Path) -> None:
    recipe, overlay = (str(BASE), [str(path)]) if path.stem.startswith("Backbone-") else (str(path), [])
    for weight in (0.0, 1.0):
        cfg = load_config(recipe, [*overlay, "MODEL.BACKBONE.PRETRAIN", "False", "MGOT.LOSS.W_ADV", str(weight)])
        assert (build_model(cfg).discriminator is not None) == (weight > 0)


def test_base_recipe_is_the_methods() -> None:
    cfg = load_config(str(REPO / "projects/MGOT/configs/sysu.yml"))
    assert (cfg.MGOT.CLUSTER.K1, cfg.MGOT.CLUSTER.K2, cfg.MGOT.CLUSTER.EPS, cfg.MGOT.CLUSTER.MIN_SAMPLES) == (
        30,
        6,
        0.6,
        4,
    )
    assert (cfg.MGOT.LOSS.TEMPERATURE, cfg.MGOT.LOSS.MOMENTUM, cfg.MGOT.MATCHER.LAMBDA) == (0.05, 0.1, 25.0)
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.MAX_EPOCH) == (3.5e-4, 5e-4, 80)
    assert (cfg.MGOT.CROSS_START_EPOCH, cfg.MGOT.ITERS_PER_EPOCH) == (40, 200)
    assert cfg.SOLVER.IMS_PER_BATCH == 2 * 8 * 16 and cfg.DATALOADER.NUM_INSTANCE == 16
    assert list(cfg.INPUT.SIZE_TRAIN) == [288, 144] and cfg.MGOT.LOSS.W_ADV == 0


def test_further_files_say_what_differs_and_pairs_come_last() -> None:
    demo, osnet = str(REPO / "projects/MGOT/configs/demo.yml"), str(REPO / "configs/Backbone-OSNet.yml")
    cfg = load_config(demo, [osnet, "MODEL.BACKBONE.DEPTH", "x0_25"])
    assert (cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH) == ("build_osnet_backbone", "x0_25")
    assert (cfg.MODEL.BACKBONE.FEAT_DIM, cfg.SOLVER.MAX_EPOCH) == (512, load_config(demo).SOLVER.MAX_EPOCH)
    with pytest.raises(UserError, match=r"Backbone-X\.yml: no such file"):
        load_config(demo, ["configs/Backbone-X.yml"])


def test_every_key_of_ours_is_read_somewhere() -> None:
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "config.py")
    ours = set(leaves(default_config())) - set(leaves(get_cfg()))
    for group, parts in GROUPS.items():
        ours -= {f"MGOT.{group}.{key}" for part in parts.values() for key in keys_of(part).values()}
    ours -= {f"MGOT.LOSS.{key}" for name in LOSSES for key in loss_keys(name)}
    unread = [key for key in ours if not re.search(rf"\.{key.split('.')[-1]}\b", text)]
    assert unread == []


def test_every_field_of_our_parts_has_a_commented_key_of_the_same_default() -> None:
    cfg = get_cfg()
    add_mgot_config(cfg)
    for group, parts in GROUPS.items():
        for part in parts.values():
            for field, key in keys_of(part).items():
                assert cfg.MGOT[group][key] == getattr(part, field), key
    for name, loss in LOSSES.items():
        assert cfg.MGOT.LOSS[weight_key(name)] == loss.weight, name
        for field, key in keys_of(loss.part, f"{name.upper()}_").items():
            assert cfg.MGOT.LOSS[key] == getattr(loss.part, field), key


def test_every_key_of_ours_is_commented() -> None:
    lines = (REPO / "projects/MGOT/mgot/config.py").read_text().splitlines()
    declared = [number for number, line in enumerate(lines) if line.startswith('key("')]
    assert len(declared) == len(DEFAULTS)
    bare = [lines[n] for n in declared if not lines[n - 1].startswith(("# ", 'key("'))]
    assert bare == []


def test_every_key_of_ours_says_what_it_may_be() -> None:
    assert set(RANGES) <= set(DEFAULTS)
    unbounded = [
        name for name, default in DEFAULTS.items() if name not in RANGES and not isinstance(default, bool | str)
    ]
    assert unbounded == []
    out_of_range = [name for name, allowed in RANGES.items() if not allowed.holds(DEFAULTS[name])]
    assert out_of_range == []


def test_every_key_of_ours_is_declared() -> None:
    cfg = get_cfg()
    before = set(leaves(cfg))
    add_mgot_config(cfg)
    assert set(leaves(cfg)) - before == set(DEFAULTS) - before


def test_a_config_of_its_own_shares_no_list_with_another() -> None:
    one, other = default_config(), default_config()
    one.MGOT.TEST.STAGES.append("mine")
    assert "mine" not in other.MGOT.TEST.STAGES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["MGOT.CLUSTER.EPSS", "0.5"], "did you mean 'MGOT.CLUSTER.EPS'"),
        (["SOLVER.BASE_LRR", "0.5"], "did you mean 'SOLVER.BASE_LR'"),
        (["MGOT.CLUSTER.EPS"], "KEY VALUE pairs"),
        (["MGOT.CLUSTER.EPS", "0"], "MGOT.CLUSTER.EPS must be between 0 and 1"),
        (["MGOT.CLUSTER.EPS", "much"], "MGOT.CLUSTER.EPS cannot be 'much'"),
        (["MGOT.CLUSTER.K2", "99"], "MGOT.CLUSTER.K2"),
        (["MGOT.CLUSTER.NAME", "kmeans"], "MGOT.CLUSTER.NAME must be one of ('dbscan', 'hdbscan', 'oracle')"),
        (["MGOT.CLUSTER.MIN_CLUSTER_SIZE", "1"], "MGOT.CLUSTER.MIN_CLUSTER_SIZE must be 2 or more"),
        (["MGOT.CLUSTER.REACH", "1.0"], "MGOT.CLUSTER.REACH must be between 0 and 1"),
        (["MGOT.LOSS.W_VCL", "-1.0"], "MGOT.LOSS.W_VCL must be 0 or more"),
        (
            ["MGOT.LOSS.W_VCL", "0", "MGOT.LOSS.W_ICL", "0"],
            "MGOT.LOSS.W_VCL must be more than 0",
        ),
        (["MGOT.LOSS.ACCL_DUAL", "True"], "MGOT.LOSS.ACCL_DUAL must be False if there is no second memory"),
        (["MGOT.LOSS.HYBRID_DUAL", "True"], "MGOT.LOSS.HYBRID_DUAL must be False if there is no second memory"),
        (
            ["MGOT.OTHER_CAMERAS", "True", "DATALOADER.SAMPLER_TRAIN", "BalancedIdentitySampler"],
            "MGOT.OTHER_CAMERAS must be False if DATALOADER.SAMPLER_TRAIN is BalancedIdentitySampler",
        ),
        (["MGOT.MATCHER.NAME", "otp"], "MGOT.MATCHER.NAME must be one of"),
        (["MGOT.MATCHER.SUPPLY", "thermal"], "MGOT.MATCHER.SUPPLY"),
        (["MGOT.MATCHER.LAMBDA", "-1.0"], "MGOT.MATCHER.LAMBDA must be more than 0"),
        (["MGOT.MATCHER.RELAXATION", "0.0"], "MGOT.MATCHER.RELAXATION must be more than 0"),
        (["MGOT.MATCHER.MIN_MASS", "1.0"], "MGOT.MATCHER.MIN_MASS must be in [0, 1)"),
        (["MGOT.MODE", "semi"], "MGOT.MODE must be one of"),
        (["MGOT.DATA.OVERLAP", "1.5"], "MGOT.DATA.OVERLAP must be in [0, 1]"),
        (["MGOT.DATA.OVERLAP_DROPS", "thermal"], "MGOT.DATA.OVERLAP_DROPS must be one of"),
        (["MGOT.DATA.OVERLAP_SEED", "-1"], "MGOT.DATA.OVERLAP_SEED must be 0 or more"),
        (["MGOT.TEST.STAGES", "['initial']"], "MGOT.TEST.STAGES must be of"),
        (["MGOT.LOSS.W_CCL", "-1.0"], "MGOT.LOSS.W_CCL must be 0 or more"),
        (["MGOT.LOSS.MOMENTUM", "1.0"], "MGOT.LOSS.MOMENTUM"),
        (["DATALOADER.CACHE", "tape"], "DATALOADER.CACHE"),
        (["MGOT.WEIGHTS_SOURCE", "web"], "MGOT.WEIGHTS_SOURCE must be one of"),
        (["SOLVER.MAX_EPOCH", "0"], "SOLVER.MAX_EPOCH"),
        (["MODEL.HEADS.NAME", "EmbeddingHead"], "MODEL.HEADS.NAME"),
        (["TEST.PRECISE_BN.ENABLED", "True"], "TEST.PRECISE_BN.ENABLED"),
    ],
)
def test_mistakes_are_named(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(str(REPO / "projects/MGOT/configs/demo.yml"), options)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    demo = str(REPO / "projects/MGOT/configs/demo.yml")
    assert load_config(demo, ["MODEL.DEVICE", "cuda:1"]).MODEL.DEVICE == "cuda:1"
    with pytest.raises(UserError, match=r"MODEL.DEVICE cuda:2: this machine has 2 GPUs, counted from cuda:0"):
        load_config(demo, ["MODEL.DEVICE", "cuda:2"])


def test_missing_and_malformed_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_config(str(tmp_path / "none.yml"))
    for name, text in {
        "list.yml": "- 1\n",
        "broken.yml": "a: [1\n",
        "tag.yml": "SEED: !!python/object/apply:os.getcwd []\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="not a safe YAML mapping"):
            load_config(str(tmp_path / name))
    (tmp_path / "base.yml").write_text("_BASE_: nowhere.yml\n")
    with pytest.raises(UserError, match="nowhere"):
        load_config(str(tmp_path / "base.yml"))
    (tmp_path / "typo.yml").write_text("MGOT:\n  LOSS:\n    W_CCLL: 1.0\n")
    with pytest.raises(
        UserError, match=r"typo.yml: unknown config key 'MGOT.LOSS.W_CCLL'; did you mean 'MGOT.LOSS.W_CCL'"
    ):
        load_config(str(tmp_path / "typo.yml"))


def test_a_file_goes_over_its_base_and_each_of_them_is_checked(tmp_path: Path) -> None:
    top, base = tmp_path / "top.yml", tmp_path / "base.yml"
    top.write_text("_BASE_: base.yml\nMGOT: {CLUSTER: {K2: 4}}\n")
    base.write_text(f"_BASE_: {REPO}/projects/MGOT/configs/demo.yml\nMGOT: {{CLUSTER: {{K1: 12, K2: 5}}}}\n")
    cfg = load_config(str(top))
    assert (cfg.MGOT.CLUSTER.K1, cfg.MGOT.CLUSTER.K2, cfg.SEED) == (12, 4, 0)
    for text, message in {
        "MGOT: {MODE: supervised}\nMGOT: {CLUSTER: {K1: 9}}\n": r"base\.yml: .*line 2: the key 'MGOT' comes twice",
        "MGOT.CLUSTER.K1: 9\nMGOT: {CLUSTER: {K1: 8}}\n": r"base\.yml: MGOT\.CLUSTER\.K1 comes twice",
        "_BASE_: top.yml\n": r"base\.yml: its _BASE_ leads back to it",
        "_BASE_: 3\n": r"base\.yml: _BASE_ 3: no such file",
        "_BASE_: ''\n": r"base\.yml: _BASE_ '': no such file",
    }.items():
        base.write_text(text)
        with pytest.raises(UserError, match=message):
            load_config(str(top))


def test_defaults_fit_the_hosts_config() -> None:
    cfg = get_cfg()
    add_mgot_config(cfg)
    cfg.merge_from_list(["MODEL.HEADS.NAME", "MGOTHead", "MODEL.META_ARCHITECTURE", "DEN"])
    check_config(cfg)
