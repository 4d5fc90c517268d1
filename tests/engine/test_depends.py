"""Dependencies: made for each invocation, shared in it, cleaned up at its end however it ends, and no part of the replay."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Annotated, Any

import pytest

from durable_nb import Context, Depends, Durable, DurableContext, TaskRunError
from durable_nb.engine.dispatch import Slots
from durable_nb.errors import DeclarationError
from tests.engine.helpers import Bench, reach, view, wait_until

SAID: list[str] = []


@pytest.fixture(autouse=True)
def silence() -> None:
    SAID.clear()


def plain() -> str:
    return "plain"


def of_input(input: dict[str, str]) -> str:
    return input["name"]


def of_both(input: Any, ctx: Context) -> str:
    return f"{ctx.attempt_number} in {threading.current_thread().name}"


async def asynchronous(input: Any, ctx: Context) -> str:
    await asyncio.sleep(0)
    SAID.append("asynchronous")
    return "async"


def generator(input: Any, ctx: Context) -> Iterator[str]:
    SAID.append("open generator")
    try:
        yield "generated"
    except BaseException as error:
        SAID.append(f"generator saw {type(error).__name__}")
        raise
    finally:
        SAID.append("close generator")


async def async_generator(
    input: Any, ctx: Context, inner: Annotated[str, Depends(generator)], other: Annotated[str, Depends(asynchronous)]
) -> AsyncIterator[str]:
    SAID.append("open async generator")
    try:
        yield f"{inner} and {other}"
    except BaseException as error:
        SAID.append(f"async generator saw {type(error).__name__}")
        raise
    finally:
        SAID.append("close async generator")


@contextlib.contextmanager
def managed() -> Iterator[str]:
    yield "managed"
    SAID.append("close managed")


@contextlib.asynccontextmanager
async def async_managed(input: Any) -> AsyncIterator[str]:
    yield "async managed"
    SAID.append("close async managed")


def swallowing() -> Iterator[str]:
    with contextlib.suppress(ValueError):
        yield "swallowing"


def failing() -> str:
    raise ValueError("no connection")


def fails_to_close() -> Iterator[None]:
    yield None
    raise ValueError("cannot close")


async def asking(input: Any, ctx: DurableContext) -> None:
    await ctx.aio_sleep_for(timedelta(seconds=1))


async def asks_when_closed(input: Any, ctx: DurableContext) -> AsyncIterator[None]:
    yield
    await ctx.aio_now()


Both = Annotated[str, Depends(of_both)]
Generated = Annotated[str, Depends(async_generator)]
ORDER = ["open generator", "asynchronous", "open async generator"]
CLOSED = ["close async generator", "close generator"]


# ---------------------------------------------------------------- what is given


def test_every_kind_of_function_gives_its_value(durable: Durable) -> None:
    @durable.task()
    async def take(
        input: dict[str, str],
        ctx: Context,
        a: Annotated[str, Depends(plain)],
        b: Annotated[str, Depends(of_input)],
        c: Both,
        d: Annotated[str, Depends(asynchronous)],
        e: Generated,
        f: Annotated[str, Depends(managed)],
        *,
        g: Annotated[str, Depends(async_managed)],
    ) -> list[str]:
        SAID.append("task")
        return [a, b, c, d, e, f, g]

    expected = ["plain", "ada", "1 in durable_nb task", "async", "generated and async", "managed", "async managed"]
    assert take.run({"name": "ada"}) == expected
    assert [
        "asynchronous",
        "open generator",
        "open async generator",
        "task",
        "close async managed",
        "close managed",
        *CLOSED,
    ] == SAID


@pytest.mark.parametrize("lane", ["thread", "durable"])
def test_threads_and_durable_tasks_have_dependencies_too(durable: Durable, lane: str) -> None:
    if lane == "thread":

        @durable.task(name="take")
        def in_thread(input: Any, ctx: Context, value: Generated) -> str:
            SAID.append("task")
            return value
    else:

        @durable.durable_task(name="take")
        async def on_loop(input: Any, ctx: DurableContext, value: Generated) -> str:
            await ctx.aio_now()
            SAID.append("task")
            return value

    assert durable.tasks["take"].run() == "generated and async"
    assert [*ORDER, "task", *CLOSED] == SAID


def test_every_attempt_has_its_own(durable: Durable) -> None:
    @durable.task(retries=1)
    def take(input: Any, ctx: Context, value: Both, generated: Generated) -> str:
        if ctx.retry_count == 0:
            raise KeyError("first")
        return value

    assert take.run() == "2 in durable_nb task"
    assert [*ORDER, "async generator saw KeyError", CLOSED[0], "generator saw KeyError", CLOSED[1], *ORDER, *CLOSED] == SAID


# ---------------------------------------------------------------- replay


def test_a_durable_task_gets_them_at_each_entry_and_replays_the_same(bench: Bench) -> None:
    durable = bench.durable(slots=Slots(durable=1))

    @durable.durable_task()
    async def wait(input: int, ctx: DurableContext, value: Generated) -> str:
        now = await ctx.aio_now()
        await ctx.aio_wait_for_event("go")
        assert now == await ctx.aio_memo(lambda: now, type(now))
        return value

    first, second = (wait.run(number, wait_for_result=False) for number in range(2))
    reach(durable, first, lambda run: run.is_evicted)
    bench.asked(second, 2)
    assert SAID[:7] == [*ORDER, "async generator saw Evicted", CLOSED[0], "generator saw Evicted", CLOSED[1]]
    durable.event.push("go")
    assert [first.result(), second.result()] == ["generated and async"] * 2
    assert view(durable, first).invocation_count == 2
    assert SAID.count("open generator") == SAID.count("close generator") == 3


def test_a_durable_task_gets_them_again_after_a_crash(bench: Bench, durable: Durable) -> None:
    def declare(app: Durable) -> Any:
        @app.durable_task(name="wait")
        async def wait(input: Any, ctx: DurableContext, value: Generated) -> str:
            await ctx.aio_wait_for_event("go")
            return value

        return wait

    ref = declare(durable).run(wait_for_result=False)
    bench.asked(ref, 1)
    bench.crash()
    again = bench.durable()
    declare(again)
    again.event.push("go")
    assert again.runs.get_result(ref.workflow_run_id) == "generated and async"
    assert [*ORDER, *ORDER, *CLOSED] == SAID


@pytest.mark.parametrize("dependency", [asking, asks_when_closed])
def test_a_dependency_that_asks_for_a_checkpoint_is_refused(bench: Bench, durable: Durable, dependency: Any) -> None:
    async def take(input: Any, ctx: DurableContext, value: Any) -> None:
        return None

    take.__annotations__["value"] = Annotated[Any, Depends(dependency)]
    task = durable.durable_task()(take)
    with pytest.raises(TaskRunError, match=r"A dependency asked the engine .* makes no checkpoints. Ask from the task"):
        task.run()
    assert bench.count("checkpoint") == 0


# ---------------------------------------------------------------- failures


def test_a_dependency_that_fails_fails_the_attempt_and_cleans_up_the_others(durable: Durable) -> None:
    calls: list[int] = []

    @durable.task(retries=1)
    async def take(input: Any, ctx: Context, a: Generated, b: Annotated[str, Depends(failing)]) -> None:
        calls.append(1)

    with pytest.raises(TaskRunError, match="no connection") as caught:
        take.run()
    assert caught.value.exc_type == "ValueError"
    once = [*ORDER, "async generator saw ValueError", CLOSED[0], "generator saw ValueError", CLOSED[1]]
    assert once * 2 == SAID
    assert calls == []


def test_a_clean_up_that_fails_fails_the_run_and_the_others_are_cleaned_up(durable: Durable) -> None:
    @durable.task()
    async def take(input: Any, ctx: Context, a: Generated, b: Annotated[None, Depends(fails_to_close)]) -> None: ...

    with pytest.raises(TaskRunError, match="cannot close"):
        take.run()
    assert SAID[-1] == "close generator"


@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_a_dependency_cannot_swallow_the_tasks_failure(durable: Durable, kind: str) -> None:
    @getattr(durable, kind)()  # type: ignore[untyped-decorator]
    async def take(input: Any, ctx: Context, value: Annotated[str, Depends(swallowing)]) -> None:
        raise ValueError("mine")

    with pytest.raises(TaskRunError, match="mine"):
        take.run()


def test_what_a_thread_over_its_time_still_uses_is_closed_after_it(bench: Bench, durable: Durable) -> None:
    gate, inside = threading.Event(), threading.Event()

    @durable.task(execution_timeout=10)
    def stuck(input: Any, ctx: Context, value: Generated) -> None:
        inside.set()
        gate.wait(20)
        SAID.append("thread ended")

    ref = stuck.run(wait_for_result=False)
    assert inside.wait(10)
    bench.clock.advance(11)
    with pytest.raises(TaskRunError, match="execution_timeout"):
        ref.result()
    assert SAID == ORDER
    gate.set()
    wait_until(lambda: SAID[-1] == "close generator")
    assert [*ORDER, "thread ended", *CLOSED] == SAID


def test_closing_the_engine_cleans_up_after_a_waiting_run(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext, value: Generated) -> None:
        await ctx.aio_wait_for_event("go")

    ref = wait.run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.close()
    assert SAID[-1] == "close generator"


# ---------------------------------------------------------------- declaring


def recursive(input: Any, ctx: Any, again: Any) -> None: ...


def three(input: Any, ctx: Any, more: Any) -> None: ...


recursive.__annotations__["again"] = Annotated[Any, Depends(recursive)]


@pytest.mark.parametrize(
    ("fn", "sentence"),
    [(recursive, "depends on itself"), (three, r"takes \(input: .*more.*\)"), ("text", "is no function: write Depends")],
)
def test_a_dependency_that_cannot_work_is_refused_at_declaration(durable: Durable, fn: Any, sentence: str) -> None:
    async def take(input: Any, ctx: Context, value: Any) -> None: ...

    take.__annotations__["value"] = Annotated[Any, Depends(fn)]
    with pytest.raises(DeclarationError, match=sentence):
        durable.task()(take)
    assert list(durable.tasks) == []


def test_input_and_context_come_first(durable: Durable) -> None:
    async def take(value: Any, input: Any, ctx: Context) -> None: ...

    take.__annotations__["value"] = Annotated[Any, Depends(plain)]
    with pytest.raises(DeclarationError, match=r"after them only parameters marked with Depends"):
        durable.task()(take)
