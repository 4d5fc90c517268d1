"""Opening a run from another view: what the inbox and the table of runs show of it."""

from __future__ import annotations

import contextlib
import io
import sqlite3
from typing import TYPE_CHECKING

from rich.console import Console

from durable_nb.log import lines, reads
from durable_nb.log.connection import open_sqlite
from durable_nb.views.text import RunDetail, run_history

if TYPE_CHECKING:
    from durable_nb.client import Durable

WIDTH = 110
LINES = 10  # of its log


def open_run(durable: Durable, run: str) -> str:
    """Give a run with its history as plain text.

    Raises:
        UnknownRunError: no run, or several, have that name.
    """
    with contextlib.closing(open_sqlite(durable.path, query_only=True)) as connection:
        connection.execute("BEGIN")
        detail = _detail(connection, run, durable.engine.clock.now())
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, force_jupyter=False)
    console.print(run_history(detail))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def _detail(connection: sqlite3.Connection, run: str, now: float) -> RunDetail:
    view = reads.find_run(connection, run)
    return RunDetail(
        run=view,
        checkpoints=reads.list_checkpoints(connection, view.number),
        children=reads.count_children(connection, view.number),
        waits=reads.list_waits(connection, view.number),
        lines=lines.list_lines(connection, view.number, limit=LINES),
        line_count=lines.count_lines(connection, view.number),
        now=now,
    )
