"""Reading what the views of one run show."""

from __future__ import annotations

import sqlite3

from durable_nb.log import lines, reads
from durable_nb.log.records import RunView
from durable_nb.views.text import RunDetail

SHOWN_LINES = 10  # of a run's log, where `%durable log` shows all


def detail_of(connection: sqlite3.Connection, run: str | RunView, *, now: float, shown_lines: int = SHOWN_LINES) -> RunDetail:
    """Give everything that the views of one run show.

    Args:
        run: as read, or what names it.

    Raises:
        UnknownRunError: no run, or several, have that name.
    """
    view = reads.find_run(connection, run) if isinstance(run, str) else run
    return RunDetail(
        run=view,
        checkpoints=reads.list_checkpoints(connection, view.number),
        children=reads.count_children(connection, view.number),
        waits=reads.list_waits(connection, view.number),
        lines=lines.list_lines(connection, view.number, limit=shown_lines),
        line_count=lines.count_lines(connection, view.number),
        now=now,
    )
