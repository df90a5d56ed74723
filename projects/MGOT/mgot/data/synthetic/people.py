"""Who is in the picture (Person: fixed for an identity) and in which pose (Pose: drawn for each image)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mgot.data.synthetic.materials import DYES, HAIR, INFRARED_BAND, SKIN, Cloth, dyed, luminance, tabled

CONTRAST = 0.18
PATTERNS = ("plain", "bands", "pinstripes", "checks", "dots", "block", "yoke", "sash")
LOGOS = ("none", "disc", "square", "bar", "cross", "ring")
LOWER_KINDS = ("trousers", "wide", "shorts", "skirt", "long skirt")
HAIR_KINDS = ("short", "bald", "long", "bun", "cap", "afro", "hood")
BAG_KINDS = ("none", "backpack", "shoulder", "handbag")


class Pattern(NamedTuple):
    """A motif over cloth coordinates: `period` in half-widths of the garment, `phase` and `duty` in [0, 1]."""

    kind: str
    period: float
    phase: float
    duty: float


class Garment(NamedTuple):
    """Two materials and the pattern that mixes them; `sleeve` and `hem` as shares of the arm and of the body."""

    base: Cloth
    accent: Cloth
    pattern: Pattern
    sleeve: float
    hem: float
    logo: str


@dataclass(frozen=True)
class Person:
    """The lasting look of one identity; lengths are shares of the body's height."""

    stature: float
    build: float
    leg_share: float
    head: float
    skin: Cloth
    hair_kind: str
    hair: Cloth
    upper: Garment
    open_front: bool
    inner: Cloth
    lower_kind: str
    lower: Garment
    side_stripe: bool
    shoes: Cloth
    boot: float
    bag_kind: str
    bag: Cloth
    belt: bool


class Pose(NamedTuple):
    """One image's view: yaw in radians (0 = facing the camera), walking phase, placement and size in frame."""

    yaw: float
    phase: float
    stride: float
    arm: float
    lean: float
    dx: float
    dy: float
    scale: float


def stands_out(one: Cloth, other: Cloth, contrast: float = CONTRAST) -> bool:
    """Whether two cloths differ by `contrast` or more, both in luminance and in near-infrared."""
    visible = abs(luminance(one.reflectance) - luminance(other.reflectance))
    infrared = abs(one.reflectance[INFRARED_BAND] - other.reflectance[INFRARED_BAND])
    return bool(min(visible, infrared) >= contrast)


def sample_pattern(rng: np.random.Generator, plain_share: float) -> Pattern:
    """A pattern; plain with the given probability."""
    kind = "plain" if rng.random() < plain_share else str(rng.choice(PATTERNS[1:]))
    return Pattern(kind, period=rng.uniform(0.42, 0.95), phase=rng.random(), duty=rng.uniform(0.35, 0.65))


def sample_person(rng: np.random.Generator, *, residue: float, luminance_share: float, law: str = "slope") -> Person:
    """One identity, drawn from `rng`; `residue`, `luminance_share` and `law` as in `materials.dyed`."""
    names = list(DYES)

    def cloth(beside: Cloth | None = None) -> Cloth:
        """A random cloth, one that differs clearly from `beside`, both in visible light and in infrared."""
        while True:
            dye = DYES[str(rng.choice(names))]
            made = dyed(dye, rng, residue=residue, luminance_share=luminance_share, law=law)
            if beside is None or stands_out(made, beside):
                return made

    lower_kind = str(rng.choice(LOWER_KINDS, p=(0.38, 0.12, 0.2, 0.15, 0.15)))
    hem = {
        "trousers": 1.0,
        "wide": 1.0,
        "shorts": rng.uniform(0.62, 0.76),
        "skirt": rng.uniform(0.64, 0.74),
        "long skirt": rng.uniform(0.8, 0.9),
    }
    upper_base, lower_base = cloth(), cloth()
    upper = Garment(
        upper_base,
        cloth(beside=upper_base),
        sample_pattern(rng, plain_share=0.08),
        sleeve=float(rng.choice((0.0, 0.35, 0.6, 1.0), p=(0.12, 0.33, 0.1, 0.45))),
        hem=float(rng.choice((0.48, 0.53, 0.60, 0.72), p=(0.3, 0.3, 0.2, 0.2))),
        logo=str(rng.choice(LOGOS)),
    )
    lower = Garment(
        lower_base,
        cloth(beside=lower_base),
        sample_pattern(rng, plain_share=0.4),
        sleeve=0.0,
        hem=float(hem[lower_kind]),
        logo="none",
    )
    return Person(
        stature=rng.uniform(0.86, 1.0),
        build=rng.uniform(0.78, 1.32),
        leg_share=rng.uniform(0.47, 0.53),
        head=rng.uniform(0.92, 1.12),
        skin=tabled(SKIN[rng.integers(len(SKIN))], rng),
        hair_kind=str(rng.choice(HAIR_KINDS, p=(0.26, 0.08, 0.22, 0.1, 0.16, 0.08, 0.1))),
        hair=tabled(HAIR[rng.integers(len(HAIR))], rng),
        upper=upper,
        open_front=bool(rng.random() < 0.25),
        inner=cloth(beside=upper_base),
        lower_kind=lower_kind,
        lower=lower,
        side_stripe=bool(rng.random() < 0.2),
        shoes=cloth(),
        boot=float(rng.choice((0.03, 0.05, 0.14), p=(0.45, 0.3, 0.25))),
        bag_kind=str(rng.choice(BAG_KINDS, p=(0.28, 0.3, 0.24, 0.18))),
        bag=cloth(beside=upper_base),
        belt=bool(rng.random() < 0.35),
    )


def sample_pose(rng: np.random.Generator, wobble: float) -> Pose:
    """One image's pose; `wobble` scales how badly the detector centred and sized the person."""
    facing = rng.choice((0.0, 0.5, 1.0, 1.5)) * np.pi
    return Pose(
        yaw=float(facing + rng.normal(0.0, 0.35)),
        phase=float(rng.uniform(0.0, 2.0 * np.pi)),
        stride=float(rng.uniform(0.1, 0.5)),
        arm=float(rng.uniform(0.1, 0.5)),
        lean=float(rng.normal(0.0, 0.02)),
        dx=float(np.clip(rng.normal(0.0, 0.06 * wobble), -0.2, 0.2)),
        dy=float(np.clip(rng.normal(0.0, 0.025 * wobble), -0.1, 0.1)),
        scale=float(np.clip(rng.normal(1.0, 0.05 * wobble), 0.8, 1.2)),
    )
