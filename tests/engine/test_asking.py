"""Questions to people: the first answer that fits wins, and is recorded with who gave it and when."""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator

from durable_nb import Durable, DurableContext, TaskRunError
from durable_nb.engine.clock import SystemClock
from durable_nb.errors import (
    AlreadyAnsweredError,
    ArgumentError,
    AskTimeoutError,
    DeclarationError,
    InputValidationError,
    QuestionClosedError,
    UnknownQuestionError,
)
from tests.engine.helpers import Bench, reach, settle, wait_until
from tests.engine.story import LEAVINGS, Story


class Verdict(BaseModel):
    ok: bool
    amount: int = 0
    note: str | None = None


class Even(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def _even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("must be even")
        return number


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def asking(bench: Bench, answer_type: Any = Verdict, question: str = "Publish?", **options: Any) -> Story:
    """A story that asks, notes what it got in `seen`, then waits for the event `end`."""

    async def body(_: Any, ctx: DurableContext) -> Any:
        try:
            value = await ctx.aio_ask(question, answer_type, **options)
        except AskTimeoutError as error:
            value = f"{error} at {error.node_id}"
        seen.append(value)
        await ctx.aio_wait_for_event("end")
        return value

    seen: list[Any] = []
    story = Story(bench, body)
    story.seen = seen  # type: ignore[attr-defined]
    return story.asked(1)


def one(durable: Durable, **options: Any) -> Any:
    [item] = durable.inbox.list(**options)
    return item


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_an_answer_reaches_the_task_and_is_replayed(bench: Bench, how: str) -> None:
    story = asking(bench)
    story.leave(how)
    item = one(story.durable)
    story.durable.inbox.answer(item.id, {"ok": True, "amount": 3}, by="ada")
    story.asked(2).leave(how)
    story.push("end")
    assert story.result() == {"ok": True, "amount": 3, "note": None}
    assert set(map(repr, story.seen)) == {repr(Verdict(ok=True, amount=3))}  # type: ignore[attr-defined]


def test_the_inbox_tells_what_is_asked_of_whom_and_when(bench: Bench) -> None:
    story = asking(bench, timeout="1h", assignees=["ada", "bob"])
    item = one(story.durable)
    asked_at = bench.clock.now()
    assert item.id == f"{story.id}/1/1"
    assert (item.run_id, item.task, item.kind, item.question) == (story.id, "story", "ask", "Publish?")
    assert item.assignees == ("ada", "bob")
    assert (item.asked_at, item.due_at, item.status) == (asked_at, asked_at + 3600, "open")
    assert item.schema["required"] == ["ok"]
    assert story.durable.inbox.list(assignee="ada") == [item]
    assert story.durable.inbox.list(assignee="eve") == []
    assert story.durable.inbox.get(item.id) == item


def test_who_answered_and_when_is_recorded(bench: Bench) -> None:
    story = asking(bench)
    item = one(story.durable)
    bench.clock.advance(60)
    story.durable.inbox.answer(item.id, Verdict(ok=False), by="ada", reason='too "soon"')
    story.asked(2)
    answered = story.durable.inbox.get(item.id)
    assert answered.reason == 'too "soon"'
    assert (answered.status, answered.answered_by, answered.answered_at) == ("answered", "ada", bench.clock.now())
    assert answered.answer == {"ok": False, "amount": 0, "note": None}
    assert story.durable.inbox.list() == []
    assert story.durable.inbox.list(status="answered") == [answered]
    assert story.durable.inbox.list(status=None) == [answered]


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_a_later_answer_is_told_who_was_faster(bench: Bench, how: str) -> None:
    story = asking(bench)
    item = one(story.durable)
    story.durable.inbox.answer(item.id, {"ok": True}, by="ada")
    story.asked(2).leave(how)
    with pytest.raises(
        AlreadyAnsweredError, match=r"was answered already by ada at 2026-01-01 00:00:00\+00:00: the first"
    ) as error:
        story.durable.inbox.answer(item.id, {"ok": False}, by="bob")
    assert (error.value.answered_by, error.value.answered_at) == ("ada", datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    story.push("end")
    assert story.result()["ok"] is True


def test_of_many_answers_at_once_exactly_one_wins(bench: Bench) -> None:
    story = asking(bench, int)
    item, engines = one(story.durable), [story.durable, bench.durable()]
    won, lost, gate = list[int](), list[str | None](), threading.Barrier(8)

    def answer(number: int) -> None:
        gate.wait()
        try:
            engines[number % 2].inbox.answer(item.id, number, by=str(number))
            won.append(number)
        except AlreadyAnsweredError as error:
            lost.append(error.answered_by)

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert lost == [str(won[0])] * 7
    story.asked(2)
    story.push("end")
    assert story.result() == won[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"ok": "yes"}, ["ok: 'yes' is not of type 'boolean'"]),
        ({}, ["'ok' is a required property"]),
        ({"ok": "yes", "amount": "x"}, ["amount: 'x' is not of type 'integer'", "ok: 'yes' is not of type 'boolean'"]),
        ("text", ["value: 'text' is not of type 'object'"]),
    ],
)
@pytest.mark.parametrize("how", ["", "evict"])
def test_an_answer_that_does_not_fit_names_the_fields_and_leaves_the_question_open(
    bench: Bench, how: str, answer: object, words: list[str]
) -> None:
    story = asking(bench)
    story.leave(how)
    item = one(story.durable)
    with pytest.raises(InputValidationError) as error:
        story.durable.inbox.answer(item.id, answer)
    assert str(error.value).startswith("The answer to 'Publish?' does not fit: ")
    assert all(part in str(error.value) for part in words)
    assert one(story.durable) == item
    story.durable.inbox.answer(item.id, {"ok": True})
    story.asked(2)


@pytest.mark.parametrize(
    ("answer_type", "given", "got", "refused"),
    [
        (bool, True, True, "true"),
        (int, 3, 3, "3"),
        (float, 2, 2.0, "2"),
        (str, "yes", "yes", 1),
        (Literal["yes", "no"], "no", "no", "perhaps"),
        (Colour, Colour.RED, Colour.RED, "green"),
        (list[int], [1, 2], [1, 2], ["1"]),
        (date, "2026-02-28", date(2026, 2, 28), "2026-02-30"),
        (datetime, "2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC), "soon"),
        (timedelta, "PT5M", timedelta(minutes=5), "a while"),
        (Verdict | None, None, None, 1),
        (Any, {"a": [None]}, {"a": [None]}, None),
    ],
)
def test_any_type_may_be_asked_for(bench: Bench, answer_type: Any, given: object, got: object, refused: object) -> None:
    story = asking(bench, answer_type)
    story.leave("evict")
    item = one(story.durable)
    if answer_type is not Any:
        with pytest.raises(InputValidationError):
            story.durable.inbox.answer(item.id, refused)
    story.durable.inbox.answer(item.id, given)
    story.asked(2)
    assert story.seen == [got]  # type: ignore[attr-defined]
    assert type(story.seen[0]) is type(got)  # type: ignore[attr-defined]


def test_what_only_the_types_code_can_tell_is_told_while_the_task_is_in_memory(bench: Bench) -> None:
    story = asking(bench, Even)
    item = one(story.durable)
    with pytest.raises(InputValidationError, match="number: Value error, must be even"):
        story.durable.inbox.answer(item.id, {"number": 3})
    story.durable.inbox.answer(item.id, {"number": 4})
    story.asked(2)


def test_a_question_is_answered_through_another_engine(bench: Bench) -> None:
    story = asking(bench)
    other = bench.durable()
    other.inbox.answer(one(other).id, {"ok": True}, by="bob")
    story.asked(2)
    assert story.durable.inbox.get(f"{story.id}/1/1").answered_by == "bob"


def test_a_question_is_answered_while_no_engine_serves_its_task(bench: Bench) -> None:
    story = asking(bench)
    story.durable.close()
    other = bench.durable()
    other.inbox.answer(one(other).id, {"ok": True}, by="bob")
    other.close()
    story.leave("")
    story.durable = story._engine()
    story.push("other")
    story.asked(2)
    story.push("end")
    assert story.result()["ok"] is True


# ---------------------------------------------------------------- time-outs


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_nobody_answering_in_time_is_an_error_live_and_replayed(bench: Bench, how: str) -> None:
    story = asking(bench, timeout=timedelta(days=3))
    item = one(story.durable)
    bench.clock.advance(timedelta(days=3) - timedelta(seconds=1))
    settle(story.durable)
    assert one(story.durable).status == "open"
    story.leave(how)
    bench.clock.advance(1)
    story.asked(2).leave(how)
    with pytest.raises(QuestionClosedError, match=r"/1/1 takes no answer any more: its time is over\."):
        story.durable.inbox.answer(item.id, {"ok": True})
    assert story.durable.inbox.list() == []
    assert one(story.durable, status="timed out").id == item.id
    story.push("end")
    assert story.result() == "Nobody answered 'Publish?' within 3d. at 1"
    assert set(story.seen) == {"Nobody answered 'Publish?' within 3d. at 1"}  # type: ignore[attr-defined]


def test_an_answer_after_the_time_is_refused_though_no_engine_has_fired_the_time_out(bench: Bench) -> None:
    story = asking(bench, timeout=60)
    item = one(story.durable)
    story.durable.close()
    bench.clock.advance(60)
    from tests.engine.helpers import closing_log

    with closing_log(bench.path) as connection:
        from durable_nb.log import questions

        with pytest.raises(QuestionClosedError, match="its time is over"):
            questions.answer(connection, (story.ref.number, 1, 1), "{}", by=None, at=bench.clock.now())
        assert questions.find(connection, item.id, now=bench.clock.now())[1].status == "timed out"


def test_an_answer_that_races_the_time_out_and_the_time_out_agree(bench: Bench) -> None:
    """Whichever is first: what the answerer was told is what the task saw."""
    told: list[str] = []
    story = asking(bench, int, timeout=60)
    item = one(story.durable)

    def answer() -> None:
        try:
            story.durable.inbox.answer(item.id, 7)
            told.append("taken")
        except QuestionClosedError:
            told.append("refused")

    thread = threading.Thread(target=answer)
    thread.start()
    bench.clock.advance(60)
    thread.join()
    story.asked(2)
    story.push("end")
    assert (told, story.result()) in ((["taken"], 7), (["refused"], "Nobody answered 'Publish?' within 1m. at 1"))


def test_a_time_out_that_escapes_fails_the_run_and_a_retry_asks_again(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        await ctx.aio_now()
        return await ctx.aio_ask("Go?", bool, timeout=60)

    story = Story(bench, body, retries=1)
    story.asked(2)
    bench.clock.advance(60)
    reach(story.durable, story.ref, lambda run: run.retry_count == 1)
    story.asked(3)
    item = one(story.durable)
    assert item.id == f"{story.id}/2/2"
    story.durable.inbox.answer(item.id, True)
    assert story.result() is True


def test_a_time_out_without_retries_fails_the_run_in_words(bench: Bench) -> None:
    story = Story(bench, lambda _, ctx: ctx.aio_ask("Go?", bool, timeout=60))
    story.asked(1)
    bench.clock.advance(60)
    with pytest.raises(TaskRunError, match=r"AskTimeoutError: Nobody answered 'Go\?' within 1m\."):
        story.result()


def test_the_error_of_a_time_out_is_a_timeout_error_too() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(AskTimeoutError("Nobody answered.")))
    assert isinstance(error, TimeoutError)
    assert isinstance(error, TaskRunError)
    assert (str(error), error.exc_type) == ("Nobody answered.", "AskTimeoutError")
    again = pickle.loads(pickle.dumps(AlreadyAnsweredError("late", "ada", 3.0)))
    assert (str(again), again.answered_by, again.answered_at) == ("late", "ada", 3.0)


@pytest.mark.slow
def test_a_time_out_on_the_real_clock(bench: Bench) -> None:
    durable = bench.durable(clock=SystemClock())

    @durable.durable_task()
    async def task(input: Any, ctx: DurableContext) -> str:
        try:
            return str(await ctx.aio_ask("Go?", str, timeout=0.3))
        except AskTimeoutError:
            return "nobody"

    assert task.run() == "nobody"


# ---------------------------------------------------------------- questions that end otherwise


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_a_question_that_loses_a_race_is_withdrawn(bench: Bench, how: str) -> None:
    async def body(_: Any, ctx: DurableContext) -> str:
        won = await ctx.aio_select(answer=ctx.aio_ask("Go?", bool), event=ctx.aio_wait_for_event("win"))
        await ctx.aio_wait_for_event("end")
        return won.name

    story = Story(bench, body)
    story.asked(2)
    item = one(story.durable)
    story.push("win")
    story.asked(3).leave(how)
    assert bench.rows("SELECT abandoned FROM v_checkpoints WHERE kind = 'ask'") == [(1,)]
    with pytest.raises(QuestionClosedError, match="its run has ended or stopped waiting for it"):
        story.durable.inbox.answer(item.id, True)
    assert one(story.durable, status="withdrawn").id == item.id
    story.push("end")
    assert story.result() == "event"


def test_a_question_of_a_run_that_failed_is_withdrawn(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.aio_ask("Go?", bool))
            await ctx.aio_wait_for_event("x")
            raise RuntimeError("over")

    story = Story(bench, body)
    story.asked(2)
    item = one(story.durable)
    story.push("x")
    with pytest.raises(TaskRunError):
        story.result()
    with pytest.raises(QuestionClosedError):
        story.durable.inbox.answer(item.id, True)
    assert story.durable.inbox.list() == []


@pytest.mark.parametrize(
    "name", ["", "x", "x/1/1", "../../etc", "{id}/1/2", "{id}/1", "{id}/one/1", "{id}/1/" + "9" * 40, "{id}/٣/1"]
)
def test_an_unknown_question_is_told(bench: Bench, name: str) -> None:
    story = asking(bench)
    with pytest.raises(UnknownQuestionError, match="No question"):
        story.durable.inbox.answer(name.format(id=story.id), {"ok": True})
    with pytest.raises(UnknownQuestionError):
        story.durable.inbox.get(name.format(id=story.id))


def test_an_unknown_status_is_refused(bench: Bench, durable: Durable) -> None:
    with pytest.raises(
        ArgumentError, match="status='closed' is unknown: give one of open, answered, timed out, withdrawn, or None"
    ):
        durable.inbox.list(status="closed")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("\ud800", bool), InputValidationError, "half a character"),
        ((7, bool), InputValidationError, "give text"),
        (("Go?", threading.Thread), DeclarationError, "pydantic cannot read"),
        (("Go?", Callable[[], int]), ArgumentError, "has no JSON Schema"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(
    bench: Bench, arguments: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    async def body(_: Any, ctx: DurableContext) -> str:
        with pytest.raises(error) as caught:
            await ctx.aio_ask(*arguments)
        return str(caught.value)

    story = Story(bench, body)
    assert words in story.result()
    assert bench.asks(story.ref) == []


def test_hostile_words_come_through_as_they_are(bench: Bench) -> None:
    question = "<img src=x onerror=alert(1)>'; DROP TABLE run;--\x00\x1b[31m\u202e" + "x" * 100_000

    class Odd(BaseModel):
        model_config = {"title": "</script>", "extra": "allow"}

    story = asking(bench, Odd, question, assignees=["a'b\"; --"])
    item = one(story.durable, assignee="a'b\"; --")
    assert item.question == question
    assert item.schema["title"] == "</script>"
    story.durable.inbox.answer(item.id, {"</script>": question}, by=question)
    story.asked(2)
    assert story.durable.inbox.get(item.id).answered_by == question
    story.push("end")
    assert story.result() == {"</script>": question}


def test_a_large_answer_is_kept_and_given_whole(bench: Bench) -> None:
    story = asking(bench, str)
    large = "ß" * 1_000_000
    story.durable.inbox.answer(one(story.durable).id, large)
    story.asked(2).leave("close")
    story.push("end")
    assert story.result() == large


def test_an_error_about_a_large_answer_is_short(bench: Bench) -> None:
    story = asking(bench, int)
    with pytest.raises(InputValidationError) as error:
        story.durable.inbox.answer(one(story.durable).id, "x" * 1_000_000)
    assert len(str(error.value)) < 600


# ---------------------------------------------------------------- waits for events with a type


def test_a_typed_event_wait_is_in_the_inbox_and_an_answer_pushes_its_event(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        approval = await ctx.aio_wait_for_event("approve", "input.amount < 9", scope="s", payload_validator=Verdict)
        return [approval.ok, await ctx.aio_wait_for_event("untyped")]

    story = Story(bench, body)
    story.asked(1)
    item = one(story.durable)
    assert (item.kind, item.question, item.event_key, item.event_scope) == ("event", "approve", "approve", "s")
    with pytest.raises(InputValidationError, match="ok: 1 is not of type 'boolean'") as refused:
        story.durable.inbox.answer(item.id, {"ok": 1})
    assert refused.value.fields == ((("ok",), "1 is not of type 'boolean'"),)
    with pytest.raises(InputValidationError, match=r"its filter, input\.amount < 9, does not take it"):
        story.durable.inbox.answer(item.id, {"ok": True, "amount": 9})
    assert bench.count("event") == 0
    story.durable.inbox.answer(item.id, {"ok": True, "amount": 8}, by="ada", reason="fine")
    story.asked(2)
    assert story.durable.inbox.list() == []
    assert bench.rows("SELECT key, scope, metadata FROM event") == [
        ("approve", "s", '{"answered_by":"ada","answer_reason":"fine"}')
    ]
    with pytest.raises(UnknownQuestionError, match="or the event that it waited for has come"):
        story.durable.inbox.answer(item.id, {"ok": True})
    story.push("untyped", 1)
    assert story.result() == [True, 1]


# ---------------------------------------------------------------- answering from a task


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_an_answer_given_by_a_durable_task_is_a_checkpoint_and_given_once(bench: Bench, how: str) -> None:
    asker = asking(bench, int)
    engines: list[Durable] = [asker.durable]

    async def body(question: str, ctx: DurableContext) -> Any:
        await engines[-1].inbox.aio_answer(question, 7, by="agent")
        with pytest.raises(TaskRunError) as late:
            await engines[-1].inbox.aio_answer(question, 8)
        with pytest.raises(TaskRunError) as unfit:
            await engines[-1].inbox.aio_answer(question, "x")
        await ctx.aio_wait_for_event("end")
        return [late.value.exc_type, unfit.value.exc_type]

    asker.durable.close()
    answerer = Story(bench, body, one(bench.durable()).id, declare=engines.append)
    answerer.asked(4).leave(how)
    answerer.push("end")
    assert answerer.result() == ["AlreadyAnsweredError", "InputValidationError"]
    assert answerer.durable.inbox.get(f"{asker.id}/1/1").answered_by == "agent"


def test_many_questions_are_listed_in_pages(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def task(input: int, ctx: DurableContext) -> None:
        await asyncio.gather(*(ctx.aio_ask(f"{input}.{number}", bool) for number in range(5)))

    for number in range(3):
        task.run(number, wait_for_result=False)
    wait_until(lambda: bench.count("question") == 15)
    assert [item.question for item in durable.inbox.list(limit=4, offset=4)] == ["0.4", "1.0", "1.1", "1.2"]
    assert len(durable.inbox.list(status=None)) == 15
