"""Themes of ``qos watch`` for what textual draws; ``text`` has the colours of the lines."""

from __future__ import annotations

from textual.theme import Theme

from qos_async.cli.watch.text import BACKGROUND, LIGHT_BACKGROUND

__all__ = ["CSS", "THEMES"]

# Not a file beside this one, which a packager such as PyInstaller would leave out.
CSS = """
Screen { background: $background; color: $foreground; layers: panels; overflow: hidden; }
Panel {
    position: absolute;
    background: $background;
    border-top: solid $frame-line;
    border-title-color: $soft-text;
    border-title-style: none;
}
Panel.framed { border: round $frame-line; }
#top { dock: top; position: relative; width: 100%; height: 1; border: none; }
#events { dock: bottom; position: relative; width: 100%; height: 1; border: none; margin-bottom: 1; }
Footer { background: $raised; color: $soft-text; }
Footer FooterKey .footer-key--key { color: $accent-line; background: $raised; }
Footer FooterKey .footer-key--description { color: $soft-text; background: $raised; }
"""


def _theme(name: str, background: str, foreground: str, **variables: str) -> Theme:
    return Theme(
        name=f"qos-{name}",
        primary=variables["accent_line"],
        background=background,
        foreground=foreground,
        dark=name == "dark",
        variables={key.replace("_", "-"): value for key, value in variables.items()},
    )


THEMES = {
    "dark": _theme(
        "dark",
        BACKGROUND,
        "#c9d1d9",
        frame_line="#232c39",
        soft_text="#9aa5b1",
        accent_line="#f0b90b",
        raised="#121822",
    ),
    "light": _theme(
        "light",
        LIGHT_BACKGROUND,
        "#24292f",
        frame_line="#c8d0d9",
        soft_text="#57606a",
        accent_line="#8a6100",
        raised="#eaeef2",
    ),
}
