"""Steering: cancel, replay, reset, fork, retake, restore, pause and unpause, as calls and as checkpoints.

Invariant: each is one transaction, so that inside a durable task it is in the log together with its checkpoint: done once.
A bulk call from outside is cut into batches; inside a durable task it is one transaction. Lives on the engine's loop.
"""

from __future__ import annotations

import json
import reprlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from durable_nb.engine.asks import ask_of
from durable_nb.engine.current import CURRENT
from durable_nb.engine.execution import Execution
from durable_nb.engine.new_runs import signed
from durable_nb.errors import DeclarationError, DurableError, IdempotencyCollisionError, RunActiveError, UnknownCheckpointError
from durable_nb.log import checkpoints, control, endings, queue, reads, versions
from durable_nb.log.ids import new_id
from durable_nb.log.reads import RunFilter
from durable_nb.log.records import Ask, Completion, Effects, Failure, Outcome
from durable_nb.tasks.payload import decode

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

Change = Callable[[sqlite3.Connection, float], tuple[Any, Effects]]  # gives a JSON value, and what memory must hear of
EVERYTHING = -1  # SQLite's word for no limit


async def cancel(engine: Engine, run: str, reason: str) -> bool:
    """Cancel a run; give whether it had not ended."""

    def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
        return endings.cancel(connection, reads.find_run(connection, run).number, reason=reason, at=at)

    return await steer(engine, "cancel", run, [run, reason], change)  # type: ignore[no-any-return]


async def replay(engine: Engine, run: str) -> dict[str, Any]:
    """Replay a run; give its place."""

    def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
        found = reads.find_run(connection, run)
        control.replay(connection, found.number, at=at)
        return _place(connection, found.number), Effects()

    return await steer(engine, "replay", run, [run], change)  # type: ignore[no-any-return]


async def reset(engine: Engine, run: str, node: int, branch: int | None) -> dict[str, Any]:
    """Reset a run to a node; give its place."""
    _check_numbers(node, branch)
    current = CURRENT.get()
    own = current.claim.number if isinstance(current, Execution) else None

    def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
        found = reads.find_run(connection, run)
        if found.number == own:
            raise DeclarationError("A run cannot reset itself: it would ask for the reset again and again. Fork it instead.")
        _, effects = control.reset(connection, found.number, node, branch=branch, at=at)
        return _place(connection, found.number), effects

    return await steer(engine, "reset", f"{run} to node {node}", [run, node, branch], change)  # type: ignore[no-any-return]


async def fork(engine: Engine, run: str, node: int, override: str | None, branch: int | None = None) -> dict[str, Any]:
    """Fork a run at a node; give the place of the new one."""
    _check_numbers(node, branch)
    fork_id = new_id()

    def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
        found = reads.find_run(connection, run)
        new = control.prepare_fork(connection, found.number, node, fork_id, is_overridden=override is not None, branch=branch)
        number = control.fork(connection, found.number, node, signed(engine, new), override=override, at=at, branch=branch)
        task = engine.registry.get(found.task)
        if task is not None and found.home == engine.home and task.version not in (None, new.version):
            # It goes on with today's code, or with that before.
            versions.renew(connection, number, signed(engine, replace(new, version=task.version)), former=new.version, at=at)
        return _place(connection, number), Effects()

    parts = [run, node, override, *([] if branch is None else [branch])]
    return await steer(engine, "fork", f"{run} at node {node}", parts, change)  # type: ignore[no-any-return]


def _check_numbers(node: int, branch: int | None) -> None:
    """Refuse (UnknownCheckpointError) what no log can number a checkpoint or a branch with."""
    for name, number in (("node_id", node), ("branch_id", 1 if branch is None else branch)):
        if not isinstance(cast("object", number), int) or isinstance(number, bool):
            raise UnknownCheckpointError(f"{name}={reprlib.repr(number)} is no number: give an int, they begin at 1.")
        if number.bit_length() > 63:
            raise UnknownCheckpointError(f"{name} has {number.bit_length()} bits: no run has so many.")


async def retake(engine: Engine, run: str) -> bool:
    """Take up a blocked run again; give whether it was blocked."""

    def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
        return control.retake(connection, reads.find_run(connection, run).number, at=at), Effects()

    return await steer(engine, "retake", run, [run], change)  # type: ignore[no-any-return]


async def restore(engine: Engine, run: str) -> bool:
    """Take an evicted run into memory; give whether it was evicted."""

    def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
        return control.restore(connection, reads.find_run(connection, run).number, at=at), Effects()

    return await steer(engine, "restore", run, [run], change)  # type: ignore[no-any-return]


async def pause(engine: Engine, task: str) -> bool:
    """Have no queued run of a task claimed; give whether it was not paused before."""

    def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
        return queue.pause(connection, task, at=at), Effects()

    return await steer(engine, "pause", task, [task], change)  # type: ignore[no-any-return]


async def unpause(engine: Engine, task: str) -> bool:
    """Have the runs of a task claimed again; give whether it was paused."""

    def change(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
        return queue.unpause(connection, task), Effects()

    return await steer(engine, "unpause", task, [task], change)  # type: ignore[no-any-return]


# ---------------------------------------------------------------- many at once

One = Callable[[sqlite3.Connection, int, float], tuple[bool, Effects]]


async def bulk_cancel(engine: Engine, chosen: Sequence[str] | RunFilter, reason: str, batch: int) -> list[str]:
    """Cancel many runs; give the ids of those that had not ended."""

    def one(connection: sqlite3.Connection, number: int, at: float) -> tuple[bool, Effects]:
        return endings.cancel(connection, number, reason=reason, at=at)

    return await _bulk(engine, "bulk cancel", chosen, one, batch, [reason])


async def bulk_replay(engine: Engine, chosen: Sequence[str] | RunFilter, batch: int) -> list[str]:
    """Replay many runs; give the ids of those that were not active."""

    def one(connection: sqlite3.Connection, number: int, at: float) -> tuple[bool, Effects]:
        try:
            control.replay(connection, number, at=at)
        except (RunActiveError, IdempotencyCollisionError):
            return False, Effects()
        return True, Effects()

    return await _bulk(engine, "bulk replay", chosen, one, batch, [])


async def _bulk(
    engine: Engine, kind: str, chosen: Sequence[str] | RunFilter, one: One, batch: int, parts: list[Any]
) -> list[str]:
    def change(names: Sequence[str] | RunFilter) -> Change:
        def work(connection: sqlite3.Connection, at: float) -> tuple[Any, Effects]:
            done, effects = list[str](), Effects()
            for number, run_id in _resolve(connection, names):
                is_done, more = one(connection, number, at)
                done += [run_id] if is_done else []
                effects.completions += more.completions
                effects.ended += more.ended
            return done, effects

        return work

    if isinstance(CURRENT.get(), Execution):
        said = chosen.as_json() if isinstance(chosen, RunFilter) else list(chosen)
        return await steer(engine, kind, json.dumps(said), [said, *parts], change(chosen))  # type: ignore[no-any-return]
    found = await engine.reader.run(lambda connection: _resolve(connection, chosen))
    done: list[str] = []
    for start in range(0, len(found), batch):
        done += await steer(engine, kind, "", [], change([run_id for _, run_id in found[start : start + batch]]))
    return done


def _resolve(connection: sqlite3.Connection, chosen: Sequence[str] | RunFilter) -> list[tuple[int, str]]:
    """Give number and id of the runs, each once, the oldest first."""
    if isinstance(chosen, RunFilter):
        found = reads.list_runs(connection, chosen, limit=EVERYTHING)
    else:
        found = [reads.find_run(connection, name) for name in chosen]
    return sorted({(run.number, run.id) for run in found})


# ---------------------------------------------------------------- the one way


async def steer(engine: Engine, kind: str, words: str, parts: list[Any], change: Change) -> Any:
    """Make a change in one transaction, and give its JSON value; inside a durable task as a checkpoint, made once.

    Raises:
        TaskRunError: inside a durable task, where every failure is recorded and raised as such. What `change` raised, elsewhere.
    """
    current = CURRENT.get()
    if not isinstance(current, Execution):
        at = engine.clock.now()
        value, _ = await engine.writer.submit(lambda connection: change(connection, at), lambda done: _tell(engine, done[1]))
        return value
    ask = ask_of(kind, f"{kind} {words}", *parts, line=current.line())
    told: list[Effects] = []
    node, pending = current.ask(
        ask,
        lambda connection, node: _record(connection, current, node, ask, change, told),
        lambda is_written: _tell(engine, told[-1]) if is_written and told else None,
    )
    outcome = await current.outcome(node, pending, ask)
    if outcome.failure is not None:
        error = outcome.failure.to_error()
        error.node_id = node
        raise error
    return decode(outcome.value or "null")


def _record(
    connection: sqlite3.Connection, current: Execution, node: int, ask: Ask, change: Change, told: list[Effects]
) -> Completion:
    at, claim = current.engine.clock.now(), current.claim
    try:
        value, effects = change(connection, at)
        outcome = Outcome(json.dumps(value))
        told.append(effects)
    except DurableError as error:  # raised before anything was changed
        outcome = Outcome(failure=Failure.of(error, claim.id))
    return checkpoints.add_done(connection, claim.number, claim.branch, node, ask, outcome, asked_at=at, at=at)


def _tell(engine: Engine, effects: Effects) -> None:
    engine.apply(effects)
    engine.timers.look()
    engine.dispatcher.look()


def _place(connection: sqlite3.Connection, number: int) -> dict[str, Any]:
    run_id, task = connection.execute("SELECT id, task FROM run WHERE number = ?", (number,)).fetchone()
    return {"id": run_id, "number": number, "task": task}
