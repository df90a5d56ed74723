"""Draws one person in one pose on a canvas, back to front."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mgot.data.synthetic.canvas import Canvas, Patch
from mgot.data.synthetic.patterns import accent_share, logo_share
from mgot.data.synthetic.people import Garment, Person, Pose

Point = tuple[float, float]


class Frame(NamedTuple):
    """The body in pixels: height, x of the axis, y of the crown, |cos| and sin of the yaw."""

    height: float
    axis: float
    top: float
    front: float
    side: float

    def at(self, share: float) -> float:
        """The y of a share of the body's height below the crown."""
        return self.top + share * self.height


def frame_of(canvas: Canvas, stature: float, pose: Pose) -> Frame:
    """Where a body of that stature is on the canvas."""
    height = 0.92 * canvas.height * stature * pose.scale
    axis = canvas.width * (0.5 + pose.dx)
    top = 0.5 * canvas.height - 0.5 * height + canvas.height * (pose.dy + 0.25 * (1.0 - stature))
    return Frame(height, axis, top, abs(float(np.cos(pose.yaw))), float(np.sin(pose.yaw)))


def draw_person(canvas: Canvas, person: Person, pose: Pose) -> Frame:
    """Paint the person over the canvas; returns where they are."""
    frame = frame_of(canvas, person.stature, pose)
    seen_from_behind = np.cos(pose.yaw) < 0.0
    if person.bag_kind == "backpack" and not seen_from_behind:
        _backpack(canvas, person, frame, behind=True)
    _arm(canvas, person, pose, frame, side=-1.0)
    for side in (-1.0, 1.0):
        _leg(canvas, person, pose, frame, side)
    if person.lower_kind in ("skirt", "long skirt"):
        _skirt(canvas, person, pose, frame)
    _torso(canvas, person, pose, frame, seen_from_behind)
    _arm(canvas, person, pose, frame, side=1.0)
    _head(canvas, person, pose, frame, seen_from_behind)
    if person.bag_kind == "backpack" and seen_from_behind:
        _backpack(canvas, person, frame, behind=False)
    elif person.bag_kind == "backpack":
        _straps(canvas, person, frame)
    elif person.bag_kind != "none":
        _carried_bag(canvas, person, pose, frame)
    return frame


def _half_shoulder(person: Person, frame: Frame) -> float:
    return 0.108 * frame.height * person.build * (0.62 + 0.38 * frame.front)


def _half_hip(person: Person, frame: Frame) -> float:
    return 0.082 * frame.height * person.build * (0.75 + 0.25 * frame.front)


def _cloth(patch: Patch, garment: Garment, extra: np.ndarray | float = 0.0) -> np.ndarray:
    """Reflectance over a patch of a garment, its pattern and a logo's share mixed in."""
    share = accent_share(garment.pattern, patch.u, patch.v)
    share = np.abs(share - extra)
    if np.ndim(share) == 0:
        return garment.base.reflectance
    return garment.base.reflectance + share[..., None] * (garment.accent.reflectance - garment.base.reflectance)


def _leg(canvas: Canvas, person: Person, pose: Pose, frame: Frame, side: float) -> None:
    h, build = frame.height, person.build
    swing = side * pose.stride * np.sin(pose.phase) * (0.3 + 0.7 * abs(frame.side))
    hip: Point = (frame.axis + side * 0.45 * _half_hip(person, frame), frame.at(1.0 - person.leg_share))
    thigh, shin = 0.5 * person.leg_share * h, 0.5 * person.leg_share * h
    knee: Point = (hip[0] + thigh * np.sin(swing), hip[1] + thigh * np.cos(swing))
    bend = swing - 0.5 * pose.stride * max(0.0, side * np.cos(pose.phase))
    ankle: Point = (knee[0] + shin * np.sin(bend), knee[1] + shin * np.cos(bend) - 0.02 * h)
    bulk = {"wide": 1.45, "shorts": 1.15}.get(person.lower_kind, 1.0) * h * build
    skin = person.skin.reflectance
    canvas.paint(canvas.limb(knee, ankle, 0.028 * h * build, 0.02 * h * build), skin)
    canvas.paint(canvas.limb(hip, knee, 0.04 * h * build, 0.028 * h * build), skin)
    if person.lower_kind in ("trousers", "wide"):
        shin_patch = canvas.limb(
            knee, ankle, 0.033 * bulk, (0.025 if person.lower_kind == "trousers" else 0.034) * bulk
        )
        canvas.paint(shin_patch, _cloth(shin_patch, person.lower))
        thigh_patch = canvas.limb(hip, knee, 0.045 * bulk, 0.033 * bulk)
        canvas.paint(thigh_patch, _cloth(thigh_patch, person.lower))
        if person.side_stripe:
            for start, end in ((hip, knee), (knee, ankle)):
                offset = side * 0.026 * bulk
                canvas.paint(
                    canvas.limb((start[0] + offset, start[1]), (end[0] + 0.8 * offset, end[1]), 0.009 * h, 0.009 * h),
                    person.lower.accent.reflectance,
                )
    elif person.lower_kind == "shorts":
        reach = (person.lower.hem - (1.0 - person.leg_share)) / (0.5 * person.leg_share)
        end = (hip[0] + reach * (knee[0] - hip[0]), hip[1] + reach * (knee[1] - hip[1]))
        patch = canvas.limb(hip, end, 0.047 * bulk, 0.04 * bulk)
        canvas.paint(patch, _cloth(patch, person.lower))
    _shoe(canvas, person, frame, ankle, knee)


def _shoe(canvas: Canvas, person: Person, frame: Frame, ankle: Point, knee: Point) -> None:
    h = frame.height
    share = min(1.0, person.boot / (0.25 * 2.0 * person.leg_share))
    top = (ankle[0] + share * (knee[0] - ankle[0]), ankle[1] + share * (knee[1] - ankle[1]))
    canvas.paint(canvas.limb(top, ankle, 0.03 * h, 0.026 * h), person.shoes.reflectance)
    toe = (ankle[0] + 0.05 * h * frame.side, ankle[1] + 0.02 * h)
    canvas.paint(canvas.limb((ankle[0], ankle[1] + 0.012 * h), toe, 0.024 * h, 0.02 * h), person.shoes.reflectance)


def _skirt(canvas: Canvas, person: Person, pose: Pose, frame: Frame) -> None:
    hip = _half_hip(person, frame)
    flare = 1.35 if person.lower_kind == "skirt" else 1.55
    sway = 1.0 + 0.25 * pose.stride * abs(np.sin(pose.phase))
    patch = canvas.profile(
        frame.axis,
        frame.at(0.45),
        frame.at(person.lower.hem),
        [(0.0, 0.9 * hip), (0.3, 1.15 * hip), (1.0, flare * sway * hip)],
    )
    canvas.paint(patch, _cloth(patch, person.lower))


def _torso(canvas: Canvas, person: Person, pose: Pose, frame: Frame, behind: bool) -> None:
    shoulder, hip = _half_shoulder(person, frame), _half_hip(person, frame)
    upper = person.upper
    coat = upper.hem > 0.56
    flare = 1.3 if coat else 1.08
    outline = [
        (0.0, 0.42 * shoulder),
        (0.07, 0.9 * shoulder),
        (0.16, shoulder),
        (0.6, 0.86 * shoulder),
        (1.0, flare * hip),
    ]
    patch = canvas.profile(frame.axis, frame.at(0.158), frame.at(upper.hem), outline, lean=pose.lean)
    turn = np.sin(pose.yaw) * 0.6
    logo = 0.0 if abs(np.cos(pose.yaw)) < 0.35 else logo_share(upper.logo, patch.u - turn, patch.v)
    canvas.paint(patch, _cloth(patch, upper, logo), gain=_folds(patch, pose))
    if person.open_front and not behind and frame.front > 0.35:
        strip = canvas.profile(
            frame.axis + turn * shoulder * 0.5,
            frame.at(0.165),
            frame.at(min(upper.hem, 0.56)),
            [(0.0, 0.3 * shoulder), (1.0, 0.22 * shoulder)],
            lean=pose.lean,
        )
        canvas.paint(strip, person.inner.reflectance)
    if person.belt:
        y = frame.at(0.47)
        half = 1.06 * hip if not coat else 0.98 * shoulder
        canvas.paint(
            canvas.profile(frame.axis, y, y + 0.028 * frame.height, [(0.0, half), (1.0, half)]),
            person.shoes.reflectance,
        )


def _folds(patch: Patch, pose: Pose) -> np.ndarray:
    """Creases that move with the pose, as a factor about 1."""
    return 1.0 + 0.06 * np.sin(3.1 * patch.v + 2.0 * patch.u + pose.phase) * np.cos(2.3 * patch.u - 1.7 * pose.phase)


def _arm(canvas: Canvas, person: Person, pose: Pose, frame: Frame, side: float) -> None:
    h, build = frame.height, person.build
    swing = -side * pose.arm * np.sin(pose.phase) * (0.35 + 0.65 * abs(frame.side)) + side * 0.12 * frame.front
    shoulder: Point = (frame.axis + side * 0.92 * _half_shoulder(person, frame) * max(frame.front, 0.25), frame.at(0.2))
    elbow: Point = (shoulder[0] + 0.16 * h * np.sin(swing), shoulder[1] + 0.16 * h * np.cos(swing))
    bend = swing + pose.arm * (0.6 if frame.side >= 0.0 else -0.6) * abs(frame.side)
    hand: Point = (elbow[0] + 0.15 * h * np.sin(bend), elbow[1] + 0.15 * h * np.cos(bend))
    canvas.paint(canvas.limb(elbow, hand, 0.021 * h * build, 0.019 * h * build), person.skin.reflectance)
    canvas.paint(canvas.limb(shoulder, elbow, 0.026 * h * build, 0.021 * h * build), person.skin.reflectance)
    sleeve = person.upper.sleeve
    if sleeve > 0.5:
        reach = (sleeve - 0.5) / 0.5
        end = (elbow[0] + reach * (hand[0] - elbow[0]) * 0.85, elbow[1] + reach * (hand[1] - elbow[1]) * 0.85)
        patch = canvas.limb(elbow, end, 0.028 * h * build, 0.026 * h * build)
        canvas.paint(patch, _cloth(patch, person.upper))
    if sleeve > 0.0:
        reach = min(sleeve / 0.5, 1.0)
        end = (shoulder[0] + reach * (elbow[0] - shoulder[0]), shoulder[1] + reach * (elbow[1] - shoulder[1]))
        patch = canvas.limb(shoulder, end, 0.036 * h * build, 0.029 * h * build)
        canvas.paint(patch, _cloth(patch, person.upper))


def _head(canvas: Canvas, person: Person, pose: Pose, frame: Frame, behind: bool) -> None:
    h = frame.height * person.head
    x = frame.axis + 0.15 * frame.height * pose.lean * -1.0
    centre: Point = (x, frame.at(0.072))
    half_width, half_height = 0.047 * h, 0.068 * h
    canvas.paint(canvas.limb((x, frame.at(0.11)), (x, frame.at(0.165)), 0.025 * h, 0.03 * h), person.skin.reflectance)
    kind, hair = person.hair_kind, person.hair.reflectance
    if kind == "hood":
        hair = person.upper.base.reflectance
    if kind == "long" or kind == "hood":
        drop = 0.2 if kind == "long" else 0.165
        canvas.paint(
            canvas.profile(
                x,
                frame.at(0.0),
                frame.at(drop),
                [(0.0, 0.6 * half_width), (0.25, 1.25 * half_width), (1.0, 1.3 * half_width)],
            ),
            hair,
        )
    if kind == "bun":
        canvas.paint(
            canvas.ellipse((x - 0.7 * half_width * frame.side, frame.at(-0.005)), 0.5 * half_width, 0.035 * h), hair
        )
    if kind == "afro":
        canvas.paint(canvas.ellipse((x, frame.at(0.055)), 1.6 * half_width, 0.085 * h), hair)
    canvas.paint(canvas.ellipse(centre, half_width, half_height), person.skin.reflectance)
    if kind == "bald":
        return
    if behind:
        canvas.paint(canvas.ellipse((x, frame.at(0.06)), 1.04 * half_width, 0.9 * half_height), hair)
        return
    colour = person.bag.reflectance if kind == "cap" else hair
    shift = -0.35 * half_width * frame.side
    canvas.paint(canvas.ellipse((x + shift, frame.at(0.03)), 1.06 * half_width, 0.55 * half_height), colour)
    if kind == "cap":
        brim = (x + 1.3 * half_width * frame.side, frame.at(0.05))
        canvas.paint(canvas.limb((x, frame.at(0.048)), brim, 0.014 * h, 0.012 * h), colour)


def _backpack(canvas: Canvas, person: Person, frame: Frame, *, behind: bool) -> None:
    shoulder = _half_shoulder(person, frame)
    x = frame.axis - 0.9 * shoulder * frame.side if behind else frame.axis - 0.5 * shoulder * frame.side
    half = (0.7 if not behind else 0.6) * shoulder
    patch = canvas.profile(x, frame.at(0.2), frame.at(0.43), [(0.0, 0.7 * half), (0.15, half), (1.0, half)])
    canvas.paint(patch, person.bag.reflectance)


def _straps(canvas: Canvas, person: Person, frame: Frame) -> None:
    shoulder = _half_shoulder(person, frame)
    for side in (-1.0, 1.0):
        x = frame.axis + side * 0.55 * shoulder
        canvas.paint(
            canvas.limb(
                (x, frame.at(0.175)),
                (x + side * 0.15 * shoulder, frame.at(0.34)),
                0.012 * frame.height,
                0.012 * frame.height,
            ),
            person.bag.reflectance,
        )


def _carried_bag(canvas: Canvas, person: Person, pose: Pose, frame: Frame) -> None:
    h, shoulder = frame.height, _half_shoulder(person, frame)
    turned = 1.0 if np.cos(pose.yaw) >= 0.0 else -1.0
    if person.bag_kind == "shoulder":
        bag = (frame.axis + turned * 1.0 * shoulder, frame.at(0.49))
        start = (frame.axis - turned * 0.6 * shoulder, frame.at(0.175))
        canvas.paint(canvas.limb(start, bag, 0.011 * h, 0.011 * h), person.bag.reflectance)
        size = (0.06 * h, 0.05 * h)
    else:
        bag = (frame.axis + turned * 1.25 * shoulder, frame.at(0.6))
        canvas.paint(canvas.limb((bag[0], frame.at(0.5)), bag, 0.008 * h, 0.008 * h), person.bag.reflectance)
        size = (0.05 * h, 0.055 * h)
    patch = canvas.profile(bag[0], bag[1] - size[1], bag[1] + size[1], [(0.0, 0.85 * size[0]), (1.0, size[0])])
    canvas.paint(patch, person.bag.reflectance)
