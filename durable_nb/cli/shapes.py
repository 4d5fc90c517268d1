"""JSON for programs (``--json``): the shapes are part of the interface, and only ever grow.

Times are seconds since 1970, UTC; what a task was given and gave stands as JSON values. One value is one line; of a list each
object is one.

- run: id, number, task, kind, status (QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED), is_evicted, blocked_reason, key, parent
  (number), version, home, input, output, error (null, or type, message and trace), metadata, retry_count, created_at,
  started_at, finished_at, deadline, progress, progress_message.
- show: an object with run, checkpoints (branch, node, kind, ask, line, child_id, asked_at, seq, recorded_at, is_failed,
  is_abandoned), children (id, number, task, status, child_key, branch, node), waits (node, kind, name, due_at, key, scope,
  expression, filter_error) and attempts (number, started_at, ended_at, entered, ended, error).
- log: at, attempt, level, line, text.
- inbox: id, run_id, task, kind, question, schema, assignees, asked_at, due_at, status, answer, answered_by, answered_at, reason,
  event_key, event_scope, event_filter.
- emit: event_id, key, matched_runs, started_runs, near_misses.
- doctor: facts (sizes and counts by name) and findings (kind, text, run_id), the worst first.
- gc: trees, runs, events, bodies (null for --dry-run), is_dry_run.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable_nb.log.details import RunDetails
    from durable_nb.log.records import RunView

PLAIN = (
    *("id", "number", "task", "kind", "status", "is_evicted", "blocked_reason", "key", "parent", "version", "home"),
    *("retry_count", "created_at", "started_at", "finished_at", "deadline", "progress", "progress_message"),
)


def dumps(value: Any) -> str:
    """Give JSON in one line, with everything escaped that is not ASCII, so that it survives every terminal and pipe."""
    return json.dumps(value)


def run_json(view: RunView) -> dict[str, Any]:
    """Give a run."""
    values = {name: getattr(view, name) for name in PLAIN}
    for name in ("input", "output", "metadata"):
        text = getattr(view, name)
        values[name] = None if text is None else json.loads(text)
    failure = view.error
    values["error"] = None if failure is None else {"type": failure.type, "message": failure.message, "trace": failure.trace}
    return values


def details_json(details: RunDetails) -> dict[str, Any]:
    """Give a run with all that belongs to it."""
    parts = ("checkpoints", "children", "waits", "attempts")
    return {"run": run_json(details.run), **{part: [asdict(item) for item in getattr(details, part)] for part in parts}}
