#!/usr/bin/env python3
"""Train or evaluate MGOT in a checkout of fast-reid, as fast-reid's own projects do. From the checkout's root:

    python3 projects/MGOT/train_net.py --config-file projects/MGOT/configs/sysu.yml --num-gpus 1

It uses the package beside this file, and the fast-reid of the checkout if there is one. No other file of MGOT's
repository is needed. Options: --config-file, --resume, --eval-only, --num-gpus, KEY VALUE.
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
if (CHECKOUT / "fastreid").is_dir():
    sys.path.insert(1, str(CHECKOUT))  # behind this file's folder, before an installed fast-reid

import mgot  # noqa: E402, F401  restores what fast-reid needs and registers MGOT with it
from mgot.command import launch  # noqa: E402

if __name__ == "__main__":
    sys.exit(launch())
