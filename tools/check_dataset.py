#!/usr/bin/env python3
"""Check a data set: are its files and counts as published, and can every image be opened?

Exit code 0: everything is as published, or in order if nothing was; 1: there are differences, one line each; 2: there
was nothing to check.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mgot.arguments import MOST_PROCESSES, whole
from mgot.data.check import Report, check_dataset
from mgot.data.dataset import DATASETS
from mgot.errors import UserError


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"as DATASETS.NAMES calls it: {', '.join(sorted(DATASETS))}, or one of your own")
    parser.add_argument(
        "--root",
        default=os.getenv("FASTREID_DATASETS", "datasets"),
        help="the folder that holds the data set's folder (default: FASTREID_DATASETS, or ./datasets)",
    )
    parser.add_argument("--folder", help="the data set's folder, as MGOT.DATA.FOLDER says it (for Folder only)")
    parser.add_argument("--workers", type=whole(1, MOST_PROCESSES), help="processes (default: one on each core)")
    return parser.parse_args(argv)


def show(name: str, report: Report) -> None:
    """Print the counts, then the differences."""
    for count, found, expected in report.counts:
        told = "" if expected is None else f" of {expected:>8,}  {'ok' if found == expected else 'DIFFERS'}"
        print(f"{count:40s} {found:>8,}{told}")
    print(f"{report.images:,} images opened")
    for note in report.notes:
        print(f"note: {note}")
    for difference in report.differences:
        print(f"- {difference}")
    good = "as published" if any(expected is not None for _, _, expected in report.counts) else "in order"
    print(f"{name}: {len(report.differences)} differences" if report.differences else f"{name}: {good}")


def main(argv: list[str] | None = None) -> int:
    """Check and print; the exit code."""
    args = parse(argv)
    try:
        report = check_dataset(args.name, args.root, folder=args.folder, workers=args.workers)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    show(args.name, report)
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
