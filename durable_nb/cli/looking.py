"""`runs`, `show` and `log`: what stands in a log. They execute nothing, and look at a log that is not trusted too."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from durable_nb.cli.options import AsJson, Log, RunName
from durable_nb.cli.outcomes import CommandError
from durable_nb.cli.place import Place, reading
from durable_nb.cli.screen import console, runs_picture
from durable_nb.cli.shapes import details_json, dumps, run_json
from durable_nb.log import details, lines, reads
from durable_nb.views.detail import detail_of
from durable_nb.views.text import run_history, run_log
from durable_nb.views.words import brief

STATUSES = ("queued", "running", "completed", "failed", "cancelled")


def runs(
    place: Place,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help=", ".join(STATUSES), autocompletion=lambda: list(STATUSES))
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only runs of this task.")] = None,
    parent: Annotated[str | None, typer.Option(metavar="RUN", help="The children of this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many, the newest first.")] = 20,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first; children only where --parent names theirs."""
    if status is not None and status.lower() not in STATUSES:
        raise CommandError(f"--status {brief(status, 40)} is no status: give {', '.join(STATUSES[:-1])} or {STATUSES[-1]}.")
    with reading(place.path(log)) as connection:
        parent_id = None if parent is None else reads.find_run(connection, parent).id
        chosen = reads.RunFilter(status=(status.upper(),) if status else None, task=task, parent=parent_id, roots=parent is None)
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
        screen.print("No such run is in the log." if status or task or parent else "No run is in the log.")


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
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many lines, the newest.")] = 1000,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run's task logged, with time and source line."""
    with reading(place.path(log)) as connection:
        view = reads.find_run(connection, run)
        found = lines.list_lines(connection, view.number, limit=limit)
    if as_json:
        for line in found:
            print(dumps(asdict(line)))
    elif found:
        console().print(run_log(view, found))
    else:
        console().print(f"Run {brief(view.id)} of {brief(view.task)} has said nothing.", markup=False)


VERBS = (runs, show, log_)
