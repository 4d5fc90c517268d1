"""Transactions on questions that tasks ask people.

Invariants: a question is written once, and its answer is the outcome of its checkpoint, so the first valid answer wins and every
later one can be told who was faster; an answer is judged by the clock, so that none is taken after the question's time.

A question's id is `run/branch/node`. An event wait that knows the type of its payload is one too, until it is satisfied.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from durable_nb.errors import AlreadyAnsweredError, QuestionClosedError, UnknownQuestionError
from durable_nb.log.payloads import loaded, stored
from durable_nb.log.records import Completion
from durable_nb.log.waits import satisfy

COLUMNS = """
run.id, run.task, wait.kind, wait.name, wait.key, wait.scope, wait.expression, wait.schema, question.text, question.assignees,
checkpoint.asked_at, question.due_at, checkpoint.outcome"""

OPEN = f"""
SELECT wait.run, wait.branch, wait.node, 'open', {COLUMNS}
FROM wait INDEXED BY wait_inbox JOIN run ON run.number = wait.run JOIN checkpoint USING (run, branch, node)
     LEFT JOIN question USING (run, branch, node)
WHERE wait.schema IS NOT NULL AND wait.matched_at IS NULL AND (question.due_at IS NULL OR question.due_at > :now)
  AND (:assignee IS NULL OR EXISTS (SELECT 1 FROM json_each(question.assignees) WHERE value = :assignee))
ORDER BY wait.run, wait.branch, wait.node LIMIT :limit OFFSET :offset"""  # noqa: S608  a constant

STATUS = """
CASE WHEN checkpoint.seq IS NOT NULL THEN CASE WHEN checkpoint.error IS NULL THEN 'answered' ELSE 'timed out' END
     WHEN wait.run IS NULL THEN 'withdrawn'
     WHEN question.due_at <= :now THEN 'timed out'
     ELSE 'open' END"""

ASKED = f"""
SELECT question.run, question.branch, question.node, {STATUS}, run.id, run.task, 'ask', question.text, NULL, NULL, NULL,
       question.schema, question.text, question.assignees, checkpoint.asked_at, question.due_at, checkpoint.outcome
FROM question JOIN run ON run.number = question.run JOIN checkpoint USING (run, branch, node)
     LEFT JOIN wait ON wait.run = question.run AND wait.branch = question.branch AND wait.node = question.node
                       AND wait.item = 0"""  # noqa: S608

LIST = f"""{ASKED}
WHERE (:status IS NULL OR :status = {STATUS})
  AND (:assignee IS NULL OR EXISTS (SELECT 1 FROM json_each(question.assignees) WHERE value = :assignee))
ORDER BY question.asked_at DESC, question.run DESC, question.branch DESC, question.node DESC LIMIT :limit OFFSET :offset"""  # noqa: S608

FIND = f"{ASKED} WHERE question.run = :run AND question.branch = :branch AND question.node = :node"

FIND_WAIT = f"""
SELECT wait.run, wait.branch, wait.node, 'open', {COLUMNS}
FROM wait JOIN run ON run.number = wait.run JOIN checkpoint USING (run, branch, node) LEFT JOIN question USING (run, branch, node)
WHERE wait.run = :run AND wait.branch = :branch AND wait.node = :node AND wait.item = 0 AND wait.schema IS NOT NULL"""  # noqa: S608

SPOTS = "SELECT run, branch, node FROM wait INDEXED BY wait_inbox WHERE schema IS NOT NULL AND matched_at IS NULL"
COUNT = f"SELECT count(*) FROM ({SPOTS} LIMIT ?)"  # noqa: S608

Spot = tuple[int, int, int]  # run, branch, node
STATUSES = ("open", "answered", "timed out", "withdrawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxItem:
    """A question to a person, as `durable.inbox` gives it.

    Attributes:
        id: what `durable.inbox.answer` takes.
        kind: ``"ask"`` (of `ctx.aio_ask`), or ``"event"``: a wait for an event whose payload has a type.
        question: what is asked; of an event wait what it waits for.
        schema: the JSON Schema that an answer must fit.
        assignees: who is meant to answer; empty for anybody.
        asked_at: UTC seconds since 1970. due_at: no answer is taken from then on; None for never.
        status: ``"open"``, ``"answered"``, ``"timed out"``, or ``"withdrawn"`` (the run has ended, or stopped waiting for it).
        answer: the JSON value that was answered, by `answered_by` at `answered_at` (UTC seconds), because of `reason`; who and
            why are None where that was not said.
    """

    id: str
    run_id: str
    run_number: int
    task: str
    kind: str
    question: str
    schema: dict[str, Any]
    assignees: tuple[str, ...]
    asked_at: float
    due_at: float | None
    status: str
    answer: Any = None
    answered_by: str | None = None
    answered_at: float | None = None
    reason: str | None = None
    event_key: str | None = None
    event_scope: str | None = None
    event_filter: str | None = None


def id_of(run_id: str, branch: int, node: int) -> str:
    """Give a question's id.

    >>> id_of("01ABC", 1, 7)
    '01ABC/1/7'
    """
    return f"{run_id}/{branch}/{node}"


def add(
    connection: sqlite3.Connection, spot: Spot, *, text: str, schema: str, assignees: str, at: float, due_at: float | None
) -> None:
    """Write what is asked; its wait is registered beside it."""
    connection.execute(
        "INSERT INTO question VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*spot, stored(connection, text), schema, assignees, at, due_at)
    )


def list_items(
    connection: sqlite3.Connection, *, status: str | None, assignee: str | None, limit: int, offset: int, now: float
) -> list[InboxItem]:
    """Give open questions, the oldest run's first; or those of another status (None: of every one), the newest first."""
    values = {"status": status, "assignee": assignee, "limit": limit, "offset": offset, "now": now}
    return [_item(connection, row) for row in connection.execute(OPEN if status == "open" else LIST, values)]


def count_open(connection: sqlite3.Connection, *, most: int) -> int:
    """Count the open questions, those whose time is over among them until that is recorded; no further than `most` + 1."""
    [number] = connection.execute(COUNT, (most + 1,)).fetchone()
    return int(number)


def open_spots(connection: sqlite3.Connection) -> set[Spot]:
    """Give where the open questions are asked; those whose time is over are among them until that is recorded."""
    return set(connection.execute(SPOTS))


def at(connection: sqlite3.Connection, spot: Spot, *, now: float) -> InboxItem | None:
    """Give the question of a place, or None where there is none any more."""
    values = {**dict(zip(("run", "branch", "node"), spot, strict=True)), "now": now}
    for sql in (FIND, FIND_WAIT):
        if (row := connection.execute(sql, values).fetchone()) is not None:
            return _item(connection, row)
    return None


def find(connection: sqlite3.Connection, name: str, *, now: float) -> tuple[Spot, InboxItem]:
    """Give a question by its id.

    Raises:
        UnknownQuestionError: there is none; an event wait is one only while it is open.
    """
    spot = _spot(connection, name)
    if spot is not None and (item := at(connection, spot, now=now)) is not None:
        return spot, item
    raise UnknownQuestionError(f"No question '{name[:100]}' is in this log, or the event that it waited for has come.")


def answer(
    connection: sqlite3.Connection, spot: Spot, value: str, *, by: str | None, at: float, reason: str | None = None
) -> Completion | None:
    """Record the first answer to a question; give the run's completion.

    Args:
        value: JSON text that fits the question's schema.

    Raises:
        AlreadyAnsweredError, QuestionClosedError: the question takes none; nothing was written.
    """
    values = {**dict(zip(("run", "branch", "node"), spot, strict=True)), "now": at}
    item = _item(connection, connection.execute(FIND, values).fetchone())
    if item.status != "open":
        raise closed(item)
    who, why = (json.dumps(said, ensure_ascii=False) for said in (by, reason))
    text = f'{{"answer":{value},"by":{who},"at":{at!r}' + ("}" if reason is None else f',"reason":{why}}}')
    return satisfy(connection, (*spot, 0), stored(connection, text), at=at)


def closed(item: InboxItem) -> QuestionClosedError:
    """Give the error for an answer that comes too late."""
    if item.status == "answered":
        at = item.answered_at or 0.0
        said = datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds")
        who = f"by {item.answered_by}" if item.answered_by is not None else "(nobody said by whom)"
        message = f"Question {item.id} was answered already {who} at {said}: the first answer counts, yours was not taken."
        return AlreadyAnsweredError(message, item.answered_by, at)
    why = "its time is over" if item.status == "timed out" else "its run has ended or stopped waiting for it"
    return QuestionClosedError(f"Question {item.id} takes no answer any more: {why}.")


def _spot(connection: sqlite3.Connection, name: str) -> Spot | None:
    run_id, _, place = name.partition("/")
    branch, _, node = place.partition("/")
    if not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in (branch, node)):
        return None
    row = connection.execute("SELECT number FROM run WHERE id = ?", (run_id,)).fetchone()
    return (row[0], int(branch), int(node)) if row else None


def _item(connection: sqlite3.Connection, row: tuple[Any, ...]) -> InboxItem:
    (
        number,
        branch,
        node,
        status,
        run_id,
        task,
        kind,
        name,
        key,
        scope,
        expression,
        schema,
        text,
        assignees,
        asked_at,
        due_at,
        outcome,
    ) = row
    said = json.loads(loaded(connection, outcome) or "null") if status == "answered" else {}
    return InboxItem(
        id=id_of(run_id, branch, node),
        run_id=run_id,
        run_number=number,
        task=task,
        kind=kind,
        question=loaded(connection, text) or name,
        schema=json.loads(schema),
        assignees=tuple(json.loads(assignees)) if assignees else (),
        asked_at=asked_at,
        due_at=due_at,
        status=status,
        answer=said.get("answer"),
        answered_by=said.get("by"),
        answered_at=said.get("at"),
        reason=said.get("reason"),
        event_key=key,
        event_scope=scope,
        event_filter=expression,
    )
