"""Feeding views from the log: one thread reads for all of them, and sends each what has changed.

What a view shows is a flat mapping of short texts to JSON values (`Items`), read from the log by its `Source`. The feed
compares it with what the view was sent last and sends the difference, so that a source never has to say what changed.

Invariants: nothing is read unless the log has been written to, by whatever process, or a view asks for all of it; no read
transaction outlives a read; a view is read at most `RATE` times a second, and the more seldom the longer its source
takes, so that views never cost more than `SHARE` of a core; messages of a view leave in order, from one thread; what is asked
while a view is read is not lost; what goes wrong with one view is told to that view, and stops no other.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from durable_nb.errors import DurableError
from durable_nb.log.connection import explain, open_sqlite

if TYPE_CHECKING:
    from durable_nb.client import Durable

Items = Mapping[str, Any]
Sink = Callable[[dict[str, Any]], None]

RATE = 10.0  # reads a second of one view, at most
SHARE = 0.05  # of the time may be spent on reading for one view
AGAIN_SECONDS = 1.0  # until a log that could not be read is tried again


class Source(Protocol):
    """What one view reads. Lives on the feed's thread only, so it may remember what it has read."""

    def read(self, connection: sqlite3.Connection) -> Items:
        """Give all that the view shows now, each value as JSON has it. The connection is in a read transaction."""
        ...


@dataclass(eq=False, slots=True)
class Subscription:
    """One view's place in the feed.

    Attributes:
        sent: what the view has; None: it is to be sent all.
        is_asked: whether it is to be read though nobody has written; wants_all: and to be sent all. Both under the feed's lock.
        next_at: monotonic seconds before which it is not read again unless asked.
        seen: the log's `data_version` when it was read last.
        apart: seconds between two reads, at least.
    """

    source: Source
    sink: Sink
    sent: dict[str, Any] | None = None
    is_asked: bool = True
    wants_all: bool = False
    count: int = 0
    next_at: float = 0.0
    seen: int = -1
    apart: float = 1 / RATE


@dataclass(eq=False)
class Feed:
    """The feed of one log. Every method may be called from any thread; sources and sinks are called on the feed's own.

    The thread lives while somebody is subscribed.
    """

    path: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)
    _subscriptions: list[Subscription] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def subscribe(self, source: Source, sink: Sink, *, apart: float = 1 / RATE) -> Subscription:
        """Have `sink` be given everything at once, and then each difference.

        A message is ``{"kind": "all", "items": {…}}``, ``{"kind": "delta", "set": {…}, "drop": […]}`` or
        ``{"kind": "lost", "message": …}`` (the log cannot be read; it is tried again), with its count `n` from 1, so that a
        gap is seen, and the time `at` in UTC seconds. It is read every `apart` seconds at most.
        """
        subscription = Subscription(source, sink, apart=apart)
        with self._lock:
            self._subscriptions.append(subscription)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="durable_nb views", daemon=True)
                self._thread.start()
        self._wake.set()
        return subscription

    def ask_all(self, subscription: Subscription) -> None:
        """Have everything sent again."""
        with self._lock:
            subscription.is_asked = subscription.wants_all = True
        self._wake.set()

    def look(self, subscription: Subscription) -> None:
        """Have a view read again though nobody has written: it is to show something else. What differs is sent."""
        with self._lock:
            subscription.is_asked = True
        self._wake.set()

    def unsubscribe(self, subscription: Subscription) -> None:
        """Send nothing more, but for what is being sent."""
        with self._lock, contextlib.suppress(ValueError):
            self._subscriptions.remove(subscription)
        self._wake.set()

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        while subscriptions := self._current():
            try:
                connection = connection or open_sqlite(self.path, query_only=True)
                version = int(connection.execute("PRAGMA data_version").fetchone()[0])
                for subscription in subscriptions:
                    if self._is_due(subscription, version):
                        self._serve(subscription, connection, version)
            except sqlite3.Error as error:
                for subscription in subscriptions:
                    if self._is_due(subscription, None):
                        self._say_lost(subscription, str(explain(error, self.path)))
                if connection is not None:
                    connection.close()
                connection = None
            self._wake.wait(1 / RATE)
            self._wake.clear()
        if connection is not None:
            connection.close()

    def _current(self) -> list[Subscription]:
        with self._lock:
            if not self._subscriptions:
                self._thread = None
            return list(self._subscriptions)

    def _is_due(self, subscription: Subscription, version: int | None) -> bool:
        """Whether a view is to be read now; what it was asked for until now is answered by that."""
        with self._lock:
            is_asked, subscription.is_asked = subscription.is_asked, False
            if subscription.wants_all:
                subscription.sent, subscription.wants_all = None, False
        return is_asked or (version != subscription.seen and time.monotonic() >= subscription.next_at)

    def _serve(self, subscription: Subscription, connection: sqlite3.Connection, version: int) -> None:
        work = time.thread_time()
        try:
            items = self._read(subscription, connection)
            before, subscription.sent, subscription.seen = subscription.sent, items, version
            subscription.next_at = time.monotonic() + max(subscription.apart, (time.thread_time() - work) / SHARE)
            if before is None:
                self._say(subscription, {"kind": "all", "items": items})
            elif difference := delta(before, items):
                self._say(subscription, {"kind": "delta", **difference})
        except sqlite3.Error:
            raise
        except DurableError as error:
            self._say_lost(subscription, str(error))
        except Exception as error:  # of a source or a sink; the thread serves other views too
            self._say_lost(subscription, f"{type(error).__name__}: {error}")

    @staticmethod
    def _read(subscription: Subscription, connection: sqlite3.Connection) -> dict[str, Any]:
        connection.execute("BEGIN")
        try:
            return dict(subscription.source.read(connection))
        finally:
            connection.execute("ROLLBACK")

    def _say_lost(self, subscription: Subscription, message: str) -> None:
        subscription.sent, subscription.seen, subscription.next_at = None, -1, time.monotonic() + AGAIN_SECONDS
        with contextlib.suppress(Exception):  # a page that cannot be reached is tried again
            self._say(subscription, {"kind": "lost", "message": message})

    def _say(self, subscription: Subscription, message: dict[str, Any]) -> None:
        subscription.count += 1
        subscription.sink({**message, "n": subscription.count, "at": time.time()})


def delta(before: Items, after: Items) -> dict[str, Any]:
    """Give what has changed, or nothing.

    >>> delta({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4})
    {'set': {'b': 3, 'c': 4}, 'drop': []}
    >>> delta({"a": 1}, {"a": 1})
    {}
    """
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    gone = [key for key in before if key not in after]
    return {"set": changed, "drop": gone} if changed or gone else {}


_feeds: dict[Path, Feed] = {}
_feeds_lock = threading.Lock()


def feed_of(durable: Durable) -> Feed:
    """Give the one feed of an app object's log in this process."""
    with _feeds_lock:
        return _feeds.setdefault(durable.path, Feed(durable.path))
