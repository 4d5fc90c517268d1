"""Showing rich renderables in a cell: as HTML where the frontend shows it, as plain text elsewhere."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import RenderableType

from durable_nb.views.still import bundle

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

T = TypeVar("T")


def show(shell: InteractiveShell, renderable: RenderableType) -> None:
    """Display a renderable in the running cell."""
    shell.display_pub.publish(bundle(renderable))


def show_live(shell: InteractiveShell, view: Any) -> None:
    """Display a live view in the running cell."""
    shown = view._repr_mimebundle_()
    data, metadata = shown if isinstance(shown, tuple) else (shown, {})
    shell.display_pub.publish(data, metadata)


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
