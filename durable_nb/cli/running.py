"""`run` and `emit`."""

from __future__ import annotations

import concurrent.futures
import sys
import time
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from durable_nb.cli.options import AsJson, EventKey, File, Log, Metadata, TaskName, Value, metadata_of, value_of
from durable_nb.cli.outcomes import BLOCKED, CANCELLED, FAILED, NOT_FOUND, TIMED_OUT, CommandError
from durable_nb.cli.place import Place
from durable_nb.cli.shapes import dumps, run_json
from durable_nb.cli.stopping import Stop
from durable_nb.cli.working import opened
from durable_nb.engine.dispatch import Slots
from durable_nb.engine.registry import unknown
from durable_nb.errors import DurableError
from durable_nb.views import words
from durable_nb.views.words import brief, visible

if TYPE_CHECKING:
    from durable_nb.client import Durable
    from durable_nb.log.records import RunView
    from durable_nb.tasks.refs import RunRef

LOOK_SECONDS = 0.1
NO_SLOTS = Slots(durable=0, loop=0, thread=0)


def run(
    place: Place,
    task: TaskName,
    input: Value = None,
    file: File = None,
    log: Log = None,
    key: Annotated[str | None, typer.Option(help="Names the run for good: with a key that is known, that run.")] = None,
    metadata: Metadata = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait", help="Execute it here and print its output; else leave it to a worker and print its id."
        ),
    ] = True,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Wait so long at most; the run goes on with the next worker.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a task in this process, and print its output.

    Ctrl-C gives the run back to the log, where the next worker takes it up; a second one ends at once, and loses nothing.
    With --no-wait nothing is executed here.
    """
    value, given = value_of(input), metadata_of(metadata)
    out = sys.stdout
    with Stop() as stop, ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))  # what tasks print is no output of the command
        durables = stack.enter_context(opened(place.serving(log, file, None if wait else NO_SLOTS)))
        durable = _serving(durables, task)
        if stop.wait(0):
            raise KeyboardInterrupt
        ref = durable.start_named(durable.tasks[task], value, key=key, metadata=given)
        if not wait:
            print(dumps(run_json(durable.runs.get(ref.workflow_run_id))) if as_json else ref.workflow_run_id, file=out)
            return
        print(f"run {ref.workflow_run_id}", file=sys.stderr, flush=True)
        view = _ended(durable, ref, stop, timeout)
        if stop.signal:
            durable.drain(grace=0)
            print(f"Run {view.id} goes on with the next worker.", file=sys.stderr)
            raise typer.Exit(stop.exit_code)
    if as_json:
        print(dumps(run_json(view)))
    _tell(view, timeout, as_json=as_json)


def _serving(durables: list[Durable], task: str) -> Durable:
    """Give the app object that serves a task.

    Raises:
        CommandError: none does, or those of several notebooks do.
    """
    found = [durable for durable in durables if task in durable.tasks]
    if len(found) > 1:
        homes = ", ".join(brief(durable.home) for durable in found)
        raise CommandError(f"Several notebooks define {brief(task)} ({homes}): name one with --file.")
    if not found:
        known = {item.name: None for durable in durables for item in durable.tasks}
        raise CommandError(
            f"{unknown(task, known).partition(':')[0]}: name the script or notebook that does with --file.", NOT_FOUND
        )
    return found[0]


def _ended(durable: Durable, ref: RunRef[Any], stop: Stop, timeout: float | None) -> RunView:
    """Wait until a run has ended or is blocked, the time is over, or a signal came; give the run as it is then."""
    done = durable.engine.thread.submit(ref.aio_result)
    deadline = None if timeout is None else time.monotonic() + timeout
    while not stop.signal:
        concurrent.futures.wait([done], timeout=LOOK_SECONDS)
        view = durable.runs.get(ref.workflow_run_id)
        if view.is_ended or view.blocked_reason is not None or (deadline is not None and time.monotonic() >= deadline):
            return view
        if done.done() and (error := done.exception()) is not None and isinstance(error, DurableError):
            raise error  # the engine stopped
    return durable.runs.get(ref.workflow_run_id)


def _tell(view: RunView, timeout: float | None, *, as_json: bool) -> None:
    """Print a run's output, or raise what became of it."""
    name = f"Run {view.id} of {brief(view.task)}"
    if view.status == "COMPLETED":
        if not as_json:
            print(dumps(run_json(view)["output"]))
        return
    if view.status == "FAILED":
        said = f"{brief(view.error.type)}: {visible(view.error.message, lines=True)}" if view.error else "it is not known why"
        raise CommandError(f"{name} failed: {said}\n`{words.COMMAND} show {view.id}` tells where.", FAILED)
    if view.status == "CANCELLED":
        raise CommandError(
            f"{name} was cancelled{f': {brief(view.error.message)}' if view.error and view.error.message else '.'}", CANCELLED
        )
    if view.blocked_reason is not None:
        raise CommandError(f"{name} is parked: {visible(view.blocked_reason)}", BLOCKED)
    raise CommandError(f"{name} has not ended within {timeout:g} s; it goes on with the next worker.", TIMED_OUT)


def emit(
    place: Place,
    key: EventKey,
    payload: Value = None,
    scope: Annotated[str | None, typer.Option(help="Reaches waits without a scope, and those of this one.")] = None,
    metadata: Metadata = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Push an event. It reaches every wait that was registered before it, and starts the tasks that listen to its key."""
    value, given = value_of(payload), metadata_of(metadata)
    with place.steering(log) as durable:
        report = durable.event.push(key, value, scope=scope, additional_metadata=given)
    if as_json:
        print(dumps(asdict(report)))
        return
    for word, names in (("reached", report.matched_runs), ("started", report.started_runs)):
        for name in dict.fromkeys(names):
            print(f"{word} {name}")
    for near_miss in report.near_misses:
        print(f"Near miss: {visible(near_miss)}", file=sys.stderr)
    if not (report.matched_runs or report.started_runs):
        print("It reached no run. It is in the log.", file=sys.stderr)


VERBS = (run, emit)
