"""Crons and scheduled runs: each tick once over all processes, missed ones as declared, summer time as the wall clock has it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

from durable_nb import Context, Cron, Durable, DurableContext, TaskRunError, TTLBasedIdempotencyConfig
from durable_nb.engine.clock import SystemClock
from durable_nb.engine.ticks import due_ticks, last_tick, next_tick, ticks_after
from durable_nb.errors import DeclarationError, InputValidationError, UnknownScheduleError
from durable_nb.testing import VirtualClock
from tests.engine.helpers import Bench, settle, wait_until

HOUR = 3600.0
ROME = ZoneInfo("Europe/Rome")


class Report(BaseModel):
    of: str


def declare(bench: Bench, durable: Durable, **options: Any) -> list[Any]:
    """Declare `report`; give the list to which it writes when it ran and with what."""
    ran: list[Any] = []

    @durable.task(**options)
    async def report(input: Any, ctx: Context) -> Any:
        ran.append((bench.clock.now(), input, ctx.additional_metadata))
        return input

    return ran


def at(text: str, zone: Any = UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def hours(bench: Bench, ran: list[Any], began: float) -> list[float]:
    return [(when - began) / HOUR for when, *_ in ran]


# ---------------------------------------------------------------- crons


def test_a_declared_cron_runs_at_each_tick(bench: Bench, durable: Durable) -> None:
    ran, began = declare(bench, durable, on_crons=["0 * * * *", "30 1 * * *"]), bench.clock.now()
    durable.open()
    for number in range(1, 5):
        bench.clock.advance(HOUR / 2)
        wait_until(lambda number=number: len(ran) == (0, 0, 1, 2, 3)[number])  # type: ignore[misc]
    assert hours(bench, ran, began) == [1, 1.5, 2]
    assert {cron.name for cron in durable.cron.list()} == {"0 * * * * UTC", "30 1 * * * UTC"}


@pytest.mark.parametrize(("catch_up", "expected"), [("skip", []), ("last", [3.5]), ("all", [3.5, 3.5, 3.5])])
def test_ticks_that_nobody_was_there_for(bench: Bench, durable: Durable, catch_up: Any, expected: list[float]) -> None:
    began = bench.clock.now()
    declare(bench, durable, on_crons=[Cron("0 * * * *", catch_up=catch_up)])
    durable.open().close()
    bench.clock.advance(3.5 * HOUR)
    again = bench.durable()
    ran = declare(bench, again, on_crons=[Cron("0 * * * *", catch_up=catch_up)])
    again.open()
    settle(again)
    wait_until(lambda: len(ran) == len(expected))
    assert hours(bench, ran, began) == expected
    bench.clock.advance(HOUR / 2)
    wait_until(lambda: len(ran) == len(expected) + 1)
    assert hours(bench, ran, began)[-1] == 4


@pytest.mark.parametrize(("catch_up", "expected"), [("skip", 0), ("last", 1), ("all", 24)])
def test_a_clock_that_jumps_over_ticks(bench: Bench, durable: Durable, catch_up: Any, expected: int) -> None:
    """A laptop that slept: the engine lived, and the ticks were missed all the same."""
    ran = declare(bench, durable, on_crons=[Cron("0 * * * *", catch_up=catch_up)])
    durable.open()
    bench.clock.advance(24.5 * HOUR)
    settle(durable)
    wait_until(lambda: len(ran) == expected)
    settle(durable)
    assert len(ran) == expected


def test_a_tick_a_minute_late_is_no_missed_one(bench: Bench, durable: Durable) -> None:
    """A kernel that restarts over a tick."""
    declare(bench, durable, on_crons=["0 * * * *"])
    durable.open()
    bench.clock.advance(HOUR - 10)
    settle(durable)
    durable.close()
    bench.clock.advance(50)
    again = bench.durable()
    ran = declare(bench, again, on_crons=["0 * * * *"])
    again.open()
    wait_until(lambda: len(ran) == 1)


def test_a_clock_set_back_by_an_hour_runs_no_tick_twice(bench: Bench, durable: Durable) -> None:
    began = bench.clock.now()
    ran = declare(bench, durable, on_crons=["0 * * * *"])
    durable.open()
    bench.clock.advance(HOUR)
    wait_until(lambda: len(ran) == 1)
    durable.close()
    bench.clock = VirtualClock(datetime.fromtimestamp(began, UTC) + timedelta(minutes=1))
    again = bench.durable()
    ran = declare(bench, again, on_crons=["0 * * * *"])
    again.open()
    bench.clock.advance(HOUR)
    settle(again)
    assert ran == []
    bench.clock.advance(HOUR - 60)
    wait_until(lambda: hours(bench, ran, began) == [2])


def test_a_clock_that_was_wrong_by_years_stops_no_cron(bench: Bench, durable: Durable) -> None:
    began = bench.clock.now()
    bench.clock.advance(timedelta(days=4000))
    ran = declare(bench, durable, on_crons=[Cron("0 * * * *", catch_up="last")])
    durable.open()
    bench.clock.advance(2 * HOUR)
    wait_until(lambda: len(ran) == 1)
    durable.close()
    bench.clock = VirtualClock(datetime.fromtimestamp(began, UTC))
    again = bench.durable()
    ran = declare(bench, again, on_crons=[Cron("0 * * * *", catch_up="last")])
    again.open()
    bench.clock.advance(HOUR)
    wait_until(lambda: hours(bench, ran, began) == [1])


def test_a_task_that_is_declared_again_has_the_crons_it_says_now(bench: Bench, durable: Durable) -> None:
    durable.open()
    declare(bench, durable, on_crons=["0 * * * *", "0 9 * * *"])
    kept = {cron.expression: cron.id for cron in durable.cron.list()}
    declare(bench, durable, on_crons=["0 9 * * *", "0 10 * * *"])
    now = {cron.expression: cron.id for cron in durable.cron.list()}
    assert now.keys() == {"0 9 * * *", "0 10 * * *"}
    assert now["0 9 * * *"] == kept["0 9 * * *"]
    declare(bench, durable)
    assert durable.cron.list() == []


def test_a_cron_is_made_listed_replaced_and_deleted(bench: Bench, durable: Durable) -> None:
    ran = declare(bench, durable)
    made = durable.cron.create(
        durable.tasks["report"], "hourly", "0 * * * *", {"of": "x"}, {"by": "me"}, 3, timezone="Europe/Rome", catch_up="all"
    )
    assert (made.task, made.name, made.expression, made.timezone, made.priority) == (
        "report",
        "hourly",
        "0 * * * *",
        "Europe/Rome",
        3,
    )
    assert made.next_run_at == datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert durable.cron.get(made.id) == durable.cron.list("report")[0] == made
    bench.clock.advance(HOUR)
    wait_until(lambda: len(ran) == 1)
    assert ran[0][1:] == ({"of": "x"}, {"by": "me"})
    run_id = wait_until(lambda: durable.cron.get(made.id).last_run_id)
    assert durable.runs.get(run_id or "").task == "report"
    assert bench.rows("SELECT json_extract(data, '$.name') FROM journal WHERE kind = 'scheduled'") == [("hourly",)]
    again = durable.tasks["report"].create_cron("hourly", "30 * * * *")
    assert [cron.id for cron in durable.cron.list()] == [again.id]
    durable.cron.delete(again.id)
    assert durable.cron.list() == []
    bench.clock.advance(HOUR)
    settle(durable)
    assert len(ran) == 1
    for call in (durable.cron.get, durable.cron.delete, durable.scheduled.get, durable.scheduled.delete):
        with pytest.raises(UnknownScheduleError, match=r"is in this log: durable\.(cron|scheduled)\.list\(\) gives them"):
            call(again.id)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 9 * *", r"'0 9 \* \*' cannot be read \(Wrong number of fields\)"),
        ("61 * * * *", "cannot be read .*minute"),
        ("0 0 30 2 *", "cannot be read"),
        ("every day", "cannot be read"),
        ("* " * 500, "text of at most 200 characters"),
        (None, "A cron expression is text"),
    ],
)
def test_a_bad_expression_is_refused_where_it_is_declared(bench: Bench, durable: Durable, expression: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        declare(bench, durable, on_crons=[Cron(expression)])
    with pytest.raises(DeclarationError, match=words):
        durable.cron.create("report", "c", expression)
    assert "report" not in durable.tasks


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "", "/etc/localtime"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(DeclarationError, match="is unknown here: give an IANA name"):
        Cron("0 9 * * *", timezone=zone)


def test_a_cron_whose_input_does_not_fit_is_refused_at_declaration(bench: Bench, durable: Durable) -> None:
    with pytest.raises(DeclarationError, match=r"of: Field required.*on_crons=\[Cron\('0 9 \* \* \*', input=...\)\]"):
        declare(bench, durable, on_crons=["0 9 * * *"], input_validator=Report)
    ran = declare(bench, durable, on_crons=[Cron("0 * * * *", input={"of": "sales"})], input_validator=Report)
    durable.open()
    bench.clock.advance(HOUR)
    wait_until(lambda: len(ran) == 1)
    assert ran[0][1] == Report(of="sales")
    with pytest.raises(InputValidationError, match="of: Field required"):
        durable.cron.create("report", "c", "0 9 * * *")


def test_a_tick_that_can_start_no_run_is_said_and_the_next_one_tried(bench: Bench, durable: Durable) -> None:
    ran = declare(bench, durable, idempotency=TTLBasedIdempotencyConfig("input.of", timedelta(minutes=90)))
    cron = durable.cron.create("report", "hourly", "0 * * * *", {"of": "x"})
    for _ in range(2):
        bench.clock.advance(HOUR)
        settle(durable)
    assert "idempotency key 'x' exists" in (wait_until(lambda: durable.cron.get(cron.id).error) or "")
    bench.clock.advance(HOUR)
    wait_until(lambda: len(ran) == 2)


def test_a_crash_between_ticks_neither_loses_nor_repeats_one(bench: Bench, durable: Durable) -> None:
    ran, began = declare(bench, durable, on_crons=["0 * * * *"]), bench.clock.now()
    durable.open()
    bench.clock.advance(HOUR)
    wait_until(lambda: bench.rows("SELECT 1 FROM run WHERE status = 'COMPLETED'"))
    bench.crash()
    again = bench.durable()
    later = declare(bench, again, on_crons=["0 * * * *"])
    again.open()
    settle(again)
    assert (hours(bench, ran, began), later) == ([1], [])
    bench.clock.advance(HOUR)
    wait_until(lambda: hours(bench, later, began) == [2])


def test_many_engines_fire_each_tick_once(bench: Bench) -> None:
    engines = [bench.durable() for _ in range(4)]
    ran = [declare(bench, durable, on_crons=["*/10 * * * *"]) for durable in engines]
    for durable in engines:
        durable.open()
    for number in range(1, 13):
        bench.clock.advance(600)
        wait_until(lambda number=number: sum(map(len, ran)) == number)  # type: ignore[misc]
    for durable in engines:
        settle(durable)
    assert sum(map(len, ran)) == 12
    assert bench.rows("SELECT count(*) FROM run WHERE task = 'report'") == [(12,)]


def test_only_who_serves_the_task_fires_its_cron(bench: Bench, durable: Durable) -> None:
    ran = declare(bench, durable)
    durable.cron.create("report", "hourly", "0 * * * *", catch_up="last")
    durable.close()
    other = bench.durable()
    other.open()
    bench.clock.advance(HOUR)
    settle(other)
    assert other.runs.list(task="report") == []
    durable.open()
    wait_until(lambda: len(ran) == 1)


@pytest.mark.slow
def test_a_cron_ticks_on_the_machines_clock(bench: Bench) -> None:
    durable = bench.durable(clock=SystemClock())
    ran: list[float] = []

    @durable.task(on_crons=["* * * * * *"])
    async def tick(input: Any, ctx: Context) -> None:
        ran.append(time.time())

    durable.open()
    wait_until(lambda: len(ran) >= 3, 8)
    assert all(0 <= when % 1 < 0.9 for when in ran)
    assert len({int(when) for when in ran}) == len(ran)


# ---------------------------------------------------------------- the ticks themselves


def local(expression: str, since: str, count: int) -> list[str]:
    ticks = islice(ticks_after(expression, "Europe/Rome", at(since, ROME)), count)
    return [datetime.fromtimestamp(tick, UTC).astimezone(ROME).isoformat()[5:] for tick in ticks]


def test_a_fixed_hour_that_summer_time_leaves_out_runs_once_after_it() -> None:
    assert local("30 2 * * *", "2026-03-28T03:00", 3) == [
        "03-29T03:00:00+02:00",
        "03-30T02:30:00+02:00",
        "03-31T02:30:00+02:00",
    ]


def test_a_fixed_hour_that_comes_twice_runs_once() -> None:
    assert local("30 2 * * *", "2026-10-24T03:00", 2) == ["10-25T02:30:00+02:00", "10-26T02:30:00+01:00"]
    second = datetime(2026, 10, 25, 2, 10, tzinfo=ROME, fold=1).timestamp()  # asked in the second of the two hours
    assert next_tick("30 2 * * *", "Europe/Rome", second) == at("2026-10-26T02:30", ROME)


def test_each_hour_of_a_changing_day_has_its_tick() -> None:
    assert len(local("0 * * * *", "2026-10-25T00:00", 24)) == 24
    assert local("0 * * * *", "2026-10-25T01:30", 3) == [
        "10-25T02:00:00+02:00",
        "10-25T02:00:00+01:00",
        "10-25T03:00:00+01:00",
    ]
    assert local("0 * * * *", "2026-03-29T00:30", 3) == ["03-29T01:00:00+01:00", "03-29T03:00:00+02:00", "03-29T04:00:00+02:00"]


def test_a_cron_follows_its_wall_clock_over_a_change(bench: Bench) -> None:
    bench.clock = VirtualClock(datetime(2026, 10, 24, 8, 0, tzinfo=ROME))
    durable = bench.durable()
    ran = declare(bench, durable, on_crons=[Cron("0 9 * * *", timezone="Europe/Rome")])
    durable.open()
    bench.clock.advance(HOUR)
    wait_until(lambda: len(ran) == 1)
    bench.clock.advance(24 * HOUR)
    settle(durable)
    assert len(ran) == 1
    bench.clock.advance(HOUR)
    wait_until(lambda: len(ran) == 2)


@pytest.mark.parametrize("expression", ["*/7 * * * *", "30 2 * * *", "0 0 1 * *", "*/20 * * * * *", "15 2,3 * * 0"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Rome", "Australia/Lord_Howe", "Pacific/Apia"])
def test_the_last_tick_is_what_counting_gives(expression: str, zone: str) -> None:
    for since in (at("2026-03-28T20:00"), at("2026-10-24T20:00"), at("2026-04-04T10:00")):
        for now in (since, since + 1, since + 5 * HOUR, since + 30 * HOUR):
            counted = list(takewhile(lambda tick, now=now: tick <= now, ticks_after(expression, zone, since - 1e-3)))  # type: ignore[misc]
            assert last_tick(expression, zone, since, now) == (counted[-1] if counted else None)


def test_years_of_seconds_are_not_counted_one_by_one() -> None:
    since = at("2000-01-01T00:00")
    started = time.monotonic()
    ticks, following = due_ticks("* * * * * *", "UTC", "last", since, at("2026-01-01T00:00"))
    assert (ticks, following) == ([at("2026-01-01T00:00")], at("2026-01-01T00:00:01"))
    assert time.monotonic() - started < 5  # 820 million ticks lie between


def test_all_that_was_missed_is_caught_up_in_bounded_steps() -> None:
    ticks, following = due_ticks("* * * * *", "UTC", "all", 60.0, 1e6)
    assert (len(ticks), following) == (1000, ticks[-1] + 60)


# ---------------------------------------------------------------- single runs


def test_a_scheduled_run_starts_at_its_time(bench: Bench, durable: Durable) -> None:
    ran = declare(bench, durable)
    when = datetime(2026, 1, 1, 9, tzinfo=ROME)
    made = durable.scheduled.create(durable.tasks["report"], when, {"of": "x"}, {"by": "me"}, priority=2)
    assert (made.status, made.trigger_at, made.run_id) == ("SCHEDULED", when, None)
    bench.clock.advance(7 * HOUR)
    settle(durable)
    assert ran == []
    bench.clock.advance(HOUR)
    wait_until(lambda: len(ran) == 1)
    assert ran == [(when.timestamp(), {"of": "x"}, {"by": "me"})]
    wait_until(lambda: durable.scheduled.get(made.id).run_id)
    seen = durable.scheduled.get(made.id)
    assert (seen.status, seen.trigger_at) == ("STARTED", when)
    assert durable.scheduled.list("report") == [seen]
    assert (durable.scheduled.list("other"), durable.cron.list()) == ([], [])


def test_it_starts_late_rather_than_never_and_once(bench: Bench, durable: Durable) -> None:
    declare(bench, durable)
    durable.tasks["report"].schedule(datetime.fromtimestamp(bench.clock.now() + HOUR, UTC))
    durable.close()
    bench.clock.advance(9 * HOUR)
    engines = [bench.durable() for _ in range(2)]
    ran = [declare(bench, engine) for engine in engines]
    for engine in engines:
        engine.open()
    wait_until(lambda: sum(map(len, ran)) == 1)
    for engine in engines:
        settle(engine)
    assert sum(map(len, ran)) == 1


def test_one_of_the_past_starts_at_once(bench: Bench, durable: Durable) -> None:
    ran = declare(bench, durable)
    durable.tasks["report"].schedule(datetime(2000, 1, 1, tzinfo=UTC))
    wait_until(lambda: len(ran) == 1)


def test_it_is_moved_and_deleted(bench: Bench, durable: Durable) -> None:
    ran = declare(bench, durable)
    began = bench.clock.now()
    moved, gone = (durable.scheduled.create("report", datetime.fromtimestamp(began + HOUR, UTC), n) for n in range(2))
    later = datetime.fromtimestamp(began + 3 * HOUR, UTC)
    assert durable.scheduled.reschedule(moved.id, later).trigger_at == later
    durable.scheduled.delete(gone.id)
    bench.clock.advance(2 * HOUR)
    settle(durable)
    assert ran == []
    bench.clock.advance(HOUR)
    wait_until(lambda: [item[1] for item in ran] == [0])
    wait_until(lambda: durable.scheduled.get(moved.id).run_id)
    with pytest.raises(UnknownScheduleError):
        durable.scheduled.reschedule(moved.id, later)


def test_what_cannot_be_is_refused_and_nothing_is_written(bench: Bench, durable: Durable) -> None:
    declare(bench, durable, input_validator=Report)
    soon = datetime(2026, 1, 2, tzinfo=UTC)
    refused: list[tuple[Any, str]] = [
        (lambda: durable.scheduled.create("report", datetime(2026, 1, 2), {"of": "x"}), "has no time zone"),
        (lambda: durable.scheduled.create("report", soon, {}), "of: Field required"),
        (lambda: durable.scheduled.create("report", soon, {"of": "x"}, priority=4), "priority=4 is unknown"),
    ]
    for call, words in refused:
        with pytest.raises(InputValidationError, match=words):
            call()
    assert bench.count("schedule") == 0


def test_scheduling_in_a_durable_task_is_done_once(bench: Bench, durable: Durable) -> None:
    declare(bench, durable)

    @durable.durable_task()
    async def plan(input: Any, ctx: DurableContext) -> list[str]:
        one = await durable.tasks["report"].aio_schedule(datetime(2027, 1, 1, tzinfo=UTC))
        two = await durable.cron.aio_create("report", "c", "0 9 * * *")
        await ctx.aio_wait_for_event("go")
        return [one.id, two.id]

    ref = plan.run(wait_for_result=False)
    bench.asked(ref, 3)
    durable.close()
    durable.event.push("go")
    assert ref.result() == [durable.scheduled.list()[0].id, durable.cron.list()[0].id]
    assert bench.count("schedule") == 2
    assert [ask for _, _, ask in bench.asks(ref)] == ["schedule report at 2027-01-01T00:00:00+00:00", "create cron c", "event go"]


def test_what_a_durable_task_moves_deletes_and_pauses_is_done_once(bench: Bench, durable: Durable) -> None:
    """A replay finds gone what it has deleted, and undoes nothing that a person did since."""
    declare(bench, durable)
    once = durable.scheduled.create("report", datetime(2027, 1, 1, tzinfo=UTC), {"of": "x"}).id
    gone = durable.scheduled.create("report", datetime(2027, 1, 1, tzinfo=UTC), {"of": "x"}).id
    cron = durable.cron.create("report", "c", "0 9 * * *", {"of": "x"}).id

    @durable.durable_task()
    async def tidy(input: Any, ctx: DurableContext) -> list[Any]:
        moved = await durable.scheduled.aio_reschedule(once, datetime(2028, 1, 1, tzinfo=UTC))
        await durable.scheduled.aio_delete(gone)
        await durable.cron.aio_delete(cron)
        paused = await durable.queue.aio_pause("report")
        with pytest.raises(TaskRunError, match="UnknownScheduleError"):
            await durable.scheduled.aio_delete(gone)
        await ctx.aio_wait_for_event("go")
        return [moved.trigger_at.year, paused]

    ref = tidy.run(wait_for_result=False)
    bench.asked(ref, 6)
    durable.close()
    durable.scheduled.reschedule(once, datetime(2029, 1, 1, tzinfo=UTC))
    durable.queue.unpause("report")
    durable.event.push("go")
    assert ref.result() == [2028, True]
    assert [run.trigger_at.year for run in durable.scheduled.list()] == [2029]
    assert (durable.cron.list(), durable.queue.list_paused()) == ([], [])
