"""Closing while busy, forks and other engines: nobody waits for ever, and nothing is done by the wrong engine."""

from __future__ import annotations

import errno
import os
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, TaskRunError
from durable_nb.engine import liveness
from durable_nb.errors import ChildKeyConflictError, EngineStoppedError, SyncCallError
from tests.engine.helpers import Bench, wait_until


def declare_echo(durable: Durable) -> Any:
    @durable.task()
    async def echo(input: Any, ctx: Context) -> Any:
        return input

    return echo


def test_what_a_task_calls_while_it_is_left_opens_no_engine(bench: Bench, durable: Durable) -> None:
    echo, called = declare_echo(durable), list[BaseException | None]()

    @durable.durable_task()
    async def waiting(input: Any, ctx: DurableContext) -> None:
        try:
            await ctx.aio_sleep_for(timedelta(hours=1))
        finally:
            try:
                await echo.aio_run(1)
            except BaseException as error:
                called.append(error)
                raise

    ref = waiting.run(wait_for_result=False)
    bench.asked(ref, 1)
    durable.close()
    assert [type(error).__name__ for error in called] == ["Evicted"]
    assert not durable.is_open


def test_a_thread_that_outlives_its_engine_opens_no_other(durable: Durable) -> None:
    echo, entered, gate = declare_echo(durable), threading.Event(), threading.Event()
    left, called = threading.Event(), list[BaseException | None]()

    @durable.task()
    def slow(input: Any, ctx: Context) -> None:
        entered.set()
        gate.wait(10)
        try:
            echo.run(1)
        except BaseException as error:
            called.append(error)
            raise
        finally:
            left.set()

    slow.run(wait_for_result=False)
    assert entered.wait(10)
    durable.close(timeout=0)
    gate.set()
    assert left.wait(10)
    assert [type(error) for error in called] == [EngineStoppedError]
    assert not durable.is_open


def test_nobody_who_calls_while_it_closes_waits_for_ever(durable: Durable) -> None:
    echo, is_over, outcomes = declare_echo(durable), threading.Event(), set[object]()

    def call() -> None:
        while not is_over.is_set():
            try:
                outcomes.add(echo.run(1))
            except EngineStoppedError as error:
                outcomes.add(type(error))

    callers = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    for _ in range(10):
        echo.run(2)
        durable.close()
    is_over.set()
    for caller in callers:
        caller.join(5)
    assert not any(caller.is_alive() for caller in callers)
    assert outcomes <= {1, EngineStoppedError}


def test_a_task_on_the_engines_thread_cannot_close_it(durable: Durable) -> None:
    @durable.task()
    async def closes(input: Any, ctx: Context) -> None:
        durable.close()

    for _ in range(2):
        with pytest.raises(TaskRunError, match=SyncCallError.__name__):
            closes.run()
    assert durable.is_open


def test_another_logs_task_is_called_as_by_anybody(bench: Bench, durable: Durable, tmp_path: Path) -> None:
    with Durable(tmp_path / "other.db", clock=bench.clock) as other:

        @other.task()
        async def far(input: Any, ctx: Context) -> Any:
            return ctx.parent_workflow_run_id

        @durable.durable_task()
        async def from_durable(input: Any, ctx: DurableContext) -> Any:
            ref = await far.aio_run(wait_for_result=False)
            report = await other.event.aio_push("told")
            return [await ref, bool(report.event_id)]

        @durable.task()
        def from_thread(input: Any, ctx: Context) -> Any:
            return far.run()

        assert from_durable.run() == [None, True]
        assert from_thread.run() is None
        assert bench.count("event") == 0
        assert bench.count("run") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_start_otherwise(durable: Durable) -> None:
    echo = declare_echo(durable)
    assert echo.run(1) == 1
    child = os.fork()
    if child == 0:
        try:
            echo.run(1)
        except EngineStoppedError as error:
            durable.close()
            os._exit(0 if "spawn" in str(error) else 2)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert echo.run(2) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="what a full table of files says differs")
def test_a_worker_whose_lock_cannot_be_looked_at_counts_as_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = liveness.LifeLock(tmp_path / "log.db", "worker")
    try:
        with monkeypatch.context() as patched:

            def refuse(*_: object) -> int:
                raise OSError(errno.EMFILE, "Too many open files")

            patched.setattr(os, "open", refuse)
            assert liveness.is_alive(tmp_path / "log.db", "worker")
    finally:
        lock.release()
    assert not liveness.is_alive(tmp_path / "log.db", "worker")


def test_several_conflicts_of_child_keys_are_told_as_one(durable: Durable) -> None:
    echo = declare_echo(durable)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> None:
        for input_ in (1, 2):
            await echo.aio_run_many([echo.create_bulk_run_item(input=input_, key=key) for key in ("a", "b")])

    with pytest.raises(ChildKeyConflictError, match="was used before in this run"):
        parent.run()


def test_a_run_that_is_claimed_while_its_engine_closes_is_not_entered_but_given_back(bench: Bench, durable: Durable) -> None:
    entered: list[str] = []

    def declare(durable: Durable, name: str) -> Any:
        @durable.durable_task()
        async def waits(input: Any, ctx: DurableContext) -> str:
            entered.append(name)
            await ctx.aio_sleep_for(timedelta(0))
            return name

        return waits

    waits, dispatcher = declare(durable, "first"), durable.engine.dispatcher
    durable.call(lambda: dispatcher.drain(0), aio="")
    ref = waits.run(wait_for_result=False)
    wait_until(lambda: bench.rows("SELECT 1 FROM run WHERE status = 'RUNNING'"))
    durable.close()
    again = bench.durable()
    declare(again, "second")
    assert again.runs.get_run_ref(ref.workflow_run_id).result() == "second"
    assert entered == ["second"]
