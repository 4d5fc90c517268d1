"""Dispatching: which ready run gets which free slot, and what becomes of it when its function is left.

Three lanes have slots of their own: durable tasks, regular tasks on the loop, and regular tasks in threads (few, since they
share the GIL with the engine). A waiting durable run holds its slot until it is evicted: for its age, or at once when
another durable run is ready and none is free.

Lives on the engine's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable_nb.engine.context import Context
from durable_nb.engine.durable_context import DurableContext
from durable_nb.engine.execution import Execution, Left
from durable_nb.engine.inline import is_cancelled
from durable_nb.engine.regular import RegularRun
from durable_nb.errors import (
    DurableError,
    IllegalTaskOutputError,
    InputValidationError,
    LogFailedError,
    NonRetryableException,
    PayloadTooLargeError,
    ScheduleTimeoutError,
    StaleEpochError,
    TaskRunError,
    family,
)
from durable_nb.log import checkpoints, runs
from durable_nb.log.records import Claim, Failure, Outcome
from durable_nb.tasks.options import format_duration
from durable_nb.tasks.payload import decode

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.engine.engine import Engine
    from durable_nb.tasks.task import Lane, Task

NOT_RETRIED = (NonRetryableException, IllegalTaskOutputError, InputValidationError, PayloadTooLargeError)


@dataclass(frozen=True)
class Slots:
    """How many runs may be in memory at once, by lane."""

    durable: int = 1000
    loop: int = 100
    thread: int = min(32, (os.cpu_count() or 1) + 4)


class Reservation:
    """Slots that are held while new runs are written, so that the first of them need no claim of their own.

    `take` runs inside the writing transaction, the rest on the loop; `settle` comes after it.
    """

    def __init__(self, dispatcher: Dispatcher, task: Task[Any], wanted: int) -> None:
        self._dispatcher = dispatcher
        self._lane = task.lane
        self._slots = dispatcher.reserve(task, wanted)
        self._claims: list[Claim] = []

    def clear(self) -> None:
        """Begin the transaction."""
        self._claims.clear()

    @property
    def is_free(self) -> bool:
        """Whether the next run finds a slot."""
        return len(self._claims) < self._slots

    def take(self, claim: Claim) -> None:
        """Give a slot to a run that was written."""
        self._claims.append(claim)

    def settle(self, is_written: bool) -> None:
        """Start the runs that have a slot; give back the slots that were not needed."""
        started = self._claims if is_written else []
        self._dispatcher.start(started, self._lane)
        self._dispatcher.give(self._lane, self._slots - len(started))
        self._dispatcher.look()


class Dispatcher:
    """Claims ready runs while slots are free, runs them, and writes how they ended."""

    def __init__(self, engine: Engine, slots: Slots) -> None:
        self._engine = engine
        self._free: dict[Lane, int] = {"durable": slots.durable, "loop": slots.loop, "thread": slots.thread}
        self._returning: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in self._free}
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._aged_at = engine.clock.now()
        self._is_short = False  # a durable run is ready and no durable slot is free

    # ------------------------------------------------------------ slots

    def look(self) -> None:
        """Look for ready runs: one was queued, a slot came free, or another process wrote."""
        self._wake.set()

    def reserve(self, task: Task[Any], wanted: int) -> int:
        """Take up to `wanted` free slots for runs that are being made; give how many.

        None, where others are queued for them, or where this engine does not serve the task.
        """
        if self._wake.is_set() or task.name not in self._engine.registry:
            return 0
        taken = max(0, min(wanted, self._free[task.lane]))
        self._free[task.lane] -= taken
        return taken

    def give(self, lane: Lane, slots: int = 1) -> None:
        """Give slots back, and look for runs that want them."""
        self._put(lane, slots)
        if slots:
            self.look()

    def _put(self, lane: Lane, slots: int) -> None:
        """Give free slots to tasks that lent theirs, first come first served; keep the rest."""
        while slots and self._returning[lane]:
            waiter = self._returning[lane].popleft()
            if not waiter.done():
                waiter.set_result(None)
                slots -= 1
        self._free[lane] += slots

    async def take_back(self, lane: Lane) -> None:
        """Wait for a slot, before going on after having lent one."""
        if self._free[lane] > 0:
            self._free[lane] -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._returning[lane].append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._free[lane] -= 1  # it has none, and will give one back when it ends
            raise

    def rests(self, execution: Execution) -> None:
        """Be told that a run has come to rest, so that it may be evicted if its slot is wanted."""
        if self._is_short:
            self.look()

    # ------------------------------------------------------------ claiming

    async def work(self) -> None:
        """Claim for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for lane in self._free:
                await self._claim(lane)

    async def _claim(self, lane: Lane) -> None:
        engine = self._engine
        defined, restored = engine.registry.served(lane)
        if not defined and not restored:
            return
        free, at = self._free[lane], engine.clock.now()

        def work(connection: sqlite3.Connection) -> list[Claim]:
            return runs.claim_ready(
                connection, worker=engine.worker, home=engine.home, defined=defined, restored=restored, slots=free, at=at
            )

        if free > 0:
            self._free[lane] = 0  # nobody else may reserve them meanwhile
            try:
                claims = await engine.writer.submit(work)
            except DurableError:
                self._put(lane, free)
                return
            self._put(lane, free - len(claims))
            self.start(claims, lane)
            if len(claims) == free:
                self._wake.set()
        if lane == "durable" and self._free[lane] <= 0:
            await self._make_room(defined, restored)

    def start(self, claims: Iterable[Claim], lane: Lane) -> None:
        """Run what was claimed; each has a slot of the lane already, which its task may have left since by a new definition."""
        for claim in claims:
            task = asyncio.get_running_loop().create_task(self._run(claim, lane), name=f"run {claim.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Stop the runs that are in memory, giving their functions `seconds` to unwind."""
        for execution in list(self._engine.executions.values()):
            execution.leave()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=seconds)
            for task in left:
                task.cancel()

    # ------------------------------------------------------------ running

    async def _run(self, claim: Claim, lane: Lane) -> None:
        engine = self._engine
        try:
            task = engine.registry.pick(claim.task, claim.version)
            reason = engine.refusal(claim, task) or _unfit(claim, task)
            if reason:
                await self._park(claim, reason, worked=claim.worked)
            elif task.kind == "durable_task":
                await self._run_durable(claim, task)
            else:
                await self._run_regular(claim, task, lane)
        except StaleEpochError as error:
            engine.warn(f"Run {claim.id} of '{claim.task}' was taken over: {error}")
        except LogFailedError:
            return  # the engine was told, and has stopped
        except Exception as error:
            engine.warn(f"Run {claim.id} of '{claim.task}' is parked, since the engine itself failed on it: {error!r}")
            await self._park(claim, f"The engine failed on it: {type(error).__name__}: {error}", worked=claim.worked)
        finally:
            self.give(lane)

    async def _run_regular(self, claim: Claim, task: Task[Any], lane: Lane) -> None:
        engine = self._engine
        running = RegularRun(engine, claim, task, lane)
        try:
            value = decode(claim.input, task.input_adapter, of=f"the input of run {claim.id}")
            outcome = Outcome(await running.run(value, Context(engine, claim, task, value)))
        except BaseException as error:  # whatever a task raises is its outcome, but for our own cancelling
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            if self._is_retried(claim, task, error):
                await running.thread_ended()
            await self._fail(claim, task, error, worked=0.0, cut=None)
            await running.thread_ended()  # until then it keeps its slot
        else:
            await self._finish(claim, "COMPLETED", outcome, worked=0.0)

    async def _run_durable(self, claim: Claim, task: Task[Any]) -> None:
        engine, history = self._engine, []
        is_first = claim.invocation_count == 1
        if not is_first:
            history = await engine.reader.run(lambda connection: checkpoints.load_history(connection, claim.number, claim.branch))
        execution = engine.executions[claim.number] = Execution(engine, claim, task, history)
        try:
            if not is_first:
                await engine.watch.fill(
                    execution
                )  # what arrived between the reading and this line, or for a branch that was left
            value = decode(claim.input, task.input_adapter, of=f"the input of run {claim.id}")
            left = await execution.run(value, DurableContext(execution, value))
        except InputValidationError as error:
            left = Left(error=error)
        finally:
            if engine.executions.get(claim.number) is execution:
                del engine.executions[claim.number]
        await self._settle(claim, task, execution, left)

    async def _settle(self, claim: Claim, task: Task[Any], execution: Execution, left: Left) -> None:
        worked = execution.worked
        if left.parked is not None:
            await self._park(claim, f"It diverged: {left.parked}", worked=worked)
        elif left.outcome is not None:
            await self._finish(claim, "COMPLETED", left.outcome, worked=worked)
        elif left.error is not None:
            failed = [
                error.node_id for error in family(left.error) if isinstance(error, TaskRunError) and error.node_id is not None
            ]
            await self._fail(claim, task, left.error, worked=worked, cut=execution.cursor.cut_for_retry(failed))

    async def _fail(
        self, claim: Claim, task: Task[Any], error: BaseException, *, worked: float, cut: tuple[int, list[int]] | None
    ) -> None:
        engine, failure = self._engine, Failure.of(error, claim.id)
        if not self._is_retried(claim, task, error):
            await self._finish(claim, "FAILED", Outcome(failure=failure), worked=worked)
            return
        at = engine.clock.now()
        ready_at = at + task.options.backoff(claim.retry_count + 1)

        def work(connection: sqlite3.Connection) -> None:
            branch = claim.branch
            if cut is not None:
                branch = runs.open_branch(
                    connection, claim.number, parent=claim.branch, cut=cut[0], dropped=cut[1], reason="retry", at=at
                )
            runs.retry(connection, claim.number, claim.epoch, ready_at=ready_at, branch=branch, failure=failure, at=at)

        await engine.writer.submit(work)
        engine.timers.consider(ready_at)

    def _is_retried(self, claim: Claim, task: Task[Any], error: BaseException) -> bool:
        return claim.retry_count < task.options.retries and not any(isinstance(item, NOT_RETRIED) for item in family(error))

    async def _finish(self, claim: Claim, status: str, outcome: Outcome, *, worked: float) -> None:
        engine = self._engine
        await engine.writer.submit(
            lambda connection: runs.finish(
                connection, claim.number, claim.epoch, status=status, outcome=outcome, worked=worked, at=engine.clock.now()
            ),
            lambda completions: engine.announce(claim.number, status, outcome, completions),
        )

    async def _park(self, claim: Claim, reason: str, *, worked: float) -> None:
        at = self._engine.clock.now()
        await self._engine.writer.submit(
            lambda connection: runs.park(connection, claim.number, claim.epoch, reason=reason, worked=worked, at=at)
        )

    # ------------------------------------------------------------ eviction

    async def _make_room(self, defined: Sequence[str], restored: Sequence[str]) -> None:
        """Evict waiting runs for those that are ready: lowest priority first, then the longest wait."""
        engine, now = self._engine, self._engine.clock.now()
        ready = await engine.reader.run(lambda connection: runs.count_ready(connection, [*defined, *restored], at=now))
        self._is_short = ready > 0
        waiting = [
            item
            for item in engine.executions.values()
            if _policy(item) and _policy(item).allow_capacity_eviction and item.is_waiting()
        ]
        waiting.sort(key=lambda item: (_policy(item).priority, item.rest_since))
        for execution in waiting[:ready]:
            await self.evict(execution)

    async def evict_old(self) -> None:
        """Evict runs that have waited for longer than their policy's ttl."""
        now = self._engine.clock.now()
        for execution in list(self._engine.executions.values()):
            policy = _policy(execution)
            if policy and policy.ttl is not None and execution.rest_since + policy.ttl.total_seconds() <= now:
                await self.evict(execution)

    async def evict(self, execution: Execution) -> bool:
        """Evict a run if it waits, unless an outcome arrives first; give whether it was evicted."""
        if not execution.is_waiting():
            return False
        claim, at = execution.claim, self._engine.clock.now()
        delivered, worked = execution.cursor.delivered_seq, execution.worked
        execution.hold()
        try:
            is_evicted = await self._engine.writer.submit(
                lambda connection: runs.evict(connection, claim.number, claim.epoch, delivered=delivered, worked=worked, at=at)
            )
        except StaleEpochError:
            is_evicted = True  # another worker owns it
        if is_evicted:
            execution.leave()
        else:
            execution.unhold()
        return is_evicted

    async def age_queue(self) -> None:
        """Fail runs that stood in the queue for longer than their task's schedule_timeout."""
        engine = self._engine
        limits = {
            task.name: task.options.schedule_timeout for task in engine.registry if task.options.schedule_timeout is not None
        }
        if not limits:
            return
        since, self._aged_at = self._aged_at, engine.clock.now()
        at = self._aged_at
        for number, epoch, task in await engine.writer.submit(
            lambda connection: runs.age_queue(connection, limits, since=since, at=at)
        ):
            limit = format_duration(limits[task])
            error = ScheduleTimeoutError(f"The run stood in the queue for longer than {limit}, the schedule_timeout of '{task}'.")
            outcome = Outcome(failure=Failure("ScheduleTimeoutError", str(error)))
            with contextlib.suppress(StaleEpochError):  # it found a slot in the meantime
                await engine.end_unowned(number, epoch, "FAILED", outcome)


def _unfit(claim: Claim, task: Task[Any]) -> str | None:
    """Give why a run cannot go on with the task as it is defined now, or None."""
    if claim.kind == "durable_task" and task.kind == "task" and claim.invocation_count > 1:
        return (
            f"It was started as a durable task, and '{task.name}' is defined as a regular one now, which would do everything "
            f"again: define it as a durable task, then `%durable retake {claim.id}`."
        )
    return None


def _policy(execution: Execution) -> Any:
    return execution.task.options.eviction_policy
