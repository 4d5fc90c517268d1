"""The table of runs as a live view: filtered, ordered and paged on this side, so that the page holds one page only.

Invariants: what a person acts on is what that person saw: "all that fit" ends at the newest run that was known when it was said;
what comes from data is put in visible characters, cut to a line.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from durable_nb.client.choosing import STATUSES, make_filter
from durable_nb.errors import ArgumentError
from durable_nb.log import listing, reads
from durable_nb.log.listing import Query
from durable_nb.log.reads import WaitView
from durable_nb.log.records import CELL_KEY, RunView
from durable_nb.views import web, words
from durable_nb.views.feed import Items
from durable_nb.views.opening import Opening
from durable_nb.views.text import runs_table
from durable_nb.views.widget import Action, View
from durable_nb.views.words import brief, wait_words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from durable_nb.client import Durable

STATES = {
    words.QUEUED: "queued",
    words.RUNNING: "running",
    words.WAITING: "waiting",
    words.PARKED: "parked",
    words.COMPLETED: "completed",
    words.FAILED: "failed",
    words.CANCELLED: "cancelled",
    words.CANCELLING: "cancelling",
}
PAIR = re.compile(r'(?<!\S)([\w.:-]+)=("[^"]*"|\S+)')
LIMITS = (1, 200)  # rows of a page
WAITS = 3  # that a row names
CHUNK = 1000  # runs of one bulk call
TEXT = 200  # characters of a search


class RunsSource:
    """What the table shows: one page of one query."""

    def __init__(self, base: Query) -> None:
        self.base = base
        self.query = base
        self.within: float | None = None  # seconds until now

    def choose(self, given: Mapping[str, Any]) -> Query:
        """Take what a person has chosen in the page; give the query that it makes."""
        self.within = float(given["within"]) if given.get("within") is not None else None
        self.query = query_of(self.base, given)
        return self.query

    def current(self, now: float) -> Query:
        """Give the query as of now."""
        if self.within is None:
            return self.query
        return replace(self.query, since=max(self.base.since or 0.0, now - self.within))

    def read(self, connection: sqlite3.Connection) -> Items:
        """Give `order`, `run:NUMBER`, `count`, `most`, `newest`, `tasks` and `query`."""
        now = time.time()
        query = self.current(now)
        page = listing.page_of(connection, query, now=now)
        items: dict[str, Any] = {f"run:{run.number}": row_of(run, _waits(connection, run)) for run in page.runs}
        items["order"] = [run.number for run in page.runs]
        items |= {"count": page.count, "most": listing.MOST, "newest": page.newest}
        items["tasks"] = [[task, brief(task, 80)] for task in listing.list_tasks(connection)]
        items["offset"] = query.offset
        return items


def _waits(connection: sqlite3.Connection, run: RunView) -> list[WaitView]:
    return [] if run.is_ended or run.status == "QUEUED" else reads.list_waits(connection, run.number)


def query_of(base: Query, given: Mapping[str, Any]) -> Query:
    """Give the query of what was chosen: `status`, `task`, `text`, `children`, `order`, `descending`, `limit`, `offset`, `upto`.

    In `text`, words like ``customer=7`` or ``name="two words"`` are looked for in the metadata.

    Raises:
        ArgumentError: there is no such status or order.
    """
    status = tuple(given.get("status") or base.status)
    order = str(given.get("order") or base.order)
    if not set(status) <= set(STATUSES) or order not in listing.ORDERS:
        raise ArgumentError(f"status={status!r}, order={order!r}: there is no such thing.")
    text = str(given.get("text") or "")[:TEXT]
    pairs = tuple((name, value.strip('"')) for name, value in PAIR.findall(text))
    low, high = LIMITS
    return replace(
        base,
        status=status,
        task=given.get("task") or base.task,
        text=PAIR.sub("", text).strip() or None,
        metadata=base.metadata + pairs,
        is_root=base.is_root and not given.get("children"),
        order=order,
        is_descending=bool(given.get("descending", base.is_descending)),
        limit=min(max(int(given.get("limit") or base.limit), low), high),
        offset=max(int(given.get("offset") or 0), 0),
        upto=None if given.get("upto") is None else int(given["upto"]),
    )


def row_of(run: RunView, waits: Sequence[WaitView]) -> dict[str, Any]:
    """Give what a row shows of a run."""
    state = STATES[words.state_of(run, waits=bool(waits))]
    first = [wait for wait in waits if wait.node == waits[0].node][:WAITS] if state == "waiting" else []
    error = run.error
    result = ""
    if error is not None:
        result = brief(error.message if error.is_cancel else f"{error.type}: {error.message}", 200)
    elif run.blocked_reason is not None and not run.is_ended:
        result = brief(run.blocked_reason, 200)
    elif run.status == "COMPLETED":
        result = brief(run.output or "null", 160)
    return {
        "number": run.number,
        "id": run.id,
        "task": brief(run.task, 80),
        "state": state,
        "waits": [{"words": _wait(wait), "due_at": wait.due_at} for wait in first],
        "key": "" if run.key is None or run.key.startswith(CELL_KEY) else brief(run.key, 80),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "attempt": run.retry_count + 1,
        "progress": None if run.is_ended else run.progress,
        "message": brief(run.progress_message or "", 80),
        "input": brief(run.input, 160),
        "result": result,
        "is_bad": error is not None and not error.is_cancel,
        "metadata": "" if run.metadata == "{}" else brief(run.metadata, 120),
    }


def _wait(wait: WaitView) -> str:
    return brief(wait.name, 80) if wait.due_at is not None else wait_words(wait, 0.0)


class RunsView(View):
    """A live table of runs."""

    _esm = web.module("runs.mjs")
    _css = web.styles("runs.css", "opened.css")

    def __init__(self, durable: Durable, query: Query) -> None:
        self._rows = RunsSource(query)
        self._opening = Opening(durable)
        super().__init__(durable, self._rows)

    def actions(self) -> Mapping[str, Action]:
        """Show other runs; count, cancel or replay those that are chosen; show one."""
        return {
            "choose": self._choose,
            "weigh": self._weigh,
            "cancel": self._cancel,
            "replay": self._replay,
            **self._opening.actions(),
        }

    def still(self) -> RenderableType:
        """Give the first page as a table."""
        return runs_still(self._durable, self._rows.base)

    def _choose(self, query: Mapping[str, Any]) -> None:
        self._rows.choose(query)
        self.look()

    def _ids(self, runs: Sequence[str] | None, upto: int | None) -> list[str]:
        if runs is not None:
            return list(runs)
        query = replace(self._rows.current(time.time()), upto=upto)
        return self.read(lambda connection: listing.ids_of(connection, query))

    def _weigh(self, runs: Sequence[str] | None, upto: int | None) -> dict[str, int]:
        chosen = runs if runs is not None else replace(self._rows.current(time.time()), upto=upto)
        counts = self.read(lambda connection: listing.count_by_status(connection, chosen))
        active = counts.get("QUEUED", 0) + counts.get("RUNNING", 0)
        return {"all": sum(counts.values()), "active": active}

    def _cancel(self, runs: Sequence[str] | None, upto: int | None) -> int:
        bulk = self._durable.runs.bulk_cancel
        return sum(len(bulk(chunk, reason="cancelled in the table of runs")) for chunk in _chunks(self._ids(runs, upto)))

    def _replay(self, runs: Sequence[str] | None, upto: int | None) -> int:
        return sum(len(self._durable.runs.bulk_replay(chunk)) for chunk in _chunks(self._ids(runs, upto)))


def _chunks(ids: list[str]) -> list[list[str]]:
    return [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]


def base_query(
    durable: Durable,
    *,
    status: str | Sequence[str] | None = None,
    task: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    metadata: Mapping[str, object] | None = None,
    parent: str | None = None,
    include_children: bool = False,
    limit: int = 25,
) -> Query:
    """Give the query of `durable.runs.view`.

    Raises:
        InputValidationError: a status that there is not, or a time without zone. UnknownRunError: no such parent.
    """
    chosen = make_filter(status=status, task=task, since=since, until=until, metadata=metadata)
    pairs = tuple((name, _as_text(value)) for name, value in (metadata or {}).items())
    return Query(
        status=chosen.status or (),
        task=task,
        since=chosen.since,
        until=chosen.until,
        metadata=pairs,
        parent=None if parent is None else durable.runs.get(parent).id,
        is_root=not include_children,
        limit=min(max(limit, LIMITS[0]), LIMITS[1]),
    )


def _as_text(value: object) -> str:
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)


def runs_still(durable: Durable, query: Query) -> RenderableType:
    """Give the first page of a query as text."""
    engine = durable.engine
    now = engine.clock.now()

    def read(connection: sqlite3.Connection) -> tuple[listing.Page, list[tuple[RunView, list[WaitView]]]]:
        page = listing.page_of(connection, query, now=now)
        return page, [(run, _waits(connection, run)) for run in page.runs]

    page, rows = durable.call(lambda: engine.reader.run(read), aio="await durable.runs.aio_list(…)")
    if not rows:
        return Text("No run fits." if page.newest else "No runs yet.")
    more = page.count - len(rows)
    rest = [Text(f"… and {'more than ' if page.count > listing.MOST else ''}{min(more, listing.MOST)} more", style="dim")]
    return Group(runs_table(rows, now), *(rest if more > 0 else []))
