"""The site is built without a warning and without a network, its links hold, and its Markdown was read as meant."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest

from tests.scripts import script

pytest.importorskip("mkdocs", reason="the builder comes with '.[dev]'")
pytest.importorskip("mkdocstrings_handlers.python", reason="the builder comes with '.[dev]'")

ROOT = Path(__file__).resolve().parents[1]
BUILDER = ROOT / "docs" / "builder"


def loaded(name: str) -> ModuleType:
    """A module of docs/builder, which is no package."""
    return script(f"docs/builder/{name}.py")


pages, docstrings = loaded("pages"), loaded("docstrings")


def refuse(*_: Any) -> None:
    raise OSError("the site's build asks for the network")


@pytest.fixture(name="site", scope="module")
def fixture_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The built site; a warning raises mkdocs.exceptions.Abort here, with the warning in the captured log."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        from mkdocs.commands.build import build
        from mkdocs.config import load_config

        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
        yield folder


class Page(HTMLParser):
    """What the tests ask of a page: where it leads, what it loads, its anchors, and the text of its paragraphs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.paragraphs: list[str] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        self.tags.add(tag)
        self.ids.update(value for key, value in named.items() if key in ("id", "name"))
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        elif tag == "link" and named.get("rel") not in ("prev", "next", "canonical"):
            self.loaded.append(named["href"])
        elif "src" in named:
            self.loaded.append(named["src"])
        if tag == "p":
            self._inside = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.paragraphs[-1] += data


@pytest.fixture(name="parsed", scope="module")
def fixture_parsed(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow
def test_every_document_has_a_page(parsed: dict[Path, Page], site: Path) -> None:
    expected = [*pages.PAGES.values(), *(path.name for path in (ROOT / "docs").glob("*.md"))]
    expected += [f"reference/{name}.md" for name in ("index", *pages.REFERENCE)]
    assert [uri for uri in expected if site / uri.replace(".md", ".html") not in parsed] == []


@pytest.mark.slow
def test_links_lead_to_a_file_and_to_a_place_in_it(parsed: dict[Path, Page], site: Path) -> None:
    lost = []
    for path, page in parsed.items():
        if path.name == "404.html":
            continue  # served for any address, so its links are absolute
        for link in page.links:
            file, _, anchor = link.partition("#")
            target = (path.parent / unquote(file)).resolve() if file else path
            if "://" in link or link.startswith("mailto:"):
                continue
            if not target.exists() or (anchor and target in parsed and unquote(anchor) not in parsed[target].ids):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert lost == []


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(parsed: dict[Path, Page], site: Path) -> None:
    loads = [(path, source) for path, page in parsed.items() for source in page.loaded]
    assert len(loads) > len(parsed)
    foreign = [source for _, source in loads if re.match(r"(?:\w+:)?//", source)]
    assert foreign == []
    own = [(path, source) for path, source in loads if path.name != "404.html" and not source.startswith("data:")]
    assert [source for path, source in own if not (path.parent / unquote(source)).exists()] == []


@pytest.mark.slow
def test_markdown_was_read_as_meant(parsed: dict[Path, Page], site: Path) -> None:
    """GitHub is more lenient than the site: a list right under a paragraph, say, would be text here."""
    leftover = re.compile(r"^\s*(?:[-*] |\||```|:::|#+ )|\n\d+\. |\]\(|:(?:func|class|meth|data|mod|attr):", re.M)
    found = [
        f"{path.relative_to(site)}: {text}"
        for path, page in parsed.items()
        for text in page.paragraphs
        if leftover.search(text)
    ]
    assert found == []
    assert not any("autoref" in page.tags for page in parsed.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", pages.REFERENCE)
def test_the_reference_describes_what_a_package_offers(parsed: dict[Path, Page], site: Path, name: str) -> None:
    module = importlib.import_module(f"mgot.{name}")
    ids = parsed[site / "reference" / f"{name}.html"].ids
    offered = [each for each in getattr(module, "__all__", ()) if callable(getattr(module, each))]
    if hasattr(module, "__path__") and not offered:
        offered = [path.stem for path in Path(module.__path__[0]).glob("*.py") if path.stem != "__init__"]
    offered = offered or [
        each for each, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]
    public = [each for each in offered if not each.startswith("_")]
    assert public and [each for each in public if f"mgot.{name}.{each}" not in ids] == []


def test_a_warning_fails_the_build() -> None:
    from mkdocs.config import load_config

    assert load_config(str(ROOT / "mkdocs.yml")).strict
    (line,) = re.findall(r"-m mkdocs build.*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert "--strict" in line and not re.search(r"\s-q|--quiet", line)  # quiet, MkDocs counts no warning


def test_links_are_put_right_for_the_site() -> None:
    def on_site(markdown: str, home: str) -> str:
        return str(pages.relinked(markdown, home))

    assert on_site("[a](docs/data.md#regdb)", "README.md") == "[a](data.md#regdb)"
    assert on_site("[a](../README.md#status)", "docs/results.md") == "[a](index.md#status)"
    assert on_site("[a](../projects/MGOT/mgot/matching)", "docs/method.md") == "[a](reference/matching.md)"
    assert on_site("[a](mgot/config.py)", "projects/MGOT/README.md") == "[a](files/projects/MGOT/mgot/config.py.md)"
    assert on_site("[a](.ci/run)", "CONTRIBUTING.md") == "[a](files/ci/run.md)"
    assert on_site("![a](projects/MGOT/docs/x.png)", "README.md") == "![a](files/projects/MGOT/docs/x.png)"
    assert on_site("[a](https://arxiv.org/abs/1) [b](#c)", "README.md") == "[a](https://arxiv.org/abs/1) [b](#c)"
    assert on_site("```\n[a](docs/data.md)\n```\n`[a](docs/b.md)`", "README.md").count("docs/") == 2


STALE = '''
def scale(f, tau):
    """Divide, see :func:`scale` and :func:`gone`; [0, 1] [ours].

        f = :func:`scale`

    Source: docs/method.md section 6.

    Args:
        f, tau: numbers.
        width: of nothing
            in particular.
    """
'''


def test_a_docstring_that_went_stale_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import griffe

    (tmp_path / "stale.py").write_text(STALE.replace("f, tau):", "f: float, tau: float):"), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        module = griffe.load("stale", search_paths=[tmp_path], extensions=griffe.load_extensions(docstrings.Docstrings))
    assert [record.getMessage() for record in caplog.records] == [
        "stale.scale: its docstring names `gone`, which is not there",
        "stale.scale: its docstring describes width, which is not there",
    ]
    text = module["scale"].docstring.value
    assert '<autoref identifier="stale.scale" optional><code>scale</code></autoref>' in text
    assert "    f = scale\n" in text and "[0, 1] \\[ours]" in text and "f,\u00a0tau (float): numbers" in text
    assert '<a href="../method.html#section-6">docs/method.md section 6</a>' in text
