"""`executor="dask"`: regular tasks on a real Dask cluster of several processes, one of which is killed in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

from durable_nb import Context, Durable, DurableContext, NonRetryableException, TaskRunError
from durable_nb.backends import dask
from durable_nb.errors import ExecutorError, RunCancelledError
from tests.engine.helpers import Bench, reach, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore"),  # of Dask's own
]


Client: Any = distributed.Client  # their calls have no types
Cluster: Any = distributed.LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes, each with two threads and one piece of a resource."""
    with Cluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, resources={"piece": 1}, silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture
def far(durable: Durable, cluster: Any) -> Durable:
    durable.executor("dask", cluster.scheduler_address)
    return durable


def test_results_words_and_errors_come_back(far: Durable, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    @far.task(executor="dask")
    def works(input: Any, ctx: Context) -> dict[str, Any]:
        ctx.log("begun")
        ctx.progress(0.5, "half")
        ctx.put_stream(b"\x00")
        print("printed there")
        return {"array": input["array"] + 1, "pid": os.getpid()}

    class OddError(Exception):
        pass

    @far.task(executor="dask", retries=1)
    async def fails(input: str, ctx: Context) -> None:
        await asyncio.sleep(0)
        raise (NonRetryableException if input == "never" else OddError)(f"attempt {ctx.attempt_number}")

    ref = works.run({"array": np.arange(2)}, wait_for_result=False)
    result = ref.result()
    assert result["array"].tolist() == [1, 2]
    assert result["pid"] != os.getpid()
    assert [line.text for line in far.runs.logs(ref)] == ["begun"]
    assert list(ref.stream()) == [b"\x00"]
    assert far.runs.get(ref).progress_message == "half"
    assert capsys.readouterr().out == "printed there\n"
    with pytest.raises(TaskRunError) as caught:
        fails.run("soon")
    assert (caught.value.exc_type, caught.value.exc) == ("OddError", "attempt 2")
    assert 'raise (NonRetryableException if input == "never" else OddError)' in caught.value.trace
    with pytest.raises(TaskRunError, match="attempt 1"):
        fails.run("never")


def test_a_durable_task_fans_out_over_the_workers(far: Durable) -> None:
    @far.task(executor="dask")
    def where(input: int, ctx: Context) -> int:
        time.sleep(0.05)
        return os.getpid()

    @far.durable_task()
    async def spread(input: int, ctx: DurableContext) -> list[int]:
        return sorted(set(await asyncio.gather(*(where.aio_run(number) for number in range(input)))))

    assert len(spread.run(12)) == 2


def test_a_task_is_executed_where_its_resources_are(far: Durable, tmp_path: Path) -> None:
    @far.task(executor="dask", resources={"piece": 1})
    def alone(input: str, ctx: Context) -> bool:
        mine = Path(input) / str(os.getpid())
        mine.touch(exist_ok=False)  # a worker has one piece, and two threads
        time.sleep(0.05)
        mine.unlink()
        return True

    @far.durable_task()
    async def many(input: str, ctx: DurableContext) -> list[bool]:
        return list(await asyncio.gather(*(alone.aio_run(input) for _ in range(6))))

    assert many.run(str(tmp_path)) == [True] * 6

    @far.task(executor="dask", resources={"unheard of": 1})
    def never(input: Any, ctx: Context) -> None: ...

    ref = never.run(wait_for_result=False)
    reach(far, ref, lambda run: run.status == "RUNNING")
    far.runs.cancel(ref)
    with pytest.raises(RunCancelledError):
        ref.result()


@pytest.mark.parametrize("form", ["sync", "async"])
def test_cancelling_reaches_the_worker(far: Durable, form: str) -> None:
    @far.task(executor="dask", name="sync")
    def looks(input: Any, ctx: Context) -> None:
        ctx.progress(0, "begun")
        while not ctx.is_cancelled:
            time.sleep(0.01)
        ctx.log("cleaned up")

    @far.task(executor="dask", name="async")
    async def awaits(input: Any, ctx: Context) -> None:
        ctx.progress(0, "begun")
        try:
            await asyncio.sleep(60)
        finally:
            ctx.log("cleaned up")

    ref = far.tasks[form].run(wait_for_result=False)
    reach(far, ref, lambda run: run.progress_message)
    far.runs.cancel(ref)
    with pytest.raises(RunCancelledError):
        ref.result()
    assert [line.text for line in far.runs.logs(ref)] == ["cleaned up"]


def test_an_attempt_over_its_time_fails_and_is_heard_no_more(bench: Bench, far: Durable, tmp_path: Path) -> None:
    @far.task(executor="dask", execution_timeout="10s")
    def late(input: str, ctx: Context) -> None:
        ctx.progress(0, "begun")
        while not ctx.is_cancelled:
            time.sleep(0.01)
        ctx.log("nobody hears this")
        Path(input).touch()

    ref = late.run(str(tmp_path / "over"), wait_for_result=False)
    reach(far, ref, lambda run: run.progress_message)
    bench.clock.advance(11)
    with pytest.raises(TaskRunError, match="execution_timeout is 10s"):
        ref.result()
    wait_until((tmp_path / "over").exists, what="the end of the function, which was told")
    assert far.runs.logs(ref) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_that_is_killed_has_its_work_done_by_another(far: Durable, tmp_path: Path) -> None:
    @far.task(executor="dask")
    def survives(input: str, ctx: Context) -> int:
        with (Path(input) / "pids").open("a") as file:
            file.write(f"{os.getpid()}\n")
        if len((Path(input) / "pids").read_text().split()) == 1:
            time.sleep(60)
        return ctx.attempt_number

    ref = survives.run(str(tmp_path), wait_for_result=False)
    wait_until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text(), what="the work")
    os.kill(int((tmp_path / "pids").read_text()), signal.SIGKILL)
    assert ref.result() == 1, "no retry was used up"
    assert len(set((tmp_path / "pids").read_text().split())) == 2
    assert any("was lost: Dask executes this attempt again" in line.text for line in far.runs.logs(ref))


def test_a_cluster_that_is_gone_is_a_failed_attempt(durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 0.5)
    with (
        Cluster(n_workers=1, processes=False, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        durable.executor("dask", client, slots=2)

        @durable.task(executor="dask")
        def patient(input: str, ctx: Context) -> None:
            ctx.progress(0, "begun")
            while not Path(input).exists():
                time.sleep(0.01)

        ref = patient.run(str(tmp_path / "end"), wait_for_result=False)
        reach(durable, ref, lambda run: run.progress_message)
        client.close()
        with pytest.raises(TaskRunError, match="WorkerLostError: The Dask cluster lost run"):
            ref.result()
        (tmp_path / "end").touch()
    far = Durable(durable.path.with_name("other.db"))
    far.executor("dask", "tcp://127.0.0.1:9")

    @far.task(executor="dask", name="nowhere")
    def nowhere(input: Any, ctx: Context) -> None: ...

    with far, pytest.raises(TaskRunError, match=r"WorkerLostError: No Dask scheduler answers at tcp://127.0.0.1:9"):
        nowhere.run()
    with pytest.raises(ExecutorError, match="address=None: give a scheduler's address"):
        far.executor("dask")
