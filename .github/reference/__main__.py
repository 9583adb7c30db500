"""API reference builder: ``python .github/reference site`` writes HTML into ``site``.

Requires pdoc (extra ``dev``). There is one page for each of ``public_names.MODULES``; an
object that is defined in a private module appears under the name that users import.
Warnings are errors.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from markupsafe import Markup
from pdoc import doc, docstrings, render, render_helpers

from class_pages import ClassPage, name_defaults
from public_names import (
    MODULES,
    PACKAGE,
    PublicName,
    PublicPaths,
    problems,
    public_names,
)
from qos_async import __version__

__all__ = ["build", "main"]

_DOT = r'(?:\.|</span><span class="o">\.</span><span class="n">)'
_PATH = re.compile(rf"\b{PACKAGE}(?:{_DOT}\w+)+")
# The ``~`` before the name of a type variable, as in ``~T``.
_VARIABLE = re.compile(
    r'(?:<span class="o">~</span>|~)(?=(?:<span class="n">)?[A-Z]\b)'
)
_QUOTED = re.compile(r"<code>([A-Z]\w*(?:\.\w+)?)(\(\))?</code>")
_TAG = re.compile("<[^>]*>")


def build(names: list[PublicName], folder: Path) -> dict[str, int]:
    """Write the pages into ``folder``; return the number of names on each page.

    Raises:
        Warning: Any warning that pdoc emits.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in MODULES:
            _load_lazy_names(name)
        paths = PublicPaths()
        pages = {name: doc.Module.from_name(name) for name in MODULES}
        for page in pages.values():
            _prepare(page, pages, paths, {name.path: name.text for name in names})
        _configure(paths, pages[PACKAGE])
        _write(pages, folder)
    return {name: len(page.members) for name, page in pages.items()}


def _load_lazy_names(name: str) -> None:
    """Access every public name once: some modules import theirs on first access."""
    module = importlib.import_module(name)
    for member in module.__all__:
        vars(module)[member] = getattr(module, member)


def _prepare(
    page: doc.Module,
    pages: Mapping[str, doc.Module],
    paths: PublicPaths,
    texts: Mapping[str, str],
) -> None:
    page.submodules = [
        one for name, one in pages.items() if name.rpartition(".")[0] == page.fullname
    ]
    for member in page.members.values():
        if isinstance(member, doc.Class):
            ClassPage(paths, member, texts).prepare()
        elif isinstance(member, doc.Variable):
            member.docstring = texts.get(member.fullname, "")
        elif isinstance(member, doc.Function):
            name_defaults(member)


def _configure(paths: PublicPaths, front: doc.Module) -> None:
    docstrings.GOOGLE_LIST_SECTIONS.append("Fixtures")
    render.configure(
        docformat="google",
        show_source=False,
        footer_text=f"{PACKAGE} {__version__}",
    )
    plain: Callable[..., Markup] = render_helpers.linkify

    def public(match: re.Match[str]) -> str:
        return paths.shown(_TAG.sub("", match[0]))

    def linkify(context: Any, code: str, *args: Any, **options: Any) -> Markup:
        shown = _PATH.sub(public, _VARIABLE.sub("", str(code)))
        linked = plain(context, shown, *args, **options)
        return _link_to_front_page(front, context["module"].modulename, linked)

    render.env.filters["linkify"] = pass_context(linkify)


def _link_to_front_page(front: doc.Module, page: str, text: str) -> Markup:
    """Link names of the front page where another page mentions them.

    pdoc looks for such a name on the page that mentions it, and finds none.
    """
    there = render_helpers.relative_link(page, front.modulename)

    def link(match: re.Match[str]) -> str:
        if front.get(match[1]) is None:
            return match[0]
        return (
            f'<code><a href="{there}#{match[1]}">{match[1]}</a>{match[2] or ""}</code>'
        )

    return Markup(_QUOTED.sub(link, text))  # noqa: S704 - text is pdoc's own markup


def _write(pages: Mapping[str, doc.Module], folder: Path) -> None:
    for name, page in pages.items():
        path = folder / f"{name.replace('.', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render.html_module(page, pages), "utf-8")
    (folder / "index.html").write_text(render.html_index(pages), "utf-8")
    (folder / "search.js").write_text(render.search_index(pages), "utf-8")


def main() -> int:
    """Check the docstrings, then build; return the exit code."""
    parser = argparse.ArgumentParser(prog="python .github/reference")
    parser.add_argument("folder", type=Path, help="output directory")
    folder: Path = parser.parse_args().folder
    names = list(public_names())
    if found := problems(names):
        sys.stderr.write("\n".join([*found, ""]))
        return 1
    counts = build(names, folder)
    summary = ", ".join(f"{name} {count}" for name, count in counts.items())
    sys.stdout.write(f"{folder / 'index.html'}: {summary}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
