"""Replaying the histories of a bundle against code that is here: what a generated test does.

The code is the caller's own, and is entered as the engine enters it, with every recorded outcome given in order; memos, steps
and children are not executed again. Invariant: a run passes only if the code asks exactly what was recorded and then does
what the run did: gives the same output, fails with the same type, or waits on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from durable_nb.bundles.opening import Bundle
from durable_nb.client.replayer import History, Nowhere, Replay
from durable_nb.engine.clock import SystemClock
from durable_nb.engine.engine import Engine
from durable_nb.engine.loop import EngineLoop
from durable_nb.errors import DurableError
from durable_nb.log.records import RunView
from durable_nb.tasks.payload import decode
from durable_nb.tasks.workflow import Workflow

if TYPE_CHECKING:
    from durable_nb.client import Durable
    from durable_nb.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of replaying one run.

    Attributes:
        problem: in words, where the code does not do what was recorded; None where it does.
    """

    run_id: str
    task: str
    problem: str | None


def check_bundle(path: str | os.PathLike[str], durable: Durable) -> Sequence[Checked]:
    """Replay the durable runs of a bundle against the tasks of an app object.

    Returns:
        One account for each of them, but for those of workflows, whose program is the engine's.

    Raises:
        AssertionError: the code does something else than was recorded; it says where.
        DurableError: the file is no bundle, or a task of it is not defined here.

    Example:
        >>> check_bundle("order.bundle", durable)  # doctest: +SKIP
    """
    bundle = Bundle(Path(path))
    checked = list(_check(bundle, durable))
    problems = [f"run {item.run_id} of '{item.task}': {item.problem}" for item in checked if item.problem is not None]
    if problems:
        raise AssertionError("The code does not do what was recorded.\n" + "\n".join(problems))
    return checked


def _check(bundle: Bundle, durable: Durable) -> Iterator[Checked]:
    for run, history in bundle.histories():
        task = durable.tasks[run.task]
        if isinstance(task, Workflow):
            continue
        with asyncio.Runner(loop_factory=EngineLoop) as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: None)  # what a run that waits on leaves behind
            problem = runner.run(_replay(durable, task, run, history))
        yield Checked(run_id=run.id, task=run.task, problem=problem)


async def _replay(durable: Durable, task: Task[Any], run: RunView, history: History) -> str | None:
    nowhere: Any = Nowhere()
    engine = Engine(Path(os.devnull), durable, nowhere, durable.tasks, clock=SystemClock())
    engine.loop = asyncio.get_running_loop()
    engine.writer = engine.dispatcher = engine.timers = engine.watch = engine.matcher = engine.reader = nowhere
    engine.triggers = engine.schedules = engine.streams = nowhere
    engine.lifespan.is_entered = True
    execution = Replay(engine, task, replace(history, claim=replace(history.claim, cancelled_at=None)))
    try:
        value = decode(history.claim.input, task.input_adapter, of="its input")
    except DurableError as error:
        return str(error)
    entered: asyncio.Future[Any] = engine.loop.create_task(execution.run(value, execution.context(value)))
    ends: list[asyncio.Future[Any]] = [entered, execution.verdict]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return _problem(run, execution, entered)
    finally:
        execution.leave()
        entered.cancel()
        await asyncio.wait([entered], timeout=2.0)


def _problem(run: RunView, execution: Replay, entered: asyncio.Future[Any]) -> str | None:
    """Give what is wrong with a replay, in words."""
    divergence = execution.cursor.diverged
    left = entered.result() if entered.done() and not execution.verdict.done() else None
    if left is not None:
        divergence = divergence or left.parked
    if divergence is not None:
        at = f" (line {execution.diverged_line})" if execution.diverged_line else ""
        recorded, asked = divergence.expected, divergence.received
        return f"diverges at checkpoint {divergence.node_id}: recorded {recorded}, the code asks {asked}{at}"
    if left is None:
        kind, reason = execution.verdict.result()
        if kind == "not checkable":
            return f"cannot be replayed: {reason}"
        return f"was {run.status}, but the code goes on after the last checkpoint that was recorded" if run.is_ended else None
    if left.error is not None:
        if run.status == "FAILED" and run.error is not None and run.error.type in _types(left.error):
            return None
        return f"was {run.status}, but the code raises {type(left.error).__name__}: {left.error}"
    if left.outcome is not None:
        if run.status != "COMPLETED":
            return f"was {run.status}, but the code returns"
        if from_json(left.outcome.value or "null") != from_json(run.output or "null"):
            return f"gave {_brief(run.output)}, but the code gives {_brief(left.outcome.value)}"
    return None


def _types(error: BaseException) -> set[str]:
    return {type(error).__name__, str(getattr(error, "exc_type", ""))}


def _brief(text: str | None) -> str:
    text = text or "null"
    return text if len(text) <= 200 else text[:199] + "…"
