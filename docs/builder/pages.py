"""What MkDocs needs beyond mkdocs.yml: pages from outside `docs`, links that hold here and on GitHub, the reference.

Documents link each other and the code by relative paths, which GitHub follows. On the site each path has a place:

    README.md, CHANGELOG.md, ...   a page (`PAGES`)
    docs/X                         X
    a folder of the public API     its page of the reference
    any other folder or text file  a page that shows it, made only where a document links it
    an image                       a copy
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "projects/MGOT/mgot"
PAGES = {
    "README.md": "index.md",
    "projects/MGOT/README.md": "code.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
REFERENCE = (
    "clustering", "neighbours", "matching", "transport", "memory", "losses", "principles", "evaluation", "data",
    "modeling", "engine", "retrieval",
)  # fmt: skip
PICTURES = {".png", ".svg", ".jpg"}
HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"  # a file's text would drown the documents in the search
MODULE = "    options: {show_root_heading: true, show_root_toc_entry: true, show_root_full_path: false}\n"
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside `docs`, the reference, and whatever the documents link."""
    for path, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for uri, text in reference().items():
        files.append(File.generated(config, uri, content=text))
    linked = {target for page in files.documentation_pages() for target in outside(page)}
    for target in sorted(linked):
        files.append(shown(target, config))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The page with links that lead to places on the site."""
    home = origin(page.file.src_uri)
    return markdown if home is None else relinked(markdown, home)


def origin(uri: str) -> str | None:
    """Path in the repository of a page of the site, None for one that was made here."""
    if uri.startswith(("files/", "reference/")):
        return None
    return {there: path for path, there in PAGES.items()}.get(uri, f"docs/{uri}")


def place(path: str) -> str:
    """Where a path of the repository is on the site, as MkDocs names its sources."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith(f"{SOURCE}/") and posixpath.basename(path) in REFERENCE:
        return f"reference/{posixpath.basename(path)}.md"
    shown_as = re.sub(r"(^|/)\.", r"\1", path)  # MkDocs leaves out whatever begins with a dot
    return f"files/{shown_as}" if posixpath.splitext(path)[1] in PICTURES else f"files/{shown_as}.md"


def targets(markdown: str, home: str) -> list[str]:
    """Paths in the repository that a document links, in its own order; anchors and addresses left out."""
    prose = CODE.sub("", markdown)
    found = [match["path"] for match in LINK.finditer(prose) if "://" not in match["path"]]
    return [posixpath.normpath(posixpath.join(posixpath.dirname(home), path)) for path in found]


def relinked(markdown: str, home: str) -> str:
    """A document whose links lead to :func:`place`, relative to its own place; code stays as it is."""
    folder, here = posixpath.dirname(home), posixpath.dirname(place(home))

    def lead(match: re.Match[str]) -> str:
        if "://" in match["path"]:
            return match[0]
        target = place(posixpath.normpath(posixpath.join(folder, match["path"])))
        return posixpath.relpath(target, here or ".") + (match["anchor"] or "")

    parts = CODE.split(markdown)
    return "".join(part if n % 2 else LINK.sub(lead, part) for n, part in enumerate(parts))


def outside(file: File) -> list[str]:
    """What a page links that has no page of its own: files and folders of the code, and pictures."""
    home = origin(file.src_uri)
    if home is None:
        return []
    linked = targets(file.content_string, home)
    return [path for path in linked if place(path).startswith("files/") and (ROOT / path).exists()]


def shown(path: str, config: Any) -> File:
    """A file of the repository on the site: a picture as it is, a text in a page, a folder as a list."""
    uri, source = place(path), ROOT / path
    if source.suffix in PICTURES:
        return File.generated(config, uri, abs_src_path=str(source))
    return File.generated(config, uri, content=listing(path) if source.is_dir() else source_page(path))


def listing(path: str) -> str:
    """A page that lists the files of a folder."""
    names = sorted(each.name for each in (ROOT / path).iterdir() if each.name != "__pycache__")
    return f"{HIDDEN}# {path}\n\n" + "".join(f"- `{name}`\n" for name in names)


def source_page(path: str) -> str:
    """A page that shows a text file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    language = {".py": "python", ".yml": "yaml", ".cff": "yaml"}.get(posixpath.splitext(path)[1], "text")
    return f"{HIDDEN}# {posixpath.basename(path)}\n\n`{path}`\n\n~~~~ {language}\n{text}~~~~\n"


def reference() -> dict[str, str]:
    """Pages of the API reference by their place, each a list of what mkdocstrings shall describe."""
    rows = "".join(f"| [mgot.{name}]({name}.md) | {summary(name)} |\n" for name in REFERENCE)
    pages = {"reference/index.md": f"# API reference\n\n| package | what it is |\n|---|---|\n{rows}"}
    return pages | {f"reference/{name}.md": api_page(name) for name in REFERENCE}


def source_of(name: str) -> Path:
    """The file that holds the docstring of a package or a module below `mgot`."""
    module = ROOT / SOURCE / f"{name}.py"
    return module if module.is_file() else ROOT / SOURCE / name / "__init__.py"


def summary(name: str) -> str:
    """First sentence of a docstring, as it stands in the source."""
    found = re.search(r'^"""(.+?)(?:\.?"""|\.?\n\n|\.\s)', source_of(name).read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"mgot.{name} begins with no docstring")
    return " ".join(found[1].split())


def api_page(name: str) -> str:
    """A page about one package: by its own face where it has one (`__all__`), else module by module, rooms last."""
    text = f"# mgot.{name}\n\n::: mgot.{name}\n"
    file = source_of(name)
    if file.name != "__init__.py" or "__all__" in file.read_text(encoding="utf-8"):
        return text
    found = (each.relative_to(file.parent).with_suffix("").parts for each in file.parent.rglob("*.py"))
    modules = sorted((each for each in found if each != ("__init__",)), key=lambda each: (len(each) > 1, each))
    paths = (".".join(each).removesuffix(".__init__") for each in modules)
    return text + "".join(f"\n::: mgot.{name}.{each}\n{MODULE}" for each in paths)
