"""What a matcher sees of both modalities: their features as they are, or through a view without colour. [ours]

Notation: S similarity of prototypes. Source: docs/method.md section 5.
"""

from __future__ import annotations

import numpy as np

from mgot.matching.base import Prototypes

# What "auto" chooses from, in the order in which a tie is settled. Colour by itself is not among them: it
# can have more mutual neighbours than both, and fewer right matches (docs/results.md).
COMPARED = ("both", "spectral")
VIEWS = ("colour", "spectral", "both", "auto")
"""Values of MGOT.MATCHER.VIEW."""


def joined(colour: Prototypes, spectral: Prototypes) -> Prototypes:
    """Prototypes with the mean of two similarities: the rows of both, one after the other, over sqrt(2).

    The same for their members, if both have them: rows of twice the width.
    """
    one, other, members = colour.members, spectral.members, None
    if one is not None and other is not None:
        members = one._replace(f_v=_halves(one.f_v, other.f_v), f_r=_halves(one.f_r, other.f_r))
    visible, infrared = _halves(colour.visible, spectral.visible), _halves(colour.infrared, spectral.infrared)
    return Prototypes(visible, infrared, members, colour.epoch)


def _halves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([a, b], axis=1) * np.float32(0.5**0.5)


def mutual_share(prototypes: Prototypes) -> float:
    """Share of the visible prototypes that are nearest to their nearest infrared one, in [0, 1]; 0 without any.

    It needs no labels, and says which of several similarities of the same clusters to trust. It says nothing by itself:
    unrelated prototypes give about K_r / (K_v + K_r - 1), half for equal counts, and no similarity gives more than
    min(K_v, K_r) / K_v.
    """
    similarity = prototypes.similarity
    if not similarity.size:
        return 0.0
    nearest, back = similarity.argmax(axis=1), similarity.argmax(axis=0)
    return float((back[nearest] == np.arange(len(nearest))).mean())


def seen(view: str, colour: Prototypes, spectral: Prototypes) -> tuple[Prototypes, dict[str, float]]:
    """Prototypes as a matcher sees them.

    Args:
        view: "colour", "spectral", "both" (the mean of their similarities) or "auto": of the last two the one with the
            larger :func:`mutual_share`.
        colour: of the images as they are.
        spectral: of the same clusters, visible images under random laws of colour.

    Returns:
        The prototypes, and the shares that were compared; none unless ``view`` is "auto".
    """
    shares = {}
    if view == "auto":
        bare = colour._replace(members=None), spectral._replace(members=None)  # members are joined only if need be
        shares = {name: mutual_share(seen(name, *bare)[0]) for name in COMPARED}
        view = max(COMPARED, key=shares.__getitem__)
    if view == "both":
        return joined(colour, spectral), shares
    return (colour if view == "colour" else spectral), shares
