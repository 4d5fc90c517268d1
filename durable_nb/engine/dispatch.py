"""Dispatching: which ready run gets which free slot, and what becomes of it when its function is left.

Three lanes have slots of their own: durable tasks, regular tasks on the loop, and regular tasks in threads (few, since they
share the GIL with the engine); and each executor has one. Tasks whose executor is not there wait in the queue. A waiting durable
run holds its slot until it is evicted: for its age, or at once when another durable run is ready and none is free.

Lives on the engine's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable_nb.engine.context import Context
from durable_nb.engine.durable_context import DurableContext
from durable_nb.engine.execution import Execution
from durable_nb.engine.inline import is_cancelled
from durable_nb.engine.leaving import Left
from durable_nb.engine.loading import Loader
from durable_nb.engine.regular import RegularRun
from durable_nb.engine.settling import fail, finish, is_retried, park, settle
from durable_nb.engine.siblings import find_siblings
from durable_nb.errors import (
    DurableError,
    InputValidationError,
    LogFailedError,
    ScheduleTimeoutError,
    StaleEpochError,
)
from durable_nb.log import queue, runs
from durable_nb.log.records import Claim, Effects, Failure, Outcome
from durable_nb.tasks.options import format_duration
from durable_nb.tasks.payload import decode

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.engine.engine import Engine
    from durable_nb.log.serving import Served
    from durable_nb.tasks.task import Lane, Task


@dataclass(frozen=True)
class Slots:
    """How many runs may be in memory at once, by lane."""

    durable: int = 1000
    loop: int = 100
    thread: int = min(32, (os.cpu_count() or 1) + 4)


class Dispatcher:
    """Claims ready runs while slots are free, runs them, and writes how they ended."""

    def __init__(self, engine: Engine, slots: Slots) -> None:
        self._engine = engine
        self._free: dict[Lane, int] = {"durable": slots.durable, "loop": slots.loop, "thread": slots.thread}
        self._free |= {name: executor.slots for name, executor in engine.executors.items()}
        self._returning: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in self._free}
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loader = Loader(engine)
        self._going: set[int] = set()  # runs of ours of whose end nobody was told yet
        self._aged_at = engine.clock.now()
        self._is_looking = False  # those who are queued come before those who are being made
        self._wanted: set[Lane] = set(self._free)  # lanes for which runs may be ready that found no free slot
        self._is_short = False  # a durable run is ready and no durable slot is free
        self._is_draining = False
        self._is_closed = False  # to further runs

    # ------------------------------------------------------------ slots

    def open_lane(self, lane: Lane, slots: int) -> None:
        """Serve a new executor's tasks, which have waited for it until now."""
        if lane not in self._free:
            self._free[lane], self._returning[lane] = slots, deque()
        self.look()

    def look(self) -> None:
        """Look for ready runs: one was queued, a slot came free, or another process wrote."""
        self._wake.set()

    def reserve(self, task: Task[Any], wanted: int) -> int:
        """Take up to `wanted` free slots for runs that are being made; give how many.

        None, where others are queued for them, or where this engine does not serve the task.
        """
        if (
            self._is_closed
            or self._wake.is_set()
            or self._is_looking
            or task.name not in self._engine.registry
            or not self._engine.lifespan.is_entered
        ):
            return 0
        taken = max(0, min(wanted, self._free.get(task.lane, 0)))
        if taken:
            self._free[task.lane] -= taken
        return taken

    def give(self, lane: Lane, slots: int = 1) -> None:
        """Give slots back, and look for runs that want them, where there may be any."""
        self._put(lane, slots)
        if slots and lane in self._wanted:
            self.look()

    def _put(self, lane: Lane, slots: int) -> None:
        """Give free slots to tasks that lent theirs, first come first served; keep the rest."""
        while slots and self._returning[lane]:
            waiter = self._returning[lane].popleft()
            if not waiter.done():
                waiter.set_result(None)
                slots -= 1
        self._free[lane] += slots

    def withhold(self, lane: Lane) -> None:
        """Take away a slot that a task released, before it is given back a second time at the task's end."""
        self._free[lane] -= 1

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
        self._engine.probe.rests(execution)
        if self._is_short:
            self.look()

    def is_going(self, number: int) -> bool:
        """Whether a run is here, and whoever waits for its end will be told of it."""
        return number in self._going

    def ended(self, number: int) -> None:
        """Be told that a run has ended, or was taken away."""
        self._going.discard(number)

    def apply(self, effects: Effects) -> None:
        """Be told of runs that were cancelled for others."""
        self._engine.apply(effects)

    # ------------------------------------------------------------ claiming

    async def work(self) -> None:
        """Claim for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._is_looking = True
            for lane in list(self._free):
                await self._claim(lane)
            self._is_looking = False

    async def _claim(self, lane: Lane) -> None:
        engine = self._engine
        if self._is_closed or lane not in engine.registry.lanes or not engine.lifespan.is_entered:
            return
        served, at = engine.registry.served(engine.home, lane), engine.clock.now()
        is_work = await engine.reader.run(lambda connection: queue.is_work(connection, served, at=at))
        if not is_work:  # most often; and a look takes no lock that other processes wait for
            self._wanted.discard(lane)
            self._is_short = self._is_short and lane != "durable"
            return
        self._wanted.add(lane)
        free = max(0, self._free[lane])

        def work(connection: sqlite3.Connection) -> queue.Claimed:
            return queue.claim_ready(connection, served, worker=engine.worker, slots=free, at=at)

        if free > 0 or lane == "durable":  # without a slot too, runs may leave their lineups, for which one is made then
            self._free[lane] -= free  # nobody else may reserve them meanwhile
            try:
                claimed = await engine.writer.submit(work)
            except DurableError:
                self._put(lane, free)
                return
            self._put(lane, free - len(claimed.claims))
            self.start(claimed.claims, lane)
            if claimed.due_at is not None:
                engine.timers.consider(claimed.due_at)
            if len(claimed.claims) < free:
                self._wanted.discard(lane)
            if claimed.has_let_in or len(claimed.claims) == free > 0:
                self._wake.set()
        if lane == "durable" and self._free[lane] <= 0:
            await self._make_room(served)

    def start(self, claims: Iterable[Claim], lane: Lane) -> None:
        """Run what was claimed; each has a slot of the lane already, which its task may have left since by a new definition."""
        for claim in claims:
            self._going.add(claim.number)
            task = asyncio.get_running_loop().create_task(self._run(claim, lane), name=f"run {claim.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @property
    def in_hand(self) -> int:
        """How many runs are in memory, or are being written as they ended."""
        return len(self._tasks)

    def stop_claiming(self) -> None:
        """Take up no run from now on."""
        self._is_closed = True

    async def drain(self, seconds: float) -> None:
        """Stop the runs that are in memory, giving their functions `seconds` to unwind."""
        self._is_draining = True
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
                await park(engine, claim, reason, worked=claim.worked)
            elif task.kind == "durable_task":
                await self._run_durable(claim, task)
            else:
                await self._run_regular(claim, task, lane)
        except StaleEpochError as error:
            engine.warn(f"Run {claim.id} of '{claim.task}' was reset, cancelled or taken over: {error}")
        except LogFailedError:
            return  # the engine was told, and has stopped
        except Exception as error:
            engine.warn(f"Run {claim.id} of '{claim.task}' is parked, since the engine itself failed on it: {error!r}")
            await park(engine, claim, f"The engine failed on it: {type(error).__name__}: {error}", worked=claim.worked)
        finally:
            await engine.finishing.leave(claim)
            engine.early.pop(claim.number, None)
            self._going.discard(claim.number)
            self.give(lane)

    async def _run_regular(self, claim: Claim, task: Task[Any], lane: Lane) -> None:
        engine = self._engine
        if claim.cancelled_at is not None:  # its owner died: nothing of it is there to be told
            await finish(engine, claim, "CANCELLED", Outcome(), worked=0.0)
            return
        running = engine.regular_runs[claim.number] = RegularRun(engine, claim, task, lane)
        if claim.number in engine.early:
            running.cancel()
        with contextlib.closing(running):
            await self._attempt(running, claim, task)

    async def _attempt(self, running: RegularRun, claim: Claim, task: Task[Any]) -> None:
        engine = self._engine
        error: BaseException | None = None
        outcome = Outcome()
        try:
            value = decode(claim.input, task.input_adapter, of=f"the input of run {claim.id}")
            context = Context(engine, claim, task, value)
            await find_siblings(engine, claim, context)
            outcome = Outcome(await running.run(value, context))
        except BaseException as raised:  # whatever a task raises is its outcome, but for our own cancelling
            if isinstance(raised, asyncio.CancelledError) and is_cancelled():
                raise
            error = raised
            if is_retried(claim, task, raised) and not running.is_cancelled:
                await running.thread_ended()
        finally:
            if engine.regular_runs.get(claim.number) is running:
                del engine.regular_runs[claim.number]
        if running.is_left:  # the log has its end
            pass
        elif running.is_cancelled:
            await finish(engine, claim, "CANCELLED", Outcome(), worked=0.0)
        elif error is not None:
            await fail(engine, claim, task, error, worked=0.0, cut=None)
        else:
            await finish(engine, claim, "COMPLETED", outcome, worked=0.0)
        await running.thread_ended()  # until then it keeps its slot

    async def _run_durable(self, claim: Claim, task: Task[Any]) -> None:
        engine, number = self._engine, claim.number
        looks = engine.watch.looks
        loaded = await self._loader.load(claim)
        if self._is_draining:
            return  # nobody would tell it to leave; it is given back with all others
        execution = engine.executions[number] = Execution(engine, claim, task, loaded.history, loaded.seeds, loaded.since)
        execution.arrive([*loaded.others, *engine.early.pop(number, [])])
        try:
            if engine.watch.looks != looks:  # another process may have written for it between the reading and this line
                await engine.watch.fill(execution)
            value = decode(claim.input, task.input_adapter, of=f"the input of run {claim.id}")
            context = DurableContext(execution, value)
            await find_siblings(engine, claim, context)
            left = await execution.run(value, context)
        except InputValidationError as error:
            left = Left(error=error)
        finally:
            if engine.executions.get(number) is execution:
                del engine.executions[number]
        await settle(engine, claim, task, execution, left)

    # ------------------------------------------------------------ eviction

    async def _make_room(self, served: Served) -> None:
        """Evict waiting runs for those that are ready: lowest priority first, then the longest wait."""
        engine, now = self._engine, self._engine.clock.now()
        ready = await engine.reader.run(lambda connection: queue.count_ready(connection, served, at=now))
        self._is_short = ready > 0
        waiting = [
            item
            for item in engine.executions.values()
            if _policy(item) and _policy(item).allow_capacity_eviction and item.is_waiting()
        ]
        waiting.sort(key=lambda item: (_policy(item).priority, item.rest_since))
        await asyncio.gather(*[self.evict(execution) for execution in waiting[:ready]])  # in one transaction

    async def evict_old(self) -> None:
        """Evict runs that have waited for longer than their policy's ttl."""
        now = self._engine.clock.now()
        old = [
            execution
            for execution in self._engine.executions.values()
            if (policy := _policy(execution))
            and policy.ttl is not None
            and execution.rest_since + policy.ttl.total_seconds() <= now
        ]
        await asyncio.gather(*[self.evict(execution) for execution in old])

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
            task.name: task.options.schedule_timeout
            for task in engine.registry
            if task.options.schedule_timeout is not None and task.lane in self._free
        }
        if not limits:
            return
        since, self._aged_at = self._aged_at, engine.clock.now()
        at, served = self._aged_at, engine.registry.served(engine.home)
        if not engine.lifespan.is_entered:
            return  # it is not able to run them
        for number, epoch, task in await engine.writer.submit(
            lambda connection: runs.age_queue(connection, served, limits, since=since, at=at)
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
