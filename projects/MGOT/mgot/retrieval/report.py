"""The result of a search, for a terminal and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tabulate import tabulate

from mgot.retrieval.search import Outcome


def as_json(outcome: Outcome, sheet: Path, seconds: float) -> dict[str, Any]:
    """Plain values: paths as text, cosine distances in [0, 2]."""
    return {
        "queries": [
            {
                "query": str(answer.query),
                "results": [
                    {"rank": rank, "path": str(hit.path), "distance": round(hit.distance, 6)}
                    for rank, hit in enumerate(answer.hits, start=1)
                ],
            }
            for answer in outcome.answers
        ],
        "images": outcome.images,
        "embedded": outcome.embedded,
        "removed": outcome.removed,
        "unreadable": [{"path": str(path), "reason": reason} for path, reason in outcome.unreadable.items()],
        "exact": outcome.exact,
        "index": str(outcome.index),
        "sheet": str(sheet),
        "seconds": round(seconds, 3),
    }


def as_text(outcome: Outcome, sheet: Path, seconds: float) -> str:
    """A table for each query, the unreadable images, and what was done."""
    parts = []
    for answer in outcome.answers:
        body = [[rank, f"{hit.distance:.4f}", hit.path] for rank, hit in enumerate(answer.hits, start=1)]
        table = tabulate(body, headers=["rank", "distance", "image"], disable_numparse=True)
        parts.append(f"{answer.query}\n{table}\n")
    if outcome.unreadable:
        parts.append(f"{len(outcome.unreadable)} images cannot be read:")
        parts += [f"- {reason}" for reason in outcome.unreadable.values()]
    how = "all of them compared" if outcome.exact else "the nearest cells compared"
    parts.append(f"{outcome.images} images, {how}; {outcome.embedded} embedded now, {outcome.removed} dropped")
    parts.append(f"index {outcome.index}; contact sheet {sheet}; {seconds:.1f} s")
    return "\n".join(parts).encode("utf-8", "backslashreplace").decode()
