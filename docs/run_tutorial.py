"""Runs docs/tutorial.md: its blocks in order in one namespace, what each prints, and the pictures that they draw.

    python docs/run_tutorial.py    writes what was printed and drawn back into the document

tests/test_tutorial.py runs the document too, and compares.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).resolve().with_name("tutorial.md")
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """(code, what the document says that it prints) of each block, in order."""
    return [(match["code"], match["printed"] or "") for match in BLOCK.finditer(text)]


def run(codes: list[str], folder: Path) -> list[str]:
    """What each block prints; they run in ``folder``, and whatever they draw appears there."""
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        return [printed(code, namespace) for code in codes]
    finally:
        os.chdir(before)


def printed(code: str, namespace: dict[str, Any]) -> str:
    """Run one block and return what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "docs/tutorial.md", "exec", dont_inherit=True), namespace)
    return out.getvalue()


def rewritten(text: str, outputs: list[str]) -> str:
    """The document with what its blocks printed; a block that printed nothing has no output below it."""
    left = iter(outputs)

    def with_output(match: re.Match[str]) -> str:
        output = next(left)
        shown = f"\n```text\n{output}```\n" if output else ""
        return f"```python\n{match['code']}```\n{shown}"

    return BLOCK.sub(with_output, text)


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        outputs = run([code for code, _ in blocks(text)], Path(folder))
        shutil.copytree(Path(folder) / "tutorial", DOCUMENT.with_suffix(""), dirs_exist_ok=True)
    DOCUMENT.write_text(rewritten(text, outputs), encoding="utf-8")


if __name__ == "__main__":
    main()
