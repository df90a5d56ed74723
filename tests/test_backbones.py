"""Every backbone of fast-reid through DEN by its YAML alone: stages, gradients, two epochs, scores, checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fastreid.config import CfgNode
from fastreid.modeling.backbones.build import BACKBONE_REGISTRY
from fastreid.modeling.backbones.shufflenet import ShuffleV2Block
from fastreid.modeling.meta_arch import build_model
from torch import nn

from mgot.engine.resume.checkpoint import AtomicCheckpointer
from mgot.engine.setup import load_config
from mgot.engine.trainer import MGOTTrainer
from mgot.errors import UserError
from mgot.modeling.fastreid_backbones import build_backbone
from mgot.modeling.stages import StageTap, probe
from tests.conftest import write_coloured_people

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
YAMLS = sorted(REPO.glob("configs/Backbone-*.yml"))
SMALL = [
    "MODEL.BACKBONE.PRETRAIN", "False", "INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]",
    "MGOT.LOSS.W_ADV", "1.0",
]  # fmt: skip
# Where a YAML's network is a large one, the tests train its smaller sister.
SISTERS = {
    "Backbone-ResNeXt": ["MODEL.BACKBONE.DEPTH", "50x"],
    "Backbone-ViT": ["MODEL.BACKBONE.DEPTH", "small"],
}
STAGE_CHANNELS = {
    "Backbone-EffNet": [16, 24, 40, 112, 320],
    "Backbone-MobileNetV2": [16, 24, 32, 96, 320],
    "Backbone-MobileNetV3": [16, 24, 40, 112, 960],
    "Backbone-OSNet": [64, 256, 384, 512, 512],
    "Backbone-RegNet": [32, 64, 128, 320, 768],
    "Backbone-RepVGG": [48, 48, 96, 192, 1280],
    "Backbone-ResNeSt": [64, 256, 512, 1024, 2048],
    "Backbone-ResNeXt": [64, 256, 512, 1024, 2048],
    "Backbone-ResNet": [64, 256, 512, 1024, 2048],
    "Backbone-ShuffleNetV2": [24, 116, 232, 464, 1024],
    "Backbone-ViT": [768] * 5,
}
# A convolution or a norm and a choice of tokens stand between the last stage and the output.
MORE_BEHIND_THE_STAGES = {"Backbone-EffNet", "Backbone-MobileNetV2", "Backbone-MobileNetV3", "Backbone-ViT"}


def small_config(yaml: Path, *options: str) -> CfgNode:
    return load_config(DEMO, [str(yaml), *SMALL, *SISTERS.get(yaml.stem, []), *options])


def backbone_config(name: str, depth: str, *options: str) -> CfgNode:
    return load_config(DEMO, [*SMALL, "MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.DEPTH", depth, *options])


def test_every_backbone_of_the_host_has_a_yaml() -> None:
    named = {load_config(DEMO, [str(path), *SMALL]).MODEL.BACKBONE.NAME for path in YAMLS}
    assert named == set(BACKBONE_REGISTRY._obj_map) - {"build_slim_resnet_backbone"}


@pytest.mark.parametrize("yaml", YAMLS, ids=lambda path: path.stem)
def test_stages_and_feature_dimension(yaml: Path) -> None:
    cfg = small_config(yaml)
    backbone = build_backbone(cfg)
    shape = probe(backbone, StageTap(backbone), (64, 32))
    assert shape == (STAGE_CHANNELS[yaml.stem], cfg.MODEL.BACKBONE.FEAT_DIM, yaml.stem not in MORE_BEHIND_THE_STAGES)


HALVES = [128, 64, 32, 16, 8]


@pytest.mark.parametrize(
    ("name", "depth", "heights"),
    [
        ("resnet", "18x", [64, 64, 32, 16, 8]),
        ("effnet", "b0", HALVES),
        ("mobilenetv2", "1.0x", HALVES),
        ("mobilenetv3", "Large", HALVES),
        ("mobilenetv3", "Small", HALVES),
        ("regnet", "200x", HALVES),
        ("repvgg", "A0", HALVES),
        ("shufflenetv2", "0.5x", [64, 32, 16, 8, 8]),
    ],
)
def test_stages_end_where_the_map_shrinks(
    name: str, depth: str, heights: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = build_backbone(backbone_config(f"build_{name}_backbone", depth, "MODEL.BACKBONE.LAST_STRIDE", "2"))
    seen: list[int] = []

    def record(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[2])
        return x.mean(dim=(2, 3))

    monkeypatch.setattr("mgot.modeling.stages.pool", record)
    probe(backbone, StageTap(backbone), (256, 128))
    assert seen[:-1] == heights and seen[-1] == 8  # the last is the backbone's own output


def test_unknown_names_and_depths_are_told() -> None:
    cfg = backbone_config("build_resnet_backbone", "50x").clone()  # as a config that nobody checked
    cfg.defrost()
    cfg.MODEL.BACKBONE.NAME = "build_x"
    with pytest.raises(UserError, match=r"MODEL\.BACKBONE\.NAME: 'build_x' is not one of .*build_osnet_backbone"):
        build_backbone(cfg)
    for name, depth in (("resnet", "51x"), ("mobilenetv3", "Huge"), ("shufflenetv2", "9x"), ("regnet", "b0")):
        with pytest.raises(UserError, match=rf"MODEL\.BACKBONE\.DEPTH: build_{name}_backbone has no '{depth}'"):
            cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.DEPTH = f"build_{name}_backbone", depth
            build_backbone(cfg)


def test_a_stage_that_never_runs_is_told() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    backbone = Idle()
    with pytest.raises(UserError, match=r"MGOT\.DEN\.STAGES: the backbone never runs \['idle'\]"):
        probe(backbone, StageTap(backbone, ["used", "idle"]), (8, 4))


def test_regnet_reads_its_numbers_from_the_host_wherever_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = [name for name, _ in build_backbone(backbone_config("build_regnet_backbone", "400x")).named_modules()]
    with_attention = build_backbone(backbone_config("build_regnet_backbone", "800y"))
    after = [name for name, _ in build_backbone(backbone_config("build_regnet_backbone", "400x")).named_modules()]
    assert any(".se." in name for name, _ in with_attention.named_modules())
    assert after == alone and not any(".se." in name for name in alone)


def test_shufflenets_halves_are_the_hosts() -> None:
    x = torch.randn(2, 8, 3, 2)
    (block, *_) = [
        m
        for m in build_backbone(backbone_config("build_shufflenetv2_backbone", "0.5x")).modules()
        if isinstance(m, ShuffleV2Block)
    ]
    channels = x.reshape(2 * 8 // 2, 2, 6).permute(1, 0, 2).reshape(2, -1, 4, 3, 2)
    for ours, theirs in zip(block.channel_shuffle(x), channels, strict=True):
        assert torch.equal(ours, theirs)


def test_vision_transformer_wants_one_size() -> None:
    with pytest.raises(UserError, match=r"INPUT\.SIZE_TEST .* must be INPUT\.SIZE_TRAIN"):
        build_backbone(small_config(REPO / "configs/Backbone-ViT.yml", "INPUT.SIZE_TEST", "[128, 64]"))


@pytest.fixture(scope="module", name="few_people")
def fixture_few_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("few")
    write_coloured_people(root, n_train=5, n_test=2, per_camera=2)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("yaml", YAMLS, ids=lambda path: path.stem)
def test_two_epochs_scores_and_checkpoint(
    yaml: Path, few_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTREID_DATASETS", str(few_people))
    cfg = small_config(
        yaml, "SOLVER.MAX_EPOCH", "2", "MGOT.CROSS_START_EPOCH", "1", "MGOT.ITERS_PER_EPOCH", "1", "SEED", "0",
        "SOLVER.IMS_PER_BATCH", "16", "DATALOADER.NUM_INSTANCE", "4", "MGOT.CLUSTER.K1", "6", "MGOT.CLUSTER.K2", "2",
        "MGOT.CLUSTER.MIN_SAMPLES", "2", "MGOT.CLUSTER.EPS", "0.7", "MGOT.TEST.TRIALS", "2", "TEST.FLIP.ENABLED",
        "False", "MGOT.CHECKPOINT.INTRA", "False",
        "SOLVER.CHECKPOINT_PERIOD", "2", "OUTPUT_DIR", str(tmp_path),
    )  # fmt: skip
    trainer = MGOTTrainer(cfg)
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    terms = {"loss_vcl", "loss_icl", "loss_ccl", "loss_mcl", "loss_cpal", "loss_adv"}
    assert any(terms <= set(line) for line in lines)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["stage"] for row in rows if row["protocol"] == "sysu-all-single"] == [
        "initial",
        "intra",
        "fittest",
        "final",
    ]
    first = next(trainer.network.backbone.parameters())
    assert first.grad is not None and float(first.grad.abs().sum()) > 0
    adversary = trainer.network.discriminator
    assert adversary is not None
    more = yaml.stem in MORE_BEHIND_THE_STAGES
    assert len(adversary.necks) == len(STAGE_CHANNELS[yaml.stem]) - (not more)
    fresh = build_model(cfg)
    AtomicCheckpointer(fresh).load(str(tmp_path / "model_final.pth"))
    images = torch.rand(2, 3, 64, 32) * 255
    with torch.no_grad():
        assert torch.equal(fresh.eval()(images), trainer.network.eval()(images))
