"""Docstrings as they stand in the code, made ready for the site's Markdown.

    :func:`name` and its kin     a link, or code where the site does not describe the thing
    docs/method.md section 5     a link to the document and the section
    text that ends with ::       text that ends with :, before an indented block
    f_v, f_r: under Args         one entry, with the type that the code gives the first of them

A role that names nothing in the package is warned of, and so is an argument that no signature has. The build is
strict, so a docstring that went stale breaks it.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|attr|data|mod):`(?P<name>[\w.]+)`")
CITED = re.compile(r"docs/(?P<page>\w+)\.md(?:\s+section\s+(?P<section>\d))?")
SECTION = re.compile(r"^(?P<indent> *)(?P<name>Args|Attributes):\n(?P<body>(?:(?P=indent) +\S.*\n?|\n)+)", re.MULTILINE)
NO_BREAK = "\u00a0"  # griffe ends a name at the first plain space
log = logging.getLogger("mkdocs.plugins.docstrings")


class Docstrings(griffe.Extension):
    """Rewrites every docstring of the package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        for each in described(pkg):
            assert each.docstring is not None
            each.docstring.value = ready(each.docstring.value, each)


def described(holder: Any) -> list[Any]:
    """Everything below a module or a class that has a docstring, itself included; not what it only imports."""
    found = [holder] if holder.docstring is not None else []
    for member in holder.members.values():
        if member.is_alias:
            continue
        if member.is_module or member.is_class:
            found += described(member)
        elif member.docstring is not None:
            found.append(member)
    return found


def ready(text: str, holder: Any) -> str:
    """The docstring of ``holder`` in Markdown."""
    paragraphs = text.split("\n\n")
    text = "\n\n".join(verbatim(each) if is_block(each) else prose(each, holder) for each in paragraphs)
    return SECTION.sub(lambda section: typed(section[0], section["name"], holder), text)


def is_block(paragraph: str) -> bool:
    """Whether Markdown shows a paragraph as it stands, as it does formulas and examples."""
    return all(line.startswith("    ") for line in paragraph.splitlines())


def verbatim(paragraph: str) -> str:
    return ROLE.sub(lambda role: role["name"], paragraph)


def prose(paragraph: str, holder: Any) -> str:
    """A paragraph with its roles and citations as links; a mark after an interval is text, no link."""
    paragraph = ROLE.sub(lambda role: link(role["name"], holder), paragraph)
    paragraph = CITED.sub(cited, paragraph)
    paragraph = re.sub(r"(?<=\]) (?=\[(?:paper|OTLA|field|ours)\])", r" \\", paragraph)
    return re.sub(r"::$", ":", paragraph)


def cited(place: re.Match[str]) -> str:
    """A link from a page of the reference to the document, and the section, that a docstring cites."""
    anchor = f"#section-{place['section']}" if place["section"] else ""
    return f'<a href="../{place["page"]}.html{anchor}">{place[0]}</a>'


def link(name: str, holder: Any) -> str:
    """A reference that the site resolves where it describes ``name``, and shows as code elsewhere."""
    target = resolved(name, holder)
    if target is None:
        log.warning("%s: its docstring names `%s`, which is not there", holder.path, name)
        return f"`{name}`"
    return f'<autoref identifier="{target}" optional><code>{name.rpartition(".")[2]}</code></autoref>'


def resolved(name: str, holder: Any) -> str | None:
    """Full path of a name as seen from ``holder``: its own members, those of what holds it, then the package."""
    scope = holder
    while scope is not None:
        if scope.kind in (griffe.Kind.MODULE, griffe.Kind.CLASS) and has(scope, name):
            return str(scope[name].canonical_path)
        scope = scope.parent
    package = holder.package
    inner = name.removeprefix(f"{package.name}.")
    return str(package[inner].canonical_path) if inner != name and has(package, inner) else None


def has(scope: Any, name: str) -> bool:
    try:
        scope[name]
    except (KeyError, griffe.AliasResolutionError):  # the latter: a module from outside, imported there
        return False
    return True


def typed(section: str, title: str, holder: Any) -> str:
    """A section whose entries of several names say their type: griffe reads only that of a single name."""
    first = re.search(r"\n( +)\S", section)
    entries = re.compile(rf"^{first[1] if first else ''}(?P<names>\*{{0,2}}\w+(?:, \w+)*): ", re.MULTILINE)
    return entries.sub(lambda entry: one_entry(entry, title, holder), section)


def one_entry(entry: re.Match[str], title: str, holder: Any) -> str:
    """An entry as it is, or with a type where it has several names; names that nothing has are warned of."""
    names = entry["names"].split(", ")
    types = {name: annotation(name.lstrip("*"), title, holder) for name in names}
    missing = [name for name, kind in types.items() if kind is None]
    if missing and not is_open(title, holder):
        log.warning("%s: its docstring describes %s, which is not there", holder.path, ", ".join(missing))
    together = entry[0].replace(", ", f",{NO_BREAK}")
    kind = types[names[0]] if len(names) > 1 else None
    return together if kind is None else together.replace(": ", f" ({kind}): ")


def annotation(name: str, title: str, holder: Any) -> str | None:
    """The type that the code gives an argument or an attribute, None where there is none of that name."""
    for each in parameters(holder) if title == "Args" else ():
        if each.name == name:
            return str(each.annotation)
    member = holder.all_members.get(name) if holder.is_class else None
    return None if member is None else str(member.annotation)


def parameters(holder: Any) -> Any:
    """Of a function, or of a class's constructor."""
    function = holder.members.get("__init__") if holder.is_class else holder
    return getattr(function, "parameters", ())


def is_open(title: str, holder: Any) -> bool:
    """Whether names may come from elsewhere: by *args and **kwargs, or from a class outside the package."""
    if title == "Args":
        return any("variadic" in each.kind.value for each in parameters(holder))
    bases = [str(base) for base in holder.bases if str(base) != "NamedTuple"]
    return len(bases) > len(holder.resolved_bases)
