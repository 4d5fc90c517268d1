"""Everything about one run that its node's panel shows, as texts that are safe to show and bounded."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from durable_nb.log import lines, live, reads
from durable_nb.views.families import state_name
from durable_nb.views.histories import History, checkpoint_item
from durable_nb.views.words import visible

LONGEST = 20_000  # characters of one text
LINES = 100
CHECKPOINTS = 200
PRETTY = 200_000  # characters of JSON, up to which it is indented


def panel_of(connection: sqlite3.Connection, number: int) -> dict[str, Any]:
    """Give a run's input, output, error with its source line, log lines and checkpoints."""
    run = reads.run_view(connection, connection.execute(reads.FIND_NUMBER, (number,)).fetchone())
    history = History(number)
    history.look(connection, branch=run.branch, is_changed=True)
    (row,) = live.runs_of(connection, [number])
    checkpoints = [asked for asked in history.current() if asked.kind != "plan"]
    return {
        "number": number,
        "id": run.id,
        "task": shown(run.task),
        "state": state_name(row, waits=bool(history.waits)),
        "version": shown(run.version or ""),
        "attempt": run.retry_count + 1,
        "entered": run.invocation_count,
        "times": [run.created_at, run.started_at, run.finished_at],
        "input": shown(pretty(run.input)),
        "output": None if run.output is None else shown(pretty(run.output)),
        "metadata": "" if run.metadata == "{}" else shown(pretty(run.metadata)),
        "blocked": shown(run.blocked_reason or ""),
        "error": None if run.error is None else [shown(run.error.type), shown(run.error.message), shown(run.error.trace or "")],
        "lines": [
            [line.at, line.attempt, shown(line.level), line.line, shown(line.text[:2000])]
            for line in lines.list_lines(connection, number, limit=LINES)
        ],
        "line_count": lines.count_lines(connection, number),
        "checkpoints": [checkpoint_item(asked) for asked in checkpoints[-CHECKPOINTS:]],
        "checkpoint_count": len(checkpoints),
    }


def shown(text: str) -> str:
    """Give a text with its breaks, all that is not seen written out, cut where it is long.

    >>> shown("a" * 30_000)[-33:]
    'a… (10,000 characters more are not shown)'
    """
    more = len(text) - LONGEST
    cut = visible(text[:LONGEST], lines=True)
    return cut if more <= 0 else f"{cut}… ({more:,} characters more are not shown)"


def pretty(text: str) -> str:
    """Give JSON indented, unless it is large."""
    if len(text) > PRETTY:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
