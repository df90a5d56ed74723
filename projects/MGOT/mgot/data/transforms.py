"""Augmentation of whole batches on the device that trains, in place of one PIL image at a time.

Images are float tensors (B, 3, H, W) in 0..255. Every function draws from the generator it is given, so a seed fixes
the batch. Source: METHOD.md section 2; the channel view and the grey-level jitter are [field].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_ERASE_ATTEMPTS = 10
_ERASE_AREA = (0.02, 0.33)
_ERASE_RATIO = (0.3, 3.3)
_LUMA = (0.299, 0.587, 0.114)


def crop_and_flip(x: Tensor, padding: int, flip_prob: float, generator: torch.Generator) -> Tensor:
    """Pad with black, crop at a random place to the old size, mirror with probability ``flip_prob``.

    One gather does all three. Shape (B, 3, H, W) in and out.
    """
    b, _, h, w = x.shape
    device = x.device
    top = torch.randint(0, 2 * padding + 1, (b, 1), generator=generator, device=device)
    left = torch.randint(0, 2 * padding + 1, (b, 1), generator=generator, device=device)
    flip = torch.rand(b, 1, generator=generator, device=device) < flip_prob
    rows = top + torch.arange(h, device=device)
    across = torch.arange(w, device=device).expand(b, w)
    columns = left + torch.where(flip, w - 1 - across, across)
    padded = F.pad(x, [padding] * 4).permute(0, 2, 3, 1)
    batch = torch.arange(b, device=device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def erase(x: Tensor, prob: float, value: Sequence[float], generator: torch.Generator) -> Tensor:
    """Random erasing: a rectangle of 2 to 33 % of the area, aspect ratio 0.3 to 3.3, filled with ``value`` per channel.

    The distribution is torchvision's: up to ten draws, the first that fits is taken, none erases nothing.
    """
    b, _, h, w = x.shape
    device = x.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(b, _ERASE_ATTEMPTS, generator=generator, device=device)

    area = uniform(*_ERASE_AREA) * (h * w)
    ratio = torch.exp(uniform(*(float(torch.tensor(r).log()) for r in _ERASE_RATIO)))
    height, width = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (height < h) & (width < w) & (height > 0) & (width > 0)
    first = fits.int().argmax(dim=1, keepdim=True)
    height, width = height.gather(1, first), width.gather(1, first)
    top = (torch.rand(b, 1, generator=generator, device=device) * (h - height + 1)).floor()
    left = (torch.rand(b, 1, generator=generator, device=device) * (w - width + 1)).floor()
    chosen = (torch.rand(b, 1, generator=generator, device=device) < prob) & fits.any(dim=1, keepdim=True)
    row, column = torch.arange(h, device=device), torch.arange(w, device=device)
    in_rows = (row >= top) & (row < top + height) & chosen
    in_columns = (column >= left) & (column < left + width)
    mask = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    return torch.where(mask, torch.tensor(value, device=device, dtype=x.dtype).view(1, 3, 1, 1), x)


def channel_view(x: Tensor, gray_prob: float, generator: torch.Generator) -> Tensor:
    """A visible image as one channel: luma with probability ``gray_prob``, else a random one, in all three."""
    b, c, h, w = x.shape
    channel = torch.randint(0, 3, (b,), generator=generator, device=x.device)
    weight = F.one_hot(channel, 3).to(x.dtype)
    gray = torch.rand(b, 1, generator=generator, device=x.device) < gray_prob
    weight = torch.where(gray, torch.tensor(_LUMA, device=x.device, dtype=x.dtype), weight)
    return torch.einsum("bc,bchw->bhw", weight, x)[:, None].expand(b, c, h, w)


def level_jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gain in [1 - s, 1 + s] and offset in +-255 s / 2 for each image, clipped to 0..255; s = 0 changes nothing."""
    gain, offset = (
        2 * torch.rand(2, x.shape[0], 1, 1, 1, generator=generator, device=x.device, dtype=x.dtype) - 1
    ).unbind(0)
    return (x * (1 + strength * gain) + 127.5 * strength * offset).clamp(0, 255)


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training batch.

    Attributes:
        padding: pixels of padding before the random crop.
        flip_prob: chance of a mirror image.
        erase_prob: chance of random erasing.
        erase_value: what fills the rectangle, per channel in 0..255.
        gray_prob: chance of luma in the visible channel view.
        infrared_jitter: strength of the grey-level jitter.
    """

    padding: int = 10
    flip_prob: float = 0.5
    erase_prob: float = 0.5
    erase_value: Sequence[float] = (123.675, 116.28, 103.53)
    gray_prob: float = 0.25
    infrared_jitter: float = 0.2

    def __call__(self, visible: Tensor, infrared: Tensor, generator: torch.Generator) -> Tensor:
        """Two views of each visible image and one of each infrared image.

        Args:
            visible: (B_v, 3, H, W) uint8 or float, 0..255.
            infrared: (B_r, 3, H, W).
            generator: on the images' device.

        Returns:
            (2 B_v + B_r, 3, H, W) float: plain views, channel views, infrared.
        """
        b = visible.shape[0]
        images = torch.cat([visible, visible, infrared]).float()
        images = crop_and_flip(images, self.padding, self.flip_prob, generator)
        views = [
            images[:b],
            channel_view(images[b : 2 * b], self.gray_prob, generator),
            level_jitter(images[2 * b :], self.infrared_jitter, generator),
        ]
        return erase(torch.cat(views), self.erase_prob, self.erase_value, generator)
