"""A ResNet with a quarter of fast-reid's channels, small enough for a repository and for two cores.

The demo uses it instead of an ImageNet ResNet-50. Its weights (`tools/pretrain_demo.py`) come from rendered people.
[ours]
"""

from __future__ import annotations

from collections.abc import Sequence

from fastreid.config import CfgNode
from fastreid.layers import get_norm
from fastreid.modeling.backbones.build import BACKBONE_REGISTRY
from fastreid.modeling.backbones.resnet import BasicBlock, ResNet
from torch import nn

from mgot.errors import UserError
from mgot.modeling.weights import load_backbone_weights

SLIM_WIDTHS = (32, 64, 128, 256)
BLOCKS_PER_STAGE = {"10x": (1, 1, 1, 1), "18x": (2, 2, 2, 2)}


class SlimResNet(ResNet):
    """fast-reid's ResNet of basic blocks with free channel widths; `layer1` to `layer4` as in fast-reid.

    Input (B, 3, H, W), output (B, widths[3], H/16, W/16) with last_stride 1, /32 with 2.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        blocks: Sequence[int],
        last_stride: int,
        norm: str,
        with_ibn: bool = False,
        with_se: bool = False,
    ) -> None:
        # fast-reid's constructor fixes 64 channels; everything but the widths is taken from it.
        nn.Module.__init__(self)
        self.inplanes = widths[0]
        self.conv1 = nn.Conv2d(3, widths[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = get_norm(norm, widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        strides = (1, 2, 2, last_stride)
        for stage, (width, count, stride) in enumerate(zip(widths, blocks, strides, strict=True), start=1):
            ibn = with_ibn and stage < 4
            setattr(self, f"layer{stage}", self._make_layer(BasicBlock, width, count, stride, norm, ibn, with_se))
        self.random_init()
        # No non-local blocks: fast-reid's forward reads these four lists.
        for stage in (1, 2, 3, 4):
            setattr(self, f"NL_{stage}_idx", [])


@BACKBONE_REGISTRY.register()
def build_slim_resnet_backbone(cfg: CfgNode) -> SlimResNet:
    """A SlimResNet from cfg.MODEL.BACKBONE; DEPTH 10x or 18x. Raises UserError for options that it does not have."""
    keys = cfg.MODEL.BACKBONE
    if keys.DEPTH not in BLOCKS_PER_STAGE:
        raise UserError(f"MODEL.BACKBONE.DEPTH: {keys.DEPTH!r} is not one of {sorted(BLOCKS_PER_STAGE)}")
    if keys.WITH_NL:
        raise UserError("MODEL.BACKBONE.WITH_NL: the slim ResNet has no non-local blocks; set it to False")
    model = SlimResNet(
        widths=SLIM_WIDTHS,
        blocks=BLOCKS_PER_STAGE[keys.DEPTH],
        last_stride=keys.LAST_STRIDE,
        norm=keys.NORM,
        with_ibn=keys.WITH_IBN,
        with_se=keys.WITH_SE,
    )
    if keys.PRETRAIN:
        if not keys.PRETRAIN_PATH:
            raise UserError(
                "MODEL.BACKBONE.PRETRAIN_PATH: name the file of the weights, or set MODEL.BACKBONE.PRETRAIN to False"
            )
        load_backbone_weights(model, keys.PRETRAIN_PATH)
    return model
