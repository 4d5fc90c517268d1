"""Showing a run's view in a cell, with a still picture of it beside, which stays when the view has died with its kernel.

Two outputs: the live view, and below it the picture, which the view's own style sheet hides while it lives. They are two since
a frontend draws an output anew when it changes, and the view is not to flicker whenever the picture does.

Invariant: the picture is read apart from the view, seldom, and sent when it has changed; a notebook keeps it though nobody looks.

Limit: a page that is opened anew when the kernel is gone shows the picture below a line of the frontend's own ("Loading
widget…"). A kernel cannot take it away at its end, since JupyterLab (4.6) hears nothing more of a kernel that it restarts.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from durable_nb.views.detail import detail_of
from durable_nb.views.feed import Items, feed_of
from durable_nb.views.pictures import picture
from durable_nb.views.sources import RunSource
from durable_nb.views.text import plain, run_summary
from durable_nb.views.words import visible

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from durable_nb.client import Durable
    from durable_nb.views.run_view import RunView

APART = 2.0  # seconds between two looks for the picture
ENDED = frozenset({"completed", "failed", "cancelled"})
SVG, PLAIN, WIDGET = "image/svg+xml", "text/plain", "application/vnd.jupyter.widget-view+json"


def kernel_shell() -> InteractiveShell | None:
    """Give the shell of the kernel that this is; None in a terminal or a script, where no view can be shown."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell if shell is not None and hasattr(shell, "kernel") else None


class PictureSource:
    """Reads a run as the still picture of it, and as plain text."""

    def __init__(self, run: str) -> None:
        self.run = run
        self._items = RunSource(run)

    def read(self, connection: sqlite3.Connection) -> Items:
        """Give the picture, and whether it is the last one."""
        items = self._items.read(connection)
        return {
            SVG: picture(items),
            PLAIN: plain(run_summary(detail_of(connection, self.run, now=time.time()))),
            "is_last": items["run"]["state"] in ENDED,
        }


class Shown:
    """A view as a cell shows it."""

    def __init__(self, view: RunView, durable: Durable, shell: InteractiveShell) -> None:
        publish = self._publish = shell.display_pub.publish
        self._still = secrets.token_hex(8)
        self._is_still_shown = False
        bundle = {
            WIDGET: {"version_major": 2, "version_minor": 0, "model_id": view.model_id},
            PLAIN: f"<view of run {visible(view.run)}>",
        }
        publish(bundle)
        self._source = PictureSource(view.run)
        feed = feed_of(durable)
        first = dict(view.read(self._source.read))
        self._show(first)
        if not first["is_last"]:
            taken = dict(first)

            def take(message: dict[str, Any]) -> None:
                if message["kind"] == "lost":
                    return
                changes = message.get("items") or message.get("set") or {}
                taken.update(changes)
                if SVG in changes:
                    self._show(taken)
                if taken["is_last"]:
                    feed.unsubscribe(subscription)

            subscription = feed.subscribe(self._source, take, apart=APART)
        view.shown.append(self)  # it lives as long

    def _show(self, bundle: dict[str, Any]) -> None:
        data = {SVG: bundle[SVG], PLAIN: bundle[PLAIN]}
        self._publish(data, transient={"display_id": self._still}, update=self._is_still_shown)
        self._is_still_shown = True
