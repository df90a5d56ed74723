"""DEN, the discrepancy elimination network, as a meta-architecture over any backbone of fast-reid."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import build_heads
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from torch import Tensor, nn

from mgot.errors import UserError
from mgot.modeling.discriminator import ModalityDiscriminator
from mgot.modeling.fastreid_backbones import build_backbone
from mgot.modeling.gather import gather_with_gradient
from mgot.modeling.heads import MGOTHead
from mgot.modeling.precision import resolve_precision
from mgot.modeling.recompute import recompute as recompute_parts
from mgot.modeling.stages import StageTap, probe, split_stem
from mgot.modeling.strided import mend_strided_convolutions


@META_ARCH_REGISTRY.register()
class DEN(nn.Module):
    """One shared stream for both modalities, and an adversary that guesses the modality from its stages.

    Source: docs/method.md section 2, [OTLA]; the two-stream stem by key is [field].

    Args:
        backbone: images (B, 3, H, W) to maps (B, D, h, w) or vectors (B, D).
        heads: maps to features, features to losses; :class:`mgot.modeling.heads.MGOTHead`.
        pixel_mean, pixel_std: per channel, in 0..255.
        feat_dim: D that the config promises.
        input_size: (height, width) at which the stages' channels are read.
        stages: names of the modules that feed the adversary; empty takes the backbone's default.
        adversary_weight: w_adv; 0 builds no adversary.
        shared_neck: the adversary's last stage is the head's features after the neck, before they are normalised. So
            its gradient reaches the retrieval neck [OTLA]. If the last named stage is not the backbone's output, as in
            networks with a convolution or a norm after their stages, these features are added to the named stages
            [ours]. False, or if the head has no neck: the adversary has its own neck for each named stage [ours].
        reversal_iters: T of the reversal coefficient.
        dropout, logit_norm, init: of the adversary, :class:`mgot.modeling.discriminator.ModalityDiscriminator`.
        two_stream_stem: names of the modules that each modality has separately.
        precision: number format of the backbone under autocast, in training and in inference. Its output is float32,
            and so are the head, the adversary and the losses.
        compiled: compile the backbone with torch.compile at its first run.
        recompute: parts of the backbone that the backward pass computes again, :mod:`mgot.modeling.recompute`.

    Raises:
        UserError: a module name is unknown or cannot be used, or the backbone's channels are not ``feat_dim``.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        heads: MGOTHead,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        feat_dim: int,
        input_size: Sequence[int],
        stages: Sequence[str] = (),
        adversary_weight: float = 1.0,
        shared_neck: bool = True,
        reversal_iters: int = 10000,
        dropout: float = 0.5,
        logit_norm: bool = True,
        init: str = "otla",
        two_stream_stem: Sequence[str] = (),
        precision: torch.dtype = torch.float32,
        compiled: bool = False,
        recompute: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.precision = precision
        self.adversary_weight = adversary_weight
        self.streams = split_stem(backbone, two_stream_stem)  # before the tap, whose hooks a copy would take along
        self.tap = StageTap(backbone, stages)
        shape = probe(backbone, self.tap, input_size)
        if shape.out_dim != feat_dim:
            raise UserError(
                f"MODEL.BACKBONE.FEAT_DIM is {feat_dim}, but this backbone gives {shape.out_dim} channels: set it so"
            )
        recompute_parts(backbone, recompute, input_size, self.tap.names if adversary_weight else ())
        mend_strided_convolutions(backbone)
        self.backbone = backbone
        self.heads = heads
        self.shared_neck = shared_neck and not isinstance(heads.bottleneck, nn.Identity)
        self.discriminator = None
        if adversary_weight:
            self.discriminator = ModalityDiscriminator(
                shape.stage_dims[:-1] if self.shared_neck and shape.ends_in_output else shape.stage_dims,
                shared_dim=feat_dim if self.shared_neck else 0,
                dropout=dropout,
                horizon=reversal_iters,
                logit_norm=logit_norm,
                init=init,
            )
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(1, -1, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)  # convolutions run faster so, on CPUs and tensor cores
        if compiled:
            backbone.compile()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The only place where the config becomes arguments."""
        return {
            "backbone": build_backbone(cfg),
            "heads": build_heads(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "input_size": cfg.INPUT.SIZE_TRAIN,
            "stages": cfg.MGOT.DEN.STAGES,
            "adversary_weight": cfg.MGOT.LOSS.W_ADV,
            "shared_neck": cfg.MGOT.DEN.SHARED_NECK,
            "reversal_iters": cfg.MGOT.DEN.REVERSAL_ITERS,
            "dropout": cfg.MGOT.DEN.DROPOUT,
            "logit_norm": cfg.MGOT.DEN.LOGIT_NORM,
            "init": cfg.MGOT.DEN.INIT,
            "two_stream_stem": cfg.MGOT.DEN.TWO_STREAM_STEM,
            "compiled": cfg.MGOT.COMPILE,
            "recompute": cfg.MGOT.RECOMPUTE,
            "precision": resolve_precision(cfg.MGOT.PRECISION, cfg.MODEL.DEVICE),
        }

    @property
    def device(self) -> torch.device:
        """The device of the model; fast-reid's predictors read it."""
        return self.pixel_mean.device

    def forward(self, batch: dict[str, Any] | Tensor) -> Tensor | dict[str, Tensor]:
        """Features in eval mode, losses in training mode.

        Args:
            batch: ``images`` (B, 3, H, W) in 0..255 of any dtype; ``is_visible`` (B,) bool; for training also
                ``targets`` (B,), the pseudo label of each image within its modality. A tensor in place of the
                dictionary is ``images``. Leave the last two on the CPU, so that reading them does not wait for the
                device. If several processes share a batch, ``whole`` is its :class:`mgot.data.sampler.WholeBatch`.

        Returns:
            (B, D) features after the neck, not normalised, or the dictionary of weighted losses.
        """
        inputs: dict[str, Any] = {"images": batch} if isinstance(batch, Tensor) else batch
        images = (inputs["images"].to(self.device, non_blocking=True).float() - self.pixel_mean) / self.pixel_std
        images = images.contiguous(memory_format=torch.channels_last)
        is_visible = inputs.get("is_visible")
        for stream in self.streams:
            stream.is_visible = is_visible
        if not self.training:
            return self.heads(self._maps(images))
        if is_visible is None:
            raise UserError("a training batch must carry 'is_visible': use the loader that MGOT builds")
        with self.tap.reading() if self.discriminator is not None else nullcontext():
            maps = self._maps(images)
        embedded = self.heads(maps)
        whole = inputs.get("whole")
        if whole is None:
            losses = self.heads.losses(embedded, is_visible, inputs["targets"])
        else:
            order = whole.order.to(self.device, non_blocking=True)
            losses = self.heads.losses(gather_with_gradient(embedded)[order], whole.is_visible, whole.targets)
        if self.discriminator is not None:
            losses["loss_adv"] = self.adversary_weight * self.discriminator.loss(
                self.tap.take()[: len(self.discriminator.necks)],
                is_visible.to(self.device, non_blocking=True),
                embedded if self.shared_neck else None,
            )
        return losses

    def _maps(self, images: Tensor) -> Tensor:
        """The backbone's output in float32, computed in :attr:`precision`."""
        with torch.autocast(images.device.type, self.precision, enabled=self.precision != torch.float32):
            maps = self.backbone(images)
        return maps.float()
