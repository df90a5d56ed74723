"""The command line of a training, used by the scripts: fast-reid's options, one process of the job, an exit code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mgot.compat import require_fastreid
from mgot.errors import Interrupted, UserError


def main(args: argparse.Namespace) -> None:
    """One process of the job."""
    from mgot.engine.run import evaluate, train
    from mgot.engine.setup import setup

    cfg = setup(args)
    if args.eval_only:
        evaluate(cfg)
    else:
        train(cfg, resume=args.resume)


def launch(argv: list[str] | None = None) -> int:
    """Parse the command line and run; 0 on success, 2 for a user's mistake, 128 + n if signal n stopped it."""
    try:
        require_fastreid()
        from fastreid.engine import default_argument_parser

        from mgot.distributed import start

        return start(main, default_argument_parser().parse_args(argv))
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"{Path(sys.argv[0]).name}: {stop}", file=sys.stderr)
        return stop.status
