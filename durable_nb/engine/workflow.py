"""The program of a workflow's run: an ordinary durable function, which asks for the workflow's tasks as children.

So replay, eviction, recovery and the order of delivery are those of every durable run, and there is no second scheduler.

Invariants: what is asked follows from the plan and from the outcomes delivered so far, in their order, and from nothing else;
a failure leads to no ask, so a retry may drop the failed checkpoints and keep all others (`Cursor.drop_for_retry`).
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from durable_nb.engine.asks import ask_of, ask_wait
from durable_nb.engine.cel import compile_filter
from durable_nb.engine.children import write_child
from durable_nb.engine.durable_context import DurableContext  # at run time too: a task's annotations are read
from durable_nb.engine.gates import NEVER, Look, look_at
from durable_nb.engine.new_runs import run_of
from durable_nb.engine.registering import waits_of
from durable_nb.engine.reservation import Reservation
from durable_nb.engine.siblings import child_ask, skip_ask
from durable_nb.engine.waiting import Pending
from durable_nb.errors import (
    EndedAsCancelled,
    ExpressionEvaluationError,
    FailedTaskRunExceptionGroup,
    NonDeterminismError,
    RunCancelledError,
    TaskRunError,
)
from durable_nb.log import checkpoints, workflows
from durable_nb.log.records import Ask, Completion, Outcome
from durable_nb.tasks.conditions import ParentCondition, UserEventCondition
from durable_nb.tasks.payload import decode
from durable_nb.tasks.task import BulkItem
from durable_nb.tasks.workflow import Plan, Workflow, WorkflowTask, difference, plan_of, task_for

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

How = Literal["completed", "skipped", "cancelled", "failed", "barred"]  # barred: it comes after one that failed
SKIPPED = Outcome('{"skipped":true}')
CANCELLED = Outcome('{"cancelled":true}')


@dataclass(frozen=True)
class End:
    """How a task of the workflow ended, and by which checkpoint."""

    how: How
    outcome: Outcome = SKIPPED
    node: int = 0


@dataclass(frozen=True)
class Asked:
    """An ask whose outcome is to come, and what then follows."""

    node: int
    pending: Pending
    ask: Ask
    then: Callable[[Outcome], None]


async def conduct(input: object, ctx: DurableContext) -> dict[str, Any]:
    """Run a workflow: the function of every `Workflow`."""
    return await Conductor(ctx).run()


class Conductor:
    """One invocation of a workflow's run."""

    def __init__(self, context: DurableContext) -> None:
        self._context = context
        self._execution = context._execution
        self._engine = self._execution.engine
        self._claim = self._execution.claim
        self._workflow = cast("Workflow", self._execution.task)
        self._tasks = self._workflow.tasks  # as they are now: a task that is declared later changes no run that is under way
        self._asked: dict[int, Asked] = {}
        self._arrived: deque[Asked] = deque()
        self._wake = Pending()  # of the kind that counts as a durable wait
        self._ends: dict[str, End] = {}
        self._unsettled: dict[str, int] = {}  # parents that have not ended
        self._next: dict[str, list[str]] = {}

    async def run(self) -> dict[str, Any]:
        """Ask for everything that can be asked, take in one outcome after the other; give the outputs.

        Raises:
            TaskRunError: a task failed. FailedTaskRunExceptionGroup: several did. EndedAsCancelled: one was cancelled.
        """
        await self._check_plan()
        for name in [name for name, number in self._unsettled.items() if not number]:
            self._consider(name)
        await self._all_arrived()
        last = task_for("success", self._tasks)
        if last is not None and all(end.how in ("completed", "skipped") for end in self._ends.values()):
            self._start(last)
            await self._all_arrived()
        await self._refuse_failed()
        return {name: decode(self._ends[name].outcome.value or "null") for name in self._tasks if name in self._ends}

    async def _refuse_failed(self) -> None:
        failed = {name: end for name, end in self._ends.items() if end.how == "failed"}
        notify = task_for("failure", self._tasks)
        if failed and notify is not None and self._claim.retry_count >= self._workflow.options.retries:
            self._execution.cursor.after_failure = self._execution.cursor.next_node
            self._start(notify)
            await self._all_arrived()
        errors = [_error_of(end) for end in failed.values()]
        if len(errors) == 1:
            raise errors[0]
        if errors:
            names = ", ".join(failed)
            raise FailedTaskRunExceptionGroup(f"{len(errors)} tasks of workflow '{self._workflow.name}' failed: {names}", errors)
        cancelled = [name for name, end in self._ends.items() if end.how == "cancelled"]
        if cancelled:
            raise EndedAsCancelled(f"Workflow '{self._workflow.name}' was cancelled, by its task '{cancelled[0]}'.")

    # ------------------------------------------------------------ the plan

    async def _check_plan(self) -> None:
        """Take down the shape with which the run begins; refuse to go on with another one."""
        now, name = plan_of(self._tasks), self._workflow.name
        is_begun = self._execution.cursor.is_replaying or self._claim.branch > 1
        if not is_begun and self._claim.version not in (None, self._workflow.version):
            self._diverge(f"workflow '{name}' in another shape", f"one of the tasks {', '.join(now)}")
        recorded: list[Outcome] = []
        ask = ask_of("plan", f"plan of {name}: {', '.join(now)}", name)
        self._ask_done(ask, Outcome(json.dumps(now, ensure_ascii=False)), recorded.append)
        await self._all_arrived()
        before: Plan = decode(recorded[0].value or "{}")
        if found := difference(before, now):
            self._diverge(f"workflow '{name}' with {found[0]}", f"it with {found[1]}")
        graph = {task: now[task]["parents"] for task in before if now[task]["when"] == "parents"}  # in the recorded order
        self._unsettled = {task: len(parents) for task, parents in graph.items()}
        self._next = {task: [] for task in graph}
        for follower, parents in graph.items():
            for parent in parents:
                self._next[parent].append(follower)

    def _diverge(self, expected: str, received: str) -> NoReturn:
        self._execution.cursor.diverged = NonDeterminismError(1, expected, received)
        raise self._execution.cursor.diverged

    # ------------------------------------------------------------ what becomes of a task

    def _end(self, name: str, end: End) -> None:
        """Take down how a task ended, and go on with those that waited for it."""
        todo = deque([(name, end)])
        while todo:
            name, end = todo.popleft()
            self._ends[name] = end
            for follower in self._next.get(name, ()):
                self._unsettled[follower] -= 1
                if not self._unsettled[follower] and (over := self._consider(follower)):
                    todo.append((follower, over))

    def _consider(self, name: str) -> End | None:
        """Decide on a task whose parents have ended: ask for it, for its conditions, or for its being passed over.

        Returns:
            Its end, if it has come without any ask: a task before it failed.
        """
        task = self._tasks[name]
        parents = {parent.part.short_name: self._ends[parent.part.short_name] for parent in task.part.parents}
        if any(end.how in ("failed", "barred") for end in parents.values()):
            return End("barred")
        if cancelled := next((parent for parent, end in parents.items() if end.how == "cancelled"), None):
            self._cancel(name, f"'{cancelled}' was cancelled")
            return None
        looks = {
            kind: look_at(gate, lambda condition: self._holds(condition, task)) if gate or kind == "wait_for" else NEVER
            for kind, gate in (
                ("skip_if", task.part.skip_if),
                ("cancel_if", task.part.cancel_if),
                ("wait_for", task.part.wait_for),
            )
        }
        decided = next((kind for kind, look in looks.items() if look.is_true), None)
        if decided is not None:
            self._decide(task, decided)
        elif looks["wait_for"].is_never:
            self._skip(name, "its wait_for can never become true")
        else:
            self._race(task, {kind: look for kind, look in looks.items() if not look.is_never})
        return None

    def _decide(self, task: WorkflowTask[Any], kind: str) -> None:
        if kind == "skip_if":
            self._skip(task.part.short_name, "its skip_if is true")
        elif kind == "cancel_if":
            self._cancel(task.part.short_name, "its cancel_if is true")
        else:
            self._start(task)

    def _race(self, task: WorkflowTask[Any], looks: dict[str, Look]) -> None:
        """Wait for all gates at once; the first to become true decides, and the others are given up.

        Asked in the order of precedence, since what becomes true in one transaction is recorded in the order of nodes.
        """
        runners: list[Asked] = []

        def decide(kind: str) -> None:
            for other in runners:
                if self._asked.pop(other.node, None):
                    self._execution.abandon(other.node, other.ask, self._engine.clock.now())
            self._decide(task, kind)

        for kind, look in looks.items():
            now = self._engine.clock.now()
            ask = ask_wait(look.open, label=f"{kind} of {task.part.short_name}")
            node, pending = self._execution.register(ask, waits_of(look.open, now=now), at=now)
            runners.append(self._expect(node, pending, ask, lambda _, kind=kind: decide(kind)))  # type: ignore[misc]

    def _holds(self, condition: ParentCondition, task: WorkflowTask[Any]) -> bool:
        parent = cast("WorkflowTask[Any]", condition.parent).part.short_name
        output = decode(self._ends[parent].outcome.value or "null")
        try:
            return compile_filter(condition.expression or "").matches(input=self._plain_input, output=output)
        except ExpressionEvaluationError as error:
            name = task.part.short_name
            self._context.log(f"The condition of '{name}' on its parent '{parent}' counts as not satisfied: {error}")
            return False

    @functools.cached_property
    def _plain_input(self) -> Any:
        return decode(self._claim.input)

    # ------------------------------------------------------------ asking

    def _start(self, task: WorkflowTask[Any]) -> None:
        """Ask for a task as a child, with the workflow's own input."""
        engine, claim = self._engine, self._claim
        ask = child_ask(task.name)
        reservation = Reservation(engine.dispatcher, task, 1)

        def write(connection: sqlite3.Connection, node: int) -> Completion | None:
            reservation.clear()
            item = BulkItem(child_key=task.part.short_name, priority=workflows.priority_of(connection, claim.number))
            child = run_of(engine, task, item, claim.input, parent=claim, index=None)
            return write_child(connection, engine, claim, node, ask, child, reservation)

        try:
            node, pending = self._execution.ask(ask, write, reservation.settle)
        except BaseException:
            reservation.settle(False)
            raise
        name = task.part.short_name
        self._expect(node, pending, ask, lambda outcome: self._end(name, End(_how(outcome), outcome, node)))

    def _skip(self, name: str, reason: str) -> None:
        self._ask_done(skip_ask(name, reason), SKIPPED, lambda outcome: self._end(name, End("skipped", outcome)))

    def _cancel(self, name: str, reason: str) -> None:
        ask = ask_of("cancel", f"{name}: {reason}", name)
        self._ask_done(ask, CANCELLED, lambda outcome: self._end(name, End("cancelled", outcome)))

    def _ask_done(self, ask: Ask, outcome: Outcome, then: Callable[[Outcome], None]) -> None:
        """Ask what is answered as it is asked: a fact of the run."""
        claim, at = self._claim, self._engine.clock.now()

        def write(connection: sqlite3.Connection, node: int) -> Completion | None:
            return checkpoints.add_done(connection, claim.number, claim.branch, node, ask, outcome, asked_at=at, at=at)

        node, pending = self._execution.ask(ask, write)
        self._expect(node, pending, ask, then)

    def _expect(self, node: int, pending: Pending, ask: Ask, then: Callable[[Outcome], None]) -> Asked:
        asked = self._asked[node] = Asked(node, pending, ask, then)
        pending.add_done_callback(lambda _: self._arrive(asked))
        return asked

    def _arrive(self, asked: Asked) -> None:
        self._arrived.append(asked)
        if not self._wake.done():
            self._wake.set_result(SKIPPED)  # any: it only wakes

    async def _all_arrived(self) -> None:
        """Take in outcomes, in the order of their delivery, until none is to come."""
        while self._asked:
            while not self._arrived:
                self._wake = Pending()
                await self._wake
            asked = self._arrived.popleft()
            outcome = await self._execution.outcome(asked.node, asked.pending, asked.ask)
            if self._asked.pop(asked.node, None) is not None:
                asked.then(outcome)


def _how(outcome: Outcome) -> How:
    if outcome.failure is None:
        return "completed"
    return "cancelled" if outcome.failure.type == RunCancelledError.__name__ else "failed"


def _error_of(end: End) -> TaskRunError:
    assert end.outcome.failure is not None  # noqa: S101  it failed
    error = end.outcome.failure.to_error()
    error.node_id = end.node
    return error


def check_conditions(task: WorkflowTask[Any]) -> None:
    """Refuse (ExpressionError) a condition whose expression does not compile."""
    gates = (task.part.wait_for, task.part.skip_if, task.part.cancel_if)
    for condition in (condition for gate in gates for group in gate for condition in group):
        if isinstance(condition, UserEventCondition | ParentCondition) and condition.expression:
            compile_filter(condition.expression)


def take_up(engine: Engine, workflow: Workflow) -> None:
    """Let runs go on that were parked because their workflow was not declared here as they were started, now that it is."""
    at = engine.clock.now()
    engine.writer.submit(
        lambda connection: workflows.unpark_diverged(connection, workflow.name, workflow.version or "", at=at),
        lambda number: engine.dispatcher.look() if number else None,
    )
