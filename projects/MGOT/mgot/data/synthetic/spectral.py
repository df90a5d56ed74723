"""Grey versions of a visible picture: augmentations that remove colour. [field] and [ours]

Images are uint8 (B, H, W, 3), red first; results have the same shape and three equal channels.
"""

from __future__ import annotations

import numpy as np

from mgot.data.synthetic.materials import LUMINANCE

GAIN_RANGE = (0.5, 1.5)
CONTRAST_RANGE = (25.0, 60.0)
BRIGHTNESS_RANGE = (60.0, 150.0)
LARGEST_NOISE = 10.0
SMALLEST_DEVIATION = 3.0


def copy_channel(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image's red, green, blue or luminance, at random, copied to all channels, with a random gain. [field]"""
    grey = np.empty(images.shape[:3], dtype=np.float32)
    for image, out in zip(images, grey, strict=True):
        choice = int(rng.integers(4))
        out[...] = image[..., choice] if choice < 3 else image @ LUMINANCE
        out *= rng.uniform(*GAIN_RANGE)
    return _to_three_channels(grey)


def mix_spectrum(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image's random signed mix of its channels, with a random contrast, brightness and grain. [ours]

    Only shape and texture survive every mix, so a network that recognises people in it has learnt these.
    """
    grey = np.empty(images.shape[:3], dtype=np.float32)
    for image, out in zip(images, grey, strict=True):
        weights = rng.normal(size=3)
        mixed = image.astype(np.float32) @ (weights / np.abs(weights).sum()).astype(np.float32)
        mixed = (mixed - mixed.mean()) / (mixed.std() + SMALLEST_DEVIATION)
        grain = rng.uniform(0.0, LARGEST_NOISE) * rng.standard_normal(mixed.shape, dtype=np.float32)
        out[...] = rng.uniform(*CONTRAST_RANGE) * mixed + rng.uniform(*BRIGHTNESS_RANGE) + grain
    return _to_three_channels(grey)


def _to_three_channels(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(grey, 0.0, 255.0).astype(np.uint8)[..., None], 3, axis=3)
