"""Rate limits: in no window of time is more used than there is, over tasks, processes and restarts; and nobody polls."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_nb import (
    ConcurrencyExpression,
    Context,
    Durable,
    DurableContext,
    RateLimit,
    RateLimitDuration,
    RateLimitError,
)
from durable_nb.engine.clock import SystemClock
from durable_nb.errors import DeclarationError, InputValidationError
from durable_nb.testing import VirtualClock
from tests.engine.helpers import Bench, reach, settle, wait_until

MINUTE = RateLimitDuration.MINUTE
OF_API = [RateLimit(static_key="api", units=1)]
BY_USER = [RateLimit(dynamic_key="input.user", units="input.units", limit="input.limit", duration=MINUTE)]


class Calls:
    """A task under a rate limit, and when its attempts began."""

    def __init__(self, bench: Bench, *durables: Durable, name: str = "call", **options: Any) -> None:
        self.at: list[float] = []
        self.inputs: list[Any] = []
        for durable in durables:
            self._declare(bench, durable, name, options)

    def _declare(self, bench: Bench, durable: Durable, name: str, options: dict[str, Any]) -> None:
        @durable.task(name=name, **options)
        async def call(input: Any, ctx: Context) -> Any:
            self.at.append(bench.clock.now())
            self.inputs.append(input)
            return input


def start(durable: Durable, *inputs: Any, task: str = "call", **options: Any) -> list[Any]:
    made = durable.tasks[task]
    items = [made.create_bulk_run_item(input=item, **options) for item in inputs]
    return made.run_many(items, wait_for_result=False)


def test_no_more_than_the_limit_starts_in_a_window_and_the_rest_when_it_is_over(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 2, MINUTE)
    calls = Calls(bench, durable, rate_limits=OF_API)
    refs = start(durable, *range(5))
    began = bench.clock.now()
    for expected in (2, 4, 5):
        wait_until(lambda expected=expected: len(calls.at) == expected)  # type: ignore[misc]
        settle(durable)
        assert len(calls.at) == expected
        bench.clock.advance(59)
        settle(durable)
        assert len(calls.at) == expected
        bench.clock.advance(1)
    assert [ref.result() for ref in refs] == list(range(5))
    assert [at - began for at in calls.at] == [0, 0, 60, 60, 120]
    assert calls.inputs == list(range(5))


def test_the_window_slides(bench: Bench, durable: Durable) -> None:
    """What was used late in one minute still counts early in the next, where a fixed window would let twice as much through."""
    durable.rate_limits.put("api", 2, MINUTE)
    calls = Calls(bench, durable, rate_limits=OF_API)
    bench.clock.advance(50)
    start(durable, 1)
    wait_until(lambda: len(calls.at) == 1)
    bench.clock.advance(5)
    start(durable, 2, 3, 4)
    wait_until(lambda: len(calls.at) == 2)
    bench.clock.advance(10)
    settle(durable)
    assert len(calls.at) == 2
    bench.clock.advance(45)
    wait_until(lambda: len(calls.at) == 3)
    settle(durable)
    assert len(calls.at) == 3
    bench.clock.advance(5)
    wait_until(lambda: len(calls.at) == 4)


def test_units_and_limit_of_a_dynamic_key_come_from_the_input(bench: Bench, durable: Durable) -> None:
    calls = Calls(bench, durable, rate_limits=BY_USER)
    ada = {"user": "ada", "units": 2, "limit": 3}
    start(durable, ada, ada, {"user": "bob", "units": 3, "limit": 3})
    wait_until(lambda: len(calls.at) == 2)
    settle(durable)
    assert sorted(item["user"] for item in calls.inputs) == ["ada", "bob"]
    bench.clock.advance(60)
    wait_until(lambda: len(calls.at) == 3)
    assert {limit.key: (limit.limit, limit.seconds) for limit in durable.rate_limits.list()} == {"ada": (3, 60), "bob": (3, 60)}


def test_tasks_share_a_limit_that_they_both_name(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 1, MINUTE)
    one, two = (Calls(bench, durable, name=name, rate_limits=OF_API) for name in ("one", "two"))
    start(durable, 1, task="one")
    wait_until(lambda: len(one.at) == 1)
    start(durable, 2, task="two")
    settle(durable)
    assert two.at == []
    bench.clock.advance(60)
    wait_until(lambda: len(two.at) == 1)


def test_each_attempt_uses_units_and_keeps_to_them(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 1, MINUTE)
    tried: list[float] = []

    @durable.task(rate_limits=OF_API, retries=2)
    async def flaky(input: Any, ctx: Context) -> int:
        tried.append(bench.clock.now())
        if ctx.retry_count < 2:
            raise ValueError
        return ctx.retry_count

    ref = flaky.run(wait_for_result=False)
    for number in (1, 2):
        wait_until(lambda number=number: len(tried) == number)  # type: ignore[misc]
        reach(durable, ref, lambda run, number=number: run.retry_count == number)  # type: ignore[misc]
        settle(durable)
        bench.clock.advance(60)
    assert ref.result() == 2
    assert [at - tried[0] for at in tried] == [0, 60, 120]


def test_going_on_after_an_eviction_uses_nothing(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 1, RateLimitDuration.DAY)

    @durable.durable_task(rate_limits=OF_API)
    async def wait(input: Any, ctx: DurableContext) -> Any:
        return await ctx.aio_wait_for_event("go")

    ref = wait.run(wait_for_result=False)
    bench.asked(ref, 1)
    bench.clock.advance(3600)
    reach(durable, ref, lambda run: run.is_evicted)
    durable.event.push("go", 1)
    assert ref.result() == 1


def test_what_was_used_is_known_after_a_crash(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 1, MINUTE)
    first = Calls(bench, durable, rate_limits=OF_API)
    refs = start(durable, 1, 2)
    assert refs[0].result() == 1
    bench.clock.advance(30)
    bench.crash()
    again = bench.durable()
    calls = Calls(bench, again, rate_limits=OF_API)
    again.open()
    settle(again)
    assert calls.at == []
    bench.clock.advance(30)
    wait_until(lambda: calls.inputs == [2])
    assert first.inputs[0] == 1


def test_a_clock_that_was_set_back_lets_nobody_wait_longer_than_a_window(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 1, MINUTE)
    Calls(bench, durable, rate_limits=OF_API)
    assert start(durable, 1)[0].result() == 1
    durable.close()
    bench.clock = VirtualClock(datetime.fromtimestamp(bench.clock.now(), UTC) - timedelta(days=400))
    again = bench.durable()
    calls = Calls(bench, again, rate_limits=OF_API)
    start(again, 2)
    settle(again)
    assert calls.at == []
    bench.clock.advance(60)
    wait_until(lambda: calls.inputs == [2])


def test_a_raised_limit_lets_those_in_who_wait(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 1, RateLimitDuration.DAY)
    calls = Calls(bench, durable, rate_limits=OF_API)
    start(durable, *range(4))
    wait_until(lambda: len(calls.at) == 1)
    durable.rate_limits.put("api", 3, RateLimitDuration.DAY)
    wait_until(lambda: len(calls.at) == 3)
    settle(durable)
    assert len(calls.at) == 3


def test_a_limit_lowered_below_what_a_run_needs_lets_it_go_when_nothing_else_is_used(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 4, MINUTE)
    calls = Calls(bench, durable, rate_limits=[RateLimit(static_key="api", units=3)])
    start(durable, 1, 2)
    wait_until(lambda: len(calls.at) == 1)
    durable.rate_limits.put("api", 2, MINUTE)
    bench.clock.advance(60)
    wait_until(lambda: len(calls.at) == 2)


def test_a_rate_and_a_concurrency_hold_together(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 2, MINUTE)
    calls = Calls(bench, durable, rate_limits=OF_API, concurrency=ConcurrencyExpression("input.user", 1))
    refs = start(durable, *({"user": user} for user in "aabb"))
    wait_until(lambda: len(calls.at) == 2)
    settle(durable)
    assert len(calls.at) == 2
    bench.clock.advance(60)
    for ref in refs:
        ref.result()
    assert len(calls.at) == 4


@pytest.mark.parametrize("absent", ["paused", "served by nobody"])
def test_a_task_that_does_not_run_keeps_no_units_from_those_that_do(bench: Bench, durable: Durable, absent: str) -> None:
    durable.rate_limits.put("api", 1, MINUTE)
    first = Calls(bench, durable, name="first", rate_limits=OF_API)
    durable.tasks["first"].pause()
    start(durable, 1, task="first")
    if absent == "served by nobody":
        durable.close()
        durable = bench.durable()
        durable.queue.unpause("first")
    second = Calls(bench, durable, name="second", rate_limits=OF_API)
    start(durable, 2, task="second")
    settle(durable)
    bench.clock.advance(2)
    wait_until(lambda: len(second.at) == 1)
    again = Calls(bench, durable, name="first", rate_limits=OF_API)
    durable.queue.unpause("first")
    settle(durable)
    assert first.at == again.at == []
    bench.clock.advance(60)
    wait_until(lambda: len(first.at) + len(again.at) == 1)


# ---------------------------------------------------------------- what is refused


def test_a_key_that_nobody_set_is_said_when_the_run_is_started(bench: Bench, durable: Durable) -> None:
    Calls(bench, durable, rate_limits=OF_API)
    with pytest.raises(
        RateLimitError, match=r"'api' is not set in this log: say durable\.rate_limits\.put\('api', limit\) first"
    ):
        start(durable, 1)
    assert bench.count("run") == 0


def test_in_a_durable_task_it_is_the_outcome_of_the_child_live_and_in_replay(bench: Bench, durable: Durable) -> None:
    Calls(bench, durable, rate_limits=OF_API)

    @durable.durable_task()
    async def parent(input: Any, ctx: DurableContext) -> str:
        said = ""
        try:
            await durable.tasks["call"].aio_run(1)
        except RateLimitError as error:
            said = str(error)[:20]
        await ctx.aio_wait_for_event("go")
        return said

    ref = parent.run(wait_for_result=False)
    bench.asked(ref, 2)
    durable.close()
    durable.event.push("go")
    assert ref.result() == "The rate limit 'api'"


def test_more_units_than_there_ever_are_is_said_when_the_run_is_started(bench: Bench, durable: Durable) -> None:
    durable.rate_limits.put("api", 2, MINUTE)
    Calls(bench, durable, rate_limits=[RateLimit(static_key="api", units=3)])
    with pytest.raises(RateLimitError, match=r"needs 3 units of the rate limit 'api', which has 2 in a window"):
        start(durable, 1)


def test_units_that_are_no_number_write_nothing(bench: Bench, durable: Durable) -> None:
    Calls(bench, durable, rate_limits=BY_USER)
    with pytest.raises(InputValidationError, match=r"rate limit's units `input.units` gives 'two', not a whole number"):
        start(durable, {"user": "ada", "units": "two", "limit": 3})
    assert bench.count("run") == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (RateLimit, "takes either static_key or dynamic_key"),
        (lambda: RateLimit(static_key="a", dynamic_key="b", limit=1), "takes either static_key or dynamic_key"),
        (lambda: RateLimit(static_key="a", limit=3), r"takes no limit: durable.rate_limits.put\('a', 3\) sets it"),
        (lambda: RateLimit(dynamic_key="input.a"), "needs its limit"),
        (lambda: RateLimit(static_key="a", units=0), "units=0: give a whole number, 1 or more"),
        (lambda: RateLimit(static_key="a", duration="FORTNIGHT"), "duration='FORTNIGHT' is unknown"),  # type: ignore[arg-type]
    ],
)
def test_a_declaration_that_cannot_work_is_refused(make: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        make()


@pytest.mark.parametrize(("limit", "duration"), [(0, MINUTE), ("3", MINUTE), (1, "LATER")])
def test_a_limit_that_cannot_be_is_refused(durable: Durable, limit: Any, duration: Any) -> None:
    with pytest.raises(DeclarationError):
        durable.rate_limits.put("api", limit, duration)


# ---------------------------------------------------------------- real time, two engines


@pytest.mark.slow
def test_two_engines_keep_one_limit_in_real_time(bench: Bench) -> None:
    engines = [bench.durable(clock=SystemClock()) for _ in range(2)]
    engines[0].rate_limits.put("api", 5, RateLimitDuration.SECOND)
    began, lock = list[float](), threading.Lock()
    for durable in engines:

        @durable.task(rate_limits=OF_API)
        def call(input: int, ctx: Context) -> int:
            with lock:
                began.append(time.time())
            return input

        durable.open()

    def run(number: int) -> int:
        return int(engines[number % 2].tasks["call"].run(number))

    started = time.time()
    with ThreadPoolExecutor(15) as pool:
        assert sorted(pool.map(run, range(15))) == list(range(15))
    spent = [at for (at,) in bench.rows("SELECT at FROM journal WHERE kind = 'entered' ORDER BY at")]
    assert all(later - earlier > 0.999 for earlier, later in zip(spent, spent[5:], strict=False))
    assert 1.9 < time.time() - started < 6  # the third five start two seconds after the first, at once when they may


def test_putting_a_limit_in_a_durable_task_is_a_checkpoint(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def setup(input: Any, ctx: DurableContext) -> str:
        await durable.rate_limits.aio_put("api", 1, MINUTE)
        await ctx.aio_wait_for_event("go")
        return "set"

    ref = setup.run(wait_for_result=False)
    bench.asked(ref, 2)
    durable.close()
    durable.rate_limits.put("api", 9, MINUTE)
    durable.event.push("go")
    assert ref.result() == "set"
    assert [limit.limit for limit in durable.rate_limits.list()] == [9]
    assert [ask for _, _, ask in bench.asks(ref)] == ["put rate limit api", "event go"]
