#!/usr/bin/env python3
"""Draw docs/method.svg, the method in one picture, by plain strings: python docs/draw_method.py [FILE]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# Okabe and Ito's palette, which colour-blind readers tell apart.
VISIBLE, INFRARED, CROSS, BELIEF, INK, PALE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222", "#888888"
WIDTH, HEIGHT = 1000, 640
# A plan whose rows sum to 3 and whose columns to 4; nobody's largest value is in the last column.
PLAN = ((2.6, 0.2, 0.2), (1.2, 0.7, 1.1), (0.1, 1.6, 1.3), (0.1, 1.5, 1.4))


def text(
    x: float, y: float, words: str, *, size: int = 15, fill: str = INK, anchor: str = "middle", bold: bool = False
) -> str:
    """Words whose baseline is y; ``_`` before a letter lowers it."""
    weight = ' font-weight="bold"' if bold else ""
    parts = words.split("_")
    body = parts[0] + "".join(
        f'<tspan dy="4" font-size="{size - 4}">{part[0]}</tspan><tspan dy="-4">{part[1:]}</tspan>' for part in parts[1:]
    )
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}>{body}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, lines: Sequence[str], *, size: int = 15) -> str:
    """A rounded box with centred lines, the first one bold."""
    shape = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8"'
    shape += f' fill="{colour}" fill-opacity="0.12" stroke="{colour}" stroke-width="2"/>'
    top = y + height / 2 - (len(lines) - 1) * 9 + 5
    return shape + "".join(
        text(x + width / 2, top + 18 * n, line, size=size if n == 0 else size - 2, bold=n == 0)
        for n, line in enumerate(lines)
    )


def arrow(*points: tuple[float, float], colour: str = INK, dashed: bool = False) -> str:
    """A line through the points, each leg along an axis, with a head at the end."""
    (x0, y0), (x1, y1) = points[-2:]
    dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    head = f"{x1},{y1} {x1 - 9 * dx - 5 * dy},{y1 - 9 * dy - 5 * dx} {x1 - 9 * dx + 5 * dy},{y1 - 9 * dy + 5 * dx}"
    path = " ".join(f"{x},{y}" for x, y in (*points[:-1], (x1 - 6 * dx, y1 - 6 * dy)))
    dashes = ' stroke-dasharray="6 4"' if dashed else ""
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
    return line + f'<polygon points="{head}" fill="{colour}"/>'


def dot(x: float, y: float, radius: float, colour: str, opacity: float = 1.0) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{colour}" fill-opacity="{opacity}"/>'


def band(y: float, height: float, title: str) -> str:
    """The ground of one half of the picture."""
    ground = f'<rect x="8" y="{y}" width="{WIDTH - 16}" height="{height}" rx="12" fill="#F5F5F5"/>'
    return ground + text(24, y + 25, title, size=17, anchor="start", bold=True)


def clusters(x: float, y: float, colour: str, places: Sequence[tuple[float, float]]) -> str:
    """Groups of images, a ring around each, and two outliers."""
    drawn = f'<rect x="{x}" y="{y}" width="112" height="76" rx="8" fill="white" stroke="{colour}" stroke-width="2"/>'
    for cx, cy in places:
        drawn += f'<circle cx="{x + cx}" cy="{y + cy}" r="15" fill="none" stroke="{colour}" stroke-dasharray="3 2"/>'
        drawn += "".join(
            dot(x + cx + a, y + cy + b, 3, colour) for a, b in ((-6, -5), (6, -4), (-4, 6), (6, 6), (0, 0))
        )
    return drawn + dot(x + 56, y + 10, 3, PALE) + dot(x + 104, y + 40, 3, PALE)


def plan(x: float, y: float) -> str:
    """The transport plan between 4 visible and 3 infrared prototypes, with its equal marginals."""
    side, drawn = 30, ""
    for i, row in enumerate(PLAN):
        taken = row.index(max(row))
        drawn += dot(x - 16, y + side * (i + 0.5), 8, VISIBLE)
        for j, mass in enumerate(row):
            cell = f'x="{x + side * j}" y="{y + side * i}" width="{side}" height="{side}"'
            drawn += f'<rect {cell} fill="{CROSS}" fill-opacity="{0.08 + 0.3 * mass:.2f}" stroke="white"/>'
            if j == taken:
                drawn += dot(x + side * (j + 0.5), y + side * (i + 0.5), 4, "white")
        drawn += (
            f'<rect x="{x + 3 * side + 5}" y="{y + side * i + 5}" width="20" height="{side - 10}" fill="{VISIBLE}"/>'
        )
    for j in range(3):
        drawn += dot(x + side * (j + 0.5), y - 14, 8, INFRARED)
        drawn += (
            f'<rect x="{x + side * j + 5}" y="{y + 4 * side + 5}" width="{side - 10}" height="20" fill="{INFRARED}"/>'
        )
    rescued = f'<rect x="{x + 2 * side + 2}" y="{y + 3 * side + 2}" width="{side - 4}" height="{side - 4}"'
    return drawn + f'{rescued} fill="none" stroke="{INK}" stroke-width="2.5" stroke-dasharray="4 3"/>'


def view() -> list[str]:
    """What the matcher may see in place of the visible prototypes, or with them: the same clusters without colour."""
    drawn = [box(24, 164, 208, 42, VISIBLE, ("visible without colour", "the matcher's other view"))]
    drawn += [arrow((232, 185), (372, 185), colour=VISIBLE)]
    return drawn + [
        f'<circle cx="{280 + 20 * n}" cy="185" r="7" fill="white" stroke="{VISIBLE}" stroke-width="2"/>'
        for n in range(4)
    ]


def epoch_start() -> list[str]:
    """The upper half: from features to memories."""
    drawn = [band(8, 318, "At each epoch's start, without gradients")]
    for y, colour, name, places in (
        (58, VISIBLE, "visible", ((24, 26), (60, 38), (92, 20), (30, 58))),
        (214, INFRARED, "infrared", ((26, 24), (62, 50), (88, 22))),
    ):
        drawn += [
            box(24, y + 6, 96, 64, colour, (name, "features")),
            arrow((120, y + 38), (144, y + 38), colour=colour),
        ]
        drawn += [clusters(144, y, colour, places), text(200, y + 94, "DBSCAN", bold=True)]
        drawn += [arrow((256, y + 38), (284, y + 38), colour=colour)]
        count = len(places)
        drawn += [dot(298, y + 38 + 20 * (n - (count - 1) / 2), 8, colour) for n in range(count)]
    drawn += [text(310, 151, "prototypes", bold=True), text(310, 168, "cluster means", size=13)]
    drawn += [arrow((312, 96), (372, 96), colour=VISIBLE), arrow((312, 252), (372, 252), colour=INFRARED)]
    drawn += view()
    drawn += [f'<rect x="374" y="50" width="270" height="262" rx="8" fill="white" stroke="{CROSS}" stroke-width="2"/>']
    drawn += [text(509, 72, "OTPA: optimal transport", bold=True), plan(412, 106)]
    drawn += [
        text(540, 128, "uniform prior:", size=13, anchor="start"),
        text(540, 145, "equal shares", size=13, anchor="start"),
    ]
    drawn += [dot(546, 171, 4, "white"), f'<circle cx="546" cy="171" r="5" fill="none" stroke="{INK}"/>']
    drawn += [text(556, 175, "best match", size=13, anchor="start")]
    drawn += [
        text(540, 206, "dashed:", size=13, anchor="start"),
        text(540, 223, "the opposite", size=13, anchor="start"),
    ]
    drawn += [text(540, 240, "transport", size=13, anchor="start")]
    drawn += [
        text(509, 276, "nobody took this infrared cluster,", size=13),
        text(509, 293, "so it gets its best visible one", size=13),
    ]
    drawn += [arrow((644, 180), (672, 180), colour=CROSS)]
    drawn += [f'<rect x="674" y="92" width="118" height="176" rx="8" fill="white" stroke="{BELIEF}" stroke-width="2"/>']
    drawn += [text(733, 114, "belief", bold=True)]
    for a, b, width in ((0, 0, 6.5), (1, 0, 3), (2, 1, 2.5), (3, 1, 1.5), (3, 2, 1.5)):
        ends = f'x1="704" y1="{138 + 24 * a}" x2="762" y2="{150 + 24 * b}"'
        drawn += [f'<line {ends} stroke="{BELIEF}" stroke-width="{width}"/>']
    drawn += [dot(704, 138 + 24 * n, 8, VISIBLE) for n in range(4)] + [
        dot(762, 150 + 24 * n, 8, INFRARED) for n in range(3)
    ]
    drawn += [text(733, 238, "how far each", size=13), text(733, 255, "match counts", size=13)]
    drawn += [text(903, 62, "memories", bold=True), arrow((792, 180), (828, 180), colour=CROSS)]
    for y, colour, name, what in (
        (74, VISIBLE, "Φ_v", "visible"),
        (148, CROSS, "Φ_c", "both, matched"),
        (222, INFRARED, "Φ_r", "infrared"),
    ):
        drawn += [box(830, y, 146, 62, colour, (name, what), size=17)]
    return drawn


def step() -> list[str]:
    """The lower half: from images to losses."""
    drawn = [band(334, 298, "In each step")]
    drawn += [
        box(24, 384, 104, 62, VISIBLE, ("visible", "two views")),
        box(24, 466, 104, 62, INFRARED, ("infrared", "images")),
    ]
    drawn += [arrow((128, 415), (172, 415), colour=VISIBLE), arrow((128, 497), (172, 497), colour=INFRARED)]
    frame = 'x="150" y="350" width="388" height="270" rx="12" fill="none"'
    drawn += [f'<rect {frame} stroke="{INK}" stroke-width="2" stroke-dasharray="8 5"/>']
    drawn += [text(344, 371, "DEN", size=16, bold=True)]
    drawn += [f'<polygon points="174,384 314,402 314,510 174,528" fill="white" stroke="{INK}" stroke-width="2"/>']
    drawn += [text(244, 452, "shared", bold=True), text(244, 471, "backbone", bold=True)]
    drawn += [arrow((314, 456), (352, 456)), box(354, 428, 64, 56, PALE, ("neck",)), arrow((418, 456), (448, 456))]
    drawn += [box(450, 420, 76, 72, PALE, ("features", "f_v, f_r"), size=14)]
    drawn += [arrow((244, 520), (244, 570), (276, 570)), text(236, 563, "all stages", size=13, anchor="end")]
    drawn += [
        box(278, 546, 248, 58, PALE, ("adversary: which modality?", "L_D, gradient reversed; off by default"), size=14)
    ]
    drawn += [arrow((526, 456), (566, 456))]
    losses = (
        (568, 384, 196, VISIBLE, ("VCL", "visible against Φ_v")),
        (780, 384, 196, INFRARED, ("ICL", "infrared against Φ_r")),
        (568, 458, 196, BELIEF, ("CCL", "each against the other's Φ")),
        (780, 458, 196, CROSS, ("MCL", "both against Φ_c")),
        (568, 532, 408, PALE, ("CPAL", "predictions of one, rebuilt from the other, agree")),
    )
    drawn += [box(x, y, width, 62, colour, lines) for x, y, width, colour, lines in losses]
    drawn += [text(568, 620, "CCL, MCL, CPAL: cross stage; belief weighs CCL and MCL", size=13, anchor="start")]
    return drawn


def between() -> list[str]:
    """What goes from one half to the other."""
    drawn = [arrow((940, 286), (940, 382)), text(930, 352, "contrast", size=13, anchor="end")]
    drawn += [arrow((850, 382), (850, 288), dashed=True), text(840, 352, "moved by features", size=13, anchor="end")]
    return drawn


def draw() -> str:
    """The picture."""
    fonts = "Helvetica, Arial, sans-serif"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{fonts}">'
    title = "<title>MGOT: pseudo labels, matches and memories at each epoch's start; losses in each step</title>"
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="white"/>'
    return "\n".join([head, title, ground, *epoch_start(), *step(), *between(), "</svg>"]) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("method.svg")
    target.write_text(draw(), encoding="utf-8")
    print(target)
