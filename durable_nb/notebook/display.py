"""Showing rich renderables in a cell: as HTML where the frontend shows it, as plain text elsewhere.

Invariant: the HTML is rich's own export, which escapes all text; nothing here puts data into markup. Colours are of middle
brightness, so that they can be read on light and on dark pages.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme

from durable_nb.views.text import WIDTH, plain

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

T = TypeVar("T")
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


def show(shell: InteractiveShell, renderable: RenderableType) -> None:
    """Display a renderable in the running cell."""
    shell.display_pub.publish(bundle(renderable))


class Shown(list[T]):
    """What a magic has found, as a list that shows itself: at once, and again where a later cell ends in it."""

    def __init__(self, shell: InteractiveShell, items: Iterable[T], renderable: RenderableType | None) -> None:
        super().__init__(items)
        self._shell = shell
        self._cell = shell.execution_count
        self._renderable = renderable
        if renderable is not None:
            show(shell, renderable)

    def _ipython_display_(self, **_: Any) -> None:
        if self._shell.execution_count != self._cell and self._renderable is not None:
            show(self._shell, self._renderable)


class Area:
    """A place below the running cell that can be filled in later, from any thread; a terminal shows what is final only."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._id = secrets.token_hex(8)
        self._is_shown = False

    def show(self, renderable: RenderableType, is_final: bool) -> None:
        """Show a renderable in place of what is there."""
        if not is_final and not hasattr(self._shell, "kernel"):
            return
        self._shell.display_pub.publish(bundle(renderable), transient={"display_id": self._id}, update=self._is_shown)
        self._is_shown = True


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
