#!/usr/bin/env python3
"""Search a folder of images for the person in a query image, by a trained model.

The folder's features are kept in an index file beside it; later searches embed only images that were added or changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from mgot.errors import UserError
from mgot.retrieval.index import EXACT_UP_TO
from mgot.retrieval.models import load_embedder
from mgot.retrieval.report import as_json, as_text
from mgot.retrieval.search import Request, search_folder
from mgot.retrieval.sheet import check_sheet, write_sheet

MODALITIES = {"visible": True, "infrared": False}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="a checkpoint (.pth) or an export (.onnx)")
    add("--gallery", type=Path, required=True, metavar="DIR", help="the folder to search, at any depth")
    add("--query", type=Path, nargs="+", required=True, metavar="IMG", help="images of the person to find")
    add("--top", type=int, default=10, help="images of an answer (%(default)s)")
    add("--config-file", type=Path, help="what a checkpoint was trained by (config.yaml beside the weights)")
    add("--index", type=Path, help="file of the gallery's features (DIR.mgot-index.npz beside DIR)")
    add("--output", type=Path, default=Path("search.jpg"), help="contact sheet to write (%(default)s)")
    add("--json", action="store_true", help="print a JSON object instead of tables")
    add("--query-modality", choices=MODALITIES, help="of the queries; needed only by models with two stems")
    add("--gallery-modality", choices=MODALITIES, help="of the gallery, for such models (the other one)")
    add(
        "--exact-up-to",
        type=int,
        default=EXACT_UP_TO,
        help="above this number of images, compare only near cells (%(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Search and show; 0 on success, 2 for a mistake of the user's."""
    args = parse(argv)
    start = time.perf_counter()
    request = Request(
        gallery=args.gallery,
        queries=args.query,
        top=args.top,
        index=args.index,
        query_visible=MODALITIES.get(args.query_modality),
        gallery_visible=MODALITIES.get(args.gallery_modality),
        exact_up_to=args.exact_up_to,
    )
    try:
        request.check()
        check_sheet(args.output, request)
        outcome = search_folder(load_embedder(args.weights, args.config_file), request)
        write_sheet(args.output, outcome.answers)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    seconds = time.perf_counter() - start
    if args.json:
        print(json.dumps(as_json(outcome, args.output, seconds)))
    else:
        print(as_text(outcome, args.output, seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
