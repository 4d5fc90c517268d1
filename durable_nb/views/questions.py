"""Questions to people as rich text. Pure: from records of the log to renderables.

Invariant: as in `text`, data goes into `rich.text.Text`, never into markup, after `words.visible`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from durable_nb.log.questions import InboxItem
from durable_nb.views.words import brief, duration


def inbox_table(items: Sequence[InboxItem], now: float) -> Table:
    """Give questions to people as a table, in the order given."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "task", "question", "for", "asked", "left", "answer"):
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for item in items:
        left = "" if item.due_at is None or item.status != "open" else duration(max(0.0, item.due_at - now))
        answered = "" if item.answered_at is None else brief(f"{item.answer!r} by {item.answered_by or 'nobody named'}", 80)
        answer = Text(brief(_form(item.schema), 80), style="dim") if item.status == "open" else Text(answered or item.status)
        table.add_row(
            Text(brief(item.id, 60)),
            Text(brief(item.task, 40), style="bold"),
            Text(brief(item.question, 120)),
            Text(brief(", ".join(item.assignees), 40)),
            Text(f"{duration(max(0.0, now - item.asked_at))} ago", style="dim"),
            Text(left),
            answer,
        )
    return table


def _form(schema: Mapping[str, Any]) -> str:
    """Give what an answer must be, in a few words."""
    if "enum" in schema:
        return " or ".join(json.dumps(item, ensure_ascii=False) for item in schema["enum"])
    names = schema.get("properties")
    return (
        f"{{{', '.join(names)}}}" if isinstance(names, Mapping) else str(schema.get("type") or schema.get("title") or "any JSON")
    )
