#!/usr/bin/env python3
"""Draw a run: plans, loads, feature maps, cluster sizes, distances and curves, each as PNG and SVG."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mgot.analysis.pictures.album import draw_run
from mgot.arguments import require_folder_target, whole
from mgot.errors import UserError


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the OUTPUT_DIR of a run")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the pictures go (default: RUN/pictures)")
    parser.add_argument("--epoch", type=whole(0), help="drawn beside the first one (default: the last)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Draw and list the files; 0 on success, 2 for a mistake of the user's."""
    args = parse(argv)
    try:
        output = args.output or args.run / "pictures"
        require_folder_target(output, "--output")
        for path in draw_run(args.run, output, args.epoch):
            print(path)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
