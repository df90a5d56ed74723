#!/usr/bin/env python3
"""Train a grid of configurations with several seeds, and write one table. Finished runs are skipped.

Exit code 0: all runs finished; 1: some failed, and the table names them; 2: a mistake in the grid or the command line.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import mgot  # noqa: F401  restores what fast-reid needs
from mgot.arguments import MOST_PROCESSES, require_folder, require_folder_target, whole
from mgot.errors import UserError
from mgot.files import hold_folder
from mgot.ranges import LARGEST

REPO = Path(__file__).resolve().parent.parent


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; what follows the seeds, or the roots of all seeds, belongs to the overrides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, help="the recipe that every run shares")
    parser.add_argument("--grid", type=Path, required=True, help="YAML of tables, as projects/MGOT/ablations/demo.yml")
    parser.add_argument(
        "--seeds", nargs="+", default=["0", "1", "2"], help="each configuration is run for each (0 1 2)"
    )
    parser.add_argument("--roots", nargs="+", default=[], help="the data root of each seed; FASTREID_DATASETS for all")
    parser.add_argument("--jobs", type=whole(1, MOST_PROCESSES), default=1, help="runs side by side (%(default)s)")
    parser.add_argument("--output", type=Path, help="folder of runs and tables (logs/ablation/<name of the grid>)")
    parser.add_argument(
        "--no-share", action="store_true", help="train each run in full, also if only the cross stage differs"
    )
    parser.add_argument(
        "--row", action="append", default=[], help="train only rows whose names begin so (all); may come several times"
    )
    parser.add_argument("--list", action="store_true", help="print the runs, done and left, and stop")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides for every run")
    args = parser.parse_args(argv)
    numbers = next((n for n, word in enumerate(args.seeds) if not word.isdecimal()), len(args.seeds))
    try:
        seeds = [whole(0)(word) for word in args.seeds[:numbers]]
    except argparse.ArgumentTypeError:
        seeds = []
    if not seeds:
        parser.error(f"--seeds takes numbers, 0 to {LARGEST}")
    args.opts = args.seeds[numbers:] + args.opts
    roots, further = args.roots[: len(seeds)], args.roots[len(seeds) :]
    args.seeds, args.opts = sorted(set(seeds)), further + args.opts
    if roots and (not len(roots) == len(seeds) == len(set(seeds)) or (further and Path(further[0]).is_dir())):
        parser.error(f"--roots takes a folder for each of the {len(seeds)} seeds, which must differ")
    args.roots = dict(zip(seeds, map(Path, roots), strict=False))
    args.output = args.output or Path("logs/ablation") / args.grid.stem
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the grid; the exit code."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        require_folder_target(args.output, "--output")
        for root in args.roots.values():
            require_folder(root, "--roots")
        from mgot.analysis.ablation.session import Ablation

        ablation = Ablation(
            args.config_file,
            args.grid,
            args.seeds,
            args.output,
            REPO,
            args.opts,
            roots=args.roots,
            share=not args.no_share,
            rows=args.row,
        )
        if args.list:
            print(ablation.listing())
            return 0
        args.output.mkdir(parents=True, exist_ok=True)
        hold_folder(args.output, "--output")
        failed = ablation.run(args.jobs)
    except UserError as error:
        print(f"ablate.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablate.py: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    written = sorted(path.name for path in args.output.glob("table.*"))
    print(f"{(args.output / 'table.md').read_text(encoding='utf-8')}\nwritten: {args.output}/{', '.join(written)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
