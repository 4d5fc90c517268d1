"""What a harness does to its engines: counts their commits, kills them at one, answers waits, evicts at every rest.

A killed engine is one whose commit failed: it writes nothing any more and acknowledges nothing, so that its log is what a
process killed at that instant leaves behind. Only its Python code is still there: `finally` blocks run as at an eviction, and a
thread that works goes on to its end, heard by nobody.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sqlite3
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from durable_nb.engine.probe import Probe
from durable_nb.engine.running import new_event
from durable_nb.errors import NonDeterminismError
from durable_nb.tasks.events import PushedEvent

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.leaving import Left

logger = logging.getLogger("durable_nb")
AWAITED = "SELECT 1 FROM wait WHERE key = ? AND matched_at IS NULL AND (scope IS NULL OR scope = ?) LIMIT 1"


class SimulatedCrash(Exception):  # noqa: N818  nothing has gone wrong
    """Stands for the SIGKILL."""


@dataclass(frozen=True)
class Answer:
    """An event that is pushed as soon as it is waited for."""

    key: str
    payload: object
    scope: str | None


class Disturbance(Probe):
    """The probe of one app object. `commit` is called on the writer's thread, the rest on the engine's loop.

    Args:
        always_replay: evict a durable run at every wait, and replay it once more at its end.
        engine: gives the engine that runs now.
    """

    def __init__(self, engine: Callable[[], Engine | None], *, always_replay: bool) -> None:
        self._engine = engine
        self._always_replay = always_replay
        self._replayed: set[tuple[int, int, int]] = set()  # run, branch and attempt
        self._left: int | None = None  # commits until the crash
        self._is_before = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self.commits = 0
        self.is_dead = False
        self.answers: list[Answer] = []
        self.pushing = 0

    def arm(self, number: int, *, before: bool) -> None:
        """Die at the `number`-th commit from now: before it, or after."""
        self._left, self._is_before = number, before

    def revive(self) -> None:
        """Belong to the next engine."""
        self.is_dead, self._left = False, None

    # ------------------------------------------------------------ what the engine tells

    def commit(self, connection: sqlite3.Connection, transact: Callable[[], None]) -> None:
        """Carry out a transaction, unless the engine is dead or dies just now."""
        self._left = None if self._left is None else self._left - 1
        self.is_dead = self.is_dead or (self._left == 0 and self._is_before)
        if self.is_dead:
            raise SimulatedCrash("a crash that a test asked for, before the commit")
        transact()
        self.commits += 1
        if self._left == 0:
            self.is_dead = True
            raise SimulatedCrash("a crash that a test asked for, after the commit")
        self._answer(connection)

    def rests(self, execution: Execution) -> None:
        """Evict the run, if it is to be replayed at every wait."""
        engine = execution.engine
        if self._always_replay and execution.is_waiting():
            self._begin(engine, engine.dispatcher.evict(execution))

    def judge(self, execution: Execution, left: Left) -> Left:
        """Have a run that came to its end replayed once; park it if the replay asks for more."""
        if not self._always_replay or left.outcome is None:
            return left
        attempt = execution.claim.number, execution.claim.branch, execution.claim.retry_count
        if attempt not in self._replayed:
            self._replayed.add(attempt)
            return replace(left, outcome=None, is_replayed=True)
        fresh = execution.cursor.first_fresh
        if fresh is not None:
            return replace(left, outcome=None, parked=NonDeterminismError(fresh[0], "nothing (the function returned)", fresh[1]))
        return left

    def _begin(self, engine: Engine, work: Coroutine[Any, Any, Any]) -> None:
        """Start something on the loop; that the engine was killed meanwhile is no error of it."""
        task = engine.loop.create_task(work, context=contextvars.Context())  # not that of the run that came to rest
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self.is_dead:
            logger.error("%s", task.exception())

    # ------------------------------------------------------------ answering

    def _answer(self, connection: sqlite3.Connection) -> None:
        engine = self._engine()
        for answer in list(self.answers):
            if engine is not None and connection.execute(AWAITED, (answer.key, answer.scope)).fetchone():
                self.answers.remove(answer)
                self.pushing += 1
                engine.post(lambda engine=engine, answer=answer: self._begin(engine, self._push(engine, answer)))  # type: ignore[misc]

    async def _push(self, engine: Engine, answer: Answer) -> None:
        try:
            await engine.push([new_event(PushedEvent(key=answer.key, payload=answer.payload, scope=answer.scope))])
        finally:
            self.pushing -= 1
