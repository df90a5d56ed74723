"""What is written for readers holds: cited sections, links with their anchors, keys, and the command lines."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mgot.engine.setup import default_config
from mgot.matching import BELIEFS, MATCHERS, Prototypes, believe
from tests.examples import code
from tests.scripts import script

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "projects/MGOT/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
CODE = [path for part in ("projects", "tools", "tests", "benchmarks", "configs") for path in (ROOT / part).rglob("*")]
WITH_CONFIG = (
    "train_net",
    "train_regdb",
    "ablate",
    "export_onnx",
    "benchmark",
    "rehearse",
)  # their last words are KEY VALUE pairs
FROM_OUTSIDE = {  # keys of the examples in docs/extending.md
    "MGOT.CLUSTER.COUNT", "MGOT.MATCHER.MIN_SIZE", "MGOT.LOSS.W_UNIFORMITY", "MGOT.LOSS.UNIFORMITY_RATE"
}  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """What a link into a document may name: headings, as GitHub spells them, and explicit anchors."""
    text = prose(path.read_text(encoding="utf-8"))
    headings = (line.lstrip("#").strip().lower() for line in text.splitlines() if line.startswith("#"))
    spelled = {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}
    return spelled | set(re.findall(r'<a id="([^"]+)">', text))


def test_every_cited_section_exists() -> None:
    method = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (\d)\. ", method, re.MULTILINE)
    assert sections == list("0123456789")
    assert set(re.findall(r'<a id="section-(\d)">', method)) == set(sections)
    cited = set()
    for path in CODE:
        if path.suffix in (".py", ".yml") and path != Path(__file__).resolve():
            text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
            assert "METHOD.md" not in text and "PROTOCOLS" not in text, f"{name_of(path)} cites a file of no reader"
            for numbers in re.findall(r"docs/method\.md(?:'s)? sections? (\d(?:(?:, | and )\d)*)", text):
                cited.update(re.findall(r"\d", numbers))
    assert cited and cited <= set(sections)


def test_every_cited_protocol_exists() -> None:
    known = anchors(ROOT / "docs" / "protocols.md")
    cited = set()
    for path in CODE:
        if path.suffix == ".py" and path != Path(__file__).resolve():
            text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
            cited.update(re.findall(r"docs/protocols\.md, ([\w -]+)", text))
    assert cited and {each for each in cited if each.strip().lower().replace(" ", "-") not in known} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_a_file_and_to_a_place_in_it(document: Path) -> None:
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file) if file else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def command_lines(text: str) -> list[list[str]]:
    """Words of each command that names a tool: lines of the shell blocks, and code within the prose."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]*(?:tools|projects/MGOT)/\w+\.py[^`\n]*)`", prose(text))
    words = [shlex.split(line, comments=True) for line in lines]
    return [each for each in words if any(is_tool(word) for word in each)]


def is_tool(word: str) -> bool:
    return re.fullmatch(r"(?:tools|projects/MGOT)/\w+\.py", word) is not None


def parsed(tool: str, argv: list[str]) -> Any:
    """The command line as the tool reads it, train_net by fast-reid's parser; a mistake ends in SystemExit."""
    if tool == "train_net":
        from fastreid.engine import default_argument_parser

        return default_argument_parser().parse_args(argv)
    return script(f"tools/{tool}.py").parse(argv)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_command_lines_are_understood(document: Path) -> None:
    known = default_config()
    for words in command_lines(document.read_text(encoding="utf-8")):
        at = next(n for n, word in enumerate(words) if is_tool(word))
        tool, argv = Path(words[at]).stem, words[at + 1 :]
        if not argv:
            continue  # the tool is named, not started; or it starts without a word
        try:
            args = parsed(tool, argv)
        except SystemExit as end:
            raise AssertionError(f"{name_of(document)}: {shlex.join(words)}") from end
        if tool in WITH_CONFIG:
            opts = list(getattr(args, "opts", []))
            while opts and opts[0].endswith(".yml"):  # files that go over the recipe
                assert (ROOT / opts.pop(0)).is_file(), shlex.join(words)
            assert len(opts) % 2 == 0, shlex.join(words)
            assert [key for key in opts[::2] if not has_key(known, key)] == []
            file = getattr(args, "config_file", "")
            if file and not file.startswith("logs/"):
                assert (ROOT / file).is_file(), shlex.join(words)


def has_key(node: Any, key: str) -> bool:
    for part in key.split("."):
        if not hasattr(node, "keys") or part not in node:
            return False
        node = node[part]
    return True


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_keys_that_are_named_exist(document: Path) -> None:
    known = default_config()
    named = set(
        re.findall(
            r"\b(?:MGOT|SOLVER|DATALOADER|INPUT|MODEL|TEST|DATASETS)(?:\.[A-Z][A-Z0-9_]*)+\b",
            document.read_text(encoding="utf-8"),
        )
    )
    named = {key for key in named if not key.endswith("_")}  # W_* stands for several
    assert {key for key in named - FROM_OUTSIDE if not has_key(known, key)} == set()


def test_the_example_of_a_belief_runs() -> None:
    """That of a data set is in test_own_dataset.py, the others in test_extending.py."""
    belief = code("A belief")
    phi = np.eye(4)
    prototypes = Prototypes(phi, phi[[2, 0]])
    try:
        exec(belief, {})
        believed = believe("reciprocal", prototypes, MATCHERS["nearest"]()(prototypes))
        assert believed.visible.tolist() == [1, 0, 1, 0] and believed.infrared.tolist() == [1, 1]
    finally:
        BELIEFS.pop("reciprocal", None)


def test_the_readmes_example_of_the_library_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    torch.manual_seed(0)
    exec(code, {})
    assert re.fullmatch(r"\d+ and \d+ clusters, plan converged: True, CCL \d\.\d{3}\n", capsys.readouterr().out)


def test_the_picture_is_what_its_script_draws() -> None:
    assert script("docs/draw_method.py").draw() == (ROOT / "docs" / "method.svg").read_text(encoding="utf-8")


def test_the_pictures_of_the_results_say_what_the_tables_say() -> None:
    """Their words, as another version of matplotlib draws other lines."""
    results = script("docs/draw_results.py")
    for file, name in results.PICTURES.items():
        drawn, kept = results.draw(name), (ROOT / "docs" / file).read_text(encoding="utf-8")
        words, kept_words = (re.findall(r"<text[^>]*>([^<]*)<", picture) for picture in (drawn, kept))
        assert len(words) > 20
        assert words == kept_words, f"{file} is older than its table: run docs/draw_results.py"


def test_a_wrong_command_line_is_found() -> None:
    text = "```sh\nX=1 .venv/bin/python tools/report.py \\\n    logs/demo --paper a4  # a comment\n```\n"
    (words,) = command_lines(text)
    with pytest.raises(SystemExit):
        parsed("report", words[words.index("tools/report.py") + 1 :])
