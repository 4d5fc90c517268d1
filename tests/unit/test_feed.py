"""The feed: what has changed reaches each view, in order, and nothing is read in vain."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_nb.errors import UnknownRunError
from durable_nb.log.connection import open_sqlite, prepare
from durable_nb.views.feed import Feed, Items

SECONDS = 10.0


class Definitions:
    """Shows the tasks of a log's definitions; counts its reads."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, connection: sqlite3.Connection) -> Items:
        self.reads += 1
        return dict(connection.execute("SELECT task, version FROM definition").fetchall())


class View:
    """A view's end: the messages in order."""

    def __init__(self) -> None:
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.threads: set[str] = set()

    def __call__(self, message: dict[str, Any]) -> None:
        self.threads.add(threading.current_thread().name)
        self.messages.put(message)

    def next(self) -> dict[str, Any]:
        message = self.messages.get(timeout=SECONDS)
        message.pop("at")
        return message


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    prepare(path)
    return path


@pytest.fixture
def writer(log: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_sqlite(log)) as connection:
        yield connection


def define(connection: sqlite3.Connection, task: str, version: str) -> None:
    connection.execute("DELETE FROM definition WHERE task = ?", (task,))
    connection.execute("INSERT INTO definition VALUES (?, ?, 'task', '{}', '{}', '', x'', 0)", (task, version))


def test_a_view_gets_all_and_then_what_changed(log: Path, writer: sqlite3.Connection) -> None:
    feed, view = Feed(log), View()
    define(writer, "a", "1")
    subscription = feed.subscribe(Definitions(), view)
    assert view.next() == {"kind": "all", "items": {"a": "1"}, "n": 1}
    define(writer, "b", "1")
    assert view.next() == {"kind": "delta", "set": {"b": "1"}, "drop": [], "n": 2}
    writer.execute("DELETE FROM definition WHERE task = 'a'")
    assert view.next() == {"kind": "delta", "set": {}, "drop": ["a"], "n": 3}
    feed.ask_all(subscription)
    assert view.next() == {"kind": "all", "items": {"b": "1"}, "n": 4}
    assert view.threads == {"durable_nb views"}


def test_a_log_at_rest_is_not_read(log: Path, writer: sqlite3.Connection) -> None:
    feed, view, source = Feed(log), View(), Definitions()
    feed.subscribe(source, view)
    view.next()
    other, marks = Definitions(), View()
    feed.subscribe(other, marks)
    marks.next()
    for count in range(2, 5):  # whoever asks for all has the thread go round
        feed.ask_all(feed._subscriptions[1])
        assert marks.next()["n"] == count
    assert source.reads == 1


def test_what_is_written_faster_than_views_are_drawn_is_sent_together(log: Path, writer: sqlite3.Connection) -> None:
    feed, view, source = Feed(log), View(), Definitions()
    feed.subscribe(source, view)
    view.next()
    began = time.monotonic()
    for number in range(300):
        define(writer, "a", str(number))
    while (message := view.next())["set"] != {"a": "299"}:
        assert message["kind"] == "delta"
    assert source.reads <= (time.monotonic() - began) * 10 + 2


def test_the_thread_ends_with_the_last_view_and_holds_no_file(log: Path, writer: sqlite3.Connection) -> None:
    feed, view = Feed(log), View()
    subscription = feed.subscribe(Definitions(), view)
    view.next()
    thread = feed._thread
    assert thread is not None
    feed.unsubscribe(subscription)
    thread.join(SECONDS)
    assert not thread.is_alive()
    feed.subscribe(Definitions(), view)
    assert view.next()["kind"] == "all"


def test_a_log_that_cannot_be_read_is_told_and_tried_again(log: Path, writer: sqlite3.Connection) -> None:
    class Picky(Definitions):
        def read(self, connection: sqlite3.Connection) -> Items:
            items = super().read(connection)
            if not items:
                raise UnknownRunError("No run 'x' is in this log.")
            return items

    feed, view = Feed(log), View()
    feed.subscribe(Picky(), view)
    assert view.next() == {"kind": "lost", "message": "No run 'x' is in this log.", "n": 1}
    define(writer, "a", "1")
    message = view.next()
    while message["kind"] == "lost":
        message = view.next()
    assert message["kind"] == "all"
    assert message["items"] == {"a": "1"}


def test_a_missing_log_is_a_sentence(tmp_path: Path) -> None:
    view = View()
    Feed(tmp_path / "gone.db").subscribe(Definitions(), view)
    assert "gone.db" in view.next()["message"]


@pytest.mark.parametrize("which", ["source", "sink"])
def test_what_goes_wrong_with_one_view_is_told_to_it_and_stops_no_other(
    log: Path, writer: sqlite3.Connection, which: str
) -> None:
    trouble = [KeyError("odd")]

    class Odd(Definitions):
        def read(self, connection: sqlite3.Connection) -> Items:
            if which == "source" and trouble:
                raise trouble[0]
            return super().read(connection)

    class Broken(View):
        def __call__(self, message: dict[str, Any]) -> None:
            if which == "sink" and trouble:
                raise trouble.pop()
            super().__call__(message)

    feed, view, other = Feed(log), Broken(), View()
    feed.subscribe(Odd(), view)
    feed.subscribe(Definitions(), other)
    assert other.next()["kind"] == "all"
    assert view.next() == {"kind": "lost", "message": "KeyError: 'odd'", "n": 1 if which == "source" else 2}
    trouble.clear()
    define(writer, "a", "1")
    assert other.next()["set"] == {"a": "1"}
    while (message := view.next())["kind"] == "lost":
        pass
    assert message["items"] == {"a": "1"}


@pytest.mark.parametrize("asks_all", [True, False])
def test_what_is_asked_while_a_view_is_read_is_not_lost(log: Path, writer: sqlite3.Connection, asks_all: bool) -> None:
    class Choosing(Definitions):
        def __init__(self) -> None:
            super().__init__()
            self.shown = "first"
            self.is_reading, self.may_go_on = threading.Event(), threading.Event()

        def read(self, connection: sqlite3.Connection) -> Items:
            items = {"shown": self.shown}
            self.is_reading.set()
            assert self.may_go_on.wait(SECONDS)
            return items

    feed, view, source = Feed(log), View(), Choosing()
    subscription = feed.subscribe(source, view)
    assert source.is_reading.wait(SECONDS)
    source.shown = "second"
    (feed.ask_all if asks_all else feed.look)(subscription)
    source.may_go_on.set()
    assert view.next()["items"] == {"shown": "first"}
    second = view.next()
    assert second["items" if asks_all else "set"] == {"shown": "second"}
