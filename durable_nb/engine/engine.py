"""The engine: one per process and log. It opens the log, holds the parts together and is what they talk through.

All of it lives on one event loop (`thread.EngineThread` gives it a thread of its own); nothing here may be called from
another thread, except `post`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import os
import socket
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable_nb.engine.cancelling import leave
from durable_nb.engine.cel import compile_filter
from durable_nb.engine.clock import Clock
from durable_nb.engine.declared import declare, declare_at_start
from durable_nb.engine.dispatch import Dispatcher, Slots
from durable_nb.engine.finishing import Finishing
from durable_nb.engine.lifespan import Lifespan, LifespanFunction
from durable_nb.engine.liveness import LifeLock
from durable_nb.engine.matcher import Matcher
from durable_nb.engine.probe import Probe
from durable_nb.engine.registry import Registry
from durable_nb.engine.reservation import Reservation
from durable_nb.engine.schedules import Schedules
from durable_nb.engine.streams import Streams
from durable_nb.engine.threads import Threads
from durable_nb.engine.timers import Timers
from durable_nb.engine.triggers import Triggers
from durable_nb.engine.watch import Watch
from durable_nb.engine.workflow import take_up
from durable_nb.errors import EngineStoppedError, IllegalTaskOutputError, InputValidationError, LogFailedError
from durable_nb.log import endings, runs, waits
from durable_nb.log.connection import Durability, connect
from durable_nb.log.ids import new_id
from durable_nb.log.records import (
    ENDED,
    Claim,
    Completion,
    Effects,
    EventReport,
    NewEvent,
    NewRun,
    Outcome,
    format_trace,
)
from durable_nb.log.starting import start_run
from durable_nb.log.writer import Writer
from durable_nb.tasks.payload import ANY, decode, encode
from durable_nb.tasks.workflow import Workflow

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from durable_nb.engine.execution import Execution
    from durable_nb.engine.executors import Executor
    from durable_nb.engine.regular import RegularRun
    from durable_nb.engine.thread import EngineThread
    from durable_nb.tasks.refs import RunHost
    from durable_nb.tasks.task import Task

logger = logging.getLogger("durable_nb")
DRAIN_SECONDS = 2.0
CLOSED = "The engine was closed while this call waited; what was started is safe in the log and goes on with the next engine."


class Engine:
    """An open log with everything that moves its runs.

    Attributes:
        worker: this engine's id in the log.
        home: the notebook or script that it serves; '' where unknown.
        refusal: gives why a claimed run may not be executed here, or None.
        sign: gives the signature of a run, or None.
        executors: where tasks run that name one.
    """

    def __init__(
        self,
        path: Path,
        host: RunHost,
        thread: EngineThread,
        registry: Registry,
        *,
        clock: Clock,
        home: str = "",
        slots: Slots | None = None,
        lifespan: LifespanFunction | None = None,
        refusal: Callable[[Claim, Task[Any]], str | None] = lambda claim, task: None,
        sign: Callable[[NewRun | Claim], bytes | None] = lambda run: None,
        probe: Probe | None = None,
        executors: dict[str, Executor] | None = None,
    ) -> None:
        self.path = path
        self.host = host
        self.thread = thread
        self.registry = registry
        self.clock = clock
        self.home = home
        self.worker = new_id()
        self.refusal = refusal
        self.sign = sign
        self.probe = probe or Probe()
        self.threads = Threads("durable_nb task")
        self.executors = executors if executors is not None else {}  # by name; the app object's own dict
        self.streams = Streams(self)
        self.finishing = Finishing(self)
        self.lifespan = Lifespan(self, lifespan)
        self.executions: dict[int, Execution] = {}
        self.regular_runs: dict[int, RegularRun] = {}
        self.early: dict[int, list[Completion]] = {}  # what came for a run of ours before it was in memory
        self.waiters: dict[int, list[asyncio.Future[tuple[str, Outcome]]]] = {}
        self.asked: dict[tuple[int, int], TypeAdapter[Any]] = {}  # the types of answers that runs here wait for, by run and node
        self.failure: LogFailedError | None = None
        self._is_closing = False
        self._slots = slots or Slots()
        self._work: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ life

    async def open(self, durability: Durability) -> None:
        """Open the log's connections, take over from dead workers, begin to work."""
        self.loop = asyncio.get_running_loop()
        self.life = LifeLock(self.path, self.worker)
        self.writer_connection = await connect(self.path, durability=durability)
        self.reader = await connect(self.path, query_only=True)
        self.writer = Writer(self.writer_connection, self.path, self._fail, self.probe.commit)
        self.dispatcher = Dispatcher(self, self._slots)
        self.timers = Timers(self)
        self.triggers = Triggers(self)
        self.matcher = Matcher(self)
        self.schedules = Schedules(self)
        self.watch = Watch(self)
        row = (self.worker, self.home, os.getpid(), socket.gethostname(), self.clock.now())
        await self.writer.submit(lambda connection: connection.execute("INSERT INTO worker VALUES (?, ?, ?, ?, ?)", row).close())
        await declare_at_start(self)
        await self.schedules.mend()
        await self.watch.bury_dead()
        self.clock.on_jump(lambda: self.post(self._jump))
        self.lifespan.enter()
        for work in (self.dispatcher.work(), self.timers.work(), self.watch.work()):
            self.begin(work)
        for task in self.registry:
            if isinstance(task, Workflow):
                take_up(self, task)
        self.dispatcher.look()

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start work of the engine's own on the loop; an error in it stops the engine."""
        task = self.loop.create_task(work, context=contextvars.Context())  # not that of the run that asked for it
        self._work.add(task)
        task.add_done_callback(self._check)

    def _check(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if task.cancelled() or self.failure:
            return
        if (error := task.exception()) is not None:
            logger.error("A part of the engine failed, so it stops.\n%s", format_trace(error))
            self._fail(
                LogFailedError(
                    f"The engine stopped: {type(error).__name__}: {error}. "
                    "Load durable_nb again; what was acknowledged is in the log."
                )
            )

    def _jump(self) -> None:
        self.timers.look()
        self.dispatcher.look()

    def _fail(self, failure: LogFailedError) -> None:
        """Stop for good after a failed commit: everybody who waits is told."""
        self.failure = failure
        logger.error("%s", failure)
        for execution in list(self.executions.values()):
            execution.leave()
        self.tell_waiters(failure)
        for task in list(self._work):
            task.cancel()

    def tell_waiters(self, error: Exception) -> None:
        """Raise an error where somebody waits for the end of a run."""
        for future in [future for futures in self.waiters.values() for future in futures]:
            if not future.done():
                future.set_exception(error)
        self.waiters.clear()

    async def close(self) -> None:
        """Give back every run to the log, where another worker or the next engine finds them, and close it."""
        self._is_closing = True
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        worked = {number: execution.worked for number, execution in self.executions.items()}
        await self.dispatcher.drain(DRAIN_SECONDS)
        if self.failure is None:
            at = self.clock.now()
            with contextlib.suppress(LogFailedError):  # it was told; whoever opens the log next finds this worker dead
                await self.writer.submit(
                    lambda connection: runs.release_all(
                        connection, self.worker, reason="its engine was closed", at=at, worked=worked
                    )
                )
        self.tell_waiters(EngineStoppedError(CLOSED))
        for executor in self.executors.values():
            await asyncio.wrap_future(self.threads.submit(executor.close))
        await self.lifespan.leave()
        await self.writer.close()
        await self.writer_connection.close()
        await self.reader.close()
        self.threads.close()
        self.life.release()

    def post(self, work: Callable[[], object]) -> None:
        """Have something done on the loop, from any thread; nothing, once the engine is closed."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(work)

    def declared(self, task: Task[Any]) -> None:
        """Be told, from any thread, that a task is served from now on."""

        def work() -> None:
            if not self._is_closing:
                if not task.is_restored:
                    declare(self, [task])
                self.dispatcher.look()

        self.post(work)

    def warn(self, message: str) -> None:
        """Tell the person something that needs no action of the program."""
        logger.warning("%s", message)

    # ------------------------------------------------------------ what the parts tell each other

    def route(self, completions: Iterable[Completion]) -> None:
        """Bring committed outcomes to their runs: to memory where they live here, to the dispatcher where nobody owns them."""
        for completion in completions:
            if completion.owner is None:  # perhaps just evicted, and still in memory
                self.dispatcher.look()
            execution = self.executions.get(completion.run)
            if execution is not None:
                execution.arrive([completion])
            elif completion.run in self.regular_runs:
                self.regular_runs[completion.run].cancel()
            elif completion.owner == self.worker:
                self.early.setdefault(completion.run, []).append(completion)

    def fill_gap(self, execution: Execution) -> None:
        """Read what another process recorded for a run below the next number, then deliver on."""

        async def fill() -> None:
            await self.watch.fill(execution)
            execution.cursor.skip_gap()
            execution.unhold()

        self.begin(fill())

    def ended(self, number: int, status: str, outcome: Outcome) -> None:
        """Tell those who wait for a run, if it has ended."""
        if status in ENDED:
            self.dispatcher.ended(number)
            self.streams.wake()
            for future in self.waiters.pop(number, ()):
                if not future.done():
                    future.set_result((status, outcome))

    def apply(self, effects: Effects) -> None:
        """Tell everybody of what was committed: who waits for runs, who executes them, whose checkpoints were satisfied."""
        for number, status, outcome in effects.ended:
            self.ended(number, status, outcome)
            leave(self, number)
        for number in effects.left:
            leave(self, number)
        if effects.has_room:
            self.dispatcher.look()
        self.route(effects.completions)

    async def end_unowned(self, number: int, epoch: int, status: str, outcome: Outcome) -> None:
        """End a run that waits in the queue."""
        at = self.clock.now()
        await self.writer.submit(
            lambda connection: endings.finish(connection, number, epoch, status=status, outcome=outcome, worked=0.0, at=at),
            self.apply,
        )

    def check_filter(self, expression: str | None) -> None:
        """Refuse a CEL filter that does not compile (ExpressionError)."""
        if expression:
            compile_filter(expression)

    def encode_output(self, task: Task[Any], value: Any) -> str:
        """Give a task's output as JSON text that its declared type can read back.

        Raises:
            IllegalTaskOutputError: it cannot.
        """
        text = encode(value, of=f"the output of task '{task.name}'", round_trip=task.output_adapter is not ANY)
        return self.checked_output(task, text)

    def checked_output(self, task: Task[Any], text: str) -> str:
        """Give an output's text, if its task's declared type can read it back.

        Raises:
            IllegalTaskOutputError: it cannot.
        """
        if task.output_adapter is not ANY:
            try:
                decode(text, task.output_adapter, of=f"the output of task '{task.name}'")
            except InputValidationError as error:
                raise IllegalTaskOutputError(str(error)) from None
        return text

    # ------------------------------------------------------------ what users ask

    async def start_runs(
        self, task: Task[Any], new_runs: Sequence[NewRun], *, parent_id: str | None = None
    ) -> list[tuple[int, str]]:
        """Write new runs in one transaction; give number and id of each. Those that find a free slot start at once."""
        self._refuse_stopped()
        self.lifespan.refuse_failed()
        reservation = Reservation(self.dispatcher, task, len(new_runs))

        def work(connection: sqlite3.Connection) -> list[tuple[int, str]]:
            reservation.clear()
            return [self.write_run(connection, run, reservation, parent_id=parent_id) for run in new_runs]

        written = self.writer.submit(work)
        written.add_done_callback(lambda done: reservation.settle(not done.cancelled() and done.exception() is None))
        for run in new_runs:
            if run.deadline is not None:
                written.add_done_callback(lambda _, deadline=run.deadline: self.timers.consider(deadline))  # type: ignore[misc]
        return await asyncio.shield(written)  # whoever stops waiting does not undo it

    def write_run(
        self, connection: sqlite3.Connection, run: NewRun, reservation: Reservation, *, parent_id: str | None
    ) -> tuple[int, str]:
        """Write a run inside a transaction, owned at once where a slot is reserved and no limit speaks against it.

        Returns:
            Its number and id.

        Raises:
            IdempotencyCollisionError, RateLimitError: it was not written.
        """
        started = start_run(connection, run, at=self.clock.now(), worker=self.worker if reservation.is_free else None)
        claim = runs.claim_of(run, started.number, parent_id=parent_id) if started.is_claimed else None
        reservation.take(claim, started.effects)
        return started.number, run.id if started.is_new else runs.id_of(connection, started.number)

    async def result(self, number: int) -> tuple[str, Outcome]:
        """Wait for the end of a run; give status and outcome."""
        self._refuse_stopped()
        future: asyncio.Future[tuple[str, Outcome]] = self.loop.create_future()
        self.waiters.setdefault(number, []).append(future)
        try:
            if not self.dispatcher.is_going(number):
                self.ended(number, *await self.reader.run(lambda connection: runs.result_of(connection, number)))
            if not future.done():
                self.lifespan.refuse_failed()
            return await future
        finally:
            if future in (futures := self.waiters.get(number, [])):
                futures.remove(future)
                if not futures:
                    del self.waiters[number]

    async def push(self, events: Sequence[NewEvent]) -> list[EventReport]:
        """Accept events in one transaction and match them; returns when every wait and listener before them was considered."""
        self._refuse_stopped()
        at = self.clock.now()
        wanted = await self.writer.submit(lambda connection: [waits.accept(connection, event, at=at) for event in events])
        reports = [EventReport(event_id=event.id, key=event.key) for event in events]
        if any(wanted):
            await self.matcher.match_all([report for report, is_wanted in zip(reports, wanted, strict=True) if is_wanted])
            self.dispatcher.look()
        return reports

    def match_soon(self, key: str) -> None:
        """Have the accepted events of a key matched."""

        async def match() -> None:
            await self.matcher.match(key)
            self.dispatcher.look()

        self.begin(match())

    async def ids_of(self, numbers: Iterable[int]) -> dict[int, str]:
        """Give the ids of runs by number."""
        wanted = json.dumps(list(numbers))
        return await self.reader.run(
            lambda connection: dict(
                connection.execute(
                    "SELECT number, id FROM run WHERE number IN (SELECT value FROM json_each(?))", (wanted,)
                ).fetchall()
            )
        )

    def _refuse_stopped(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._is_closing:
            raise EngineStoppedError(CLOSED)
