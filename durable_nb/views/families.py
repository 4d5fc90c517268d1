"""The children of one run as a view shows them: one by one while they are few, folded by task where they are many.

Invariants: what was read stays read (see `log.live`), so a look costs what has changed; a group keeps its place and its number once
it is there; of a folded group only those children are shown by themselves that need a look, and the page that was unfolded.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from durable_nb.log import live
from durable_nb.log.live import NodeRow
from durable_nb.log.records import ENDED
from durable_nb.views.words import brief

FOLD = 8  # children of one task are shown one by one up to so many
PAGE = 12  # children of an unfolded group at a time
NOTABLE = 3  # children of a folded group that are shown by themselves
REREAD = 300  # unfinished children of whom it is asked at every look whether they wait
POINTS = 240  # at most, of a group's course over time
IDLE_SECONDS = 1.0  # a group's pauses that are longer are kept in its course
STATES = {"COMPLETED": "completed", "FAILED": "failed", "CANCELLED": "cancelled", "RUNNING": "running", "QUEUED": "queued"}
NEEDS_A_LOOK = {"failed": 0, "parked": 1, "waiting": 2}


def state_name(row: NodeRow, *, waits: bool) -> str:
    """Give a run's state by the name that pages know (`states.mjs`); as `words.state_of`."""
    if row.status in ENDED:
        return STATES[row.status]
    if row.cancelled_at is not None:
        return "cancelling"
    if row.blocked_reason is not None:
        return "parked"
    if row.ready_at is None and (waits or row.is_evicted):
        return "waiting"
    return STATES[row.status] if not row.is_evicted else "queued"


@dataclass
class Group:
    """The children of one task, in the order in which they were spawned."""

    name: str
    task: str
    numbers: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notable: dict[int, str] = field(default_factory=dict)
    page: int | None = None
    course: dict[str, Any] | None = None
    is_stale: bool = True

    @property
    def is_folded(self) -> bool:
        """Whether there are too many to be shown one by one."""
        return len(self.numbers) > FOLD


class Family:
    """The children of one run. Lives on the feed's thread."""

    def __init__(self, parent: int, *, keeps_all: bool = False) -> None:
        self.parent = parent
        self.keeps_all = keeps_all
        self.rows: dict[int, NodeRow] = {}
        self.states: dict[int, str] = {}
        self.groups: dict[str, Group] = {}
        self._by_name: dict[str, Group] = {}
        self._newest = 0
        self._open: set[int] = set()

    def __len__(self) -> int:
        return len(self.rows)

    def group(self, name: str) -> Group | None:
        """Give a group by its name."""
        return self._by_name.get(name)

    def look(self, connection: sqlite3.Connection, changed: set[int]) -> None:
        """Read what is new, and again what has changed."""
        known = changed & self.rows.keys()
        self._take(connection, live.runs_of(connection, known) if known else [])
        new = live.new_children(connection, self.parent, self._newest)
        if new:
            self._newest = new[-1].number
            for row in new:
                group = self.groups.get(row.task)
                if group is None:
                    name = f"{self.parent}/{len(self.groups)}"
                    group = self.groups[row.task] = self._by_name[name] = Group(name, brief(row.task, 80))
                group.numbers.append(row.number)
            self._take(connection, new)
        watched = self._open if len(self._open) <= REREAD else self._open & set(self.shown())
        if watched:
            self._take(connection, [self.rows[number] for number in watched])

    def _take(self, connection: sqlite3.Connection, rows: list[NodeRow]) -> None:
        durable = [row.number for row in rows if row.kind == "durable_task" and row.status not in ENDED]
        waiting = live.waiting_runs(connection, durable) if durable else set()
        for row in rows:
            group, state = self.groups[row.task], state_name(row, waits=row.number in waiting)
            before = self.states.get(row.number)
            if before != state or self.rows[row.number] is not row:
                group.is_stale = True
            if before != state:
                group.counts[state] += 1
                if before is not None:
                    group.counts[before] -= 1
                if state in NEEDS_A_LOOK or (row.retry_count and row.status not in ENDED):
                    group.notable[row.number] = state
                else:
                    group.notable.pop(row.number, None)
            self.rows[row.number], self.states[row.number] = row, state
            if row.status in ENDED:
                self._open.discard(row.number)
            else:
                self._open.add(row.number)

    # ------------------------------------------------------------ what is shown

    def _shown_of(self, group: Group) -> Iterator[int]:
        if self.keeps_all or not group.is_folded:
            yield from group.numbers
        elif group.page is not None:
            yield from group.numbers[group.page * PAGE : (group.page + 1) * PAGE]
        else:
            rank = sorted(group.notable, key=lambda number: (NEEDS_A_LOOK.get(group.notable[number], 1), number))
            yield from sorted(rank[:NOTABLE])

    def shown(self) -> list[int]:
        """Give the children that are shown by themselves."""
        return [number for group in self.groups.values() for number in self._shown_of(group)]

    def items(self, counts: dict[int, int]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the items of nodes and groups; `counts` are the numbers of grandchildren, by child."""
        for group in self.groups.values():
            is_folded = group.is_folded and not self.keeps_all
            for number in self._shown_of(group):
                node = node_item(self.rows[number], self.states[number])
                yield f"n/{number}", {**node, "kids": counts.get(number, 0), "group": group.name if is_folded else None}
            if is_folded:
                yield (
                    f"g/{group.name}",
                    {
                        "parent": self.parent,
                        "task": group.task,
                        "at": self.rows[group.numbers[0]].created_at,
                        "first": group.numbers[0],
                        "total": len(group.numbers),
                        "counts": {state: count for state, count in group.counts.items() if count},
                        "page": group.page,
                        "pages": -(-len(group.numbers) // PAGE),
                        "size": PAGE,
                    },
                )

    def courses(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give each folded group's course over time."""
        for group in self.groups.values():
            if group.is_folded and not self.keeps_all:
                if group.is_stale or group.course is None:
                    group.course, group.is_stale = course(self.rows[number] for number in group.numbers), False
                yield f"d/{group.name}", group.course


def node_item(row: NodeRow, state: str) -> dict[str, Any]:
    """Give a run as the page's node."""
    note = ""
    if row.status == "FAILED":
        note = f"{row.error_type}: {row.error_message}"
    elif row.blocked_reason is not None and row.status not in ENDED:
        note = row.blocked_reason
    elif row.progress_message and row.status not in ENDED:
        note = row.progress_message
    key = row.child_key if row.child_key is not None else "" if row.child_index is None else str(row.child_index + 1)
    return {
        "number": row.number,
        "id": row.id,
        "task": brief(row.task, 80),
        "kind": row.kind,
        "state": state,
        "parent": row.parent,
        "key": brief(key, 60),
        "at": row.created_at,
        "from": row.started_at,
        "to": row.finished_at,
        "retry": row.retry_count,
        "ready": row.ready_at if row.retry_count and row.status == "QUEUED" else None,
        "progress": None if row.status in ENDED else row.progress,
        "note": brief(note, 200),
    }


def course(rows: Iterable[NodeRow]) -> dict[str, Any]:
    """Give how many of a group's runs were at work, at the times when that changed; at most about `POINTS` of them.

    Returns:
        `at`: times in order, `n`: the most that worked at once from each to the next; `open`: how many work still.
    """
    steps: list[tuple[float, int]] = []
    working = 0
    for row in rows:
        if row.started_at is not None:
            steps.append((row.started_at, 1))
            if row.finished_at is not None:
                steps.append((row.finished_at, -1))
            else:
                working += 1
    steps.sort()
    at: list[float] = []
    most: list[int] = []
    now, every = 0, max(1, len(steps) // POINTS)
    for index, (when, change) in enumerate(steps):
        now += change
        is_pause = now == 0 and index + 1 < len(steps) and steps[index + 1][0] - when > IDLE_SECONDS
        is_after = bool(most) and most[-1] == 0
        if not at or index % every == 0 or is_pause or is_after or index == len(steps) - 1:
            at.append(when)
            most.append(now)
        elif most:
            most[-1] = max(most[-1], now)
    return {"at": at, "n": most, "open": working}
