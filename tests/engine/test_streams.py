"""Streams: what a run streams reaches every listener, in order, from the first chunk to the run's end."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, TaskRunError
from durable_nb.errors import SyncCallError, UnknownRunError
from tests.engine.helpers import Bench, wait_until


async def heard(stream: Any) -> list[str | bytes]:
    return [chunk async for chunk in stream]


def test_a_listener_hears_text_and_bytes_in_order_to_the_end(durable: Durable) -> None:
    @durable.task()
    async def talk(input: Any, ctx: Context) -> None:
        for number in range(3):
            ctx.put_stream(f"{number}")
            await asyncio.sleep(0)
        await ctx.aio_put_stream(b"\xff\x00")
        ctx.put_stream("half \ud800")

    ref = talk.run(wait_for_result=False)
    expected = ["0", "1", "2", b"\xff\x00", "half \\ud800"]
    assert asyncio.run(heard(ref.stream())) == expected
    assert list(ref.stream()) == expected
    assert list(durable.runs.subscribe_to_stream(ref.workflow_run_id)) == expected


def test_a_listener_hears_chunks_while_the_run_goes_on(durable: Durable) -> None:
    steps = [threading.Event() for _ in range(3)]

    @durable.task()
    def talk(input: Any, ctx: Context) -> None:
        for number, step in enumerate(steps):
            step.wait(20)
            ctx.put_stream(str(number))

    ref = talk.run(wait_for_result=False)
    stream = iter(ref.stream())
    for number, step in enumerate(steps):
        step.set()
        assert next(stream) == str(number)
    assert list(stream) == []


def test_a_run_that_streams_nothing_ends_its_listeners(durable: Durable) -> None:
    gate = threading.Event()

    @durable.task()
    def fail(input: Any, ctx: Context) -> None:
        gate.wait(20)
        raise ValueError("no")

    ref = fail.run(wait_for_result=False)
    ends: list[list[str | bytes]] = []
    listener = threading.Thread(target=lambda: ends.append(list(ref.stream())))
    listener.start()
    gate.set()
    listener.join(20)
    assert ends == [[]]


def test_chunks_of_many_threads_cost_few_commits(bench: Bench, durable: Durable) -> None:
    @durable.task()
    def talk(input: Any, ctx: Context) -> None:
        for number in range(2000):
            ctx.put_stream(str(number))

    durable.open()
    commits: list[int] = []
    submit = durable.engine.writer.submit

    def counting(*arguments: Any) -> Any:
        commits.append(1)
        return submit(*arguments)

    durable.engine.writer.submit = counting  # type: ignore[method-assign, assignment]
    ref = talk.run(wait_for_result=False)
    assert list(ref.stream()) == [str(number) for number in range(2000)]
    assert len(commits) < 500, "each chunk was written on its own"


def test_lines_of_a_log_are_followed_to_the_runs_end(durable: Durable) -> None:
    gate = threading.Event()

    @durable.task()
    def work(input: Any, ctx: Context) -> None:
        ctx.log("begins")
        gate.wait(20)
        for number in range(2500):
            ctx.log(f"{number}", level="DEBUG")

    ref = work.run(wait_for_result=False)
    following = iter(durable.runs.follow_logs(ref))
    assert next(following).text == "begins"
    gate.set()
    expected = [f"{number}" for number in range(2500)]
    assert [line.text for line in following] == expected
    assert [text for text in asyncio.run(texts(durable.runs.follow_logs(ref.workflow_run_id))) if text != "begins"] == expected
    with pytest.raises(UnknownRunError, match="No run 'nothing'"):
        list(durable.runs.follow_logs("nothing"))


async def texts(lines: Any) -> list[str]:
    return [line.text async for line in lines]


def test_what_is_said_after_a_chunk_that_went_along_is_written_too(bench: Bench, durable: Durable) -> None:
    engine, ends = durable.open().engine, threading.Event()
    steps = {name: threading.Event() for name in ("held", "go on")}

    def hold(_: object) -> None:
        steps["held"].set()
        steps["go on"].wait(20)

    @durable.task()
    def talk(input: Any, ctx: Context) -> None:
        engine.post(lambda: engine.writer.submit(hold))
        steps["held"].wait(20)
        ctx.put_stream("begins a transaction")
        wait_until(lambda: engine.streams._is_submitted)
        ctx.put_stream("goes along")
        steps["go on"].set()
        wait_until(lambda: not engine.streams._is_submitted)
        ctx.put_stream("begins the next")
        ends.wait(20)

    ref = talk.run(wait_for_result=False)
    wait_until(lambda: bench.count("chunk") == 3, what="the last chunk, before the run ends")
    ends.set()
    ref.result()


def test_another_process_hears_the_stream_of_a_run(bench: Bench, durable: Durable) -> None:
    gate = threading.Event()

    @durable.task()
    def talk(input: Any, ctx: Context) -> None:
        ctx.put_stream("one")
        gate.wait(20)
        ctx.put_stream("two")

    ref = talk.run(wait_for_result=False)
    other = bench.durable()
    stream = iter(other.runs.subscribe_to_stream(ref.workflow_run_id))
    assert next(stream) == "one"
    gate.set()
    assert list(stream) == ["two"]


def test_a_crash_repeats_only_what_was_streamed_since_the_last_checkpoint(bench: Bench, durable: Durable) -> None:
    def declare(app: Durable) -> Any:
        @app.durable_task(name="talk")
        async def talk(input: Any, ctx: DurableContext) -> None:
            ctx.put_stream("a")
            await ctx.aio_sleep_for(timedelta(hours=1))
            ctx.put_stream("b")
            await ctx.aio_sleep_for(timedelta(hours=1))
            ctx.put_stream("c")

        return talk

    ref = declare(durable).run(wait_for_result=False)
    bench.asked(ref, 1)
    bench.clock.advance(3601)
    bench.asked(ref, 2)
    wait_until(lambda: bench.count("chunk") == 2)
    bench.crash()
    again = bench.durable()
    declare(again)
    bench.clock.advance(3601)
    assert list(again.runs.subscribe_to_stream(ref.workflow_run_id)) == ["a", "b", "c"]


def test_a_listener_may_leave_at_any_time(durable: Durable) -> None:
    gate = threading.Event()

    @durable.task()
    def talk(input: Any, ctx: Context) -> str:
        ctx.put_stream("one")
        gate.wait(20)
        return "done"

    ref = talk.run(wait_for_result=False)

    async def leave() -> str:
        stream = aiter(ref.stream())
        first = await anext(stream)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        return str(first)

    assert asyncio.run(leave()) == "one"
    gate.set()
    assert ref.result() == "done"


def test_more_chunks_than_one_batch_are_heard_once_each(durable: Durable) -> None:
    @durable.task()
    def talk(input: Any, ctx: Context) -> None:
        for number in range(1500):
            ctx.put_stream(str(number))

    ref = talk.run(wait_for_result=False)
    ref.result()
    assert list(ref.stream()) == [str(number) for number in range(1500)]


def test_a_regular_task_may_listen_to_its_child(durable: Durable) -> None:
    @durable.task()
    async def talk(input: Any, ctx: Context) -> None:
        ctx.put_stream("a")
        ctx.put_stream("b")

    @durable.task()
    async def listen(input: Any, ctx: Context) -> list[str]:
        ref = await talk.aio_run(wait_for_result=False)
        return [str(chunk) async for chunk in ref.stream()]

    assert listen.run() == ["a", "b"]


def test_a_durable_task_is_refused_as_a_listener(durable: Durable) -> None:
    @durable.task()
    async def talk(input: Any, ctx: Context) -> None:
        ctx.put_stream("a")

    @durable.durable_task()
    async def listen(input: Any, ctx: DurableContext) -> list[str]:
        ref = await talk.aio_run(wait_for_result=False)
        return [str(chunk) async for chunk in ref.stream()]

    with pytest.raises(TaskRunError, match="listen in a regular task"):
        listen.run()


def test_the_sync_form_on_the_engines_thread_names_the_async_one(durable: Durable) -> None:
    @durable.task()
    async def listen(input: Any, ctx: Context) -> None:
        with pytest.raises(SyncCallError, match=r"async for chunk in ref\.stream"):
            list(durable.runs.subscribe_to_stream(ctx.workflow_run_id))

    listen.run()


@pytest.mark.parametrize(("data", "sentence"), [(5, "takes text or bytes, not int"), ("x" * 2_000_000, "cut it into several")])
def test_a_chunk_that_cannot_be_kept_is_refused(durable: Durable, data: Any, sentence: str) -> None:
    @durable.task()
    async def talk(input: Any, ctx: Context) -> None:
        ctx.put_stream(data)

    with pytest.raises(TaskRunError, match=sentence):
        talk.run()


def test_an_unknown_run_has_no_stream(durable: Durable) -> None:
    with pytest.raises(UnknownRunError):
        list(durable.runs.subscribe_to_stream("nobody"))


def test_many_listeners_on_the_real_clock_all_hear_everything(bench: Bench) -> None:
    durable = bench.durable(clock=None)

    @durable.task()
    async def talk(input: Any, ctx: Context) -> None:
        for number in range(20):
            ctx.put_stream(str(number))
            await asyncio.sleep(0.005)

    ref = talk.run(wait_for_result=False)

    async def listen() -> list[Any]:
        return await asyncio.gather(*[heard(ref.stream()) for _ in range(10)])

    assert asyncio.run(listen()) == [[str(number) for number in range(20)]] * 10
