#!/usr/bin/env python3
"""Write a trained retrieval model as ONNX: RGB images in 0..255 in, L2-normalised features out.

The graph normalises the pixels, and averages features with those of the mirror image if TEST.FLIP is on. The batch is
dynamic, height and width are INPUT.SIZE_TEST's. The file is written only if onnxruntime gives PyTorch's features to
1e-4 on random images; Its metadata (key "mgot") has the input size, pixel range, feature dimension and opset.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mgot  # noqa: F401  restores what fast-reid needs and registers MGOT with it
from mgot.arguments import require_file, require_file_target, whole
from mgot.compat import require_fastreid
from mgot.errors import UserError


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, help="of the training, such as logs/demo/config.yaml")
    parser.add_argument("--weights", required=True, help="its checkpoint, such as logs/demo/model_final.pth")
    parser.add_argument("--output", required=True, help="the .onnx file to write")
    parser.add_argument("--opset", type=whole(1), default=17, help="ONNX operator set 11 to 20 (default: 17)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="further config keys")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Export and check; 0 on success, 2 for a mistake of the user's."""
    args = parse(argv)
    try:
        require_file(args.config_file, "--config-file")
        require_file(args.weights, "--weights")
        require_file_target(args.output, "--output")
        require_fastreid()
        from mgot.engine.setup import load_config
        from mgot.retrieval.export import export_onnx

        fixed = ["MODEL.WEIGHTS", args.weights, "MODEL.BACKBONE.PRETRAIN", "False", "MODEL.DEVICE", "cpu"]
        facts = export_onnx(load_config(args.config_file, args.opts, fixed=fixed), args.output, opset=args.opset)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    height, width = facts.input_size
    print(f"{args.output}: images (B, 3, {height}, {width}) to features (B, {facts.feature_dim}), opset {facts.opset}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
