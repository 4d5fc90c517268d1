"""Tab completion of the magics' lines: verbs, options, and what stands in their places (tasks, runs, awaited events, variables).

What a place takes is read off the parsers themselves, by the name that the help gives it, so a new verb is completed at once.

Invariants: it never raises, and never waits for a busy engine: what the log would add is left out then.
"""

from __future__ import annotations

import concurrent.futures
import re
import time
import zoneinfo
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from durable_nb.log import questions, reads
from durable_nb.log.records import CELL_KEY
from durable_nb.notebook.arguments import INPUT, Arguments
from durable_nb.notebook.options import task_parser, workflow_parser
from durable_nb.notebook.verbs import TABLE
from durable_nb.notebook.verbs.looking import STATUSES
from durable_nb.tasks.flow import CatchUp
from durable_nb.tasks.workflow import WorkflowTask

if TYPE_CHECKING:
    from durable_nb.notebook.extension import Extension

LINE = re.compile(r"^(?:.*?=\s*)?\s*%(?P<magic>durable|trigger|emit)\s(?P<rest>.*)$")
CELL = re.compile(r"^\s*%%(?P<kind>task|durable_task|workflow)\s(?P<rest>.*)$")
STANDS_FOR = {"trigger": "run ", "emit": "emit "}
LOOK_SECONDS = 0.2
NEWEST = 200  # runs that are looked through, and awaited events


class Completer:
    """Completes the lines of one shell's magics. Called on the kernel's main thread, also while a task is busy."""

    def __init__(self, extension: Extension) -> None:
        self._extension = extension
        # The names under which the help speaks of a place, and what can stand there.
        self._places: dict[str, Callable[[str], Iterable[str]]] = {
            "TASK": lambda _: [task.name for task in extension.durable.tasks if not isinstance(task, WorkflowTask)],
            "KEY": lambda _: self._read(lambda connection: reads.list_awaited_keys(connection, limit=NEWEST)),
            "RUN": self._runs,
            "FATE": lambda _: ("fail", "park"),
            "WHICH": lambda _: get_args(CatchUp),
            "ZONE": lambda _: sorted(zoneinfo.available_timezones()),
            "STATUS": lambda _: STATUSES,
            "ASKED": lambda _: (*questions.STATUSES, "all"),
            "QUESTION": self._questions,
            "JSON": self._inputs,
            INPUT: self._inputs,
            "PATH": lambda fragment: _files(fragment, "*.db"),
        }

        @context_matcher(identifier="durable_nb")  # type: ignore[untyped-decorator]
        def match(context: CompletionContext) -> SimpleMatcherResult:
            return self.complete(context.text_until_cursor.rpartition("\n")[2], first_line=context.cursor_line == 0)

        self.match = match

    def complete(self, line: str, *, first_line: bool = True) -> SimpleMatcherResult:
        """Give what may stand at the end of a line."""
        try:
            fragment, words = self._at(line, first_line=first_line)
        except Exception:  # whatever it is, the person has only pressed a key
            return {"completions": []}
        found = [SimpleCompletion(text=word, type="durable_nb") for word in dict.fromkeys(words) if word.startswith(fragment)]
        return {"completions": found, "matched_fragment": fragment, "suppress": bool(found)}

    def _at(self, line: str, *, first_line: bool) -> tuple[str, Iterable[str]]:
        cell = CELL.match(line) if first_line else None
        if cell:
            return self._in_options(_cell_parser(cell["kind"]), cell["rest"])
        magic = LINE.match(line)
        if magic is None:
            return "", []
        verb, space, rest = (STANDS_FOR.get(magic["magic"], "") + magic["rest"].lstrip()).partition(" ")
        if not space:
            return verb, (*TABLE, "help")
        return self._in_options(TABLE[verb].parser(), rest) if verb in TABLE else ("", [])

    def _in_options(self, parser: Arguments, rest: str) -> tuple[str, Iterable[str]]:
        *before, fragment = re.split(r"\s+", rest.lstrip())
        options = {name: action for action in parser._actions for name in action.option_strings}
        takes = options.get(before[-1]) if before else None
        if takes is not None and takes.nargs != 0:
            return fragment, self._place(takes.metavar, fragment)
        if fragment.startswith("-"):
            return fragment, (name for name in options if name.startswith("--") and name not in before)
        values = {index + 1 for index, word in enumerate(before) if word in options and options[word].nargs != 0}
        taken = sum(not word.startswith("-") for index, word in enumerate(before) if index not in values)
        places = [action for action in parser._actions if not action.option_strings]
        place = places[taken] if taken < len(places) else places[-1] if places and places[-1].nargs == "+" else None
        return fragment, self._place(place and place.metavar, fragment)

    def _place(self, metavar: object, fragment: str) -> Iterable[str]:
        place = self._places.get(str(metavar))
        return [] if place is None else place(fragment)

    # ------------------------------------------------------------ what may stand there

    def _runs(self, fragment: str) -> Iterator[str]:
        def read(connection: Any) -> list[Any]:
            return reads.list_runs(connection, reads.RunFilter(roots=True), limit=NEWEST)

        for run in self._read(read):
            yield f"#{run.number}" if fragment.startswith("#") else run.id
            if run.key and not run.key.startswith(CELL_KEY) and not re.search(r"\s", run.key):
                yield run.key

    def _questions(self, _: str) -> Iterable[str]:
        def read(connection: Any) -> list[Any]:
            return questions.list_items(connection, status="open", assignee=None, limit=NEWEST, offset=0, now=time.time())

        return [item.id for item in self._read(read)]

    def _inputs(self, fragment: str) -> Iterable[str]:
        if fragment.startswith("@"):
            return [f"@{path}" for path in _files(fragment[1:], "*.json")]
        names = self._extension.shell.user_ns
        return [f"${name}" for name in names if not name.startswith("_")] if fragment.startswith("$") else []

    def _read(self, work: Callable[[Any], list[Any]]) -> list[Any]:
        """Read from the log, if the engine answers at once."""
        durable = self._extension.durable
        if not durable.is_open:
            return []
        engine = durable.engine
        future = engine.thread.submit(lambda: engine.reader.run(work))
        try:
            found: list[Any] = future.result(timeout=LOOK_SECONDS)
        except concurrent.futures.TimeoutError:
            return []
        return found


def _cell_parser(kind: str) -> Arguments:
    return workflow_parser() if kind == "workflow" else task_parser("task" if kind == "task" else "durable_task")


def _files(fragment: str, pattern: str) -> list[str]:
    """Give folders and files that a path which has begun so may mean."""
    folder = Path(fragment.rpartition("/")[0] + "/") if "/" in fragment else Path()
    begun = fragment.rpartition("/")[0] + "/" if "/" in fragment else ""
    entries = [path for path in folder.expanduser().iterdir() if not path.name.startswith(".")]
    return [
        f"{begun}{path.name}/" if path.is_dir() else begun + path.name
        for path in sorted(entries)
        if path.is_dir() or path.match(pattern)
    ]
