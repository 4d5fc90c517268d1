"""The current state, told again from the facts: what `run` and `wait` must say, read from nothing but what is only appended.

Invariant: what can be rebuilt is never lost. Facts are the columns of `run` that are written once, its output and error (written
at its end), `checkpoint`, `cancel`, `branch`, `event` and `journal`; from them `rebuild` tells the state columns of every run and
the open waits, and `differences` compares them with the rows that are kept because reading them is fast. Each kind of journal
entry has one row in `TRANSITIONS`; an entry of a kind that has none is an error, so that no transition is added without its
meaning.

Not rebuilt, since they are measured and not decided: `queued` and `queue_seen_at` (how long a run has stood in the queue) and a
wait's `filter_error` (shown to people); nor a wait's `filter_fields` and `filter_value`, which its expression gives, and without
which it is found as well. Nor what only says how far some work has come, which is done once more where it is lost:
`gate` and `turn` (with `place` and `lineup`: who goes in first; putting every unclaimed run back in its lineup, as the trigger
`run_back` does, gives each its turn again), a wait's `since` (events of its past that are still to be looked at), and
`signature` (made again whenever somebody trusts the run), nor `worked` while the run has an owner, who is still measuring it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from durable_nb.errors import LogError
from durable_nb.log.branches import CLOSED
from durable_nb.log.records import ENDED

FACTS = """
SELECT number, kind, created_at, deadline, output IS NOT NULL OR error IS NOT NULL,
       coalesce((SELECT data ->> 'from' FROM journal WHERE run = number AND kind = 'moved' ORDER BY seq LIMIT 1), version)
FROM run ORDER BY number"""
STATE = """
SELECT status, is_evicted, blocked_reason, ready_at, owner, epoch, branch, last_seq, retry_count, invocation_count, worked,
       cancelled_at, due_at, started_at, finished_at, version, progress, progress_message
FROM run WHERE number = ?"""
ENTRIES = "SELECT at, kind, data FROM journal WHERE run = ? ORDER BY seq"
RECORDED = """
SELECT seq, recorded_at FROM checkpoint WHERE run = :run AND seq IS NOT NULL
UNION ALL
SELECT seq, at FROM cancel WHERE run = :run
ORDER BY seq"""
OPEN = (
    "SELECT branch, node, conditions FROM checkpoint WHERE run = ? AND seq IS NULL AND abandoned = 0 AND conditions IS NOT NULL"
)
BRANCHES = "SELECT branch, parent, cut, dropped FROM branch WHERE run = ?"
MATCHED = """
SELECT journal.data ->> 'branch', journal.data ->> 'node', journal.data ->> 'item', event.seq, journal.at, event.payload
FROM journal LEFT JOIN event ON event.seq = journal.data ->> 'event'
WHERE journal.run = ? AND journal.kind = 'matched'"""
WAITS = """
SELECT branch, node, item, group_number, kind, name, due_at, key, scope, expression, schema, floor, event, matched_at, data
FROM wait WHERE run = ? ORDER BY branch, node, item"""

Data = dict[str, Any]
WaitRow = tuple[Any, ...]


@dataclass(slots=True)
class State:
    """The state columns of a run, in the order of `STATE`; at first those of one that was just queued."""

    status: str = "QUEUED"
    is_evicted: int = 0
    blocked_reason: str | None = None
    ready_at: float | None = None
    owner: str | None = None
    epoch: int = 0
    branch: int = 1
    last_seq: int = 0
    retry_count: int = 0
    invocation_count: int = 0
    worked: float = 0.0
    cancelled_at: float | None = None
    due_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    version: str | None = None
    progress: float | None = None
    progress_message: str | None = None

    def values(self) -> tuple[Any, ...]:
        """Give the columns in order."""
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(slots=True)
class Story:
    """A run while its journal is read: its state so far, and what was delivered when it last went to wait."""

    kind: str
    state: State
    deadline: float | None = None
    delivered: int | None = None

    def leave(self, *, worked: float | None = None) -> None:
        """Have no owner any more."""
        self.state.owner, self.state.epoch = None, self.state.epoch + 1
        if worked is not None:
            self.state.worked = worked

    def begin_again(self, branch: int, at: float, *, status: str) -> None:
        """Be ready, whatever was before, as if nobody had cancelled or ended it."""
        self.leave(worked=0.0)
        state = self.state
        state.status, state.is_evicted, state.blocked_reason, state.ready_at = status, int(status == "RUNNING"), None, at
        state.branch, state.cancelled_at, state.finished_at = branch, None, None
        state.due_at = self.deadline if self.deadline is not None and self.deadline > at else None


def _entered(story: Story, at: float, data: Data) -> None:
    state = story.state
    state.status, state.owner, state.epoch = "RUNNING", data["worker"], state.epoch + 1
    state.is_evicted, state.ready_at, state.invocation_count = 0, None, state.invocation_count + 1
    state.started_at = at if state.started_at is None else state.started_at
    state.branch = data.get("branch", state.branch)
    story.delivered = None


def _finished(story: Story, at: float, data: Data) -> None:
    story.leave(worked=data["worked"])
    state = story.state
    state.status, state.finished_at, state.ready_at, state.is_evicted = data["status"], at, None, 0
    state.blocked_reason, state.due_at = None, None


def _cancelled(story: Story, at: float, data: Data) -> None:
    story.state.cancelled_at, story.state.due_at = at, data["due_at"]


def _retried(story: Story, at: float, data: Data) -> None:
    story.leave(worked=0.0)
    state = story.state
    state.status, state.ready_at, state.branch, state.retry_count = (
        "QUEUED",
        data["ready_at"],
        data["branch"],
        state.retry_count + 1,
    )


def _evicted(story: Story, at: float, data: Data) -> None:
    story.leave(worked=data["worked"])
    story.state.is_evicted, story.delivered = _evictable(story), data["seq"]


def _blocked(story: Story, at: float, data: Data) -> None:
    story.leave(worked=data["worked"])
    story.state.blocked_reason, story.state.is_evicted = data["reason"], _evictable(story)


def _unblocked(story: Story, at: float, data: Data) -> None:
    state = story.state
    state.blocked_reason, state.ready_at, state.branch, state.epoch = None, at, data["branch"], state.epoch + 1


def _released(story: Story, at: float, data: Data) -> None:
    story.leave(worked=data["worked"])
    story.state.ready_at, story.state.is_evicted = at, _evictable(story)


def _restored(story: Story, at: float, data: Data) -> None:
    story.state.ready_at = data["ready_at"]


def _replayed(story: Story, at: float, data: Data) -> None:
    story.begin_again(data["branch"], at, status="QUEUED")
    story.state.retry_count += 1


def _reset(story: Story, at: float, data: Data) -> None:
    story.begin_again(data["branch"], at, status="RUNNING" if data["was"] == "RUNNING" else "QUEUED")


def _continued(story: Story, at: float, data: Data) -> None:
    story.leave(worked=0.0)
    state = story.state
    state.branch, state.ready_at, state.retry_count, state.is_evicted = data["branch"], data["ready_at"], 0, 1


def _forked(story: Story, at: float, data: Data) -> None:
    story.state.last_seq = data["last_seq"]


def _let_in(story: Story, at: float, data: Data) -> None:
    story.state.ready_at = data["ready_at"]


def _moved(story: Story, at: float, data: Data) -> None:
    story.state.version = data["version"]


def _progressed(story: Story, at: float, data: Data) -> None:
    story.state.progress, story.state.progress_message = data["progress"], data["progress_message"]


def _matched(story: Story, at: float, data: Data) -> None:
    """Change nothing of the run: it is a wait that has one of its conditions now."""


def _scheduled(story: Story, at: float, data: Data) -> None:
    """Change nothing of the run: it tells where it came from."""


def _evictable(story: Story) -> int:
    return int(story.kind == "durable_task")


# What each kind of journal entry makes of a run.
TRANSITIONS: dict[str, Callable[[Story, float, Data], None]] = {
    "entered": _entered,
    "cancelled": _cancelled,
    "finished": _finished,
    "retried": _retried,
    "evicted": _evicted,
    "blocked": _blocked,
    "unblocked": _unblocked,
    "released": _released,
    "restored": _restored,
    "replayed": _replayed,
    "reset": _reset,
    "continued": _continued,
    "forked": _forked,
    "let in": _let_in,
    "moved": _moved,
    "progressed": _progressed,
    "matched": _matched,
    "scheduled": _scheduled,
}


def rebuild(connection: sqlite3.Connection) -> Iterator[tuple[int, State, list[WaitRow]]]:
    """Give number, state and open waits of every run, from the facts alone.

    Raises:
        LogError: the journal holds an entry of an unknown kind.
    """
    for number, kind, created_at, deadline, is_written, version in connection.execute(FACTS).fetchall():
        story = Story(kind, State(ready_at=created_at, due_at=deadline, version=version), deadline)
        for at, entry, data in connection.execute(ENTRIES, (number,)):
            if entry not in TRANSITIONS:
                raise LogError(f"The journal of run number {number} holds '{entry}', which this durable_nb does not know.")
            TRANSITIONS[entry](story, at, json.loads(data))
        _deliver(story, connection.execute(RECORDED, {"run": number}).fetchall())
        if is_written and story.state.status not in ENDED:
            raise LogError(f"Run number {number} has an outcome, but its journal does not say that it ended.")
        yield number, story.state, _open_waits(connection, number, story.state)


def _deliver(story: Story, recorded: list[tuple[int, float]]) -> None:
    """Make an evicted run ready from the first outcome on that it was not given yet."""
    state = story.state
    state.last_seq = max([state.last_seq, *(seq for seq, _ in recorded)])
    new = [at for seq, at in recorded if story.delivered is not None and seq > story.delivered]
    waits_on = state.owner is None and state.status == "RUNNING" and state.blocked_reason is None
    if waits_on and state.ready_at is None and new:
        state.ready_at = new[0]


def _open_waits(connection: sqlite3.Connection, number: int, state: State) -> list[WaitRow]:
    """Give the conditions of what the run has asked on its branch's lineage and that nothing has satisfied yet.

    Those of a run that has failed or was cancelled are kept closed, for a replay of it.
    """
    if state.status == "COMPLETED":
        return []
    unmatched = (None, CLOSED if state.status in ENDED else None, None)
    lines = {row[0]: (row[1], row[2], set(json.loads(row[3]))) for row in connection.execute(BRANCHES, (number,))}
    matched = {row[:3]: row[3:] for row in connection.execute(MATCHED, (number,))}
    rows = []
    for branch, node, conditions in connection.execute(OPEN, (number,)):
        if _is_inherited(branch, node, state.branch, lines):
            for condition in json.loads(conditions):
                rows.append((branch, node, *condition, *matched.get((branch, node, condition[0]), unmatched)))
    return sorted(rows, key=lambda row: row[:3])


def _is_inherited(branch: int, node: int, here: int, lines: dict[int, tuple[int, int, set[int]]]) -> bool:
    """Whether a node of `branch` is one of branch `here` too."""
    while here != branch:
        if here not in lines:
            return False
        here, cut, dropped = lines[here]
        if node >= cut or node in dropped:
            return False
    return True


def differences(connection: sqlite3.Connection) -> list[str]:
    """Compare what is kept with what follows from the facts; give a sentence for each difference.

    Reads one snapshot of the log, whoever writes to it meanwhile.
    """
    names = [field.name for field in fields(State)]
    found: list[str] = []
    connection.execute("BEGIN")
    try:
        for number, state, waits in rebuild(connection):
            kept = connection.execute(STATE, (number,)).fetchone()
            found += [
                f"run {number}: {name} is {here!r}, but the facts say {told!r}"
                for name, here, told in zip(names, kept, state.values(), strict=True)
                if here != told and not (name == "worked" and state.owner is not None)
            ]
            rows = connection.execute(WAITS, (number,)).fetchall()
            found += [f"run {number}: the wait {row} follows from no fact" for row in rows if row not in waits]
            found += [f"run {number}: the wait {row} is missing" for row in waits if row not in rows]
    finally:
        connection.execute("ROLLBACK")
    return found
