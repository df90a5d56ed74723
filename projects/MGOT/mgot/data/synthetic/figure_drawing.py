"""Draws one figure in one pose on a canvas, back to front: capsules and ellipses under a large head."""

from __future__ import annotations

import numpy as np

from mgot.data.synthetic.canvas import Canvas, Patch
from mgot.data.synthetic.drawing import Frame, Point, frame_of
from mgot.data.synthetic.figure_motifs import motif_share
from mgot.data.synthetic.figures import Figure, Piece
from mgot.data.synthetic.people import Pose

NECK, WRIST, GROUND = 0.235, 0.56, 0.965


def draw_figure(canvas: Canvas, figure: Figure, pose: Pose) -> Frame:
    """Paint the figure over the canvas; returns where it is."""
    frame = frame_of(canvas, figure.stature, pose)
    behind = bool(np.cos(pose.yaw) < 0.0)
    if figure.thing_kind == "case":
        _case(canvas, figure, frame, behind)
    if figure.thing_kind == "barrel" and not behind:
        _barrel(canvas, figure, frame, 1.25)
    _arm(canvas, figure, pose, frame, -1.0)
    for side in (-1.0, 1.0):
        _leg(canvas, figure, pose, frame, side)
    if figure.legs_kind == "dome" and figure.top_kind != "robe":
        _dome(canvas, figure, frame)
    _top(canvas, figure, pose, frame, behind)
    if figure.top_kind != "poncho":
        _arm(canvas, figure, pose, frame, 1.0)
    _head(canvas, figure, pose, frame, behind)
    if figure.thing_kind == "barrel" and behind:
        _barrel(canvas, figure, frame, 0.85)
    elif figure.thing_kind == "satchel":
        _satchel(canvas, figure, frame, behind)
    elif figure.thing_kind == "roll":
        _roll(canvas, figure, frame, behind)
    return frame


def _girth(figure: Figure, frame: Frame) -> float:
    """Half the trunk's width in pixels."""
    return 0.105 * frame.height * figure.girth * (0.78 + 0.22 * frame.front)


def _cloth(patch: Patch, piece: Piece) -> np.ndarray:
    share = motif_share(piece.motif, patch.u, patch.v)
    if np.ndim(share) == 0:
        return piece.base.reflectance
    return piece.base.reflectance + np.asarray(share)[..., None] * (piece.accent.reflectance - piece.base.reflectance)


def _trunk(canvas: Canvas, figure: Figure, pose: Pose, frame: Frame, hem: float, swell: float) -> Patch:
    """A capsule from the neck to `hem`, at its foot `swell` times as wide as at the shoulders."""
    half = _girth(figure, frame)
    top = (frame.axis, frame.at(NECK) + 0.8 * half)
    foot = (frame.axis + pose.lean * (hem - NECK) * frame.height, frame.at(hem) - 0.5 * swell * half)
    return canvas.limb(top, foot, half, swell * half)


def _top(canvas: Canvas, figure: Figure, pose: Pose, frame: Frame, behind: bool) -> None:
    half, kind = _girth(figure, frame), figure.top_kind
    if kind in ("bib", "bolero"):
        canvas.paint(_trunk(canvas, figure, pose, frame, 0.6, 1.05), figure.inner.reflectance)
    if kind == "bib":
        width = half * (0.55 if not behind else 0.3)
        patch = canvas.profile(frame.axis, frame.at(0.33), frame.at(0.64), [(0.0, width), (0.45, width), (1.0, half)])
    elif kind == "poncho":
        outline = [(0.0, 0.5 * half), (0.25, 1.25 * half), (1.0, 1.9 * half)]
        patch = canvas.profile(frame.axis, frame.at(NECK - 0.02), frame.at(figure.hem - 0.06), outline, lean=pose.lean)
    elif kind == "robe":
        patch = _trunk(canvas, figure, pose, frame, 0.92, 1.35)
    else:
        swell = {"quilt": 1.12, "bolero": 1.0}.get(kind, 1.2)
        patch = _trunk(canvas, figure, pose, frame, 0.52 if kind == "bolero" else figure.hem, swell)
    gain = 1.0 + 0.22 * np.cos(7.0 * patch.v) if kind == "quilt" else 1.0 + 0.05 * np.sin(2.6 * patch.v + pose.phase)
    if kind == "bolero" and not behind:
        shift = 0.35 * frame.side
        patch = patch._replace(coverage=patch.coverage * (np.abs(patch.u - shift) > 0.38))
    canvas.paint(patch, _cloth(patch, figure.top), gain=gain)
    if figure.trim and kind in ("tunic", "robe", "quilt"):
        y, wide = frame.at(0.45), 1.1 * half
        canvas.paint(
            canvas.profile(frame.axis, y, y + 0.035 * frame.height, [(0.0, wide), (1.0, wide)]),
            figure.shoes.reflectance,
        )


def _arm(canvas: Canvas, figure: Figure, pose: Pose, frame: Frame, side: float) -> None:
    h, half = frame.height, _girth(figure, frame)
    swing = -side * pose.arm * np.sin(pose.phase) * (0.3 + 0.7 * abs(frame.side)) + side * 0.22 * frame.front
    shoulder: Point = (frame.axis + side * 0.95 * half * max(frame.front, 0.2), frame.at(NECK + 0.065))
    length = (WRIST - NECK - 0.065) * h
    hand: Point = (shoulder[0] + length * np.sin(swing), shoulder[1] + length * np.cos(swing))
    radius = 0.034 * h * (0.7 + 0.3 * figure.girth)
    canvas.paint(canvas.limb(shoulder, hand, radius, 0.8 * radius), figure.skin.reflectance)
    if figure.sleeve > 0.0 and figure.top_kind != "poncho":
        reach = 0.92 * figure.sleeve
        end = (shoulder[0] + reach * (hand[0] - shoulder[0]), shoulder[1] + reach * (hand[1] - shoulder[1]))
        patch = canvas.limb(shoulder, end, 1.25 * radius, 1.15 * radius)
        inner = figure.top_kind == "bib"
        canvas.paint(patch, figure.inner.reflectance if inner else _cloth(patch, figure.top))


def _leg(canvas: Canvas, figure: Figure, pose: Pose, frame: Frame, side: float) -> None:
    h, half = frame.height, _girth(figure, frame)
    swing = side * pose.stride * np.sin(pose.phase) * (0.25 + 0.75 * abs(frame.side))
    hip: Point = (frame.axis + side * 0.5 * half, frame.at(figure.hips))
    length = (GROUND - figure.hips) * h
    foot: Point = (hip[0] + length * np.sin(swing), hip[1] + length * np.cos(swing))
    radius = 0.045 * h * (0.7 + 0.3 * figure.girth)
    piece = figure.top if figure.top_kind == "bib" else figure.legs
    canvas.paint(canvas.limb(hip, foot, 0.75 * radius, 0.6 * radius), figure.skin.reflectance)
    if figure.legs_kind == "slim":
        patch = canvas.limb(hip, foot, radius, 0.75 * radius)
        canvas.paint(patch, _cloth(patch, piece))
    elif figure.legs_kind == "baggy":
        middle = (0.5 * (hip[0] + foot[0]), 0.5 * (hip[1] + foot[1]))
        patch = canvas.ellipse(middle, 1.7 * radius, 0.56 * length)
        canvas.paint(patch, _cloth(patch, piece))
    elif figure.legs_kind == "cropped":
        end = (hip[0] + 0.55 * (foot[0] - hip[0]), hip[1] + 0.55 * (foot[1] - hip[1]))
        patch = canvas.limb(hip, end, 1.2 * radius, 1.15 * radius)
        canvas.paint(patch, _cloth(patch, piece))
    sole = (foot[0] + 0.035 * h * frame.side, foot[1])
    canvas.paint(canvas.limb(foot, sole, 0.036 * h, 0.03 * h), figure.shoes.reflectance)


def _dome(canvas: Canvas, figure: Figure, frame: Frame) -> None:
    half = _girth(figure, frame)
    outline = [(0.0, 0.9 * half), (0.35, 1.5 * half), (1.0, 1.7 * half)]
    patch = canvas.profile(frame.axis, frame.at(0.52), frame.at(0.79), outline)
    canvas.paint(patch, _cloth(patch, figure.legs))


def _head(canvas: Canvas, figure: Figure, pose: Pose, frame: Frame, behind: bool) -> None:
    r = 0.088 * frame.height * figure.head
    x, y = frame.axis - 0.2 * frame.height * pose.lean, frame.at(0.125)
    if figure.scarf:
        canvas.paint(canvas.ellipse((x, frame.at(NECK)), 1.15 * r, 0.5 * r), figure.thing.reflectance)
    kind, crown = figure.crown_kind, figure.crown.reflectance
    if kind in ("bob", "tail"):
        canvas.paint(canvas.ellipse((x, y + 0.1 * r), 1.22 * r, 1.25 * r), crown)
    if kind == "tail":
        start, end = (x - 0.8 * r * frame.side, y + 0.4 * r), (x - 1.3 * r * frame.side, y + 2.6 * r)
        canvas.paint(canvas.limb(start, end, 0.4 * r, 0.25 * r), crown)
    canvas.paint(canvas.ellipse((x, y), 0.95 * r, 1.05 * r), figure.skin.reflectance)
    if kind == "bare":
        return
    if behind:
        canvas.paint(canvas.ellipse((x, y), r, 0.95 * r), crown)
    shift = -0.3 * r * frame.side
    if kind == "crest":
        canvas.paint(canvas.limb((x + shift, y - 1.1 * r), (x + shift, y - 0.5 * r), 0.4 * r, 0.3 * r), crown)
        return
    deep = {"beanie": 0.8, "turban": 0.7, "brim": 0.6}.get(kind, 0.6)
    wide = {"turban": 1.3, "beanie": 1.08}.get(kind, 1.02)
    canvas.paint(canvas.ellipse((x + shift, y - 0.55 * r), wide * r, deep * r), crown)
    if kind == "brim":
        canvas.paint(canvas.ellipse((x, y - 0.45 * r), 1.85 * r, 0.22 * r), crown)


def _case(canvas: Canvas, figure: Figure, frame: Frame, behind: bool) -> None:
    h, side = frame.height, -1.0 if behind else 1.0
    x = frame.axis + side * (_girth(figure, frame) + 0.09 * h)
    canvas.paint(canvas.limb((x, frame.at(0.56)), (x, frame.at(0.74)), 0.008 * h, 0.008 * h), figure.shoes.reflectance)
    half = 0.075 * h
    patch = canvas.profile(x, frame.at(0.72), frame.at(0.95), [(0.0, 0.9 * half), (0.1, half), (1.0, half)])
    canvas.paint(patch, figure.thing.reflectance)


def _barrel(canvas: Canvas, figure: Figure, frame: Frame, share: float) -> None:
    half = _girth(figure, frame)
    centre = (frame.axis - 0.7 * half * frame.side, frame.at(0.37))
    canvas.paint(canvas.ellipse(centre, share * half, 0.125 * frame.height), figure.thing.reflectance)


def _satchel(canvas: Canvas, figure: Figure, frame: Frame, behind: bool) -> None:
    h, half, side = frame.height, _girth(figure, frame), -1.0 if behind else 1.0
    bag = (frame.axis + side * 0.85 * half, frame.at(0.56))
    start = (frame.axis - side * 0.7 * half, frame.at(NECK + 0.04))
    canvas.paint(canvas.limb(start, bag, 0.014 * h, 0.014 * h), figure.thing.reflectance)
    canvas.paint(canvas.ellipse(bag, 0.075 * h, 0.065 * h), figure.thing.reflectance)


def _roll(canvas: Canvas, figure: Figure, frame: Frame, behind: bool) -> None:
    """A rolled mat across the back, its ends beyond the shoulders."""
    h, half, side = frame.height, _girth(figure, frame), -1.0 if behind else 1.0
    start, end = (frame.axis - side * 1.5 * half, frame.at(0.45)), (frame.axis + side * 1.5 * half, frame.at(0.24))
    if behind:
        canvas.paint(canvas.limb(start, end, 0.035 * h, 0.035 * h), figure.thing.reflectance)
        return
    for near, far in ((start, 0.35), (end, 0.35)):
        inner = (near[0] + far * (frame.axis - near[0]), near[1] + far * (frame.at(0.345) - near[1]))
        canvas.paint(canvas.limb(near, inner, 0.035 * h, 0.035 * h), figure.thing.reflectance)
