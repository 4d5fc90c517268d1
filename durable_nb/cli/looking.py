"""`runs`, `show` and `log`: what stands in a log. They execute nothing, and look at a log that is not trusted too."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from durable_nb.cli.options import AsJson, Log, Metadata, RunName, metadata_of
from durable_nb.cli.outcomes import CommandError
from durable_nb.cli.place import Place, reading
from durable_nb.cli.screen import console, runs_picture
from durable_nb.cli.shapes import details_json, dumps, run_json
from durable_nb.client.choosing import make_filter
from durable_nb.errors import DeclarationError
from durable_nb.log import details, lines, reads
from durable_nb.log.records import RunView
from durable_nb.tasks.durations import parse_duration
from durable_nb.views.detail import detail_of
from durable_nb.views.text import run_history, run_line, run_log
from durable_nb.views.words import brief

FOLLOW_SECONDS = 0.2
PAGE = 1000
STATUSES = ("queued", "running", "completed", "failed", "cancelled")


def runs(
    place: Place,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help=", ".join(STATUSES), autocompletion=lambda: list(STATUSES))
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only runs of this task.")] = None,
    parent: Annotated[str | None, typer.Option(metavar="RUN", help="The children of this run.")] = None,
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="Created in the last 2h, or since 2026-01-31T09:00.")] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Created before that.")] = None,
    event: Annotated[str | None, typer.Option(metavar="KEY", help="Only runs that an event of this key reached.")] = None,
    metadata: Metadata = None,
    children: Annotated[bool, typer.Option("--children", help="Children too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many, the newest first.")] = 20,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first; children only with --children, or where --parent names theirs."""
    if status is not None and status.lower() not in STATUSES:
        raise CommandError(f"--status {brief(status, 40)} is no status: give {', '.join(STATUSES[:-1])} or {STATUSES[-1]}.")
    with reading(place.path(log)) as connection:
        parent_id = None if parent is None else reads.find_run(connection, parent).id
        chosen = make_filter(
            status=status and status.upper(),
            task=task,
            since=_moment(since, "--since"),
            until=_moment(until, "--until"),
            metadata=metadata_of(metadata),
            parent=parent_id,
            event=event,
            roots=parent is None and not children,
        )
        found = reads.list_runs(connection, chosen, limit=limit)
        if as_json:
            for view in found:
                print(dumps(run_json(view)))
            return
        rows = [(view, [] if view.is_ended else reads.list_waits(connection, view.number)) for view in found]
    screen = console()
    if rows:
        screen.print(runs_picture(rows, time.time(), width=screen.width))
    else:
        is_filtered = any(word is not None for word in (status, task, parent, since, until, event, metadata))
        screen.print("No such run is in the log." if is_filtered else "No run is in the log.")


def _moment(word: str | None, option: str) -> datetime | None:
    """Give the time that a word means: so long ago, or a date, without a zone a local one.

    Raises:
        CommandError: it is neither.
    """
    if word is None:
        return None
    try:
        return datetime.now(UTC) - parse_duration(word, of=option)
    except (DeclarationError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(word).astimezone()
    except (ValueError, OverflowError, OSError):
        said = f"{option} {brief(word, 40)} is no time: write 90s, 2h or 3d for so long ago, or 2026-01-31T09:00."
        raise CommandError(said) from None


def show(place: Place, run: RunName, log: Log = None, as_json: AsJson = False) -> None:
    """Show all that the log has of a run: checkpoints, children, waits, what it said, and how it ended."""
    with reading(place.path(log)) as connection:
        if as_json:
            print(dumps(details_json(details.details_of(connection, run))))
            return
        detail = detail_of(connection, run, now=time.time())
    console().print(run_history(detail))


def log_(
    place: Place,
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", help="Print lines as they come, until the run has ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many lines, the newest.")] = 1000,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run's task logged, with time and source line."""
    with reading(place.path(log)) as connection:
        view = reads.find_run(connection, run)
        if follow:
            _follow(connection, view, as_json=as_json)
            return
        found = lines.list_lines(connection, view.number, limit=limit)
    if as_json:
        for line in found:
            print(dumps(asdict(line)))
    elif found:
        console().print(run_log(view, found))
    else:
        console().print(f"Run {brief(view.id)} of {brief(view.task)} has said nothing.", markup=False)


def _follow(connection: sqlite3.Connection, view: RunView, *, as_json: bool) -> None:
    """Print lines as they come."""
    after, is_over = 0, False
    while not is_over:
        found, is_over = lines.list_further(connection, view.number, after, limit=PAGE)
        for seq, line in found:
            print(dumps(asdict(line)) if as_json else run_line(line), flush=True)
            after = seq
        if not found and not is_over:
            time.sleep(FOLLOW_SECONDS)


VERBS = (runs, show, log_)
