#!/usr/bin/env python3
"""Make the demo's initial weights: a small ResNet, trained on visible images of rendered people who are not in it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mgot  # noqa: F401  restores what fast-reid needs
from mgot.arguments import require_file_target, whole
from mgot.compat import require_fastreid
from mgot.errors import UserError


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("projects/MGOT/weights/demo_slim_resnet.pth"), help="(%(default)s)"
    )
    parser.add_argument("--epochs", type=whole(1), help="fewer for a quick try")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 on success, 2 for a mistake of the user's."""
    args = parse(argv)
    try:
        require_fastreid()
        import dataclasses

        from mgot.data.synthetic.pretrain import Recipe, pretrain, save_half, visible_images

        require_file_target(args.output, "--output")
        recipe = Recipe()
        if args.epochs is not None:
            recipe = dataclasses.replace(recipe, epochs=args.epochs)
        images, labels = visible_images(recipe.people)
        model, losses = pretrain(recipe, images, labels)
        save_half(model, args.output)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    trail = ", ".join(f"{loss:.2f}" for loss in losses)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB; loss by epoch {trail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
