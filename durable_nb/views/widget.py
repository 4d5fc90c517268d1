"""What all live views share: a widget that shows what the feed sends, and does what a person asks.

The page and the kernel speak by custom messages, never by traits, since traits are not for several threads. From the
page: ``hello`` and ``bye`` of one drawing of the view, and ``do`` with an id, an action and its arguments. To the page: what the
feed sends, and ``done`` or ``refused`` for each ``do``.

Invariants: a message is only put aside on the thread that brings it (the main one, or a subshell's), so a view never holds up a
cell nor waits for one; actions are done one after another on a thread of their own; nothing is sent while nobody looks.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import anywidget
from pydantic import ValidationError

from durable_nb.errors import DurableError
from durable_nb.log.connection import open_sqlite
from durable_nb.views.feed import Feed, Source, Subscription, feed_of
from durable_nb.views.still import bundle

if TYPE_CHECKING:
    from rich.console import RenderableType

    from durable_nb.client import Durable

T = TypeVar("T")
Action = Callable[..., Any]

_ACTIONS = ThreadPoolExecutor(max_workers=1, thread_name_prefix="durable_nb actions")


class View(anywidget.AnyWidget):
    """A live view of a log. Derived classes set `_esm` and `_css`, and say what can be done with them in `actions`."""

    def __init__(self, durable: Durable, source: Source) -> None:
        super().__init__()
        self._durable = durable
        self._source = source
        self._drawings: set[str] = set()
        self._subscription: Subscription | None = None
        self._feed: Feed | None = None
        route_by_header(self.comm)
        self.on_msg(self._take)

    def actions(self) -> Mapping[str, Action]:
        """Give what a person can do, by name; called with the arguments of the message by keyword, off the main thread.

        A DurableError or a ValueError is told to the page as its sentence; what an action returns is sent, as JSON.
        """
        return {}

    def still(self) -> RenderableType | None:
        """Give what stands for the view where it does not live: in a saved notebook, and in a terminal."""
        return None

    def _repr_mimebundle_(self, **options: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        picture = self.still()
        return data if picture is None else {**data, **bundle(picture)}, metadata

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read something from the log that is not part of the feed, for an action; in one snapshot."""
        with contextlib.closing(open_sqlite(self._durable.path, query_only=True)) as connection:
            connection.execute("BEGIN")
            return work(connection)

    def look(self) -> None:
        """Have the source read again, since it is to show something else."""
        if self._subscription is not None and self._feed is not None:
            self._feed.look(self._subscription)

    def close(self) -> None:
        """Take the view from the page and the feed."""
        self._leave()
        super().close()

    # ------------------------------------------------------------ messages

    def _take(self, _: object, content: Any, __: object) -> None:
        match content:
            case {"kind": "hello", "drawing": str(drawing)}:
                self._drawings.add(drawing)
                if self._subscription is None or self._feed is None:
                    self._feed = feed_of(self._durable)
                    self._subscription = self._feed.subscribe(self._source, self.send)
                else:
                    self._feed.ask_all(self._subscription)
            case {"kind": "bye", "drawing": str(drawing)}:
                self._drawings.discard(drawing)
                if not self._drawings:
                    self._leave()
            case {"kind": "do", "id": str(id_), "action": str(action), "with": dict(arguments)}:
                _ACTIONS.submit(self._do, id_, action, arguments)

    def _leave(self) -> None:
        if self._subscription is not None and self._feed is not None:
            self._feed.unsubscribe(self._subscription)
            self._subscription = None

    def _do(self, id_: str, action: str, arguments: dict[str, Any]) -> None:
        try:
            value = self.actions()[action](**arguments)
        except (DurableError, ValidationError, ValueError) as error:
            self.send({"kind": "refused", "id": id_, "message": str(error), "fields": getattr(error, "fields", ())})
        except Exception as error:  # whatever it is, the person who clicked is told
            self.send({"kind": "refused", "id": id_, "message": f"{type(error).__name__}: {error}"})
        else:
            self.send({"kind": "done", "id": id_, "value": value})


def route_by_header(comm: Any) -> None:
    """Have a comm's messages handled in the subshell that they name.

    ipykernel 7.4 sends them where the comm last published from instead; for a comm that a thread publishes on, that is the main
    shell, where a click would wait for the end of the running cell.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = None
