"""The model: importing this registers DEN, its head and its small backbone with fast-reid."""

from mgot.modeling.backbones import build_slim_resnet_backbone
from mgot.modeling.den import DEN
from mgot.modeling.heads import MGOTHead

__all__ = ["DEN", "MGOTHead", "build_slim_resnet_backbone"]
