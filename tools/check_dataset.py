#!/usr/bin/env python3
"""Check a data set: are its files and counts those that were published, and can every image be opened?

Exit code 0: all is as published; 1: something differs, named line by line; 2: there was nothing to check.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mgot.data.check import NAMES, Report, check_dataset
from mgot.errors import UserError


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES, help="the data set, as DATASETS.NAMES calls it")
    parser.add_argument(
        "--root",
        default=os.getenv("FASTREID_DATASETS", "datasets"),
        help="the folder that holds the data set's folder (default: FASTREID_DATASETS, or ./datasets)",
    )
    parser.add_argument("--workers", type=int, help="processes that open images (default: one a core)")
    return parser.parse_args(argv)


def show(name: str, report: Report) -> None:
    """Print the counts, then what differs."""
    for count, found, expected in report.counts:
        print(f"{count:40s} {found:>8,} of {expected:>8,}  {'ok' if found == expected else 'DIFFERS'}")
    print(f"{report.images:,} images opened")
    for note in report.notes:
        print(f"note: {note}")
    for difference in report.differences:
        print(f"- {difference}")
    print(f"{name}: {len(report.differences)} differences" if report.differences else f"{name}: as published")


def main(argv: list[str] | None = None) -> int:
    """Check and print; the exit code."""
    args = parse(argv)
    try:
        report = check_dataset(args.name, args.root, workers=args.workers)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    show(args.name, report)
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
