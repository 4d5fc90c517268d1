"""The magics: `%%durable_task`, `%%task`, `%%workflow`, and `%durable VERB` with its short forms `%trigger` and `%emit`.

Invariant: what the person can mend in the line or cell is a UsageError of one sentence, and nothing was written or executed;
how a run ended is a real exception, so that tools which run notebooks stop at it.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from durable_nb.errors import (
    ArtifactError,
    DeclarationError,
    ExpressionError,
    IdempotencyCollisionError,
    IllegalTaskOutputError,
    InputValidationError,
    LogError,
    PayloadTooLargeError,
    QuestionClosedError,
    RateLimitError,
    RunActiveError,
    UnknownCheckpointError,
    UnknownQuestionError,
    UnknownRunError,
    UnknownTaskError,
    UntrustedError,
)
from durable_nb.notebook.arguments import HelpAsked, choices
from durable_nb.notebook.cells import Cell
from durable_nb.notebook.options import options_of, task_parser, workflow_parser
from durable_nb.notebook.verbs import TABLE
from durable_nb.notebook.workflow_cell import WorkflowCell
from durable_nb.notebook.workflows import Stage
from durable_nb.views.words import brief, visible

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from durable_nb.notebook.extension import Extension
    from durable_nb.tasks.task import Kind

LINE_MAGIC = "durable"
ALIASES = {"trigger": "run", "emit": "emit"}
MENDABLE = (
    ArtifactError,
    DeclarationError,
    ExpressionError,
    IdempotencyCollisionError,
    IllegalTaskOutputError,
    InputValidationError,
    LogError,
    PayloadTooLargeError,
    QuestionClosedError,
    RateLimitError,
    RunActiveError,
    UnknownCheckpointError,
    UnknownQuestionError,
    UnknownRunError,
    UnknownTaskError,
    UntrustedError,
)
QUESTION = re.compile(r"^\s*%durable\s+(?P<verb>\w+)\s*\?{1,2}\s*$")
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

            %%durable_task [FUNCTION] [--retries N] [--execution-timeout D] [--on-events KEY] [--cron CRON] …
            async def clean(input: dict, ctx: DurableContext) -> dict:
                ...

        The cell is run, so its helpers and models are ordinary names; `clean` becomes the task: `%durable run clean {…}` or
        `await clean.aio_run({…})` runs it. Its code is kept in the log and goes on after a restart without this cell.
        `%%durable_task --help` explains all options.
        """
        __tracebackhide__ = True
        self._define("durable_task", line, cell)

    @cell_magic
    @no_var_expand
    @_for_people
    def task(self, line: str, cell: str) -> None:
        """Make the cell's `def f(input, ctx)`, or `async def`, a regular task: it runs to its end in a slot.

            %%task [FUNCTION] [--retries N] [--execution-timeout D] [--on-events KEY] [--cron CRON] …
            def score(input: dict, ctx: Context) -> float:
                ...

        A durable task spawns it as its child with `await score.aio_run({…})`. `%%task --help` explains all options.
        """
        __tracebackhide__ = True
        self._define("task", line, cell)

    def _define(self, kind: Kind, line: str, body: str) -> None:
        __tracebackhide__ = True
        given = vars(task_parser(kind).parse(line))
        wanted, name, description = given.pop("function"), given.pop("name", None), given.pop("description", None)
        options = options_of(kind, given, self._shell.user_ns, form=f"%%{kind}")
        cell = Cell(self._shell, body)
        function = cell.function_name(kind, wanted)
        session = self._extension.ready()
        namespace, before = self._shell.user_ns, self._shell.user_ns.get(function, _MISSING)
        try:
            task, notes = session.define(cell.run(function), kind, options, cell.source, name=name, description=description)
        except BaseException:
            if before is _MISSING:
                namespace.pop(function, None)
            else:
                namespace[function] = before
            raise
        namespace[function] = task
        for note in [*notes, *session.define_completed()]:
            print(visible(note))
        self._extension.check_edits()

    @cell_magic
    @no_var_expand
    @_for_people
    def workflow(self, line: str, cell: str) -> None:
        """Make the cell's functions `(input, ctx)` the tasks of a workflow (DAG), which `%durable run NAME` starts.

            %%workflow etl [--priority N] [--on-events KEY] [--cron CRON] …
            def extract(input: dict, ctx) -> list: ...

            @task(parents=[extract], retries=2)
            def load(input: dict, ctx) -> int:
                return len(ctx.task_output(extract))

        `%%workflow --help` explains the decorators and all options.
        """
        __tracebackhide__ = True
        given = vars(workflow_parser().parse(line))
        name, description = given.pop("name"), given.pop("description", None)
        options = options_of("durable_task", given, self._shell.user_ns, form="%%workflow")
        body = WorkflowCell(self._shell, cell, name)
        session = self._extension.ready()
        stage = Stage(session.durable)
        made = stage.declare(name, options, description)
        body.declare(made)
        for note in [*stage.serve(made, session), *session.define_completed()]:
            print(visible(note))
        self._extension.check_edits()

    # ------------------------------------------------------------ lines

    @line_magic
    @no_var_expand
    @_for_people
    def durable(self, line: str) -> Any:
        """Run tasks, push events, look at runs, steer them; the docstring that people see is made of the verbs below."""
        __tracebackhide__ = True
        verb, _, rest = line.strip().partition(" ")
        if verb in ("", "help", "-h", "--help"):
            print(_all_verbs())
            return None
        if verb not in TABLE:
            near = difflib.get_close_matches(verb, TABLE, n=1)
            hint = f"did you mean `%durable {near[0]}`?" if near else f"write {choices(list(TABLE))}."
            raise UsageError(f"%durable has no verb {brief(verb, 40)}: {hint}")
        return TABLE[verb].do(self._extension, TABLE[verb].parser().parse(rest))


def ask_for_help(lines: list[str]) -> list[str]:
    r"""Have ``%durable VERB?`` show the verb's help; IPython would show that of a magic or variable of the verb's name.

    >>> ask_for_help(["%durable run?"])
    ['%durable run --help\n']
    """
    asked = QUESTION.match("".join(lines))
    return [f"%{LINE_MAGIC} {asked['verb']} --help\n"] if asked and asked["verb"] in TABLE else lines


def _all_verbs() -> str:
    width = max(map(len, TABLE))
    return "\n".join(f"%durable {name:<{width}}  {verb.description}" for name, verb in TABLE.items())


DurableMagics.durable.__doc__ = "\n".join(
    [
        "Run tasks, push events, look at runs, steer them.",
        "",
        *(f"    {verb.parser().form}" for verb in TABLE.values()),
        "",
        "`%durable VERB --help` (or `%durable VERB?`) explains one. `%trigger` is short for `%durable run`,",
        "`%emit` for `%durable emit`.",
        "`handle = %durable run …` gives a handle: `await handle` waits for its output.",
    ]
)
