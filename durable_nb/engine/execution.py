"""One invocation of a durable run: from entering its function to leaving it.

Invariants: every operation suspends, replayed or live; outcomes are delivered one at a time in their recorded order, the
next only when none of the run's coroutines can move; nothing is delivered before it is committed.

Lives on the engine's loop. The log is written through the engine's writer; every write shows the claim's epoch.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from durable_nb.engine.current import CURRENT, refuse_misplaced
from durable_nb.engine.cursor import Cursor
from durable_nb.engine.giving_up import give_up, has_lost
from durable_nb.engine.injection import Injection
from durable_nb.engine.inline import outcome_of
from durable_nb.engine.leaving import LEAVE_SECONDS, Left, cancel_rest, left_by, sweep, tell, timed_out
from durable_nb.engine.loop import MOVES, Moves
from durable_nb.engine.registering import register
from durable_nb.engine.waiting import Pending, throw, waits_durably
from durable_nb.engine.worktime import WorkTime
from durable_nb.errors import Evicted, NonDeterminismError
from durable_nb.log import checkpoints, endings, runs
from durable_nb.log.records import CANCEL, Ask, Claim, Completion, NewWait, Outcome, Recorded

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.engine.engine import Engine
    from durable_nb.tasks.task import Task


T = TypeVar("T")


class Execution:
    """A durable run in memory.

    Args:
        history: what the log has recorded for the claim's branch.
        seeds: what its chance is drawn from.
        since: the last sequence number that belongs to earlier histories of the run.

    Attributes:
        is_cancelled: whether its cancel was delivered.
    """

    def __init__(
        self,
        engine: Engine,
        claim: Claim,
        task: Task[Any],
        history: Sequence[Recorded],
        seeds: Sequence[tuple[int, str]],
        since: int = 0,
    ) -> None:
        self.engine = engine
        self.claim = claim
        self.task = task
        self.cursor = Cursor(history, branch=claim.branch, seeds=seeds, since=since)
        self.is_cancelled = False
        self._context: Any = None
        self._moves = Moves(self._at_rest)
        self._pending: dict[int, Pending] = {}
        self._inline = 0  # memos and steps in flight
        self._is_inside = True  # until its function is left, whichever way: then it may ask nothing more
        self._is_leaving = False  # it was told to leave before its end
        self._is_diverging = False  # it was told so, and is given time to be left
        self._is_abandoned = False  # it was left, but code of it lives on
        self._is_tidying = False  # it was left by its cancel, and what it had begun cleans up
        self._is_held = False  # while the log is asked for lower numbers, or whether it may be evicted
        self._main: asyncio.Task[Any] | None = None
        self._out = asyncio.get_running_loop().create_future()
        self._rest_since: float | None = None
        self._work = WorkTime(engine, task.options.execution_timeout, claim.worked, self._time_out)
        self._timed_out = False
        self._refused: BaseException | None = None
        self._file = task.function.__code__.co_filename

    # ------------------------------------------------------------ entering and leaving

    async def run(self, value: Any, context: Any) -> Left:
        """Enter the task's function; give how it was left. Called from the engine's own task.

        Raises:
            StaleEpochError, LogFailedError, …: a write for the run was refused.
        """
        self._context = context
        scope = contextvars.copy_context()
        scope.run(CURRENT.set, self)
        scope.run(MOVES.set, self._moves)
        self._main = asyncio.get_running_loop().create_task(self._call(value, context), context=scope)
        self._main.add_done_callback(self._come_out, context=contextvars.Context())
        self._count_work()
        await self._out
        self._is_inside = False
        self._work.stop()
        await self._sweep()
        return self._left()

    def _come_out(self, main: asyncio.Task[Any]) -> None:
        if not main.cancelled():
            main.exception()  # asked for here too, since whoever left it before its end asks no more
        self._is_tidying = self.is_cancelled and self._is_inside
        cancel_rest(self._moves.tasks if self._is_tidying else (), self._stop_waiting)

    def _stop_waiting(self) -> None:
        if not self._out.done():
            self._out.set_result(None)

    async def _call(self, value: Any, context: Any) -> str:
        async with Injection(self.engine, self.task.dependencies, value, context) as given:
            return self.engine.encode_output(self.task, await self.task.function(value, context, **given))

    def _left(self) -> Left:
        if self._refused is not None:
            raise self._refused
        if self.is_cancelled and self._timed_out:
            return Left(is_cancelled=True)
        if self._timed_out:
            return timed_out(self.task)
        if self._is_leaving or self._main is None or not self._main.done():
            return Left(parked=self.cursor.diverged)
        if self.is_cancelled:
            if not self._main.cancelled() and (error := self._main.exception()) is not None:
                what = f"{type(error).__name__}: {error}"
                self.engine.warn(f"The clean-up of run {self.claim.id} of '{self.task.name}' failed: {what}")
            return Left(is_cancelled=True)
        return left_by(self._main, self.cursor)

    async def _sweep(self) -> None:
        """Cancel what the function left running; name and abandon what does not stop."""
        self._pending.clear()
        of = f"Run {self.claim.id} of '{self.task.name}'"
        self._is_abandoned = await sweep(self._moves, self.engine.warn, of, is_evicted=self._is_leaving)

    def leave(self) -> None:
        """Throw Evicted at every await of the run, so that its function unwinds; the log has given it back already."""
        if not self._is_inside:
            return
        self._is_inside, self._is_leaving = False, True
        self._later(self._stop_waiting)
        for pending in self._pending.values():
            pending.fail(Evicted())
        self._pending.clear()
        tell(self._moves.tasks, for_many=True)
        if self._main is not None and not self._moves.any and not throw(self._main, Evicted()):  # it awaits something foreign
            self._main.cancel()

    # ------------------------------------------------------------ asking

    def ask(
        self,
        ask: Ask,
        write: Callable[[sqlite3.Connection, int], Completion | None],
        after: Callable[[bool], None] = lambda is_written: None,
    ) -> tuple[int, Pending]:
        """Ask one thing whose outcome the engine will bring; `write` puts it into the log where it is not recorded there."""
        [(node, pending)] = self.ask_many([ask], lambda connection, nodes: [write(connection, nodes[0])], after)
        return node, pending

    def ask_many(
        self,
        asks: Sequence[Ask],
        write: Callable[[sqlite3.Connection, list[int]], Sequence[Completion | None]],
        after: Callable[[bool], None] = lambda is_written: None,
    ) -> list[tuple[int, Pending]]:
        """Ask several things at once, in one transaction.

        Args:
            write: gets the nodes that are not recorded yet, 0 for those that are.
            after: is told on the loop whether `write` was committed; with False where there was nothing to write.
        """
        refuse_misplaced(self.engine.loop if self._is_inside else None)
        try:
            taken = [self._take(ask) for ask in asks]
        except (Evicted, NonDeterminismError) as error:
            after(False)
            return [(0, self._soon(error)) for _ in asks]
        pendings = [(node, self._expect(node)) for node, _ in taken]
        fresh = [node if recorded is None else 0 for node, recorded in taken]
        if any(fresh):

            def work(connection: sqlite3.Connection) -> list[Completion]:
                self.fence(connection)
                return [completion for completion in write(connection, fresh) if completion is not None]

            self._submit(work, after)
        else:
            after(False)
        return pendings

    async def inline(
        self, ask: Ask, work: Callable[[], Awaitable[str]], *, write: Callable[[sqlite3.Connection], None] | None = None
    ) -> tuple[int, Outcome]:
        """Run a memo or step in the asking coroutine, unless its outcome is recorded; it is written in one row when it is done.

        Args:
            work: gives the JSON text; what it raises is recorded as the outcome.
            write: further facts for the same transaction.
        """
        refuse_misplaced(self.engine.loop if self._is_inside else None)
        try:
            node, recorded = self._take(ask)
        except (Evicted, NonDeterminismError) as error:
            return 0, await self._soon(error)
        pending = self._expect(node)
        if recorded is not None:
            return node, await self.outcome(node, pending, ask)
        asked_at = self.engine.clock.now()

        def done(connection: sqlite3.Connection) -> list[Completion]:
            if write is not None:
                write(connection)
            claim, at = self.claim, self.engine.clock.now()
            place = (claim.number, claim.branch, node)
            return [checkpoints.add_done(connection, *place, ask, outcome, epoch=claim.epoch, asked_at=asked_at, at=at)]

        self._inline += 1
        try:
            outcome = await outcome_of(work, self.claim.id)
            self._submit(done)
            return node, await self.outcome(node, pending, ask)
        except asyncio.CancelledError:
            self.abandon(node, ask, asked_at)
            raise
        finally:
            self._inline -= 1

    async def outcome(self, node: int, pending: Pending, ask: Ask) -> Outcome:
        """Wait for the delivery of an ask; a failure is raised by whoever decodes the outcome."""
        try:
            return await pending
        except asyncio.CancelledError as error:
            self.abandon(node, ask, self.engine.clock.now(), is_lost=has_lost(error))
            raise

    def register(self, ask: Ask, new_waits: Sequence[NewWait], *, at: float) -> tuple[int, Pending]:
        """Ask for conditions to become true (see `registering.register`)."""
        return register(self, ask, new_waits, at=at)

    def fence(self, connection: sqlite3.Connection) -> None:
        """Refuse the transaction if the run is not ours any more."""
        runs.fence(connection, self.claim.number, self.claim.epoch)
        if self._work.is_limited:  # a killed process has had what it worked up to its last checkpoint
            runs.keep_worked(connection, self.claim.number, self._work.total)

    def line(self) -> int | None:
        """Give the line of the task's source that is executing."""
        frame = inspect.currentframe()
        while frame is not None and frame.f_code.co_filename != self._file:
            frame = frame.f_back
        return frame.f_lineno if frame else None

    def _expect(self, node: int) -> Pending:
        pending = self._pending[node] = Pending()
        return pending

    def _take(self, ask: Ask) -> tuple[int, Recorded | None]:
        """Take the ask's node.

        Raises:
            Evicted: the function has to be left. NonDeterminismError: something else is recorded there.
        """
        if not self._is_inside:
            raise Evicted
        try:
            return self.cursor.ask(ask)
        except NonDeterminismError:
            if not self._is_diverging:
                self._is_diverging = True
                self._later(self.leave)
            raise

    def _soon(self, error: BaseException) -> Pending:
        """Give what raises an error after a turn of the loop, so that code which swallows it and asks again stops nobody else.

        What asks even after it was abandoned, or while the interpreter collects it, waits for ever.
        """
        pending = Pending(loop=self.engine.loop)
        if not self._is_abandoned and asyncio._get_running_loop() is self.engine.loop:
            asyncio.get_running_loop().call_soon(pending.fail, error)
        return pending

    def _later(self, work: Callable[[], None]) -> None:
        """Do something when the function had time to be left."""
        asyncio.get_running_loop().call_later(LEAVE_SECONDS, work, context=contextvars.Context())

    def abandon(self, node: int, ask: Ask, asked_at: float, *, is_lost: bool = False) -> None:
        """Take down that nobody waits for an ask any more; nothing, if its outcome was delivered."""
        if not self._is_inside or self.cursor.diverged or self._pending.pop(node, None) is None:
            return  # what a divergence cancels is waited for again when the run is taken up
        if not self.cursor.is_given_up(node) or (is_lost and ask.kind == "child"):  # else it was left for an error: it goes on
            give_up(self, node, ask, asked_at, is_lost=is_lost)

    def _submit(
        self, work: Callable[[sqlite3.Connection], list[Completion]], after: Callable[[bool], None] = lambda is_written: None
    ) -> None:
        self.submit(work, self.engine.route, after)

    def submit(
        self,
        work: Callable[[sqlite3.Connection], T],
        tell: Callable[[T], None],
        after: Callable[[bool], None] = lambda is_written: None,
    ) -> None:
        """Have a transaction of the run's own written; leave, where it is refused.

        Args:
            tell: is given what it has brought about. after: whether it was committed.
        """
        self.engine.writer.post(work, tell, partial(self._check_written, after))

    def _check_written(self, after: Callable[[bool], None], refusal: BaseException | None, _: object) -> None:
        """Leave, when a write was refused: another worker owns the run, the log failed, or it cannot hold what was asked."""
        after(refusal is None)
        if refusal is not None and self._is_inside:
            self._refused = refusal
            self.leave()

    # ------------------------------------------------------------ delivering

    def arrive(self, completions: Sequence[Completion]) -> None:
        """Take in outcomes that were committed, in order."""
        for completion in completions:
            self.cursor.arrive(completion)
        if not self._moves.any:
            self._at_rest()

    def hold(self) -> None:
        """Deliver nothing until `unhold`."""
        self._is_held = True

    def unhold(self) -> None:
        """Deliver again."""
        self._is_held = False
        if not self._moves.any:
            self._at_rest()

    def _at_rest(self) -> None:
        if self._main is None or self._out.done() or (self._main.done() and not self._is_tidying):
            return
        if not self._is_inside:
            if self._is_leaving and not self._out.done():
                tell(self._moves.tasks)
            return
        while not self._moves.any and not self._is_held:
            if self.cursor.has_gap():
                self.hold()
                self.engine.fill_gap(self)
                return
            delivery = self.cursor.next_delivery()
            if delivery is None:
                self._rest()
                return
            self._count_work()
            node, outcome = delivery
            if node == CANCEL:
                self._cancel(self._main)
            pending = self._pending.pop(node, None)
            if pending is not None and not pending.done():
                pending.set_result(outcome)

    def _cancel(self, main: asyncio.Task[Any]) -> None:
        """Raise CancelledError at the await of the function, and through asyncio in what it awaits; take down where that was."""
        self.is_cancelled = self._context.is_cancelled = True
        after = self.cursor.next_node - 1
        self._submit(lambda connection: endings.delivered(connection, self.claim, after=after))
        main.cancel()

    def _rest(self) -> None:
        """Every outcome that is there was delivered: the run waits, or awaits something foreign."""
        if self.task.options.execution_timeout is not None or self.cursor.is_replaying:
            is_waiting = self.is_waiting()
            if is_waiting and (divergence := self.cursor.starve()):
                for pending in self._pending.values():
                    pending.fail(divergence)
                self._pending.clear()
                return
            if is_waiting:
                self._work.stop()
        self._rest_since = self.engine.clock.now()
        self.engine.dispatcher.rests(self)

    def is_waiting(self) -> bool:
        """Whether the run is wholly in durable waits: no coroutine can move, no memo, step or foreign await is in flight."""
        if self._moves.any or self._inline or self._is_held or not self._pending:
            return False
        alive = [task for task in self._moves.tasks if not task.done()]
        return all(waits_durably(task, self._moves.tasks) for task in alive)

    @property
    def rest_since(self) -> float:
        """When the run last came to rest, UTC seconds."""
        return self._rest_since or 0.0

    @property
    def worked(self) -> float:
        """Seconds of this attempt in which some part of the run was not in a durable wait; replay not counted."""
        return self._work.total

    def extend(self, seconds: float) -> None:
        """Allow the attempt to work for longer."""
        self._work.extend(seconds)

    def _count_work(self) -> None:
        if not self.cursor.is_replaying:
            self._work.start()

    def _time_out(self) -> None:
        self._timed_out = True
        self.leave()
        if self._main is not None:
            self._main.cancel()  # it works, so it stands at no ask of ours
