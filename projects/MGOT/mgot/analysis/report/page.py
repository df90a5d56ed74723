"""One HTML page that needs nothing but itself."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from mgot.analysis.diagnostics.images import read_images
from mgot.analysis.diagnostics.record import require_images
from mgot.analysis.diagnostics.run import read_run
from mgot.analysis.report.contents import (
    cluster_sheets,
    pictures,
    plan_pictures,
    ranking_lists,
    readable_records,
    results_table,
)
from mgot.analysis.report.diagnosis import diagnose
from mgot.analysis.report.thumbnails import SIZE, Thumbnails
from mgot.errors import UserError
from mgot.files import write_atomically

SYMBOLS = {"problem": "✗", "warning": "!", "note": "i", "good": "✓"}


def describe(folder: Path, root: Path | None = None) -> dict[str, Any]:
    """Everything that the page shows of a run, as plain values.

    Args:
        folder: the run's OUTPUT_DIR, finished or not.
        root: the data root, where the images are; None for the one that the run recorded.

    Raises:
        UserError: the folder is no run's, or one of its files is damaged.
    """
    run = read_run(folder, folder.resolve().name)
    records, remarks = readable_records(folder)
    images = read_images(folder) if records else {}
    for record in records:
        require_images(record, images, folder)
    thumbnails = Thumbnails(root or Path(images.get("root", "datasets")))
    clusters = cluster_sheets(images, records[-1], thumbnails) if records else []
    rankings = ranking_lists(folder, thumbnails)
    if not records:
        remarks.append("no epoch was recorded (MGOT.DIAGNOSTICS False, or the run has not got that far)")
    if thumbnails.missing:
        remarks.append(
            f"{len(thumbnails.missing)} images could not be read, for example {min(thumbnails.missing)}: say where the"
            " data set is with --root"
        )
    return {
        "run": run,
        "findings": [{**finding._asdict(), "symbol": SYMBOLS[finding.level]} for finding in diagnose(run)],
        "remarks": remarks,
        "results": results_table(run),
        "plans": plan_pictures(records),
        "pictures": pictures(run, records, images),
        "clusters": clusters,
        "cluster_epoch": int(records[-1].epoch) if records else None,
        "rankings": rankings,
        "versions": images.get("versions", {}),
        "size": SIZE,
    }


def write_report(folder: Path, output: Path | None = None, root: Path | None = None) -> Path:
    """Write the page of a run; its file, ``report.html`` in the run's folder where ``output`` is None.

    Raises:
        UserError: as :func:`describe`, the page cannot be written, or Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise UserError("the report needs Jinja2: pip install -e '.[viz]'") from None
    source = files("mgot.analysis.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(source).render(describe(folder, root))
    path = output or folder / "report.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, page)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another --output") from None
    return path
