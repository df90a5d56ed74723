#!/usr/bin/env python3
"""Train or evaluate MGOT: the host's command line (--config-file, --resume, --eval-only, --num-gpus, KEY VALUE)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mgot  # noqa: F401  restores what the host needs and registers MGOT with it
from mgot.compat import require_host
from mgot.errors import UserError


def main(args: argparse.Namespace) -> None:
    """One process of the job."""
    from mgot.engine.run import evaluate, train
    from mgot.engine.setup import setup

    cfg = setup(args)
    if args.eval_only:
        evaluate(cfg)
    else:
        train(cfg, resume=args.resume)


def check_processes(args: argparse.Namespace) -> None:
    """Raise UserError where more processes are asked for than there are GPUs: the host's launcher would assert."""
    import torch

    if args.num_gpus * args.num_machines > 1 and args.num_gpus > torch.cuda.device_count():
        raise UserError(
            f"--num-gpus {args.num_gpus}: this machine has {torch.cuda.device_count()}; leave the option out"
        )


def launch(argv: list[str] | None = None) -> int:
    """Parse the command line and run; 0 on success, 2 for a mistake of the user's."""
    try:
        require_host()
        from fastreid.engine import default_argument_parser
        from fastreid.engine import launch as host_launch

        args = default_argument_parser().parse_args(argv)
        check_processes(args)
        host_launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(launch())
