"""Verbs that start something: a run, an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_nb.log.records import EventReport
from durable_nb.notebook.arguments import INPUT, Arguments, metadata_of, plain, value_of
from durable_nb.notebook.handle import Handle
from durable_nb.notebook.reruns import said
from durable_nb.notebook.verbs.verb import Verb
from durable_nb.views.words import brief, counted, state_of, visible

if TYPE_CHECKING:
    from argparse import Namespace

    from durable_nb.notebook.extension import Extension


class Pushed(EventReport):
    """The report of an event as a magic's value: it has been printed, so it does not show itself again."""

    def _ipython_display_(self) -> None:
        pass


def _run_options(parser: Arguments) -> None:
    parser.add_argument("task", metavar="TASK", type=plain, help="the task's name")
    parser.add_argument("input", nargs="?", metavar=INPUT, help="its input, where it takes one")
    parser.add_argument("--wait", action="store_true", help="wait for the end, and give the output")
    parser.add_argument(
        "--key", metavar="K", type=plain, help="a name for the run for good: with one that is known, give that run"
    )
    parser.add_argument("--metadata", metavar="JSON", help="an object that the run and its children carry")


def _run(extension: Extension, given: Namespace) -> Any:
    __tracebackhide__ = True
    durable, names = extension.ready().durable, extension.shell.user_ns
    task = durable.tasks[given.task]
    value = None if given.input is None else value_of(given.input, names)
    metadata = metadata_of(given.metadata, names)
    key, is_known = given.key, False
    if key is None:
        key, is_known = extension.reruns.key_for(extension.session, task.name, value)
    handle = Handle(durable, durable.start_named(task, value, key=key, metadata=metadata))
    if is_known:
        print(said(visible(handle.id), state_of(durable.runs.get(handle.id)).word))
    return handle.result() if given.wait else handle


def _emit_options(parser: Arguments) -> None:
    parser.add_argument("key", metavar="KEY", type=plain, help="the event's key, such as approve:sales")
    parser.add_argument("payload", nargs="?", metavar=INPUT, help="its payload, {} where it is left out")
    parser.add_argument("--scope", metavar="SCOPE", type=plain, help="reaches waits without a scope, and those of this one")
    parser.add_argument("--metadata", metavar="JSON", help="an object that filters see as additional_metadata")


def _emit(extension: Extension, given: Namespace) -> Pushed:
    durable, names = extension.ready().durable, extension.shell.user_ns
    payload = None if given.payload is None else value_of(given.payload, names)
    metadata = metadata_of(given.metadata, names)
    report = durable.event.push(given.key, payload, additional_metadata=metadata, scope=given.scope)
    matched = list(dict.fromkeys(report.matched_runs))
    if matched:
        print(f"{brief(given.key)} reached {counted(len(matched), 'run')}: {', '.join(map(brief, matched))}.")
    if report.started_runs:
        started = ", ".join(map(brief, report.started_runs))
        print(f"{brief(given.key)} started {counted(len(report.started_runs), 'run')}: {started}.")
    if not matched and not report.started_runs:
        why = "it does not match" if report.near_misses else "none waits for it now"
        print(f"{brief(given.key)} reached no run: {why}. It is in the log.")
    for near_miss in report.near_misses:
        print(f"Near miss: {visible(near_miss)}")
    return Pushed(
        event_id=report.event_id,
        key=report.key,
        matched_runs=report.matched_runs,
        near_misses=report.near_misses,
        started_runs=report.started_runs,
    )


VERBS = (
    Verb(
        name="run",
        description="Start a run of a task. Gives a handle at once: `await handle` waits for its output.",
        do=_run,
        options=_run_options,
    ),
    Verb(
        name="emit",
        description="Push an event. It reaches every wait that was registered before it.",
        do=_emit,
        options=_emit_options,
    ),
)
