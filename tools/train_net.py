#!/usr/bin/env python3
"""Train or evaluate MGOT: fast-reid's command line (--config-file, --resume, --eval-only, --num-gpus, KEY VALUE).

Several processes: --num-gpus N, or `torchrun --nproc-per-node N tools/train_net.py ...`, which also works on
CPUs and over several machines. In a checkout of fast-reid that projects/MGOT was copied into,
projects/MGOT/train_net.py is the same command.
"""

import sys

import mgot  # noqa: F401  restores what fast-reid needs and registers MGOT with it
from mgot.command import launch

if __name__ == "__main__":
    sys.exit(launch())
