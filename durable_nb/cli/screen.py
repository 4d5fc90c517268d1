"""The terminal: rich where there is one, plain lines that are not cut where the output goes elsewhere."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from durable_nb.log.reads import WaitView
from durable_nb.log.records import RunView
from durable_nb.views.text import runs_table
from durable_nb.views.words import brief, state_of

PIPE_WIDTH = 200  # of tables that go into a file or another program
NARROW = 60  # below which a table of runs says nothing


def console() -> Console:
    """Give the console of standard output."""
    made = Console(highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made = Console(highlight=False, width=PIPE_WIDTH)
    return made


def run_line(run: RunView, waits: Sequence[WaitView]) -> str:
    """Give a run in a line."""
    return f"{state_of(run, waits=bool(waits)).word} {brief(run.task)} #{run.number} {run.id}"


def runs_picture(rows: Sequence[tuple[RunView, Sequence[WaitView]]], now: float, *, width: int) -> RenderableType:
    """Give runs as a table; on a narrow terminal as lines."""
    if width >= NARROW:
        return runs_table(rows, now)
    return Group(*(Text(run_line(run, waits), style=state_of(run, waits=bool(waits)).colour) for run, waits in rows))
