"""Verbs for people: what tasks ask, and the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from durable_nb.log.questions import STATUSES
from durable_nb.notebook.arguments import INPUT, Arguments, choices, plain, value_of, within
from durable_nb.notebook.display import Shown, show_live
from durable_nb.notebook.verbs.verb import Verb
from durable_nb.tasks.answers import read_answer
from durable_nb.tasks.schemas import misfits
from durable_nb.views.desk import has_widgets
from durable_nb.views.questions import inbox_table
from durable_nb.views.words import brief

if TYPE_CHECKING:
    from argparse import Namespace

    from durable_nb.client import Durable
    from durable_nb.log.questions import InboxItem
    from durable_nb.notebook.extension import Extension

MOST = 10_000


def _inbox_options(parser: Arguments) -> None:
    parser.add_argument("--status", metavar="ASKED", type=plain, default="open", help=f"{choices((*STATUSES, 'all'))} (open)")
    parser.add_argument("--assignee", metavar="NAME", type=plain, help="only questions that name this person")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="how many (100)")


def _inbox(extension: Extension, given: Namespace) -> Shown[InboxItem]:
    durable = extension.ready().durable
    if given.status not in (*STATUSES, "all"):
        raise UsageError(f"--status {brief(given.status, 40)} is no status of a question: write {choices((*STATUSES, 'all'))}.")
    status = None if given.status == "all" else given.status
    items = durable.inbox.list(status=status, assignee=given.assignee, limit=within(given.limit, MOST))
    if status == "open" and has_widgets():
        show_live(extension.shell, durable.inbox.view(assignee=given.assignee))
        return Shown(extension.shell, items, None)
    if not items:
        print("No question is open." if status == "open" else "There is no such question.")
        return Shown(extension.shell, [], None)
    return Shown(extension.shell, items, inbox_table(items, durable.engine.clock.now()))


def _approve_options(parser: Arguments) -> None:
    parser.add_argument(
        "question",
        metavar="QUESTION",
        type=plain,
        help="its id, as `%%durable inbox` shows it, or the run, if that asks one only",
    )
    parser.add_argument("value", nargs="?", metavar=INPUT, help="the answer; yes where it is left out")
    parser.add_argument("--by", metavar="NAME", type=plain, help="who answers; recorded with the answer")
    parser.add_argument("--reason", metavar="WHY", type=plain, help="why; recorded with the answer")


def _approve(extension: Extension, given: Namespace) -> None:
    durable = extension.ready().durable
    item = _question(durable, given.question)
    if given.value is None and misfits(True, json.dumps(item.schema)):
        wanted = item.schema.get("title") or item.schema.get("type") or "an answer"
        raise UsageError(
            f"{brief(item.question, 80)} takes {brief(str(wanted), 40)}, not just a yes: give it as JSON or $variable."
        )
    durable.inbox.answer(item.id, _answer(given.value, item, extension.shell.user_ns), by=given.by, reason=given.reason)
    print(f"Answered “{brief(item.question, 120)}” of {brief(item.task)}: run {brief(item.run_id)} goes on.")


def _answer(word: str | None, item: InboxItem, namespace: Mapping[str, Any]) -> Any:
    """Give the answer that a word stands for: ``$variable``, ``@file.json``, or what a person types in any form."""
    if word is None:
        return True
    return value_of(word, namespace) if word.startswith(("$", "@")) else read_answer(word, item.schema)


def _question(durable: Durable, name: str) -> InboxItem:
    if "/" in name:
        return durable.inbox.get(name)
    run = durable.runs.get(name)
    asked = [item for item in durable.inbox.list(limit=MOST) if item.run_id == run.id]
    if len(asked) != 1:
        which = (
            f"asks {len(asked)} questions: name one of {', '.join(item.id for item in asked[:5])}"
            if asked
            else "asks nothing now"
        )
        raise UsageError(f"Run {brief(run.id)} of {brief(run.task)} {which}.")
    return asked[0]


VERBS = (
    Verb(
        name="inbox",
        description="List what runs ask people, and which answer they wait for. Gives the questions as a list.",
        do=_inbox,
        options=_inbox_options,
    ),
    Verb(
        name="approve",
        description="Answer a question: yes where no value is given. The first answer counts.",
        do=_approve,
        options=_approve_options,
    ),
)
