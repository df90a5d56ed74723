#!/usr/bin/env python3
"""Write one page about a run, finished or not: results, a diagnosis in words, plans, pictures, clusters, rankings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mgot.analysis.report.page import write_report
from mgot.arguments import require_file_target, require_folder
from mgot.errors import UserError


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the OUTPUT_DIR of a run")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: RUN/report.html)")
    parser.add_argument("--root", type=Path, help="where the data set is, if not where the run found it")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write and name the page; 0 on success, 2 for a mistake of the user's."""
    args = parse(argv)
    try:
        if args.root is not None:
            require_folder(args.root, "--root")
        if args.output is not None:
            require_file_target(args.output, "--output")
        print(f"report: {write_report(args.run, args.output, args.root)}")
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
