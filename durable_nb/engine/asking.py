"""Asking people: a checkpoint whose outcome is somebody's answer, and answering it from any process that has the log.

Invariants: the first answer that fits wins, one transaction deciding between answers and the time-out; an answer that does not
fit leaves the question open. Whoever answers judges by the JSON Schema in the log; where the asking task is in memory here, by
its own type too, which may say more than a schema can.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from durable_nb.engine.asks import ask_of, shorten
from durable_nb.engine.current import CURRENT
from durable_nb.engine.execution import Execution
from durable_nb.engine.matcher import verdict
from durable_nb.engine.registering import register
from durable_nb.engine.running import new_event
from durable_nb.errors import ArgumentError, AskTimeoutError, DurableError, InputValidationError, QuestionClosedError
from durable_nb.log import checkpoints, questions
from durable_nb.log.records import AcceptedEvent, Completion, Failure, NewWait, Outcome
from durable_nb.log.waits import Candidate
from durable_nb.tasks.events import PushedEvent
from durable_nb.tasks.options import format_duration, parse_duration
from durable_nb.tasks.payload import check_text, decode, encode, encode_given
from durable_nb.tasks.schemas import Misfit, misfit, misfits

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.log.questions import InboxItem


async def ask_person(
    execution: Execution,
    question: str,
    adapter: TypeAdapter[Any],
    *,
    timeout: timedelta | str | float | None,
    assignees: str | Sequence[str] | None,
) -> Any:
    """Ask, and wait for the answer (see `DurableContext.aio_ask`)."""
    check_text(question, of="a question")
    names = _names(assignees)
    seconds = None if timeout is None else parse_duration(timeout, of="timeout").total_seconds()
    engine, claim = execution.engine, execution.claim
    at, schema = engine.clock.now(), _schema_of(adapter)
    due_at = None if seconds is None else at + seconds
    ask = ask_of("ask", f"ask {question}", question, seconds, names, line=execution.line())
    new_waits = [NewWait(item=0, group=0, kind="ask", name=shorten(question), schema=schema)]
    if seconds is not None:
        new_waits.append(NewWait(item=1, group=0, kind="sleep", name=f"timeout:{format_duration(seconds)}", due_at=due_at))

    def add(connection: sqlite3.Connection, node: int) -> None:
        spot, people = (claim.number, claim.branch, node), json.dumps(names, ensure_ascii=False)
        questions.add(connection, spot, text=question, schema=schema, assignees=people, at=at, due_at=due_at)

    node, pending = register(execution, ask, new_waits, at=at, first=add)
    engine.asked[claim.number, node] = adapter
    try:
        outcome = await execution.outcome(node, pending, ask)
    finally:
        engine.asked.pop((claim.number, node), None)
    if outcome.failure is not None:
        error = AskTimeoutError(f"Nobody answered '{shorten(question)}' within {format_duration(seconds or 0)}.")
        error.task_run_external_id, error.node_id = claim.id, node
        raise error
    said = decode(outcome.value or "null")
    return decode(encode(said["answer"], of="an answer"), adapter, of=f"the answer to '{shorten(question)}'")


async def answer(engine: Engine, question: str, value: object, *, by: str | None, reason: str | None) -> None:
    """Answer a question, or push the event that a typed wait waits for.

    Raises:
        UnknownQuestionError, AlreadyAnsweredError, QuestionClosedError: there is nothing to answer.
        InputValidationError: the answer does not fit; the question stays open.
    """
    text = _given(value, by, reason)
    current = CURRENT.get()
    if isinstance(current, Execution):
        await _answer_in_task(current, question, text, by=by, reason=reason)
        return
    spot, item = await engine.reader.run(partial(questions.find, name=question, now=engine.clock.now()))
    if item.status != "open":
        raise questions.closed(item)
    await _refuse_misfit(engine, spot, item, text)
    if item.kind == "event":
        await _push(engine, spot, item, text, by=by, reason=reason)
        return

    def work(connection: sqlite3.Connection) -> list[Completion]:
        completion = questions.answer(connection, spot, text, by=by, reason=reason, at=engine.clock.now())
        return [] if completion is None else [completion]

    await engine.writer.submit(work, engine.route)


def _given(value: object, by: str | None, reason: str | None) -> str:
    for said, of in ((by, "who answers"), (reason, "the reason")):
        if said is not None:
            check_text(said, of=of)
    return encode_given(value, of="the answer")


async def _answer_in_task(execution: Execution, question: str, text: str, *, by: str | None, reason: str | None) -> None:
    """Answer as a checkpoint: once, in the transaction that records what came of it."""
    ask = ask_of("answer", f"answer {question}", question, text, by, reason, line=execution.line())
    claim, at = execution.claim, execution.engine.clock.now()

    def write(connection: sqlite3.Connection, nodes: list[int]) -> list[Completion | None]:
        place, answered, outcome = (claim.number, claim.branch, nodes[0]), None, Outcome("null")
        checkpoints.add_ask(connection, *place, ask, at=at)
        try:
            spot, item = questions.find(connection, question, now=at)
            if item.kind == "event":
                raise ArgumentError(f"Question {item.id} waits for an event: push it, with durable.event.aio_push(…).")
            _refuse_unfit(item, text)
            answered = questions.answer(connection, spot, text, by=by, reason=reason, at=at)
        except DurableError as error:
            outcome = Outcome(failure=Failure.of(error, claim.id))
        return [answered, checkpoints.complete(connection, *place, outcome, at=at)]

    [(node, pending)] = execution.ask_many([ask], write)
    outcome = await execution.outcome(node, pending, ask)
    if outcome.failure is not None:
        error = outcome.failure.to_error()
        error.node_id = node
        raise error


def _refuse_unfit(item: InboxItem, text: str) -> None:
    schema = json.dumps(item.schema)
    if fields := misfits(decode(text), schema):
        raise _unfit(item, misfit(decode(text), schema) or "", fields)


def _unfit(item: InboxItem, why: str, fields: Sequence[Misfit]) -> InputValidationError:
    said = f"The answer to '{shorten(item.question)}' does not fit: {why}. The question stays open."
    return InputValidationError(said, fields)


async def _refuse_misfit(engine: Engine, spot: questions.Spot, item: InboxItem, text: str) -> None:
    await asyncio.wrap_future(engine.threads.submit(lambda: _refuse_unfit(item, text)))
    adapter = engine.asked.get((spot[0], spot[2])) if item.kind == "ask" else None
    if adapter is not None:
        decode(text, adapter, of=f"The answer to '{shorten(item.question)}'")


async def _push(engine: Engine, spot: questions.Spot, item: InboxItem, text: str, *, by: str | None, reason: str | None) -> None:
    """Push the event of a typed wait, having seen that the wait takes it."""
    key = item.event_key or ""
    said = {"answered_by": by, "answer_reason": reason}
    metadata: dict[str, object] = {name: words for name, words in said.items() if words is not None}
    event = AcceptedEvent(seq=0, id="", key=key, scope=item.event_scope, payload=text, metadata="{}", accepted_at=0.0)
    candidate = Candidate((*spot, 0), item.event_filter, None)
    fits, error = await asyncio.wrap_future(engine.threads.submit(lambda: verdict(candidate, event, decode(text), metadata)))
    if not fits:
        why = error or f"its filter, {item.event_filter}, does not take it"
        raise _unfit(item, why, [((), why)])
    pushed = PushedEvent(key=key, payload=decode(text), scope=item.event_scope, additional_metadata=metadata)
    [report] = await engine.push([new_event(pushed)])
    if item.run_id not in report.matched_runs:
        raise QuestionClosedError(f"Question {item.id} takes no answer any more: another event came first.")


def _schema_of(adapter: TypeAdapter[Any]) -> str:
    try:
        return json.dumps(adapter.json_schema())  # its fields in the order of the type, as a form shows them
    except PydanticInvalidForJsonSchema as error:
        raise ArgumentError(
            f"The type of the answer has no JSON Schema: {str(error).splitlines()[0]}. Use a pydantic model."
        ) from None


def _names(assignees: str | Sequence[str] | None) -> list[str]:
    names = [] if assignees is None else [assignees] if isinstance(assignees, str) else list(assignees)
    for name in names:
        if not isinstance(name, str):
            raise ArgumentError(f"assignees={assignees!r}: give a name, or a list of names.")
        check_text(name, of="an assignee")
    return names
