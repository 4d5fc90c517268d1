"""The magics: `%%durable_task`, `%%task`, and `%durable VERB` with its short forms `%trigger` and `%emit`.

Invariant: what the person can mend in the line or cell is a UsageError of one sentence, and nothing was written or executed;
how a run ended is a real exception, so that tools which run notebooks stop at it.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from durable_nb.errors import (
    DeclarationError,
    ExpressionError,
    IllegalTaskOutputError,
    InputValidationError,
    LogError,
    PayloadTooLargeError,
    UnknownRunError,
    UnknownTaskError,
    UntrustedError,
)
from durable_nb.log import reads
from durable_nb.log.records import EventReport
from durable_nb.notebook import inspection
from durable_nb.notebook.arguments import (
    VERBS,
    HelpAsked,
    choices,
    metadata_of,
    task_parser,
    value_of,
    verb_parser,
)
from durable_nb.notebook.cells import Cell
from durable_nb.notebook.display import show
from durable_nb.notebook.handle import Handle, detail_of
from durable_nb.notebook.reruns import said
from durable_nb.tasks.options import make_options
from durable_nb.views.text import run_history, run_log, runs_table
from durable_nb.views.words import brief, counted, state_of, visible

if TYPE_CHECKING:
    from argparse import Namespace

    from IPython.core.interactiveshell import InteractiveShell

    from durable_nb.notebook.extension import Extension
    from durable_nb.tasks.task import Kind

LINE_MAGIC = "durable"
ALIASES = {"trigger": "run", "emit": "emit"}
MOST_RUNS = 10_000
MOST_LINES = 100_000
STATUSES = ("queued", "running", "completed", "failed", "cancelled")
MENDABLE = (
    DeclarationError,
    ExpressionError,
    IllegalTaskOutputError,
    InputValidationError,
    LogError,
    PayloadTooLargeError,
    UnknownRunError,
    UnknownTaskError,
    UntrustedError,
)
_MISSING = object()


def _for_people(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Show help where it was asked for, and give errors that the line or cell can mend as UsageErrors."""

    @functools.wraps(magic)
    def called(*arguments: Any) -> Any:
        __tracebackhide__ = True
        try:
            return magic(*arguments)
        except HelpAsked as help_text:
            print(help_text)
            return None
        except MENDABLE as error:
            raise UsageError(visible(str(error))) from None

    return called


class Pushed(EventReport):
    """The report of an event as a magic's value: it has been printed, so it does not show itself again."""

    def _ipython_display_(self) -> None:
        pass


@magics_class
class DurableMagics(Magics):
    """The magics of one shell. Called on the kernel's main thread."""

    def __init__(self, shell: InteractiveShell, extension: Extension) -> None:
        super().__init__(shell)
        self._shell = shell
        self._extension = extension

    # ------------------------------------------------------------ cells

    @cell_magic
    @no_var_expand
    @_for_people
    def durable_task(self, line: str, cell: str) -> None:
        """Make the cell's `async def f(input, ctx)` a durable task: checkpointed, and resumed after a restart.

            %%durable_task [NAME] [--retries N] [--backoff-factor F] [--backoff-max-seconds S]
                           [--execution-timeout D] [--schedule-timeout D] [--priority N]
            async def clean(input: dict, ctx: DurableContext) -> dict:
                ...

        The cell is run, so its helpers and models are ordinary names; `clean` becomes the task: `%durable run clean {…}` or
        `await clean.aio_run({…})` runs it. Its code is kept in the log and goes on after a restart without this cell.
        """
        __tracebackhide__ = True
        self._define("durable_task", line, cell)

    @cell_magic
    @no_var_expand
    @_for_people
    def task(self, line: str, cell: str) -> None:
        """Make the cell's `def f(input, ctx)`, or `async def`, a regular task: it runs to its end in a slot.

            %%task [NAME] [--retries N] [--backoff-factor F] [--backoff-max-seconds S]
                   [--execution-timeout D] [--schedule-timeout D] [--priority N]
            def score(input: dict, ctx: Context) -> float:
                ...

        A durable task spawns it as its child with `await score.aio_run({…})`.
        """
        __tracebackhide__ = True
        self._define("task", line, cell)

    def _define(self, kind: Kind, line: str, body: str) -> None:
        __tracebackhide__ = True
        given = vars(task_parser(kind).parse(line))
        wanted = given.pop("function")
        options = make_options(kind, given)
        cell = Cell(self._shell, body)
        name = cell.function_name(kind, wanted)
        session = self._extension.ready()
        namespace, before = self._shell.user_ns, self._shell.user_ns.get(name, _MISSING)
        try:
            task, notes = session.define(cell.run(name), kind, options, cell.source)
        except BaseException:
            if before is _MISSING:
                namespace.pop(name, None)
            else:
                namespace[name] = before
            raise
        namespace[name] = task
        for note in [*notes, *session.define_completed()]:
            print(visible(note))
        self._extension.check_edits()

    # ------------------------------------------------------------ lines

    @line_magic
    @no_var_expand
    @_for_people
    def durable(self, line: str) -> Any:
        """Run tasks, push events, look at runs.

            %durable run TASK [JSON|@file|$variable] [--wait] [--key K] [--metadata JSON]     short: %trigger
            %durable emit KEY [JSON|@file|$variable] [--scope S] [--metadata JSON]            short: %emit
            %durable runs [--status S] [--task T] [--limit N]
            %durable show RUN
            %durable log RUN [--limit N]
            %durable status
            %durable open PATH
            %durable trust [--yes]
            %durable retake RUN
            %durable close
            %durable help

        `%durable VERB --help` explains one. `handle = %durable run …` gives a handle: `await handle` waits for its output.
        """
        __tracebackhide__ = True
        verb, _, rest = line.strip().partition(" ")
        if verb in ("", "help", "-h", "--help"):
            self._help()
            return None
        if verb not in VERBS:
            near = difflib.get_close_matches(verb, VERBS, n=1)
            hint = f"did you mean `%durable {near[0]}`?" if near else f"write {choices(list(VERBS))}."
            raise UsageError(f"%durable has no verb {brief(verb, 40)}: {hint}")
        return getattr(self, f"_{verb}")(verb_parser(verb).parse(rest))

    def _help(self) -> None:
        width = max(map(len, VERBS))
        for verb, (description, _) in VERBS.items():
            print(f"%durable {verb:<{width}}  {description}")

    def _run(self, given: Namespace) -> Any:
        __tracebackhide__ = True
        durable = self._extension.ready().durable
        task = durable.tasks[given.task]
        value = None if given.input is None else value_of(given.input, self._shell.user_ns)
        metadata = metadata_of(given.metadata, self._shell.user_ns)
        key, is_known = given.key, False
        if key is None:
            key, is_known = self._extension.reruns.key_for(self._extension.session, task.name, value)
        handle = Handle(durable, durable.start_named(task, value, key=key, metadata=metadata))
        if is_known:
            print(said(visible(handle.id), state_of(durable.runs.get(handle.id)).word))
        return handle.result() if given.wait else handle

    def _emit(self, given: Namespace) -> Pushed:
        durable = self._extension.ready().durable
        payload = None if given.payload is None else value_of(given.payload, self._shell.user_ns)
        metadata = metadata_of(given.metadata, self._shell.user_ns)
        report = durable.event.push(given.key, payload, additional_metadata=metadata, scope=given.scope)
        matched = list(dict.fromkeys(report.matched_runs))
        if matched:
            print(f"{brief(given.key)} reached {counted(len(matched), 'run')}: {', '.join(map(brief, matched))}.")
        if report.started_runs:
            said = ", ".join(map(brief, report.started_runs))
            print(f"{brief(given.key)} started {counted(len(report.started_runs), 'run')}: {said}.")
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

    def _runs(self, given: Namespace) -> None:
        session = self._extension.ready()
        status = given.status
        if status is not None and status.lower() not in STATUSES:
            raise UsageError(f"--status {brief(status, 40)} is no status: write {choices(STATUSES)}.")
        if not 1 <= given.limit <= MOST_RUNS:
            raise UsageError(f"--limit must be 1 or more, and at most {MOST_RUNS}.")
        clock, status = session.durable.engine.clock, status and status.upper()

        def read(connection: Any) -> list[Any]:
            chosen = reads.RunFilter(status=(status,) if status else None, task=given.task, roots=True)
            found = reads.list_runs(connection, chosen, limit=given.limit)
            return [(run, [] if run.is_ended else reads.list_waits(connection, run.number)) for run in found]

        found = session.read(read)
        if found:
            show(self._shell, runs_table(found, clock.now()))
        else:
            print(
                "No such run is in the log."
                if given.status or given.task
                else "No run is in the log: start one with %durable run."
            )

    def _show(self, given: Namespace) -> None:
        detail = detail_of(self._extension.ready().durable, given.run)
        show(self._shell, run_history(detail))

    def _log(self, given: Namespace) -> None:
        durable = self._extension.ready().durable
        if not 1 <= given.limit <= MOST_LINES:
            raise UsageError(f"--limit must be 1 or more, and at most {MOST_LINES}.")
        run = durable.runs.get(given.run)
        lines = durable.runs.logs(run.id, limit=given.limit)
        if lines:
            show(self._shell, run_log(run, lines))
        else:
            print(f"Run {brief(run.id)} of {brief(run.task)} has said nothing.")

    def _status(self, _: Namespace) -> None:
        show(self._shell, inspection.status_of(self._extension))

    def _open(self, given: Namespace) -> None:
        self._extension.open(Path(given.path).expanduser().absolute())
        print(*self._extension.lines(), sep="\n")

    def _trust(self, given: Namespace) -> None:
        inspection.trust(self._extension, is_agreed=given.yes)

    def _retake(self, given: Namespace) -> None:
        durable = self._extension.ready().durable
        view = durable.runs.get(given.run)
        is_taken = durable.call(lambda: durable.runs.aio_retake(view.id), aio="await durable.runs.aio_retake(…)")
        name = brief(view.id)
        print(f"Run {name} is taken up again." if is_taken else f"Run {name} was not parked, so nothing was changed.")

    def _close(self, _: Namespace) -> None:
        self._extension.durable.close()
        print("The engine is closed; its runs stay in the log, and go on when the next magic opens it.")
