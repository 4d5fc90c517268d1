"""`inbox` and `approve`: what tasks ask people, and the answers."""

from __future__ import annotations

import getpass
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from durable_nb.cli.options import AsJson, Log, text_of
from durable_nb.cli.outcomes import NOT_FOUND, CommandError
from durable_nb.cli.place import Place, reading
from durable_nb.cli.screen import console
from durable_nb.cli.shapes import dumps
from durable_nb.log import questions, reads
from durable_nb.tasks.answers import read_answer
from durable_nb.views import words
from durable_nb.views.words import brief, duration

if TYPE_CHECKING:
    from durable_nb.log.questions import InboxItem

MOST = 100_000


def inbox(
    place: Place,
    assignee: Annotated[str | None, typer.Option(metavar="WHO", help="Only what names this person.")] = None,
    status: Annotated[str, typer.Option(help=", ".join(questions.STATUSES))] = "open",
    limit: Annotated[int, typer.Option(min=1, max=MOST)] = 100,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """List what runs ask people, the oldest first."""
    if status not in questions.STATUSES:
        raise CommandError(f"--status {brief(status, 40)} is no status of a question: give {', '.join(questions.STATUSES)}.")
    now = time.time()
    with reading(place.path(log)) as connection:
        found = questions.list_items(connection, status=status, assignee=assignee, limit=limit, offset=0, now=now)
    if as_json:
        for item in found:
            print(dumps(asdict(item)))
    elif found:
        console().print(_table(found, now))
    else:
        print("Nobody is asked anything." if status == "open" else f"No question is {status}.")


def _table(items: list[InboxItem], now: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("question", "task", "asked", "left", "who", "answer with"):
        table.add_column(column, no_wrap=column == "question", overflow="fold")
    for item in items:
        left = "" if item.due_at is None else duration(max(0.0, item.due_at - now))
        who = ", ".join(brief(name, 40) for name in item.assignees) or "anybody"
        table.add_row(
            Text(item.id),
            Text(brief(item.task, 40), style="bold"),
            Text(f"{brief(item.question)} ({duration(now - item.asked_at)} ago)"),
            Text(left),
            Text(who),
            Text(_form(item.schema), style="dim"),
        )
    return table


def _form(schema: dict[str, Any]) -> str:
    """Give a schema in a few words.

    >>> _form({"type": "object", "properties": {"by": {"type": "string"}}})
    '{"by": string}'
    """
    if "enum" in schema:
        return brief(" or ".join(dumps(value) for value in schema["enum"]), 80)
    fields = schema.get("properties")
    if isinstance(fields, dict):
        return brief(
            "{" + ", ".join(f'"{name}": {_form(of) if isinstance(of, dict) else "…"}' for name, of in fields.items()) + "}", 80
        )
    return brief(str(schema.get("type", "JSON")), 40)


def approve(
    place: Place,
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="Its id (see inbox); or its run, where that asks one thing.")
    ],
    answer: Annotated[
        str | None, typer.Argument(metavar="ANSWER|@FILE|-", help="JSON, or plain words; yes where it is left out.")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="WHO", help="Who answers; else the user of this terminal.")] = None,
    reason: Annotated[str | None, typer.Option(metavar="WHY", help="Why; kept with the answer.")] = None,
    log: Log = None,
) -> None:
    """Answer a question. The first valid answer wins."""
    text = "true" if answer is None else text_of(answer)
    item = _find(place, log, question)
    value = read_answer(text, item.schema)
    with place.steering(log) as durable:
        durable.inbox.answer(item.id, value, by=by or _user(), reason=reason)
    print(f"answered {item.id}")


def _find(place: Place, log: Path | None, name: str) -> InboxItem:
    """Give the question that a name means."""
    with reading(place.path(log)) as connection:
        if "/" in name:
            return questions.find(connection, name, now=time.time())[1]
        run = reads.find_run(connection, name)
        found = questions.list_items(connection, status="open", assignee=None, limit=MOST, offset=0, now=time.time())
    asked = [item for item in found if item.run_id == run.id]
    if len(asked) != 1:
        asks = "asks nothing" if not asked else f"asks {len(asked)} things ({', '.join(item.id for item in asked)})"
        raise CommandError(f"Run {run.id} {asks}: `{words.COMMAND} inbox` lists the questions.", NOT_FOUND)
    return asked[0]


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, as in some containers
        print("Nobody knows who you are: --by says it.", file=sys.stderr)
        return None


VERBS = (inbox, approve)
