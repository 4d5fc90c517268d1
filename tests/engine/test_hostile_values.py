"""Values that JSON, UTF-8 or an exception's own code make difficult: each has an outcome, and the engine lives on."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import pytest
from pydantic import BaseModel, Field

from durable_nb import Context, Durable, DurableContext, RunRef, TaskRunError
from durable_nb.errors import InputValidationError
from tests.engine.helpers import Bench

HALF = "half \udc80"
IN_NO_WORDS = "(an error whose text cannot be made)"


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class OwnError(BaseException):
    """What `except Exception` does not catch."""


def lists(depth: int) -> Any:
    return functools.reduce(lambda inner, _: [inner], range(depth), 1)  # type: ignore[arg-type, return-value]


def twice(bench: Bench, declare: Callable[[Durable], RunRef[Any]]) -> Any:
    """Let two engines, one after the other, execute a run that asks two things, the second of which is the event "go"."""
    first, second = bench.durable(), bench.durable()
    bench.asked(declare(first), 2)
    first.close()
    ref = declare(second)
    second.event.push("go")
    return ref.result()


@pytest.fixture
def echo(durable: Durable) -> Any:
    @durable.task()
    async def echo(input: Any, ctx: Context) -> Any:
        return input

    return echo


def raisers() -> dict[str, tuple[Callable[[], object], str]]:
    def raise_(error: BaseException) -> NoReturn:
        raise error

    return {
        "half a character": (lambda: raise_(ValueError(HALF)), "ValueError: half \\udc80"),
        "no text": (lambda: raise_(WordlessError()), f"WordlessError: {IN_NO_WORDS}"),
        "its own cancelling": (lambda: raise_(asyncio.CancelledError()), "CancelledError"),
        "no Exception": (lambda: raise_(OwnError("own")), "OwnError: own"),
        "sys.exit": (lambda: sys.exit(3), "SystemExit: 3"),
        "StopIteration": (lambda: next(iter([])), "RuntimeError: "),
    }


@pytest.mark.parametrize("name", raisers())
@pytest.mark.parametrize("form", ["loop", "thread", "durable", "memo"])
def test_whatever_a_task_raises_is_its_outcome(durable: Durable, echo: Any, form: str, name: str) -> None:
    work, message = raisers()[name]
    if form == "loop":

        @durable.task(name="run")
        async def on_loop(input: Any, ctx: Context) -> None:
            work()
    elif form == "thread":

        @durable.task(name="run")
        def in_thread(input: Any, ctx: Context) -> None:
            work()
    elif form == "durable":

        @durable.durable_task(name="run")
        async def in_durable(input: Any, ctx: DurableContext) -> None:
            work()
    else:
        if name == "no Exception":
            pytest.skip("it is no failure of the memo, but ends the run")

        @durable.durable_task(name="run")
        async def in_memo(input: Any, ctx: DurableContext) -> None:
            await ctx.aio_memo(work)

    with pytest.raises(TaskRunError) as caught:
        durable.tasks["run"].run()
    assert str(caught.value).startswith(message)
    assert echo.run(1) == 1


def test_a_memo_that_raises_cancelled_error_failed_and_is_replayed_so(bench: Bench) -> None:
    async def cancels() -> None:
        raise asyncio.CancelledError

    def declare(durable: Durable) -> RunRef[Any]:
        @durable.durable_task()
        async def parent(input: Any, ctx: DurableContext) -> str:
            try:
                await ctx.aio_memo(cancels)
            except TaskRunError as error:
                await ctx.aio_wait_for_event("go")
                return error.exc_type
            return ""

        return durable.start_named(parent, None, key="once")

    assert twice(bench, declare) == "CancelledError"


@pytest.mark.parametrize("depth", [200, 210, 240, 260])
def test_what_cannot_be_read_back_is_refused_when_given(durable: Durable, echo: Any, depth: int) -> None:
    if depth <= 200:
        assert echo.run(lists(depth)) == lists(depth)
        return
    with pytest.raises(InputValidationError, match="JSON cannot hold"):
        echo.run(lists(depth))
    with pytest.raises(InputValidationError, match="JSON cannot hold"):
        durable.event.push("deep", lists(depth))
    assert echo.run(1) == 1


def test_an_integer_that_cannot_be_read_back_is_refused(echo: Any) -> None:
    with pytest.raises(InputValidationError, match="JSON cannot hold"):
        echo.run(10**5000)


def test_names_with_half_a_character_are_refused(durable: Durable, echo: Any) -> None:
    for call in (
        lambda: durable.event.push(HALF),
        lambda: durable.event.push("key", scope=HALF),
        lambda: durable.start_named(echo, None, key=HALF),
        lambda: echo.run(child_key=HALF),
        lambda: durable.task(name=HALF),
    ):
        with pytest.raises(InputValidationError, match="half a character"):
            call()

    @durable.durable_task()
    async def waiting(input: Any, ctx: DurableContext) -> str:
        try:
            await ctx.aio_wait_for_event(HALF)
        except InputValidationError:
            ctx.log(HALF)
            await ctx.aio_memo(str, Any, HALF.encode("utf-8", "replace"))
            return "refused"
        return ""

    assert waiting.run() == "refused"


def test_a_priority_that_is_none_is_refused(echo: Any) -> None:
    for priority in (0, 4, "high"):
        with pytest.raises(InputValidationError, match="give 1"):
            echo.run(priority=priority)


def test_a_line_whose_text_cannot_be_made_fails_its_task_only(durable: Durable, echo: Any) -> None:
    class Exits:
        def __str__(self) -> str:
            raise SystemExit(3)

    @durable.task()
    def says(input: Any, ctx: Context) -> None:
        ctx.log(Exits())

    with pytest.raises(TaskRunError, match="SystemExit"):
        says.run()
    assert echo.run(1) == 1


def test_a_pattern_that_cannot_be_judged_is_a_near_miss(bench: Bench, durable: Durable, echo: Any) -> None:
    class Name(BaseModel):
        name: Annotated[str, Field(pattern=r"^\p{L}+$")]  # which pydantic's engine knows, and Python's does not

    @durable.durable_task()
    async def waiting(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("named", payload_validator=Name)

    ref = waiting.run(wait_for_result=False)
    bench.asked(ref, 1)
    [miss] = durable.event.push("named", {"name": "Ada"}).near_misses
    assert "cannot be judged" in miss
    assert echo.run(1) == 1


def test_a_memo_of_a_partial_is_the_same_in_the_next_process(bench: Bench) -> None:
    def declare(durable: Durable) -> RunRef[Any]:
        @durable.durable_task()
        async def parent(input: Any, ctx: DurableContext) -> int:
            def add(left: int, right: int) -> int:
                return left + right

            total: int = await ctx.aio_memo(functools.partial(add, 1), Any, 2)
            await ctx.aio_wait_for_event("go")
            return total

        return durable.start_named(parent, None, key="once")

    assert twice(bench, declare) == 3


def test_an_input_model_with_aliases_is_taken(durable: Durable) -> None:
    class Aliased(BaseModel):
        number: int = Field(alias="the-number")

    def number(input: Aliased, ctx: Context) -> int:
        return input.number

    number.__annotations__["input"] = Aliased
    task = durable.task()(number)
    assert task.run(Aliased(**{"the-number": 2})) == task.run({"the-number": 2}) == 2
