"""Showing a run's view in a cell, with a still picture of it beside, which stays when the view has died with its kernel.

Two outputs: the live view, and below it the picture, which the view's own style sheet hides while it lives. They are two since a
frontend draws an output anew when it changes, and the view is not to flicker whenever the picture does. When the kernel ends in
peace, the output of the view is emptied, so that nobody is told of a widget that is not there any more.

Invariant: the picture is read apart from the view, seldom, and sent when it has changed; a notebook keeps it though nobody looks.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import sqlite3
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from durable_nb.views.feed import Items, feed_of
from durable_nb.views.pictures import picture
from durable_nb.views.sources import RunSource
from durable_nb.views.text import detail_in, plain, run_summary
from durable_nb.views.words import visible

if TYPE_CHECKING:
    from durable_nb.client import Durable
    from durable_nb.views.run_view import RunView

Publish = Callable[..., None]

APART = 2.0  # seconds between two looks for the picture
ENDED = frozenset({"completed", "failed", "cancelled"})
SVG, PLAIN, WIDGET = "image/svg+xml", "text/plain", "application/vnd.jupyter.widget-view+json"

_shown: weakref.WeakSet[Shown] = weakref.WeakSet()


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
            PLAIN: plain(run_summary(detail_in(connection, self.run, now=time.time()))),
            "is_last": items["run"]["state"] in ENDED,
        }


class Shown:
    """A view as a cell shows it."""

    def __init__(self, view: RunView, durable: Durable, publish: Publish) -> None:
        self._publish = publish
        self._live, self._still = secrets.token_hex(8), secrets.token_hex(8)
        self._pid = os.getpid()
        self._is_still_shown = False
        bundle = {
            WIDGET: {"version_major": 2, "version_minor": 0, "model_id": view.model_id},
            PLAIN: f"<view of run {visible(view.run)}>",
        }
        publish(bundle, transient={"display_id": self._live})
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
        _shown.add(self)
        view.shown.append(self)  # it lives as long

    def _show(self, bundle: dict[str, Any]) -> None:
        data = {SVG: bundle[SVG], PLAIN: bundle[PLAIN]}
        self._publish(data, transient={"display_id": self._still}, update=self._is_still_shown)
        self._is_still_shown = True

    def leave(self) -> None:
        """Empty the output of the view, for its kernel ends; the picture stays."""
        if os.getpid() == self._pid:  # not in a process that was forked off
            self._publish({PLAIN: ""}, transient={"display_id": self._live}, update=True)


def leave_all() -> None:
    """Empty the outputs of all views."""
    for shown in list(_shown):
        with contextlib.suppress(Exception):  # the kernel may have closed its channels already
            shown.leave()


atexit.register(leave_all)
