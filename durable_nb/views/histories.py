"""What one run has asked and how it came about, as a view shows it: its checkpoints, its waits, and when it was in memory.

Invariant: a checkpoint is read when it is asked and when it is answered, and not again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from durable_nb.log import live
from durable_nb.log.checkpoints import lineage
from durable_nb.log.live import Asked, OpenWait
from durable_nb.views.words import brief

WAITS = frozenset({"sleep", "event", "wait", "ask", "take"})
OF_CHILDREN = frozenset({"child", "spawn", "result", "plan"})  # shown as the children themselves
REREAD = 100  # open checkpoints that may have been given up since
CHUNK = 100  # checkpoints an item
MOST = 3000  # checkpoints that are shown one by one, the newest
PAST = 8  # satisfied waits that are shown one by one

Place = tuple[int, int]


class History:
    """A run's checkpoints and open waits. Lives on the feed's thread."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.checkpoints: dict[Place, Asked] = {}
        self.waits: list[OpenWait] = []
        self.plan: dict[str, Any] | None = None
        self.journey: list[list[Any]] = []
        self._asked: dict[int, int] = {}
        self._answered = 0
        self._open: set[Place] = set()
        self._lineage: list[tuple[int, int, frozenset[int]]] = []
        self._last_step = 0
        self._shown: list[Asked] = []

    def look(self, connection: sqlite3.Connection, *, branch: int, is_changed: bool) -> None:
        """Read what is new. A run that has not changed can only have asked something."""
        now = list(lineage(connection, self.number, branch))
        found = live.new_checkpoints(connection, self.number, self._asked, self._answered)
        if self._open and len(self._open) <= REREAD:
            found = [*live.checkpoints_at(connection, self.number, self._open), *found]
        for asked in found:
            place = asked.branch, asked.node
            self.checkpoints[place] = asked
            self._asked[asked.branch] = max(self._asked.get(asked.branch, 0), asked.node)
            self._answered = max(self._answered, asked.seq or 0)
            if asked.seq is None and not asked.is_abandoned:
                self._open.add(place)
            else:
                self._open.discard(place)
        if self.plan is None and not self._shown:
            self.plan = live.plan_of(connection, self.number, branch)
        if found or now != self._lineage:
            self._lineage = now
            self._shown = sorted(filter(self._is_current, self.checkpoints.values()), key=lambda asked: asked.node)
        self.waits = live.open_waits(connection, self.number) if self._open else []
        if is_changed or not self.journey:
            for seq, at, kind in connection.execute(live.JOURNEY, (self.number, self._last_step)):
                self.journey.append([at, kind])
                self._last_step = seq

    def _is_current(self, asked: Asked) -> bool:
        for branch, limit, dropped in self._lineage:
            if branch == asked.branch:
                return asked.node < limit and asked.node not in dropped
        return False

    def __len__(self) -> int:
        return len(self._shown)

    def current(self) -> list[Asked]:
        """Give the checkpoints of the branch that it is on, in order."""
        return self._shown

    def wait_items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the open waits, and the satisfied ones while they are few."""
        by_place: dict[Place, list[OpenWait]] = {}
        for wait in self.waits:
            by_place.setdefault((wait.branch, wait.node), []).append(wait)
        for (branch, node), waits in by_place.items():
            yield f"w/{self.number}/{branch}.{node}", open_wait_item(self.number, waits)
        past = [asked for asked in self._shown if asked.kind in WAITS and (asked.branch, asked.node) not in by_place]
        past = [asked for asked in past if asked.seq is not None or asked.is_abandoned]
        if len(past) <= PAST:
            for asked in past:
                yield f"w/{self.number}/{asked.branch}.{asked.node}", past_wait_item(self.number, asked)
        elif past:
            item = {"parent": self.number, "at": past[0].asked_at, "node": past[0].node, "state": "completed", "total": len(past)}
            yield f"w/{self.number}/past", item

    def chunks(self) -> Iterator[tuple[str, list[list[Any]]]]:
        """Give the checkpoints as the timeline has them, `CHUNK` an item: node, kind, ask, line, asked, recorded, state."""
        own = [asked for asked in self._shown if asked.kind not in OF_CHILDREN]
        first = max(0, -(-(len(own) - MOST) // CHUNK)) * CHUNK
        for start in range(first, len(own), CHUNK):
            yield f"t/{start // CHUNK}", [checkpoint_item(asked) for asked in own[start : start + CHUNK]]


def checkpoint_item(asked: Asked) -> list[Any]:
    """Give a checkpoint: node, kind, ask, line, asked, recorded, state."""
    return [asked.node, asked.kind, brief(asked.ask, 120), asked.line, asked.asked_at, asked.recorded_at, checkpoint_state(asked)]


def checkpoint_state(asked: Asked) -> str:
    """Give a checkpoint's state by the name that pages know."""
    if asked.seq is None:
        return "cancelled" if asked.is_abandoned else "waiting" if asked.kind in WAITS else "running"
    return "failed" if asked.is_failed else "completed"


def open_wait_item(number: int, waits: list[OpenWait]) -> dict[str, Any]:
    """Give a wait with its open conditions."""
    first = waits[0]
    return {
        "parent": number,
        "node": first.node,
        "branch": first.branch,
        "at": first.asked_at,
        "state": "waiting",
        "question": brief(first.question, 300) if first.question is not None else None,
        "is_question": any(wait.is_question for wait in waits),
        "conditions": [
            {
                "group": wait.group,
                "kind": wait.kind,
                "name": brief(wait.name, 120),
                "key": None if wait.key is None else brief(wait.key, 120),
                "scope": None if wait.scope is None else brief(wait.scope, 60),
                "if": None if wait.expression is None else brief(wait.expression, 120),
                "due": wait.due_at,
                "problem": None if wait.filter_error is None else brief(wait.filter_error, 200),
            }
            for wait in waits
        ],
    }


def past_wait_item(number: int, asked: Asked) -> dict[str, Any]:
    """Give a wait that is over."""
    return {
        "parent": number,
        "node": asked.node,
        "branch": asked.branch,
        "at": asked.asked_at,
        "to": asked.recorded_at,
        "state": checkpoint_state(asked),
        "ask": brief(asked.ask, 160),
    }
