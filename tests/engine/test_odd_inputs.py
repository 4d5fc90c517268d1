"""Inputs and exceptions that nobody writes on purpose: each gives a sentence, and no run hangs."""

from __future__ import annotations

from typing import Any

import pytest

from durable_nb import Context, Durable, TaskRunError
from durable_nb.errors import InputValidationError, LogError, UnknownRunError
from durable_nb.tasks.refs import RunRef


def test_a_task_that_raises_stop_iteration_fails(durable: Durable) -> None:
    @durable.task()
    def stop(input: None, ctx: Context) -> None:
        raise StopIteration(3)

    with pytest.raises(TaskRunError, match=r"it raised StopIteration\(3\)"):
        stop.run()


@pytest.mark.parametrize("exit_", [SystemExit, KeyboardInterrupt])
def test_a_task_that_exits_fails_and_the_engine_lives_on(durable: Durable, exit_: type[BaseException]) -> None:
    @durable.task()
    def thread(input: None, ctx: Context) -> None:
        raise exit_("bye")

    @durable.task()
    async def loop(input: None, ctx: Context) -> None:
        raise exit_("bye")

    @durable.durable_task()
    async def orchestrator(input: None, ctx: Any) -> None:
        await ctx.aio_now()
        raise exit_("bye")

    for task in (thread, loop, orchestrator):
        with pytest.raises(TaskRunError) as raised:
            task.run()
        assert raised.value.exc_type == exit_.__name__


def test_an_input_that_holds_itself_is_refused(durable: Durable) -> None:
    @durable.task()
    def anything(input: list[Any], ctx: Context) -> None:
        return None

    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InputValidationError, match="JSON cannot hold"):
        anything.run(circle)
    assert durable.runs.list() == []


@pytest.mark.parametrize("name", ["#" + "9" * 30, "#0", "%", "' OR 1=1 --", "\x00", "ünï"])
def test_no_run_has_that_name(durable: Durable, name: str) -> None:
    with pytest.raises(UnknownRunError, match="is in this log"):
        durable.runs.get(name)


def test_a_refs_repr_shows_control_characters(durable: Durable) -> None:
    assert "\x1b" not in repr(RunRef[Any](durable, "x\x1b[31m", 1, "task\u202e"))
    assert "\u202e" not in repr(RunRef[Any](durable, "x\x1b[31m", 1, "task\u202e"))


def test_a_missing_payload_is_said(durable: Durable) -> None:
    @durable.task()
    def large(input: None, ctx: Context) -> str:
        return "x" * 100_000

    assert len(large.run()) == 100_000
    engine = durable.engine

    async def lose() -> None:
        await engine.writer.submit(lambda connection: connection.execute("DELETE FROM payload").close())

    durable.call(lose, aio="")
    with pytest.raises(LogError, match=r"a payload of it .* is missing"):
        durable.runs.list()
