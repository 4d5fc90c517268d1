"""`executor="process"`: regular tasks in processes of their own, as if they ran here, but killable."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from durable_nb import Context, Depends, Durable, DurableContext, EmptyModel, NonRetryableException, TaskRunError
from durable_nb.errors import DeclarationError, ExecutorError, RunCancelledError
from tests.engine.helpers import Bench, reach, wait_until

pytestmark = pytest.mark.timeout(60)


class Order(BaseModel):
    item: str
    amount: int = 1


class Price(BaseModel):
    order: Order
    total: float


async def opened(input: Any, ctx: Context) -> AsyncIterator[str]:
    ctx.log("opened")
    yield f"pid {os.getpid()}"
    ctx.log("closed")


def test_a_task_runs_in_a_process_of_its_own_with_types_and_context(durable: Durable) -> None:
    @durable.task(executor="process", retries=2)
    def price(input: Order, ctx: Context) -> Price:
        ctx.log(f"pricing {input.item} as attempt {ctx.attempt_number} of {ctx.max_attempts}", level="WARNING")
        ctx.progress(0.5, "half")
        ctx.put_stream(b"\x00chunk")
        ctx.put_stream(str(os.getpid()))
        assert ctx.workflow_run_id == ctx.task_run_id
        assert ctx.additional_metadata == {"who": "me"}
        return Price(order=input, total=2.5 * input.amount)

    ref = price.run(Order(item="tea", amount=4), wait_for_result=False, additional_metadata={"who": "me"})
    assert ref.result() == Price(order=Order(item="tea", amount=4), total=10.0)
    [line] = durable.runs.logs(ref)
    assert (line.text, line.level, line.attempt) == ("pricing tea as attempt 1 of 3", "WARNING", 1)
    chunk, pid = list(ref.stream())
    assert chunk == b"\x00chunk"
    assert int(pid) != os.getpid()
    view = durable.runs.get(ref)
    assert (view.progress, view.progress_message) == (0.5, "half")


def test_async_tasks_dependencies_and_arrays_work_there(durable: Durable) -> None:
    import numpy as np

    @durable.task(executor="process")
    async def doubled(input: Any, ctx: Context, connection: Annotated[str, Depends(opened)]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"array": input["array"] * 2, "at": connection}

    ref = doubled.run({"array": np.arange(3.0)}, wait_for_result=False)
    result = ref.result()
    assert result["array"].tolist() == [0.0, 2.0, 4.0]
    assert result["at"] != f"pid {os.getpid()}"
    assert [line.text for line in durable.runs.logs(ref)] == ["opened", "closed"]


def test_an_error_comes_back_with_its_type_and_its_own_lines(durable: Durable) -> None:
    class OddError(Exception):
        pass

    @durable.task(executor="process")
    def fails(input: int, ctx: Context) -> None:
        raise OddError(f"{input} is odd")

    with pytest.raises(TaskRunError) as caught:
        fails.run(3)
    assert (caught.value.exc_type, caught.value.exc) == ("OddError", "3 is odd")
    assert 'raise OddError(f"{input} is odd")' in caught.value.trace
    assert "durable_nb/backends" not in caught.value.trace


def test_a_failed_attempt_is_retried_unless_no_retry_can_mend_it(durable: Durable) -> None:
    @durable.task(executor="process", retries=2)
    def shaky(input: str, ctx: Context) -> int:
        if input == "never":
            raise NonRetryableException("not today")
        if ctx.retry_count < 2:
            raise ValueError("again")
        return ctx.attempt_number

    assert shaky.run("soon") == 3
    ref = shaky.run("never", wait_for_result=False)
    with pytest.raises(TaskRunError, match="not today"):
        ref.result()
    assert durable.runs.get(ref).retry_count == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to be killed by")
@pytest.mark.parametrize("death", ["SIGKILL", "SIGSEGV", "exit code 3"])
def test_a_process_that_dies_is_a_failed_attempt_which_is_retried(durable: Durable, death: str) -> None:
    @durable.task(executor="process", retries=1)
    def dies(input: str, ctx: Context) -> str:
        ctx.log(f"attempt {ctx.attempt_number}")
        if ctx.retry_count == 0 or input == "always":
            if death.startswith("SIG"):
                os.kill(os.getpid(), getattr(signal, death))
            os._exit(3)
        return "lives"

    ref = dies.run("once", wait_for_result=False)
    assert ref.result() == "lives"
    assert [line.text for line in durable.runs.logs(ref)] == ["attempt 1", "attempt 2"]
    with pytest.raises(TaskRunError) as caught:
        dies.run("always")
    assert caught.value.exc_type == "WorkerLostError"
    assert death in caught.value.exc
    assert "of 'dies'" in caught.value.exc


@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_a_death_is_noticed_though_a_grandchild_holds_the_pipe(durable: Durable) -> None:
    @durable.task(executor="process")
    def leaves_a_child(input: Any, ctx: Context) -> None:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(TaskRunError, match="ended by SIGKILL"):
        leaves_a_child.run()


def test_what_it_prints_and_logs_comes_out_here(
    durable: Durable, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    @durable.task(executor="process")
    def speaks(input: Any, ctx: Context) -> None:
        print("printed", "ünïcode ✓ \ud800")
        sys.stdout.write("written\n")
        logging.getLogger("some.library").warning("logged %s", "too")

    speaks.run()
    assert capsys.readouterr().out == "printed ünïcode ✓ \\ud800\nwritten\n"
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("some.library", "logged too")]


# ---------------------------------------------------------------- killing


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _spinning(durable: Durable, **options: Any) -> tuple[Any, Any]:
    """Start a run that never ends by itself; give its ref and its pid."""

    @durable.task(executor="process", **options)
    def spins(input: Any, ctx: Context) -> None:
        ctx.progress(0, str(os.getpid()))
        while True:
            pass

    ref = spins.run(wait_for_result=False)
    return ref, int(reach(durable, ref, lambda view: view.progress_message).progress_message or "")


def test_a_process_over_its_time_is_killed(bench: Bench, durable: Durable) -> None:
    ref, pid = _spinning(durable, execution_timeout="10s")
    bench.clock.advance(9)
    assert durable.runs.get_status(ref) == "RUNNING"
    bench.clock.advance(2)
    with pytest.raises(TaskRunError, match=r"ExecutionTimeoutError.*execution_timeout is 10s"):
        ref.result()
    wait_until(lambda: not _alive(pid), what="the end of the process")


def test_a_cancelled_process_is_told_and_killed_after_its_grace(bench: Bench, durable: Durable) -> None:
    ref, pid = _spinning(durable, cancel_grace="5s")
    durable.runs.cancel(ref)
    assert durable.runs.get_status(ref) == "RUNNING"
    bench.clock.advance(6)
    with pytest.raises(RunCancelledError):
        ref.result()
    wait_until(lambda: not _alive(pid), what="the end of the process")


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_function_may_clean_up_when_it_is_cancelled(durable: Durable, form: str) -> None:
    @durable.task(executor="process", name="sync")
    def looks(input: Any, ctx: Context) -> None:
        ctx.progress(0, "begun")
        while not ctx.is_cancelled:
            time.sleep(0.003)
        ctx.log("cleaned up")

    @durable.task(executor="process", name="async")
    async def awaits(input: Any, ctx: Context) -> None:
        ctx.progress(0, "begun")
        try:
            await asyncio.sleep(60)
        finally:
            ctx.log("cleaned up")

    ref = durable.tasks[form].run(wait_for_result=False)
    reach(durable, ref, lambda view: view.progress_message)
    durable.runs.cancel(ref)
    with pytest.raises(RunCancelledError):
        ref.result()
    assert [line.text for line in durable.runs.logs(ref)] == ["cleaned up"]


def test_closing_the_engine_kills_and_the_next_one_executes_again(bench: Bench) -> None:
    first = bench.durable()
    ref, pid = _spinning(first)
    first.close()
    assert not _alive(pid)
    second = bench.durable()

    @second.task(executor="process")
    def spins(input: Any, ctx: Context) -> int:
        return ctx.invocation_count

    assert second.runs.get_run_ref(ref.workflow_run_id).result() == 2


# ---------------------------------------------------------------- what travels


def test_what_cannot_travel_is_named_and_not_retried(durable: Durable) -> None:
    lock = threading.Lock()

    @durable.task(executor="process", retries=3)
    def locked(input: Any, ctx: Context) -> None:
        lock.acquire()

    ref = locked.run(wait_for_result=False)
    with pytest.raises(TaskRunError, match=r"ShippingError: Task 'locked' cannot be sent.*lock") as caught:
        ref.result()
    assert "Make it inside the function" in caught.value.exc
    assert durable.runs.get(ref).retry_count == 0


def test_an_output_that_json_cannot_hold_is_refused_as_here(durable: Durable) -> None:
    @durable.task(executor="process", retries=3)
    def odd(input: Any, ctx: Context) -> Any:
        return {"lock": threading.Lock()}

    @durable.task(executor="process", retries=3)
    def wrong(input: Any, ctx: Context) -> int:
        return "no number"  # type: ignore[return-value]

    for task in (odd, wrong):
        ref = task.run(wait_for_result=False)
        with pytest.raises(TaskRunError, match="IllegalTaskOutputError"):
            ref.result()
        assert durable.runs.get(ref).retry_count == 0


def test_other_tasks_and_the_lifespan_are_not_there_which_is_said(durable: Durable) -> None:
    @durable.task()
    def other(input: Any, ctx: Context) -> int:
        return 1

    @durable.task(executor="process", name="calls")
    def calls(input: Any, ctx: Context) -> Any:
        return other.run()

    @durable.task(executor="process", name="lives")
    def lives(input: Any, ctx: Context) -> Any:
        return ctx.lifespan

    @durable.task(executor="process", name="recursive")
    def recursive(input: Any, ctx: Context) -> Any:
        return recursive.run()

    for name in ("calls", "lives", "recursive"):
        with pytest.raises(TaskRunError, match=r"ElsewhereError.*executes elsewhere"):
            durable.tasks[name].run()


def test_a_durable_task_and_a_workflow_give_work_to_processes(durable: Durable) -> None:
    @durable.task(executor="process")
    def square(input: int, ctx: Context) -> int:
        return input * input

    @durable.durable_task()
    async def total(input: int, ctx: DurableContext) -> int:
        return sum(await asyncio.gather(*(square.aio_run(number) for number in range(input))))

    assert total.run(5) == 30
    flow = durable.workflow(name="flow")

    @flow.task(executor="process")
    def first(input: EmptyModel, ctx: Context) -> list[int]:
        return [1, 2]

    @flow.task(parents=[first], executor="process")
    def second(input: EmptyModel, ctx: Context) -> int:
        assert not ctx.was_skipped(first)
        numbers: list[int] = ctx.task_output(first)
        return sum(numbers)

    assert flow.run() == {"first": [1, 2], "second": 3}


def test_a_task_waits_in_the_queue_for_an_executor_that_is_not_there_yet(durable: Durable) -> None:
    @durable.task(executor="far away")
    def patient(input: int, ctx: Context) -> int:
        return input + 1

    ref = patient.run(1, wait_for_result=False)
    durable.runs.list()
    assert durable.runs.get_status(ref) == "QUEUED"
    durable.executor("process", name="far away", slots=1)
    assert ref.result() == 2


def test_options_and_executors_that_cannot_work_are_refused(durable: Durable) -> None:
    with pytest.raises(DeclarationError, match=r"has no option 'executor': a durable task stays beside the log"):
        durable.durable_task(executor="process")
    with pytest.raises(DeclarationError, match=r"executor='thread' is none"):
        durable.task(executor="thread")
    with pytest.raises(DeclarationError, match=r"resources=… says what a task needs of a cluster"):
        durable.task(executor="process", resources={"GPU": 1})
    with pytest.raises(DeclarationError, match=r"resources\['GPU'\]=0: give a name and a number above 0"):
        durable.task(executor="dask", resources={"GPU": 0})
    with pytest.raises(ExecutorError, match="has no kind 'ray'"):
        durable.executor("ray")
    with pytest.raises(ExecutorError, match="slots=0"):
        durable.executor("process", slots=0)
    with pytest.raises(ExecutorError, match="cannot name an executor"):
        durable.executor("process", name="loop")
