"""The verbs that `durable-nb` and an exported script share, each on the app object of the command.

Every verb is thin: it reads words, calls the app object, and prints what came of it, as text for people or as JSON (one value or
one object a line) where `--json` asks for it. Data goes to standard output, everything said to people about it to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from durable_nb.cli.outcomes import said
from durable_nb.cli.work import result_within, serve
from durable_nb.errors import InputValidationError
from durable_nb.log.records import RunView
from durable_nb.tasks.payload import to_json_value
from durable_nb.views.text import run_history, runs_table

if TYPE_CHECKING:
    from durable_nb.client import Durable

Run = Annotated[str, typer.Argument(help="A run's id, the start or end of one, its key, or #number.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
STATUSES = ("queued", "running", "completed", "failed", "cancelled")


def add_verbs(app: typer.Typer, durable: Callable[[], Durable]) -> None:
    """Add the verbs to a command; `durable` gives the app object when one is used."""

    @app.command()
    @said
    def run(
        task: Annotated[str, typer.Argument(help="The task's name.")],
        input: Annotated[str | None, typer.Argument(metavar="JSON|@FILE|-", help="Its input; - reads standard input.")] = None,
        key: Annotated[str | None, typer.Option(help="Names the run for good: with a key that is known, that run.")] = None,
        metadata: Annotated[str | None, typer.Option(metavar="JSON", help="An object that the run and its children carry.")] = None,
        wait: Annotated[bool, typer.Option(help="Wait for the end and print the output; else print the run's id.")] = True,
        timeout: Annotated[float | None, typer.Option(help="Seconds to wait at most; the run goes on with the next worker.")] = None,
    ) -> None:
        """Run a task, in this process."""
        with durable() as here:
            ref = here.start_named(here.tasks[task], json_of(input), key=key, metadata=metadata and json_of(metadata))
            print(f"run {ref.workflow_run_id}", file=sys.stderr)
            print(dumps(result_within(ref, timeout)) if wait else ref.workflow_run_id)

    @app.command()
    @said
    def worker(
        grace: Annotated[float, typer.Option(help="Seconds that running tasks have to end after SIGTERM or Ctrl-C.")] = 10.0,
    ) -> None:
        """Run the tasks until SIGTERM or Ctrl-C; then finish what runs, and give the rest back to the log."""
        serve(durable(), grace)

    @app.command()
    @said
    def emit(
        key: Annotated[str, typer.Argument(help="The event's key, such as approve:sales.")],
        payload: Annotated[str | None, typer.Argument(metavar="JSON|@FILE|-")] = None,
        scope: Annotated[str | None, typer.Option(help="Reaches waits without a scope, and those of this one.")] = None,
        metadata: Annotated[str | None, typer.Option(metavar="JSON", help="An object that filters see.")] = None,
        as_json: AsJson = False,
    ) -> None:
        """Push an event."""
        with durable() as here:
            report = here.event.push(key, json_of(payload), scope=scope, additional_metadata=metadata and json_of(metadata))
        if as_json:
            print(dumps(asdict(report)))
            return
        for name in dict.fromkeys(report.matched_runs):
            print(name)
        for near_miss in report.near_misses:
            print(f"near miss: {near_miss}", file=sys.stderr)
        if not report.matched_runs:
            print("It reached no run; it is in the log.", file=sys.stderr)

    @app.command()
    @said
    def runs(
        status: Annotated[str | None, typer.Option(help=", ".join(STATUSES))] = None,
        task: Annotated[str | None, typer.Option(help="Only runs of this task.")] = None,
        parent: Annotated[str | None, typer.Option(help="The children of this run.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=100_000)] = 20,
        as_json: AsJson = False,
    ) -> None:
        """List runs, the newest first."""
        if status is not None and status.lower() not in STATUSES:
            raise InputValidationError(f"--status {status} is no status: give one of {', '.join(STATUSES)}.")
        with durable() as here:
            found = here.runs.list(status=status and status.upper(), task=task, parent=parent, limit=limit)
            now = here.engine.clock.now()
        if as_json:
            for view in found:
                print(dumps(record_of(view)))
        else:
            Console().print(runs_table([(view, []) for view in found], now))

    @app.command()
    @said
    def show(run: Run, as_json: AsJson = False) -> None:
        """Show all that the log has of a run."""
        with durable() as here:
            details = here.runs.get_details(run)
        if as_json:
            print(dumps({"run": record_of(details.run), "checkpoints": [asdict(item) for item in details.checkpoints]}))
        else:
            Console().print(run_history(details))

    for verb, words in CONTROLS.items():
        _add_control(app, durable, verb, words)


CONTROLS = {
    "cancel": "Cancel a run and its children.",
    "replay": "Run an ended run again: what was completed is kept, what failed is done again.",
    "retake": "Take up a parked run again.",
}


def _add_control(app: typer.Typer, durable: Callable[[], Durable], verb: str, words: str) -> None:
    @app.command(verb, help=words)
    @said
    def control(run: Run) -> None:
        with durable() as here:
            name = here.runs.get(run).id
            getattr(here.runs, verb)(name)
        print(name)


def json_of(text: str | None) -> Any:
    """Give the value of a word: JSON, ``@file`` with JSON in it, or ``-`` for standard input.

    Raises:
        InputValidationError: it is no JSON. FileNotFoundError: there is no such file.
    """
    if text is None:
        return None
    body = sys.stdin.read() if text == "-" else Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputValidationError(f"{text[:80]} is no JSON ({error}): give JSON, @file or - for standard input.") from None


def dumps(value: Any) -> str:
    """Give JSON in one line."""
    return json.dumps(to_json_value(value), ensure_ascii=False)


def record_of(view: RunView) -> dict[str, Any]:
    """Give a run as an object for programs: times in UTC seconds, input and output as values."""
    record = asdict(view)
    for name in ("input", "output", "metadata"):
        record[name] = json.loads(record[name]) if record[name] is not None else None
    return record
