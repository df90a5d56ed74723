#!/usr/bin/env python3
"""Train and score RegDB's ten splits one after the other and print their mean; finished splits are not run again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mgot  # noqa: F401  restores what fast-reid needs
from mgot.arguments import require_folder_target, whole
from mgot.errors import UserError

SPLITS = list(range(1, 11))
REPO = Path(__file__).resolve().parent.parent


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config-file", default=str(REPO / "projects/MGOT/configs/regdb.yml"), help="recipe (%(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("logs/regdb"), help="folder of all trials (%(default)s)")
    parser.add_argument("--trials", type=whole(1, 10), nargs="+", default=SPLITS, help="splits, 1 to 10 (all)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides for every training")
    args = parser.parse_args(argv)
    if len(set(args.trials)) < len(args.trials):
        parser.error(f"argument --trials: each once, not {args.trials}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run; 0 on success, 2 for a mistake of the user's or a training that failed."""
    args = parse(argv)
    try:
        from mgot.engine.setup import load_config
        from mgot.evaluation.results import format_rows
        from mgot.evaluation.trials import train_trials

        require_folder_target(args.output, "--output")
        load_config(args.config_file, args.opts)  # a mistake in it shows here, not in each training
        command = [str(REPO / "tools/train_net.py"), "--config-file", args.config_file, "--resume", *args.opts]
        results = train_trials(command, args.output, args.trials)
    except UserError as error:
        print(f"train_regdb.py: {error}", file=sys.stderr)
        return 2
    table = format_rows(results.content["rows"], results.content["ground_truth"])
    print(f"{table}\nmean of {len(args.trials)} trials; results in {results.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
