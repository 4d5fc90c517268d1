"""Still pictures of rich renderables: what a page shows without any of our code, and what a terminal shows.

Invariant: the HTML is rich's own export, which escapes all text; nothing here puts data into markup. Colours are of middle
brightness, so that they can be read on light and on dark pages.
"""

from __future__ import annotations

import io

from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme

from durable_nb.views.text import WIDTH, plain

# black, red, green, yellow, blue, magenta, cyan, white: readable on white and on black
COLOURS = [
    (87, 96, 106),
    (207, 60, 60),
    (36, 138, 61),
    (154, 103, 0),
    (47, 115, 218),
    (150, 80, 200),
    (27, 124, 131),
    (140, 149, 159),
]
THEME = TerminalTheme((255, 255, 255), (36, 41, 47), COLOURS, COLOURS)
PAGE = (  # it scrolls rather than wraps, so that the branches of a tree stay whole
    '<pre style="white-space:pre;overflow-x:auto;font:12px/1.4 var(--jp-code-font-family,monospace)">{code}</pre>'
)


class Still:
    """A picture that a cell shows as it is, and `print` as text."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __repr__(self) -> str:
        return plain(self._renderable)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return bundle(self._renderable)


def bundle(renderable: RenderableType) -> dict[str, str]:
    """Give a renderable as text/plain and text/html."""
    coloured = Console(
        file=io.StringIO(), width=WIDTH, record=True, color_system="standard", force_terminal=True, force_jupyter=False
    )
    coloured.print(renderable)
    return {
        "text/plain": plain(renderable),
        "text/html": coloured.export_html(theme=THEME, inline_styles=True, code_format=PAGE),
    }
