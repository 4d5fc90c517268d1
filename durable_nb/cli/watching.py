"""`watch`: a run, or the newest runs, as they change.

Invariant: the log is read only when another connection has committed (`PRAGMA data_version`), or once a second for what the clock
changes, at most HERTZ times a second; no transaction is held between.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.tree import Tree

from durable_nb.cli.looking import STATUSES
from durable_nb.cli.options import Log, offer_runs
from durable_nb.cli.outcomes import CANCELLED, FAILED
from durable_nb.cli.place import Place, reading
from durable_nb.cli.screen import console, run_line, runs_picture
from durable_nb.cli.stopping import Stop
from durable_nb.log import reads
from durable_nb.views.detail import detail_of
from durable_nb.views.text import run_summary
from durable_nb.views.words import counted

if TYPE_CHECKING:
    from durable_nb.log.records import RunView

HERTZ = 5
CLOCK_SECONDS = 1.0
MOST_CHILDREN = 6  # that are shown one by one below their parent, those that have not ended first
MOST_DEPTH = 4
MOST_RUNS = 30
ENDS = {"COMPLETED": 0, "FAILED": FAILED, "CANCELLED": CANCELLED}


def watch(
    place: Place,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run; else the newest runs of the log.", autocompletion=offer_runs)
    ] = None,
    log: Log = None,
) -> None:
    """Watch a run with its children until it has ended, or the newest runs until Ctrl-C. Ends with the exit code of the run.

    Where the output is no terminal, a line is printed at each change.
    """
    with reading(place.path(log)) as connection, Stop() as stop:
        view = None if run is None else reads.find_run(connection, run)
        if sys.stdout.isatty():
            _live(connection, view, stop)
        else:
            _lines(connection, view, stop)
        if stop.signal:
            raise typer.Exit(0 if view is None else stop.exit_code)
        if view is not None:
            raise typer.Exit(ENDS[reads.find_run(connection, view.id).status])


def _live(connection: sqlite3.Connection, view: RunView | None, stop: Stop) -> None:
    screen = console()
    with Live(console=screen, auto_refresh=False, vertical_overflow="ellipsis") as live:

        def draw() -> bool:
            picture, is_over = _picture(connection, view, screen.width)
            live.update(picture, refresh=True)
            return is_over

        _follow(connection, draw, stop)


def _lines(connection: sqlite3.Connection, view: RunView | None, stop: Stop) -> None:
    said: dict[int, str] = {}

    def draw() -> bool:
        found = [reads.find_run(connection, view.id)] if view else reads.list_runs(connection, reads.RunFilter(), limit=MOST_RUNS)
        if view:
            found += reads.list_runs(connection, reads.RunFilter(parent=view.id), limit=1000)
        for run in reversed(found):
            waits = () if run.is_ended else reads.list_waits(connection, run.number)
            line = run_line(run, waits)
            if said.get(run.number) != line:
                said[run.number] = line
                print(line, flush=True)
        return view is not None and found[0].is_ended

    _follow(connection, draw, stop)


def _follow(connection: sqlite3.Connection, draw: Callable[[], bool], stop: Stop) -> None:
    """Draw whenever something has changed, until it is over or a signal comes."""
    seen, drawn_at = -1, 0.0
    while True:
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version != seen or time.monotonic() - drawn_at >= CLOCK_SECONDS:
            seen, drawn_at = version, time.monotonic()
            if draw():
                return
        if stop.wait(1 / HERTZ):
            return


def _picture(connection: sqlite3.Connection, view: RunView | None, width: int) -> tuple[RenderableType, bool]:
    if view is not None:
        run = reads.find_run(connection, view.id)
        return run_tree(connection, run, now=time.time()), run.is_ended
    found = reads.list_runs(connection, reads.RunFilter(roots=True), limit=MOST_RUNS)
    rows = [(run, [] if run.is_ended else reads.list_waits(connection, run.number)) for run in found]
    return runs_picture(rows, time.time(), width=width), False


def run_tree(connection: sqlite3.Connection, run: RunView, *, now: float, depth: int = 1) -> Tree:
    """Give a run as a tree, with trees of the runs below it that have not completed; the others are counted."""
    tree = run_summary(detail_of(connection, run, now=now))
    if depth < MOST_DEPTH:
        statuses = tuple(status.upper() for status in STATUSES if status != "completed")
        open_children = reads.list_runs(connection, reads.RunFilter(parent=run.id, status=statuses), limit=MOST_CHILDREN + 1)
        for child in open_children[:MOST_CHILDREN]:
            tree.add(run_tree(connection, child, now=now, depth=depth + 1))
        if len(open_children) > MOST_CHILDREN:
            tree.add(f"… more than {counted(MOST_CHILDREN, 'child', 'children')} that have not completed", style="dim")
    return tree


VERBS = (watch,)
