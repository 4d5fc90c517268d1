"""Settling: what becomes of a run whose function was left. It ends, is tried again, or is parked, in one transaction each.

Invariant: a run whose cancel was asked for is neither tried again nor parked; it ends as CANCELLED. The log sees to that, since
only there the cancel and the end have an order. Lives on the engine's loop.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from durable_nb.engine.continuing import continue_run, onward_of
from durable_nb.engine.falling_back import fall_back
from durable_nb.errors import (
    NOT_RETRIED,
    EndedAsCancelled,
    RunCancelledError,
    TaskRunError,
    family,
)
from durable_nb.log import branches, endings, runs
from durable_nb.log.records import NEVER, Claim, Cut, Effects, Failure, Outcome
from durable_nb.tasks.workflow import Workflow

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.leaving import Left
    from durable_nb.tasks.task import Task


async def settle(engine: Engine, claim: Claim, task: Task[Any], execution: Execution, left: Left) -> None:
    """Write how a durable run's function was left; nothing, where it was evicted."""
    worked, left = execution.worked, engine.probe.judge(execution, left)
    if left.is_replayed:
        await engine.writer.submit(
            lambda connection: runs.release(
                connection, claim.number, claim.epoch, reason="it is replayed", worked=worked, at=engine.clock.now()
            )
        )
        engine.dispatcher.look()
    elif left.is_cancelled:
        await finish(engine, claim, "CANCELLED", Outcome(), worked=worked)
    elif left.parked is not None:
        if not await fall_back(engine, claim, left.parked, worked=worked):
            await park(engine, claim, f"It diverged: {left.parked}", worked=worked)
    elif left.outcome is not None:
        await finish(engine, claim, "COMPLETED", left.outcome, worked=worked)
    elif isinstance(left.error, EndedAsCancelled):
        failure = Failure(RunCancelledError.__name__, str(left.error), run_id=claim.id, is_cancel=True)
        await finish(engine, claim, "CANCELLED", Outcome(failure=failure), worked=worked)
    elif (onward := onward_of(left.error)) is not None:
        if not await continue_run(execution, onward):
            await finish(engine, claim, "CANCELLED", Outcome(), worked=worked)
    elif left.error is not None:
        failed = [
            error.node_id
            for error in family(left.error)
            if isinstance(error, TaskRunError | RunCancelledError) and error.node_id is not None
        ]
        cursor = execution.cursor
        cut = cursor.drop_for_retry(failed) if isinstance(task, Workflow) else cursor.cut_for_retry(failed)
        await fail(engine, claim, task, left.error, worked=worked, cut=cut)


async def fail(engine: Engine, claim: Claim, task: Task[Any], error: BaseException, *, worked: float, cut: Cut | None) -> None:
    """Queue the next attempt of a run, or end it as failed, or park it where its task says so.

    Args:
        cut: what the next attempt asks afresh, where checkpoints failed.
    """
    failure = Failure.of(error, claim.id, with_members=isinstance(task, Workflow))
    if not is_retried(claim, task, error):
        if task.options.on_exhausted == "park" and not _is_final(error):
            reason = f"Its retries ran out: {failure.type}: {failure.message}"
            await park(engine, claim, reason, worked=worked, cut=cut)
        else:
            await finish(engine, claim, "FAILED", Outcome(failure=failure), worked=worked, cut=cut)
        return
    at = engine.clock.now()
    ready_at = at + task.options.backoff(claim.retry_count + 1)

    def work(connection: sqlite3.Connection) -> bool:
        if endings.is_cancelled(connection, claim.number):
            return False
        runs.fence(connection, claim.number, claim.epoch)
        branch = claim.branch
        if claim.kind == "durable_task":
            branch = branches.take_up(connection, claim.number, branch, cut, reason="retry", at=at)
        undone_from = NEVER if cut is None else cut.undone_from
        runs.retry(
            connection,
            claim.number,
            claim.epoch,
            ready_at=ready_at,
            branch=branch,
            undone_from=undone_from,
            failure=failure,
            at=at,
        )
        return True

    if await engine.writer.submit(work):
        engine.timers.consider(ready_at)
        engine.dispatcher.look()
    else:
        await finish(engine, claim, "CANCELLED", Outcome(), worked=worked)


def is_retried(claim: Claim, task: Task[Any], error: BaseException) -> bool:
    """Whether a failed attempt is followed by another."""
    return claim.retry_count < task.options.retries and not _is_final(error)


def _is_final(error: BaseException) -> bool:
    return any(isinstance(item, NOT_RETRIED) for item in family(error))


async def finish(engine: Engine, claim: Claim, status: str, outcome: Outcome, *, worked: float, cut: Cut | None = None) -> None:
    """End a run, and tell everybody who waits for it."""
    await engine.finishing.call(claim, status)

    def work(connection: sqlite3.Connection) -> Effects:
        at = engine.clock.now()
        return endings.finish(
            connection, claim.number, claim.epoch, status=status, outcome=outcome, worked=worked, at=at, cut=cut
        )

    await engine.writer.submit(work, engine.apply)


async def park(engine: Engine, claim: Claim, reason: str, *, worked: float, cut: Cut | None = None) -> None:
    """Block a run until a person acts."""
    at = engine.clock.now()

    def work(connection: sqlite3.Connection) -> bool:
        if endings.is_cancelled(connection, claim.number):
            return False
        runs.park(connection, claim.number, claim.epoch, reason=reason, worked=worked, at=at, cut=cut)
        return True

    if not await engine.writer.submit(work):
        await finish(engine, claim, "CANCELLED", Outcome(), worked=worked)
