#!/usr/bin/env python3
"""Render the demo's people in the layout of SYSU-MM01, or draw a figure of some of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mgot.arguments import MOST_PROCESSES, require_file_target, require_folder_target, whole
from mgot.data.synthetic.contact_sheet import write_contact_sheet
from mgot.data.synthetic.layout import write_sysu
from mgot.data.synthetic.life_size import LifeSize, write_life_size
from mgot.data.synthetic.other_layouts import write_llcm
from mgot.data.synthetic.presets import PRESETS, WITH_STRANGERS, preset, strangers
from mgot.data.synthetic.settings import LARGEST_IDENTITY, LARGEST_SHOTS, LEAST, Settings
from mgot.errors import UserError

COUNTS = (
    ("--train-ids", "train_identities", "training identities"),
    ("--val-ids", "validation_identities", "of the training identities, those for validation; None is a tenth"),
    ("--test-ids", "test_identities", "test identities"),
    ("--visible", "visible_per_camera", "images per identity and visible camera"),
    ("--infrared", "infrared_per_camera", "images per identity and infrared camera"),
)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("datasets/demo"), help="folder for SYSU-MM01/ (%(default)s)")
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="warm",
        help="how similar infrared and visible are (%(default)s)",
    )
    parser.add_argument(
        "--like",
        choices=("sysu",),
        help="the exact counts of this data set, with few pictures and many links: to rehearse on",
    )
    parser.add_argument("--seed", type=whole(0), help="other seed, other people (0)")
    for option, field, what in COUNTS:
        most = LARGEST_SHOTS if field.endswith("per_camera") else LARGEST_IDENTITY
        kind = whole(LEAST.get(field, 1), most)
        told = f"{what} ({getattr(Settings(), field)} in warm)"
        parser.add_argument(option, type=kind, dest=field, metavar="N", help=told)
    parser.add_argument("--processes", type=whole(1, MOST_PROCESSES), help="at work side by side (all cores)")
    parser.add_argument(
        "--figure", type=Path, help="write a figure of some people to this file (.jpg, .png) instead, and nothing else"
    )
    return parser.parse_args(argv)


def _life_size(args: argparse.Namespace) -> LifeSize:
    """The settings of --like. Raises UserError if options ask for other numbers or another preset."""
    for option, field, _ in COUNTS:
        if getattr(args, field) is not None:
            raise UserError(f"{option}: --like has the numbers of the real data set; leave one of them out")
    if args.preset != "warm":
        raise UserError(f"--preset {args.preset}: --like renders the people of warm; leave one of them out")
    return LifeSize(seed=args.seed or 0)


def main(argv: list[str] | None = None) -> int:
    """0 on success, 2 for a mistake of the user's."""
    args = parse(argv)
    try:
        given = {field: getattr(args, field) for field in ("seed", *(field for _, field, _ in COUNTS))}
        settings = preset(args.preset, **{field: value for field, value in given.items() if value is not None})
        if args.figure is not None:
            require_file_target(args.figure, "--figure")
            print(write_contact_sheet(args.figure, settings))
            return 0
        require_folder_target(args.root, "--root")
        if args.like is not None:
            tree = write_life_size(args.root, _life_size(args), args.processes)
            print(f"{tree}: the counts of SYSU-MM01")
            return 0
        tree = write_sysu(args.root, settings, args.processes)
        print(f"{tree}: {settings.train_identities} training and {settings.test_identities} test identities")
        if args.preset in WITH_STRANGERS:
            others = strangers(settings)
            print(f"{write_llcm(args.root, others, args.processes)}: {others.train_identities} strangers")
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
