"""Augmentation of whole batches on the training device, instead of one PIL image at a time.

Images are float tensors (B, 3, H, W) in 0..255. Every function draws from the generator it is given, so a seed fixes
the batch. Source: docs/method.md section 2; the channel view and the grey-level jitter are [field].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_ERASE_ATTEMPTS = 10
_ERASE_AREA = (0.02, 0.33)
_ERASE_RATIO = (0.3, 3.3)
_LUMA = (0.299, 0.587, 0.114)


def crop_and_flip(x: Tensor, padding: int, flip_prob: float, generator: torch.Generator) -> Tensor:
    """Pad with black, crop at a random place to the old size, mirror with probability ``flip_prob``.

    Shape (B, 3, H, W); uint8 is fastest. The result is float32.
    """
    b, _, h, w = x.shape
    device = x.device
    top = torch.randint(0, 2 * padding + 1, (b, 1), generator=generator, device=device)
    left = torch.randint(0, 2 * padding + 1, (b, 1), generator=generator, device=device)
    flip = torch.rand(b, 1, generator=generator, device=device) < flip_prob
    if device.type == "cpu":
        return _crop_by_slices(x, padding, top.flatten().tolist(), left.flatten().tolist(), flip.flatten().tolist())
    return _crop_by_gather(F.pad(x, [padding] * 4), (h, w), top, left, flip).float()


def _crop_by_slices(x: Tensor, padding: int, top: list[int], left: list[int], flip: list[bool]) -> Tensor:
    """Crops copied image by image. On CPUs this is ten times as fast as a gather, which computes each pixel's index."""
    b, _, h, w = x.shape
    out = torch.zeros(b, 3, h, w)
    for image, crop, t, s, mirror in zip(x, out, top, left, flip, strict=True):
        down, across = t - padding, s - padding  # where the crop begins in the image; negative: in the padding
        seen = image[:, max(down, 0) : h + down, max(across, 0) : w + across]
        row, column = max(-down, 0), max(-across, 0)
        if mirror:
            seen, column = seen.flip(2), max(across, 0)
        crop[:, row : row + seen.shape[1], column : column + seen.shape[2]] = seen
    return out


def _crop_by_gather(padded: Tensor, size: tuple[int, int], top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """The same by one gather, without a wait for the device; top, left, flip are (B, 1)."""
    (h, w), device = size, padded.device
    rows = top + torch.arange(h, device=device)
    across = torch.arange(w, device=device).expand(len(padded), w)
    columns = left + torch.where(flip, w - 1 - across, across)
    batch = torch.arange(len(padded), device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def erase(x: Tensor, prob: float, value: Sequence[float], generator: torch.Generator) -> Tensor:
    """Random erasing: a rectangle of 2 to 33 % of the area, aspect ratio 0.3 to 3.3, filled with ``value`` per channel.

    In place; the same tensor is returned.

    The distribution is torchvision's: up to ten draws, and the first that fits is taken. If none fits, nothing is
    erased.
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
    fill = _constants(value, x).view(3, 1, 1)
    if device.type == "cpu":  # a rectangle is a small part of an image: no pass over all pixels
        for n in torch.nonzero(chosen.flatten()).flatten().tolist():
            t, s = int(top[n]), int(left[n])
            x[n, :, t : t + int(height[n]), s : s + int(width[n])] = fill
        return x
    row, column = torch.arange(h, device=device), torch.arange(w, device=device)
    in_rows = (row >= top) & (row < top + height) & chosen
    in_columns = (column >= left) & (column < left + width)
    mask = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    return torch.where(mask, fill, x, out=x)


def _constants(values: Sequence[float], x: Tensor) -> Tensor:
    """(n,) numbers on x's device.

    They are written there one by one, because sending a list makes the CPU wait for the GPU.
    """
    return torch.stack([torch.full((), value, device=x.device, dtype=x.dtype) for value in values])


def _mixed(x: Tensor, weight: Tensor) -> Tensor:
    """(B, H, W) sums of the channels of (B, 3, H, W) by (B, 3) weights.

    Computed term by term: on some CPUs the rounding of a matrix product depends on the number of images, and several
    processes share a batch.
    """
    return sum((weight[:, k, None, None] * x[:, k] for k in range(1, 3)), weight[:, 0, None, None] * x[:, 0])


def colour_jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue of each image changed at random, as torchvision's ColorJitter does.

    With s = ``strength`` in [0, 0.5], three factors are drawn from 1 - s .. 1 + s, and the hue turns by -s .. s of the
    circle; s = 0 changes and draws nothing. The four come in this order. torchvision draws the order too, which would
    make the CPU wait for the GPU.

    Shape (B, 3, H, W) float, 0..255; the same of the result.
    """
    if strength == 0:
        return x
    by = strength * (2 * torch.rand(4, x.shape[0], 1, 1, 1, generator=generator, device=x.device, dtype=x.dtype) - 1)
    x = (x * (1 + by[0])).clamp(0, 255)
    x = torch.lerp(_luma(x).mean(dim=(1, 2, 3), keepdim=True), x, 1 + by[1]).clamp(0, 255)
    x = torch.lerp(_luma(x), x, 1 + by[2]).clamp(0, 255)
    return turn_hue(x, by[3])


def _luma(x: Tensor) -> Tensor:
    """(B, 1, H, W) luma of (B, 3, H, W)."""
    return _mixed(x, _constants(_LUMA, x).expand(len(x), 3))[:, None]


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Images with their hue turned. Value and saturation stay.

        h = the hue in 0 .. 6, red 0, green 2, blue 4
        k = (n + h + 6 turn) mod 6,   n = 5, 3, 1 for red, green, blue
        channel = high - (high - low) max(0, min(k, 4 - k, 1)),   high, low = a pixel's largest and smallest channel

    Args:
        x: (B, 3, H, W) float, 0..255.
        turn: (B, 1, 1, 1), in circles.
    """
    high, which = x.max(dim=1, keepdim=True)
    spread = high - x.amin(dim=1, keepdim=True)
    after = x.roll(-1, dims=1) - x.roll(-2, dims=1)  # G - B, B - R, R - G
    hue = 2 * which + after.gather(1, which) / spread.clamp(min=1e-6)
    k = (_constants((5.0, 3.0, 1.0), x).view(3, 1, 1) + (hue + 6 * turn)) / 6
    k = 6 * (k - k.floor())
    return high - spread * torch.minimum(k, 4 - k).clamp(0, 1)


def channel_view(x: Tensor, gray_prob: float, generator: torch.Generator, spectral_prob: float = 0.0) -> Tensor:
    """A visible image as one channel: luma with probability ``gray_prob``, else a random one, in all three.

    With probability ``spectral_prob`` it is shown under a random law of colour instead: :func:`under_laws`.
    """
    b, c, h, w = x.shape
    channel = torch.randint(0, 3, (b,), generator=generator, device=x.device)
    weight = F.one_hot(channel, 3).to(x.dtype)
    gray = torch.rand(b, 1, generator=generator, device=x.device) < gray_prob
    weight = torch.where(gray, _constants(_LUMA, x), weight)
    view = _mixed(x, weight)[:, None].expand(b, c, h, w)
    if spectral_prob == 0:
        return view
    spectral = torch.rand(b, 1, 1, 1, generator=generator, device=x.device) < spectral_prob
    return torch.where(spectral, under_laws(x, draw_laws(b, generator)), view)


class Laws(NamedTuple):
    """A smooth law of colour for each of B images: (B, 3) weights of the colours, (B, 3, 3) of their products."""

    linear: Tensor
    square: Tensor

    def run(self, start: int, stop: int, device: torch.device | None = None) -> Laws:
        """The laws of a run of images, on a device."""
        return Laws(self.linear[start:stop].to(device), self.square[start:stop].to(device))


def draw_laws(n: int, generator: torch.Generator) -> Laws:
    """Laws of ``n`` images, standard normal, on the generator's device."""
    device = generator.device
    return Laws(
        torch.randn(n, 3, generator=generator, device=device),
        torch.randn(n, 3, 3, generator=generator, device=device),
    )


def under_laws(x: Tensor, laws: Laws) -> Tensor:
    """Visible images as a one-channel camera might see them, if its channel is a smooth function of colour. [ours]

        y = w . c + c^T A c,   c in [-1, 1]^3 the colour of a pixel

    shifted and scaled to the mean and the deviation of the image's luma, clipped to 0..255, in all three channels. What
    remains of a person is what near-infrared shows too under any law: shape, pattern and the borders of cloth.

    Args:
        x: (B, 3, H, W) float, 0..255.
        laws: of B images, on the same device. An image of one colour becomes its luma.
    """
    b, _, h, w = x.shape
    c = x / 127.5 - 1.0
    weights = [laws.linear[:, i, None, None] + _mixed(c, laws.square[:, i]) for i in range(3)]
    y = sum((weights[i] * c[:, i] for i in range(1, 3)), weights[0] * c[:, 0]).flatten(1)
    luma = _luma(x).flatten(1)
    spread, mean = torch.std_mean(y, dim=1, keepdim=True, correction=0)
    luma_spread, luma_mean = torch.std_mean(luma, dim=1, keepdim=True, correction=0)
    y = (y - mean) * (luma_spread / (spread + 1e-6)) + luma_mean
    return y.clamp(0, 255).view(b, 1, h, w).expand(b, 3, h, w)


def under_laws_each(batches: Iterable[dict[str, Any]], laws: Laws, device: torch.device) -> Iterator[dict[str, Any]]:
    """Batches of visible images one after the other, each image under its own law, on the device."""
    start = 0
    for batch in batches:
        images = batch["images"].to(device, non_blocking=True).float()
        yield {**batch, "images": under_laws(images, laws.run(start, start + len(images), device))}
        start += len(images)


def level_jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gain in [1 - s, 1 + s] and offset in +-255 s / 2 for each image, clipped to 0..255; s = 0 changes nothing.

    In place; the same tensor is returned.
    """
    gain, offset = (
        2 * torch.rand(2, x.shape[0], 1, 1, 1, generator=generator, device=x.device, dtype=x.dtype) - 1
    ).unbind(0)
    return x.mul_(1 + strength * gain).add_(127.5 * strength * offset).clamp_(0, 255)


@dataclass(frozen=True)
class Views:
    """How the views of a batch differ, whoever crops, mirrors and erases.

    Attributes:
        gray_prob: chance of luma in the second visible view.
        spectral_prob: chance of a random law of colour in its place.
        infrared_jitter: strength of the grey-level jitter.
        colour_jitter: strength of the jitter of colours in the second visible view, before it becomes one channel.
    """

    gray_prob: float = 0.25
    spectral_prob: float = 0.0
    infrared_jitter: float = 0.2
    colour_jitter: float = 0.0

    def draw_views(self, images: Tensor, b: int, generator: torch.Generator) -> None:
        """Change (2 b + B_r, 3, H, W) float images in place: b plain ones, b second views, infrared."""
        jittered = colour_jitter(images[b : 2 * b], self.colour_jitter, generator)
        images[b : 2 * b] = channel_view(jittered, self.gray_prob, generator, self.spectral_prob)
        level_jitter(images[2 * b :], self.infrared_jitter, generator)


@dataclass(frozen=True)
class Augmentation(Views):
    """What happens to a training batch.

    Attributes:
        padding: pixels of padding before the random crop.
        flip_prob: chance of a mirror image.
        erase_prob: chance of random erasing.
        erase_value: what fills the rectangle, per channel in 0..255.
        visible_copies: how often each visible image is in the input.
    """

    padding: int = 10
    flip_prob: float = 0.5
    erase_prob: float = 0.5
    erase_value: Sequence[float] = (123.675, 116.28, 103.53)
    visible_copies: int = 1

    def __call__(self, visible: Tensor, infrared: Tensor, generator: torch.Generator) -> Tensor:
        """Two views of each visible image and one of each infrared image.

        Args:
            visible: (B_v, 3, H, W) uint8 or float, 0..255.
            infrared: (B_r, 3, H, W).
            generator: on the images' device.

        Returns:
            (2 B_v + B_r, 3, H, W) float: plain views, channel views, infrared.
        """
        images = torch.cat([visible, visible, infrared])
        images = crop_and_flip(images, self.padding, self.flip_prob, generator)
        self.draw_views(images, len(visible), generator)
        return erase(images, self.erase_prob, self.erase_value, generator)
