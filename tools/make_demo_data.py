#!/usr/bin/env python3
"""Generate the demo's people in the layout of SYSU-MM01, or a figure that shows some of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mgot.data.synthetic.contact_sheet import write_contact_sheet
from mgot.data.synthetic.layout import write_sysu
from mgot.data.synthetic.presets import PRESETS, preset
from mgot.data.synthetic.settings import Settings
from mgot.errors import UserError


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    defaults = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("datasets/demo"), help="folder for SYSU-MM01/ (%(default)s)")
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="warm",
        help="which ground: how alike infrared and visible are (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=defaults.seed, help="other seed, other people (%(default)s)")
    parser.add_argument(
        "--train-ids", type=int, default=defaults.train_identities, help="training identities (%(default)s)"
    )
    parser.add_argument("--test-ids", type=int, default=defaults.test_identities, help="test identities (%(default)s)")
    parser.add_argument(
        "--visible",
        type=int,
        default=defaults.visible_per_camera,
        help="images per identity and visible camera (%(default)s)",
    )
    parser.add_argument(
        "--infrared",
        type=int,
        default=defaults.infrared_per_camera,
        help="images per identity and infrared camera (%(default)s)",
    )
    parser.add_argument("--processes", type=int, help="at work side by side (all cores)")
    parser.add_argument(
        "--figure", type=Path, help="write a figure of some people to this file (.jpg, .png) instead, and nothing else"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 on success, 2 for a mistake of the user's."""
    args = parse(argv)
    try:
        settings = preset(
            args.preset,
            seed=args.seed,
            train_identities=args.train_ids,
            test_identities=args.test_ids,
            visible_per_camera=args.visible,
            infrared_per_camera=args.infrared,
        )
        if args.figure is not None:
            print(write_contact_sheet(args.figure, settings))
            return 0
        if args.processes is not None and args.processes < 1:
            raise UserError(f"--processes: {args.processes} is too few; give 1 or more")
        tree = write_sysu(args.root, settings, args.processes)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    print(f"{tree}: {settings.train_identities} training and {settings.test_identities} test identities")
    return 0


if __name__ == "__main__":
    sys.exit(main())
