#!/usr/bin/env python3
"""Measure speed and memory, as ratios to plain references; each file of benchmarks/ is a command."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mgot.errors import UserError  # noqa: E402


def commands() -> list[str]:
    """Files of benchmarks/ that are commands: those without a leading underscore, dashes for underscores."""
    names = (path.stem for path in (ROOT / "benchmarks").glob("*.py"))
    return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name in commands():
        module = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
        subparser = subparsers.add_parser(name, help=(module.__doc__ or "").strip().splitlines()[0])
        module.add_arguments(subparser)
        subparser.add_argument("--json", action="store_true", help="make the last line a JSON object")
        subparser.set_defaults(run=module.run)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark; the exit code."""
    args = parse(argv)
    try:
        row = args.run(args)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
