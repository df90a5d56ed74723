"""Generated features with the structure that clustering meets in training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SAMPLED_PAIRS = 20_000
IMAGES_AT_ONCE = 4096


class Difficulty(NamedTuple):
    """How far the images of one identity lie apart, where the distance of two identities is of order 1.

    Attributes:
        noise: standard deviation of an image about its identity; drawn for each image between the two.
        camera: standard deviation of a camera's shift.
        strangers: share of images whose identity nobody else has.
    """

    noise: tuple[float, float]
    camera: float
    strangers: float


DIFFICULTIES = {
    "easy": Difficulty(noise=(1.0, 1.0), camera=0.3, strangers=0.0),
    "hard": Difficulty(noise=(1.0, 3.0), camera=0.7, strangers=0.1),
}


def generate(
    n: int, dimension: int, difficulty: Difficulty, *, per_identity: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features and identities, in random order.

        f = normalise(common + spectrum * (identity + camera + sigma noise)),  spectrum_d ~ d^(-0.35)

    The common part puts all features into a cone and the falling spectrum gives few directions most of the variance, as
    in a network's output.

    Returns:
        (N, D) float32 of length 1; (N,) int64.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, dimension + 1, dtype=np.float32) ** np.float32(-0.35)
    spectrum *= np.sqrt(dimension / np.square(spectrum).sum())
    common = rng.standard_normal(dimension, dtype=np.float32)
    identities = rng.integers(max(1, n // per_identity), size=n)
    strange = rng.random(n) < difficulty.strangers
    identities[strange] = identities.max() + 1 + np.arange(strange.sum())
    centres = rng.standard_normal((int(identities.max()) + 1, dimension), dtype=np.float32)
    cameras = np.float32(difficulty.camera) * rng.standard_normal((4, dimension), dtype=np.float32)
    features = np.empty((n, dimension), dtype=np.float32)
    for start in range(0, n, IMAGES_AT_ONCE):
        part = features[start : start + IMAGES_AT_ONCE]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= rng.uniform(*difficulty.noise, size=(len(part), 1)).astype(np.float32)
        part += centres[identities[start : start + IMAGES_AT_ONCE]]
        part += cameras[rng.integers(4, size=len(part))]
        part *= spectrum
        part += common
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return features, identities


def describe(features: np.ndarray, identities: np.ndarray) -> str:
    """Mean and deviation of the cosine of sampled pairs, of one identity and of two."""
    rng = np.random.default_rng(0)
    order = np.argsort(identities, kind="stable")
    at = rng.integers(len(order) - 1, size=SAMPLED_PAIRS)
    a, b = order[at], order[at + 1]
    same = identities[a] == identities[b]
    near = np.einsum("nd,nd->n", features[a[same]], features[b[same]])
    c, d = rng.integers(len(order), size=(2, SAMPLED_PAIRS))
    far = np.einsum("nd,nd->n", features[c], features[d])[identities[c] != identities[d]]
    return (
        f"cosine {near.mean():.2f} +- {near.std():.2f} within, {far.mean():.2f} +- {far.std():.2f} between identities"
    )
