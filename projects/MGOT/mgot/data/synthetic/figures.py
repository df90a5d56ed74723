"""Who is in the picture in the style "figures": other bodies, which are round, and other clothes and motifs. [ours]"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mgot.data.synthetic.materials import HAIR, SKIN, Cloth, dyed, tabled
from mgot.data.synthetic.people import stands_out

# How much the cloths of a motif differ at least, in luminance and in infrared.
CONTRAST = 0.25
MOTIFS = ("plain", "chevrons", "waves", "lattice", "slashes", "patches", "halves", "hoop", "rings")
TOPS = ("tunic", "poncho", "quilt", "robe", "bib", "bolero")
LEGS = ("slim", "baggy", "cropped", "dome")
CROWNS = ("crop", "bob", "tail", "beanie", "brim", "turban", "bare", "crest")
THINGS = ("none", "satchel", "case", "barrel", "roll")


class Motif(NamedTuple):
    """A drawing on cloth: `size` in half-widths of the garment, `phase` in [0, 1), `cells` the seed of the patches."""

    kind: str
    size: float
    phase: float
    cells: int


class Piece(NamedTuple):
    """A garment's two materials and the motif that mixes them."""

    base: Cloth
    accent: Cloth
    motif: Motif


@dataclass(frozen=True)
class Figure:
    """The lasting look of one identity; lengths are shares of the body's height."""

    stature: float
    girth: float
    head: float
    hips: float
    skin: Cloth
    crown_kind: str
    crown: Cloth
    top_kind: str
    top: Piece
    hem: float
    sleeve: float
    inner: Cloth
    legs_kind: str
    legs: Piece
    shoes: Cloth
    scarf: bool
    trim: bool
    thing_kind: str
    thing: Cloth


def sample_figure(rng: np.random.Generator, *, residue: float, luminance_share: float, law: str = "slope") -> Figure:
    """One identity, drawn from `rng`; the keywords as in `materials.dyed`. Colours come from the whole colour solid."""

    def cloth(beside: Cloth | None = None) -> Cloth:
        """A cloth of any colour, one that differs clearly from `beside`, both in visible light and in infrared."""
        while True:
            hue, saturation, value = rng.random(), np.sqrt(rng.random()), rng.uniform(0.1, 0.95)
            colour = colorsys.hsv_to_rgb(hue, saturation, value)
            made = dyed(colour, rng, residue=residue, luminance_share=luminance_share, law=law)
            if beside is None or stands_out(made, beside, CONTRAST):
                return made

    def piece(plain_share: float) -> Piece:
        base = cloth()
        kind = "plain" if rng.random() < plain_share else str(rng.choice(MOTIFS[1:]))
        return Piece(base, cloth(base), Motif(kind, rng.uniform(0.6, 1.3), rng.random(), int(rng.integers(1 << 30))))

    top, legs = piece(plain_share=0.06), piece(plain_share=0.35)
    crown_kind = str(rng.choice(CROWNS))
    is_hair = crown_kind in ("crop", "bob", "tail", "crest")
    return Figure(
        stature=rng.uniform(0.84, 1.0),
        girth=rng.uniform(0.75, 1.3),
        head=rng.uniform(0.88, 1.15),
        hips=rng.uniform(0.54, 0.64),
        skin=tabled(SKIN[rng.integers(len(SKIN))], rng),
        crown_kind=crown_kind,
        crown=tabled(HAIR[rng.integers(len(HAIR))], rng) if is_hair else cloth(),
        top_kind=str(rng.choice(TOPS)),
        top=top,
        hem=rng.uniform(0.56, 0.72),
        sleeve=float(rng.choice((0.0, 0.45, 1.0))),
        inner=cloth(top.base),
        legs_kind=str(rng.choice(LEGS)),
        legs=legs,
        shoes=cloth(),
        scarf=bool(rng.random() < 0.3),
        trim=bool(rng.random() < 0.4),
        thing_kind=str(rng.choice(THINGS)),
        thing=cloth(top.base),
    )
