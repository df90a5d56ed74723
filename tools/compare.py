#!/usr/bin/env python3
"""Compare runs from the files that they wrote: final figures, the config keys that differ, and curves side by side."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mgot.analysis.comparison.curves import write_curves
from mgot.analysis.comparison.table import comparison, summary
from mgot.analysis.diagnostics.run import differences, read_runs
from mgot.arguments import require_folder_target
from mgot.errors import UserError
from mgot.files import write_atomically


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the OUTPUT_DIR of a run")
    parser.add_argument(
        "--output", type=Path, default=Path("logs/comparison"), help="folder for comparison.md and curves (%(default)s)"
    )
    parser.add_argument("--no-curves", action="store_true", help="only tables, which need no matplotlib")
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of the tables")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print and write the comparison; 0 on success, 2 for a mistake of the user's."""
    args = parse(argv)
    try:
        runs = read_runs(args.runs)
        require_folder_target(args.output, "--output")
        text = comparison(runs)
        try:
            args.output.mkdir(parents=True, exist_ok=True)
            files = [] if args.no_curves else write_curves(runs, args.output)
            images = "\n![curves](curves.png)\n" if files else ""
            write_atomically(args.output / "comparison.md", text + images)
        except OSError as error:
            raise UserError(f"--output {args.output}: cannot be written ({error.strerror})") from None
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    files.insert(0, args.output / "comparison.md")
    if args.json:
        about = {"runs": [summary(run) for run in runs], "differences": differences(runs)}
        print(json.dumps({**about, "files": [str(path) for path in files]}))
    else:
        print(f"{text}\nwritten: {', '.join(map(str, files))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
