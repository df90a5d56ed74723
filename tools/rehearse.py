#!/usr/bin/env python3
"""Rehearse a training in minutes: every stage of the config, with its data and on its device.

Prints one table: the time of each stage for the whole run, GPU memory and RAM at the peak, disk and /dev/shm. It says
what does not fit, and which key to change.

Exit code 0: nothing would fail; 1: something would, see below the table; 2: a mistake in the command line or the
config; 130 or 143: Ctrl-C or SIGTERM ended it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mgot  # noqa: F401  restores what fast-reid needs and registers MGOT with it
from mgot.arguments import fraction, whole
from mgot.compat import require_fastreid
from mgot.errors import UserError
from mgot.ranges import between


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="projects/MGOT/configs/sysu.yml", help="(%(default)s)")
    parser.add_argument(
        "--steps",
        type=whole(1, 10_000),
        default=5,
        help="of each training stage; if there are several, the first is not counted (%(default)s)",
    )
    parser.add_argument(
        "--gpu-memory",
        type=fraction(between(0.1, 10_000)),
        metavar="GB",
        help="compare with a GPU that has this much memory (default: the one of this machine)",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config overrides, as for training")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Rehearse and print; the exit code."""
    args = parse(argv)
    try:
        require_fastreid()
        from mgot.analysis.rehearsal.rehearse import rehearse
        from mgot.engine.setup import load_config

        report = rehearse(load_config(args.config_file, args.opts), steps=args.steps, card_gb=args.gpu_memory)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    print(report.text)
    return 1 if report.fails else 0


if __name__ == "__main__":
    sys.exit(main())
