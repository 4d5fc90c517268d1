"""Arguments and options that several verbs have, with what the shell completes for them."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from durable_nb.cli.outcomes import CommandError
from durable_nb.cli.place import LogPlace, reading
from durable_nb.errors import InputValidationError
from durable_nb.log import reads
from durable_nb.views.words import brief, visible

MOST_OFFERED = 200
TASKS = "SELECT DISTINCT task FROM (SELECT task FROM definition UNION ALL SELECT task FROM run) ORDER BY task"


def _offer(read: Callable[[sqlite3.Connection], list[tuple[str, str]]]) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    """Give a completion that reads the log; one that cannot be read offers nothing."""

    def complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        try:
            with reading(LogPlace().path(ctx.params.get("log"))) as connection:
                return [offer for offer in read(connection) if offer[0].startswith(incomplete) and visible(offer[0]) == offer[0]][
                    :MOST_OFFERED
                ]
        except Exception:  # in the middle of a person's line nothing may be said
            return []

    return complete


def _runs(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    found = reads.list_runs(connection, reads.RunFilter(roots=True), limit=MOST_OFFERED)
    return [(run.id, f"{brief(run.task, 40)} {run.status.lower()}") for run in found]


def _tasks(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return [(task, "") for (task,) in connection.execute(TASKS)]


def _keys(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    return [(key, "awaited") for key in reads.list_awaited_keys(connection, limit=MOST_OFFERED)]


offer_runs, offer_tasks, offer_keys = _offer(_runs), _offer(_tasks), _offer(_keys)

Log = Annotated[
    Path | None,
    typer.Option(
        "--log", "-l", metavar="PATH", help="The log; else the script's, else $DURABLE_NB_LOG, else the one in this folder."
    ),
]
File = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="FILE", help="The script or notebook that defines the task; else the log's code."),
]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, its start or end, its key, or #number.", autocompletion=offer_runs)
]
RunNames = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help="Ids of runs, starts or ends of them, keys, or #numbers.", autocompletion=offer_runs),
]
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="The task's name.", autocompletion=offer_tasks)]
EventKey = Annotated[
    str, typer.Argument(metavar="KEY", help="The event's key, such as approve:sales.", autocompletion=offer_keys)
]
Value = Annotated[str | None, typer.Argument(metavar="JSON|@FILE|-", help="JSON; - reads standard input.")]
Metadata = Annotated[
    str | None, typer.Option("--metadata", metavar="JSON", help="An object that goes with it, for filters and children.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def value_of(text: str | None) -> Any:
    """Give the value of a word: JSON, ``@file`` with JSON in it, or ``-`` for standard input.

    Raises:
        InputValidationError: it is no JSON. OSError: the file cannot be read.
    """
    if text is None:
        return None
    try:
        return json.loads(text_of(text))
    except RecursionError:
        raise InputValidationError(f"{brief(text, 80)} is nested too deeply to be read as JSON: make it flatter.") from None
    except ValueError as error:
        hint = f"for a string write '\"{text}\"'" if text.isidentifier() else "give JSON, @file or - for standard input"
        raise InputValidationError(f"{brief(text, 80)} is no JSON ({error}): {hint}.") from None


def text_of(word: str) -> str:
    """Give the text of a word: itself, that of ``@file``, or ``-`` for standard input.

    Raises:
        OSError: the file cannot be read.
    """
    if word == "-":
        return sys.stdin.read().strip()
    return Path(word[1:]).read_text(encoding="utf-8").strip() if word.startswith("@") else word


def metadata_of(text: str | None) -> dict[str, object] | None:
    """Give the value of ``--metadata``.

    Raises:
        CommandError: it is no JSON object.
    """
    if text is None:
        return None
    value = value_of(text)
    if not isinstance(value, dict):
        raise CommandError(f'--metadata {brief(text, 80)} is no JSON object: write it as {{"name": "value"}}.')
    return value
