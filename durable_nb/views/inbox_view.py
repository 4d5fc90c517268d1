"""The inbox as a live view: open questions with their forms, and what was answered last.

Invariants: what is shown is bounded whatever the log holds; what comes from data is put in visible characters, save the schema,
whose values go back as they are.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from durable_nb.log import questions
from durable_nb.log.questions import InboxItem
from durable_nb.views import web
from durable_nb.views.asking import answer_actions, question_item
from durable_nb.views.feed import Items
from durable_nb.views.opening import Opening
from durable_nb.views.questions import inbox_table
from durable_nb.views.widget import Action, View
from durable_nb.views.words import brief

if TYPE_CHECKING:
    from rich.console import RenderableType

    from durable_nb.client import Durable

SHOWN = 100  # open questions
COUNTED = 1000
RECENT = 200  # of the newest questions, those that are closed are shown
CLOSED = 20
STILL = 20


def _closed_item(item: InboxItem) -> dict[str, Any]:
    answer = item.answer if isinstance(item.answer, str) else json.dumps(item.answer, ensure_ascii=False)
    return {
        "status": item.status,
        "question": brief(item.question, 200),
        "task": brief(item.task, 80),
        "number": item.run_number,
        "answer": brief(answer, 240),
        "by": None if item.answered_by is None else brief(item.answered_by, 80),
        "reason": None if not item.reason else brief(item.reason, 240),
        "at": item.due_at if item.status == "timed out" else item.answered_at,
    }


class InboxSource:
    """What the inbox shows. Remembers which questions it has shown, so that it can say what became of each."""

    def __init__(self, assignee: str | None = None) -> None:
        self._assignee = assignee
        self._shown: dict[str, questions.Spot] = {}

    def read(self, connection: sqlite3.Connection) -> Items:
        """Give `order`, `open:ID`, `done`, `done:ID`, `count` and `most`."""
        now = time.time()
        values: dict[str, Any] = {"assignee": self._assignee, "offset": 0, "now": now}
        opened = questions.list_items(connection, status="open", limit=SHOWN, **values)
        recent = questions.list_items(connection, status=None, limit=RECENT, **values)
        closed = {item.id: item for item in recent if item.status != "open"}
        for item in self._left(connection, opened, now):
            closed.setdefault(item.id, item)
        newest = sorted(closed.values(), key=lambda item: item.answered_at or item.due_at or item.asked_at, reverse=True)
        items: dict[str, Any] = {f"open:{item.id}": question_item(item) for item in opened}
        items |= {f"done:{item.id}": _closed_item(item) for item in newest[:CLOSED]}
        items["order"] = [item.id for item in opened]
        items["done"] = [item.id for item in newest[:CLOSED]]
        items["has_more"] = len(newest) > CLOSED
        items["count"] = questions.count_open(connection, most=COUNTED) if self._assignee is None else len(opened)
        items["most"] = COUNTED
        return items

    def _left(self, connection: sqlite3.Connection, opened: list[InboxItem], now: float) -> list[InboxItem]:
        """Give what became of the questions that were shown before and are open no more."""
        here = {item.id for item in opened}
        gone = [name for name in self._shown if name not in here]
        self._shown = {name: self._shown[name] for name in gone[-CLOSED:]} | {item.id: _spot_of(item) for item in opened}
        found = (questions.at(connection, self._shown[name], now=now) for name in gone[-CLOSED:])
        return [item for item in found if item is not None and item.status != "open"]


def _spot_of(item: InboxItem) -> questions.Spot:
    _, branch, node = item.id.rsplit("/", 2)
    return item.run_number, int(branch), int(node)


class InboxView(View):
    """A live inbox. Several may be shown; each drawing keeps what is being filled in there."""

    _esm = web.module("inbox.mjs")
    _css = web.styles("forms.css", "inbox.css", "opened.css")

    def __init__(self, durable: Durable, *, assignee: str | None = None) -> None:
        super().__init__(durable, InboxSource(assignee))
        self._assignee = assignee
        self._opening = Opening(durable)

    def actions(self) -> Mapping[str, Action]:
        """Answer a question; open a run."""
        return {**answer_actions(self._durable), **self._opening.actions()}

    def still(self) -> RenderableType:
        """Give the open questions as a table."""
        return inbox_still(self._durable, assignee=self._assignee)


def inbox_still(durable: Durable, *, assignee: str | None = None) -> RenderableType:
    """Give the open questions as text: how many, and the first of them as a table."""
    items = durable.inbox.list(assignee=assignee, limit=STILL + 1)
    if not items:
        return Text("Nothing is asked of anybody now.")
    more = [Text("… and more: durable.inbox.list()", style="dim")] if len(items) > STILL else []
    return Group(inbox_table(items[:STILL], durable.engine.clock.now()), *more)
