"""One question, as the form of a page takes it (`askForm` in web/ask.mjs): in the inbox, and beside a run's graph.

Invariant: what comes from data is put in visible characters, save the schema, whose values go back as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from durable_nb.log.questions import InboxItem
from durable_nb.tasks.payload import decode
from durable_nb.views.widget import Action
from durable_nb.views.words import brief, visible

if TYPE_CHECKING:
    from durable_nb.client import Durable

WORDS = 4000  # characters of a question
SCHEMA = 100_000  # characters of a schema; larger ones get no form but JSON


def question_item(item: InboxItem) -> dict[str, Any]:
    """Give an open question as the page's `askForm` takes it."""
    small = len(json.dumps(item.schema)) <= SCHEMA
    return {
        "id": item.id,
        "kind": item.kind,
        "question": visible(item.question[:WORDS] + ("…" if len(item.question) > WORDS else ""), lines=True),
        "task": brief(item.task, 80),
        "run": item.run_id,
        "number": item.run_number,
        "schema": item.schema if small else None,
        "assignees": [brief(name, 80) for name in item.assignees[:20]],
        "asked_at": item.asked_at,
        "due_at": item.due_at,
        "key": None if item.event_key is None else brief(item.event_key, 120),
        "scope": None if item.event_scope is None else brief(item.event_scope, 120),
    }


def answer_actions(durable: Durable) -> Mapping[str, Action]:
    """Give what a view needs to do for the page's `askForm`."""

    def answer(question: str, text: str, by: str | None, reason: str | None) -> None:
        durable.inbox.answer(question, decode(text), by=by, reason=reason)

    return {"answer": answer}
