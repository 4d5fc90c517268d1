"""Children of a durable run: made together with the checkpoint that waits for them, so a crash never makes two."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable_nb.engine.asks import ask_child, ask_of
from durable_nb.engine.giving_up import has_lost
from durable_nb.engine.new_runs import new_run
from durable_nb.engine.reservation import Reservation
from durable_nb.errors import (
    ChildKeyConflictError,
    DurableError,
    FailedTaskRunExceptionGroup,
    IdempotencyCollisionError,
    RateLimitError,
    RunCancelledError,
    TaskRunError,
    family,
)
from durable_nb.log import checkpoints, runs
from durable_nb.log.records import ENDED, Ask, Claim, Completion, Failure, NewRun, Outcome
from durable_nb.tasks.payload import decode
from durable_nb.tasks.refs import RunRef

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.waiting import Pending
    from durable_nb.tasks.task import BulkItem, Task


BY_KEY = """
SELECT checkpoint.branch, checkpoint.node, run.number FROM run JOIN checkpoint ON checkpoint.child = run.number
WHERE run.parent = ? AND run.child_key = ? AND run.number > ? AND checkpoint.run = ?"""


@dataclass(frozen=True, slots=True)
class Child:
    """A child as it is asked for: the checkpoint's ask, and the run to be made."""

    ask: Ask
    run: NewRun


@dataclass(frozen=True, slots=True)
class Asked:
    """A child that was asked for, and the outcome that is to come."""

    node: int
    pending: Pending
    ask: Ask


def new_child(execution: Execution, task: Task[Any], item: BulkItem, *, index: int, wait: bool = True) -> Child:
    """Describe a child; nothing is asked yet.

    Raises:
        InputValidationError: its input does not fit.
    """
    run, passed = new_run(execution.engine, task, item, parent=execution.claim, index=index)
    ask = ask_child(task.name, run.input, passed, item.child_key, line=execution.line())
    return Child(ask if wait else Ask(kind="spawn", words=ask.words, fingerprint=ask.fingerprint, line=ask.line), run)


def spawn(execution: Execution, task: Task[Any], children: Sequence[Child], *, wait: bool = True) -> list[Asked]:
    """Ask for children, all in one transaction."""
    birth = _Birth(execution, task, [child.ask for child in children], [child.run for child in children], wait=wait)
    try:
        asked = execution.ask_many([child.ask for child in children], birth.write, birth.reservation.settle)
    except BaseException:
        birth.reservation.settle(False)
        raise
    return [Asked(node, pending, child.ask) for (node, pending), child in zip(asked, children, strict=True)]


def give_up(execution: Execution, asked: Iterable[Asked], *, is_lost: bool = False) -> None:
    """Wait no more for children that have not ended; they are cancelled where they are not needed (see `giving_up`)."""
    for one in asked:
        execution.abandon(one.node, one.ask, execution.engine.clock.now(), is_lost=is_lost)


async def run_children(execution: Execution, task: Task[Any], items: Sequence[BulkItem], *, wait: bool) -> list[Any]:
    """Spawn a child for each item, in one transaction; give an output or an error each (refs, where not `wait`), in order."""
    children = [new_child(execution, task, item, index=index, wait=wait) for index, item in enumerate(items)]
    if not children:
        return []
    asked = spawn(execution, task, children, wait=wait)
    try:
        return [
            result_of(execution, task, one.node, await execution.outcome(one.node, one.pending, one.ask), wait=wait)
            for one in asked
        ]
    except asyncio.CancelledError as error:
        give_up(execution, asked, is_lost=has_lost(error))
        raise


class _Birth:
    """The transaction that makes children, and what follows its commit."""

    def __init__(
        self, execution: Execution, task: Task[Any], asks: Sequence[Ask], children: Sequence[NewRun], *, wait: bool
    ) -> None:
        self._execution = execution
        self._asks = asks
        self._children = children
        self._wait = wait
        self.reservation = Reservation(execution.engine.dispatcher, task, len(children))

    def write(self, connection: sqlite3.Connection, nodes: list[int]) -> list[Completion | None]:
        """Make the children whose node is fresh (not 0); runs on the connection's thread."""
        self.reservation.clear()
        return [self._write_one(connection, *one) for one in zip(nodes, self._asks, self._children, strict=True) if one[0]]

    def _write_one(self, connection: sqlite3.Connection, node: int, ask: Ask, child: NewRun) -> Completion | None:
        engine, claim = self._execution.engine, self._execution.claim
        at = engine.clock.now()
        existing = _by_key(connection, claim, child.child_key)
        if existing is not None and _fingerprint(connection, claim, existing) != ask.fingerprint:
            failure = Failure(
                ChildKeyConflictError.__name__,
                f"The child key '{child.child_key}' was used before in this run with another task or input.",
            )
            checkpoints.add_ask(connection, claim.number, claim.branch, node, ask, at=at)
            return checkpoints.complete(connection, claim.number, claim.branch, node, Outcome(failure=failure), at=at)
        return write_child(connection, engine, claim, node, ask, child, self.reservation, existing=existing, wait=self._wait)


def write_child(
    connection: sqlite3.Connection,
    engine: Engine,
    claim: Claim,
    node: int,
    ask: Ask,
    child: NewRun,
    reservation: Reservation,
    *,
    existing: int | None = None,
    wait: bool = True,
) -> Completion | None:
    """Write a child with the checkpoint that waits for it; one that is refused or cancelled as it is made has its outcome now."""
    place, at = (claim.number, claim.branch, node), engine.clock.now()
    try:
        number = existing or engine.write_run(connection, child, reservation, parent_id=claim.id)[0]
    except (IdempotencyCollisionError, RateLimitError) as error:
        other = error.existing_run_id if isinstance(error, IdempotencyCollisionError) else ""
        refused = Outcome(failure=Failure(type(error).__name__, str(error), run_id=other))
        checkpoints.add_ask(connection, *place, ask, at=at)
        return checkpoints.complete(connection, *place, refused, at=at)
    checkpoints.add_ask(connection, *place, ask, at=at, child=number)
    if not wait:
        ref = Outcome(json.dumps({"id": runs.id_of(connection, number), "number": number}))
        return checkpoints.complete(connection, *place, ref, at=at)
    status, outcome = runs.result_of(connection, number)
    return checkpoints.complete(connection, *place, outcome, at=at) if status in ENDED else None


def _by_key(connection: sqlite3.Connection, claim: Claim, child_key: str | None) -> int | None:
    """Give the child of this key in the branch's lineage."""
    if child_key is None:
        return None
    floor = checkpoints.run_before(connection, claim.number, claim.branch)
    rows = connection.execute(BY_KEY, (claim.number, child_key, floor, claim.number)).fetchall()
    for branch, node, number in rows:
        if checkpoints.branch_of(connection, claim.number, claim.branch, node) == branch:
            return int(number)
    return None


def _fingerprint(connection: sqlite3.Connection, claim: Claim, child: int) -> bytes:
    row = connection.execute(
        "SELECT fingerprint FROM checkpoint WHERE run = ? AND child = ? LIMIT 1", (claim.number, child)
    ).fetchone()
    return bytes(row[0])


async def result_in_task(execution: Execution, ref: RunRef[Any], task: Task[Any] | None) -> Any:
    """Wait, as a checkpoint, for a run that was started before."""
    ask = ask_of("result", f"result of {ref.task_name} {ref.workflow_run_id}", ref.workflow_run_id, line=execution.line())
    claim, engine = execution.claim, execution.engine

    def write(connection: sqlite3.Connection, node: int) -> Completion | None:
        at = engine.clock.now()
        checkpoints.add_ask(connection, claim.number, claim.branch, node, ask, at=at, child=ref.number)
        status, outcome = runs.result_of(connection, ref.number)
        return checkpoints.complete(connection, claim.number, claim.branch, node, outcome, at=at) if status in ENDED else None

    node, pending = execution.ask(ask, write)
    result = result_of(execution, task, node, await execution.outcome(node, pending, ask))
    if isinstance(result, DurableError):
        raise result
    return result


def result_of(execution: Execution, task: Task[Any] | None, node: int, outcome: Outcome, *, wait: bool = True) -> Any:
    """Give what came of a child: its output, an error, or (where it is not waited for) a ref."""
    if outcome.failure is not None:
        error = error_of(outcome.failure)
        for item in family(error):
            if isinstance(item, TaskRunError | RunCancelledError):
                item.node_id = node
        return error
    if wait:
        return decode(outcome.value or "null", *([task.output_adapter] if task else []))
    place = decode(outcome.value or "null")
    return RunRef(execution.engine.host, place["id"], place["number"], task.name if task else "")


def error_of(failure: Failure) -> Any:
    """Give the error that the waiter for a run sees."""
    if failure.is_cancel:
        return RunCancelledError(failure.message)
    if failure.type == ChildKeyConflictError.__name__:
        return ChildKeyConflictError(failure.message)
    if failure.members:
        return FailedTaskRunExceptionGroup(failure.message, [member.to_error() for member in failure.members])
    if failure.type == IdempotencyCollisionError.__name__:
        return IdempotencyCollisionError(failure.message, failure.run_id)
    if failure.type == RateLimitError.__name__:
        return RateLimitError(failure.message)
    return failure.to_error()
