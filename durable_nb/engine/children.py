"""Children of a durable run: made together with the checkpoint that waits for them, so a crash never makes two."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from durable_nb.engine.asks import ask_child, ask_of
from durable_nb.engine.dispatch import Reservation
from durable_nb.errors import (
    ChildKeyConflictError,
    DurableError,
    IdempotencyCollisionError,
    RateLimitError,
    RunCancelledError,
    TaskRunError,
)
from durable_nb.log import checkpoints, runs
from durable_nb.log.records import ENDED, Ask, Claim, Completion, Failure, NewRun, Outcome
from durable_nb.tasks.payload import decode
from durable_nb.tasks.refs import RunRef

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.execution import Execution
    from durable_nb.tasks.task import BulkItem, Task


async def run_children(execution: Execution, task: Task[Any], items: Sequence[BulkItem], *, wait: bool) -> list[Any]:
    """Spawn a child for each item, in one transaction; give an output or an error each (refs, where not `wait`), in order."""
    engine, line = execution.engine, execution.line()
    asks, children = [], []
    for index, item in enumerate(items):
        child, passed = engine.new_run(task, item, parent=execution.claim, index=index)
        ask = ask_child(task.name, child.input, passed, item.child_key, line=line)
        asks.append(ask if wait else Ask(kind="spawn", words=ask.words, fingerprint=ask.fingerprint, line=line))
        children.append(child)
    if not asks:
        return []
    birth = _Birth(execution, task, asks, children, wait=wait)
    try:
        asked = execution.ask_many(asks, birth.write, birth.reservation.settle)
    except BaseException:
        birth.reservation.settle(False)
        raise
    results = []
    for (node, pending), ask in zip(asked, asks, strict=True):
        outcome = await execution.outcome(node, pending, ask)
        results.append(_result(engine, task, node, outcome, wait=wait))
    return results


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
        try:
            number = existing or engine.write_run(connection, child, self.reservation, parent_id=claim.id)[0]
        except (IdempotencyCollisionError, RateLimitError) as error:
            other = error.existing_run_id if isinstance(error, IdempotencyCollisionError) else ""
            refused = Outcome(failure=Failure(type(error).__name__, str(error), run_id=other))
            checkpoints.add_ask(connection, claim.number, claim.branch, node, ask, at=at)
            return checkpoints.complete(connection, claim.number, claim.branch, node, refused, at=at)
        checkpoints.add_ask(connection, claim.number, claim.branch, node, ask, at=at, child=number)
        if not self._wait:
            row = connection.execute("SELECT id FROM run WHERE number = ?", (number,)).fetchone()
            ref = Outcome(json.dumps({"id": row[0], "number": number}))
            return checkpoints.complete(connection, claim.number, claim.branch, node, ref, at=at)
        status, outcome = runs.result_of(connection, number)  # a new one too may be cancelled at once, by its concurrency
        return checkpoints.complete(connection, claim.number, claim.branch, node, outcome, at=at) if status in ENDED else None


def _by_key(connection: sqlite3.Connection, claim: Claim, child_key: str | None) -> int | None:
    """Give the child of this key in the branch's lineage."""
    if child_key is None:
        return None
    rows = connection.execute(
        "SELECT checkpoint.branch, checkpoint.node, run.number FROM run JOIN checkpoint ON checkpoint.child = run.number "
        "WHERE run.parent = ? AND run.child_key = ? AND checkpoint.run = ?",
        (claim.number, child_key, claim.number),
    ).fetchall()
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
    result = _result(engine, task, node, await execution.outcome(node, pending, ask), wait=True)
    if isinstance(result, DurableError):
        raise result
    return result


def _result(engine: Engine, task: Task[Any] | None, node: int, outcome: Outcome, *, wait: bool) -> Any:
    if outcome.failure is not None:
        error = error_of(outcome.failure)
        if isinstance(error, TaskRunError):
            error.node_id = node
        return error
    if wait:
        return decode(outcome.value or "null", *([task.output_adapter] if task else []))
    place = decode(outcome.value or "null")
    return RunRef(engine.host, place["id"], place["number"], task.name if task else "")


def error_of(failure: Failure) -> Any:
    """Give the error that the waiter for a run sees."""
    if failure.type == RunCancelledError.__name__:
        return RunCancelledError(failure.message)
    if failure.type == ChildKeyConflictError.__name__:
        return ChildKeyConflictError(failure.message)
    if failure.type == IdempotencyCollisionError.__name__:
        return IdempotencyCollisionError(failure.message, failure.run_id)
    if failure.type == RateLimitError.__name__:
        return RateLimitError(failure.message)
    return failure.to_error()
