"""Verbs that show: runs, one run, what it said, the state of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from durable_nb.errors import DeclarationError
from durable_nb.log import reads
from durable_nb.notebook import inspection
from durable_nb.notebook.arguments import Arguments, choices, metadata_of, plain, within
from durable_nb.notebook.display import Shown, show, show_live
from durable_nb.notebook.handle import detail_of
from durable_nb.notebook.verbs.verb import Verb, one_run
from durable_nb.tasks.durations import parse_duration
from durable_nb.views.desk import has_widgets
from durable_nb.views.text import run_history, run_line, run_log, runs_table
from durable_nb.views.words import brief

if TYPE_CHECKING:
    from argparse import Namespace

    from durable_nb.client import Durable
    from durable_nb.log.lines import Line
    from durable_nb.log.records import RunView
    from durable_nb.notebook.extension import Extension
    from durable_nb.views.run_view import RunView as LiveView

MOST_RUNS = 10_000
MOST_LINES = 100_000
STATUSES = ("queued", "running", "completed", "failed", "cancelled")


def _runs_options(parser: Arguments) -> None:
    parser.add_argument("--status", metavar="STATUS", type=plain, help=choices(STATUSES))
    parser.add_argument("--task", metavar="TASK", type=plain, help="only runs of this task")
    parser.add_argument(
        "--since", metavar="WHEN", type=plain, help="created in the last 2h, or since 2026-01-31T09:00 (local time)"
    )
    parser.add_argument("--until", metavar="WHEN", type=plain, help="created before that")
    parser.add_argument("--metadata", metavar="JSON", help="only runs whose metadata holds all of this object")
    parser.add_argument("--event", metavar="KEY", type=plain, help="only runs that an event of this key reached")
    parser.add_argument("--children", action="store_true", help="children too")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="how many, the newest first (20)")


def _runs(extension: Extension, given: Namespace) -> Shown[RunView]:
    session = extension.ready()
    if given.status is not None and given.status.lower() not in STATUSES:
        raise UsageError(f"--status {brief(given.status, 40)} is no status: write {choices(STATUSES)}.")
    limit = within(given.limit, MOST_RUNS)
    durable, clock = session.durable, session.durable.engine.clock
    filters: dict[str, Any] = {
        "status": given.status and given.status.upper(),
        "task": given.task,
        "since": moment_of(given.since, "--since", clock.now()),
        "until": moment_of(given.until, "--until", clock.now()),
        "metadata": metadata_of(given.metadata, extension.shell.user_ns),
        "include_children": given.children,
        "limit": limit,
    }
    found = durable.runs.list(**filters, event=given.event)
    if not found:
        is_filtered = any((given.status, given.task, given.since, given.until, given.metadata, given.event))
        print("No such run is in the log." if is_filtered else "No run is in the log: start one with %durable run.")
        return Shown(extension.shell, [], None)
    if given.event is None and has_widgets():
        show_live(extension.shell, durable.runs.table(**filters))
        return Shown(extension.shell, found, None)
    waits = session.read(lambda connection: [[] if run.is_ended else reads.list_waits(connection, run.number) for run in found])
    return Shown(extension.shell, found, runs_table(list(zip(found, waits, strict=True)), clock.now()))


def moment_of(word: str | None, option: str, now: float) -> datetime | None:
    """Give the time that a word means: so long ago, or a date.

    Raises:
        UsageError: it is neither.
    """
    if word is None:
        return None
    try:
        return datetime.fromtimestamp(now, UTC) - parse_duration(word, of=option)
    except (DeclarationError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(word).astimezone()  # one without a zone is local time
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{option} {brief(word, 40)} is no time: write 90s, 2h or 3d for so long ago, or 2026-01-31T09:00."
        ) from None


def _show(extension: Extension, given: Namespace) -> None:
    show(extension.shell, run_history(detail_of(extension.ready().durable, given.run)))


def _graph_options(parser: Arguments) -> None:
    one_run(parser)
    tabs = ("graph", "timeline", "replay", "log")
    parser.add_argument("--tab", choices=tabs, default="graph", help="what is shown first (graph)")


def _graph(extension: Extension, given: Namespace) -> LiveView:
    return extension.ready().durable.runs.view(given.run, tab=given.tab)


# ---------------------------------------------------------------- what was said


def _log_options(parser: Arguments) -> None:
    one_run(parser)
    parser.add_argument("--follow", action="store_true", help="print further lines as they come, until the run has ended")
    parser.add_argument("--limit", type=int, default=1000, metavar="N", help="how many lines, the newest (1000)")


def _log(extension: Extension, given: Namespace) -> Shown[Line] | None:
    durable = extension.ready().durable
    limit = within(given.limit, MOST_LINES)
    run = durable.runs.get(given.run)
    if given.follow:
        _follow(durable, run)
        return None
    lines = durable.runs.logs(run.id, limit=limit)
    if not lines:
        print(f"Run {brief(run.id)} of {brief(run.task)} has said nothing.")
        return Shown(extension.shell, [], None)
    return Shown(extension.shell, lines, run_log(run, lines))


def _follow(durable: Durable, run: RunView) -> None:
    """Print lines as they come. The kernel's interrupt stops the printing, never the run."""
    try:
        for line in durable.runs.follow_logs(run.id):
            print(run_line(line), flush=True)
    except KeyboardInterrupt:
        print(f"Stopped following; run {brief(run.id)} of {brief(run.task)} goes on.")


def _status(extension: Extension, _: Namespace) -> None:
    show(extension.shell, inspection.status_of(extension))


VERBS = (
    Verb(
        name="runs",
        description="List runs, the newest first; their children only with --children. Gives them as a list.",
        do=_runs,
        options=_runs_options,
    ),
    Verb(name="show", description="Show all that the log has of a run.", do=_show, options=one_run),
    Verb(
        name="graph",
        description="Show a run as it happens: its graph, its timeline, its log. Gives the view.",
        do=_graph,
        options=_graph_options,
    ),
    Verb(
        name="log",
        description="Show what a run's task printed and logged, with time and source line. Gives the lines.",
        do=_log,
        options=_log_options,
    ),
    Verb(name="status", description="Show the log, its tasks and its runs.", do=_status),
)
