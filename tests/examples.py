"""Code and command lines of docs/extending.md, by the heading that they stand under."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """What stands below a heading, up to the next one."""
    return TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def code(heading: str) -> str:
    """The section's one Python block."""
    (block,) = re.findall(r"^```python\n(.*?)^```", section(heading), re.MULTILINE | re.DOTALL)
    return str(block)


def command(heading: str) -> tuple[str, list[str]]:
    """The file that the section's command line runs, and the KEY VALUE pairs at its end."""
    (block,) = re.findall(r"^```sh\n(.*?)\n```", section(heading), re.MULTILINE | re.DOTALL)
    (words,) = (shlex.split(line) for line in block.splitlines() if "--config-file" in line)
    config = words.index("--config-file")
    return words[config - 1], words[config + 2 :]
