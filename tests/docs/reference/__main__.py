"""Build the API reference from the docstrings: ``python -m tests.docs.reference site``.

It takes pdoc, of the extra ``dev``. Pages are those of ``surface.MODULES``: what lives
in a private module stands where users import it from. Warnings are errors.
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

from qos_async import __version__
from tests.docs.reference.settling import Settler
from tests.docs.reference.surface import MODULES, PACKAGE, Homes, Named, faults, surface

__all__ = ["build", "main"]

_DOT = r'(?:\.|</span><span class="o">\.</span><span class="n">)'
_PATH = re.compile(rf"\b{PACKAGE}(?:{_DOT}\w+)+")
_VARIABLE = re.compile(
    r'(?:<span class="o">~</span>|~)(?=(?:<span class="n">)?[A-Z]\b)'
)
_QUOTED = re.compile(r"<code>([A-Z]\w*(?:\.\w+)?)(\(\))?</code>")
_TAG = re.compile("<[^>]*>")


def build(names: list[Named], folder: Path) -> dict[str, int]:
    """Write the pages into ``folder``, and say how many names each one has.

    Raises:
        Warning: Whatever pdoc warns of.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in MODULES:
            _materialize(name)
        homes = Homes()
        pages = {name: doc.Module.from_name(name) for name in MODULES}
        for page in pages.values():
            _settle(page, pages, homes, {name.path: name.text for name in names})
        _configure(homes, pages[PACKAGE])
        _write(pages, folder)
    return {name: len(page.members) for name, page in pages.items()}


def _materialize(name: str) -> None:
    """Look at every public name once: some modules import only when asked."""
    module = importlib.import_module(name)
    for member in module.__all__:
        vars(module)[member] = getattr(module, member)


def _settle(
    page: doc.Module,
    pages: Mapping[str, doc.Module],
    homes: Homes,
    texts: Mapping[str, str],
) -> None:
    page.submodules = [
        one for name, one in pages.items() if name.rpartition(".")[0] == page.fullname
    ]
    for member in page.members.values():
        if isinstance(member, doc.Class):
            Settler(homes, member, texts).settle()
        elif isinstance(member, doc.Variable):
            member.docstring = texts.get(member.fullname, "")
        elif isinstance(member, doc.Function):
            Settler.show_defaults(member)


def _configure(homes: Homes, front: doc.Module) -> None:
    docstrings.GOOGLE_LIST_SECTIONS.append("Fixtures")
    render.configure(
        docformat="google",
        show_source=False,
        footer_text=f"{PACKAGE} {__version__}",
    )
    plain: Callable[..., Markup] = render_helpers.linkify

    def public(match: re.Match[str]) -> str:
        return homes.shown(_TAG.sub("", match[0]))

    def linkify(context: Any, code: str, *args: Any, **options: Any) -> Markup:
        shown = _PATH.sub(public, _VARIABLE.sub("", str(code)))
        linked = plain(context, shown, *args, **options)
        return _link_to(front, context["module"].modulename, linked)

    render.env.filters["linkify"] = pass_context(linkify)


def _link_to(front: doc.Module, page: str, text: str) -> Markup:
    """Link names of the front page in the text of another, as ``Client`` in the plugin's.

    Left to itself, pdoc links such names to the page that they stand on, or not at all.
    """
    there = render_helpers.relative_link(page, front.modulename)

    def link(match: re.Match[str]) -> str:
        if front.get(match[1]) is None:
            return match[0]
        return (
            f'<code><a href="{there}#{match[1]}">{match[1]}</a>{match[2] or ""}</code>'
        )

    return Markup(_QUOTED.sub(link, text))


def _write(pages: Mapping[str, doc.Module], folder: Path) -> None:
    for name, page in pages.items():
        path = folder / f"{name.replace('.', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render.html_module(page, pages), "utf-8")
    (folder / "index.html").write_text(render.html_index(pages), "utf-8")
    (folder / "search.js").write_text(render.search_index(pages), "utf-8")


def main() -> int:
    """Check what is written, then build."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.reference")
    parser.add_argument("folder", type=Path, help="where the pages go")
    folder: Path = parser.parse_args().folder
    names = list(surface())
    if wrong := faults(names):
        sys.stderr.write("\n".join([*wrong, ""]))
        return 1
    told = ", ".join(f"{name} {count}" for name, count in build(names, folder).items())
    sys.stdout.write(f"{folder / 'index.html'}: {told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
