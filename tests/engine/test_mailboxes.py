"""Mailboxes: every event since the run began, each once, in the order of acceptance."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Durable, DurableContext
from durable_nb.errors import InputValidationError
from tests.engine.helpers import Bench, settle, wait_until
from tests.engine.story import LEAVINGS, Story


async def take(_: Any, ctx: DurableContext, number: int = 3, scope: str | None = None) -> list[Any]:
    """Take so many events of `m`, then wait for the event `end`."""
    mailbox = ctx.aio_events("m", scope)
    taken = [await anext(mailbox) for _ in range(number)]
    await ctx.aio_wait_for_event("end")
    return taken


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_events_between_two_takes_and_while_nobody_looks_are_not_lost(bench: Bench, how: str) -> None:
    async def body(_: Any, ctx: DurableContext) -> list[Any]:
        mailbox, taken = ctx.aio_events("m"), []
        async for item in mailbox:
            taken.append(item)
            await ctx.aio_wait_for_event("next")
            if len(taken) == 4:
                return taken
        raise AssertionError

    story = Story(bench, body)
    story.asked(1)
    story.push("m", 1)
    story.asked(2)
    for number in (2, 3, 4):
        story.push("m", number)
    story.leave(how)
    for number in (4, 6, 8):
        story.push("next")
        story.asked(number)
        story.leave(how)
    story.push("next")
    assert story.result() == [1, 2, 3, 4]
    assert [ask for _, _, ask in bench.asks(story.ref)] == ["take m", "event next"] * 4


def test_events_from_before_the_run_are_not_in_it_and_those_before_the_first_take_are(bench: Bench) -> None:
    bench.durable().event.push("m", "before")

    async def body(_: Any, ctx: DurableContext) -> list[Any]:
        await ctx.aio_wait_for_event("open")
        return await take(_, ctx, 1)

    story = Story(bench, body)
    story.asked(1)
    story.push("m", "after")
    story.push("open")
    story.asked(3)
    story.push("end")
    assert story.result() == ["after"]


def test_an_event_that_was_accepted_while_the_run_stood_in_the_queue_is_in_it(bench: Bench) -> None:
    """The run begins when it is written, not when it finds a slot."""
    from durable_nb.engine.dispatch import Slots

    durable = bench.durable(slots=Slots(durable=1))

    @durable.durable_task(eviction_policy=None)
    async def hold(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("free")

    @durable.durable_task()
    async def late(input: Any, ctx: DurableContext) -> Any:
        return await anext(ctx.aio_events("m"))

    holder = hold.run(wait_for_result=False)
    bench.asked(holder, 1)
    ref = late.run(wait_for_result=False)
    durable.event.push("m", "queued")
    durable.event.push("free")
    assert ref.result() == "queued"


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_a_waiting_take_is_satisfied_and_costs_nothing_meanwhile(bench: Bench, how: str) -> None:
    story = Story(bench, take)
    story.asked(1)
    assert bench.open_waits(story.ref) == ["m"]
    story.leave(how)
    if how == "evict":
        assert story.view.is_evicted
        assert story.durable.engine.executions == {}
    for number in range(3):
        story.push("m", number)
    story.asked(4)
    story.push("end")
    assert story.result() == [0, 1, 2]


def test_scope_is_exact_and_no_scope_takes_every_one(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> list[Any]:
        scoped, whole = ctx.aio_events("m", "s"), ctx.aio_events("m")
        await ctx.aio_wait_for_event("open")
        return [[await anext(scoped) for _ in range(2)], [await anext(whole) for _ in range(4)]]

    story = Story(bench, body)
    story.asked(1)
    for number, scope in enumerate(["s", None, "t", "s"]):
        story.push("m", number, scope=scope)
    story.push("other", "no")
    story.push("open")
    assert story.result() == [[0, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_two_mailboxes_of_one_key_each_give_every_event(bench: Bench, how: str) -> None:
    async def body(_: Any, ctx: DurableContext) -> Any:
        async def collect() -> list[Any]:
            mailbox = ctx.aio_events("m")
            return [await anext(mailbox) for _ in range(2)]

        both = await asyncio.gather(collect(), collect())
        await ctx.aio_wait_for_event("end")
        return both

    story = Story(bench, body)
    story.asked(2)
    story.push("m", 1)
    story.asked(4).leave(how)
    story.push("m", 2)
    story.asked(5).leave(how)
    story.push("end")
    assert story.result() == [[1, 2], [1, 2]]


def test_two_that_take_from_one_mailbox_take_one_after_the_other(bench: Bench) -> None:
    async def body(_: Any, ctx: DurableContext) -> list[Any]:
        mailbox = ctx.aio_events("m")
        return list(await asyncio.gather(*(anext(mailbox) for _ in range(3))))

    story = Story(bench, body)
    story.asked(1)
    for number in range(3):
        story.push("m", number)
    assert story.result() == [0, 1, 2]


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_a_take_that_loses_a_race_takes_nothing(bench: Bench, how: str) -> None:
    async def body(_: Any, ctx: DurableContext) -> list[Any]:
        mailbox = ctx.aio_events("m")
        first = await ctx.aio_select(item=anext(mailbox), late=ctx.aio_sleep_for(timedelta(seconds=5)))
        await ctx.aio_wait_for_event("between")
        return [first.name, await anext(mailbox), await anext(mailbox)]

    story = Story(bench, body)
    story.asked(2)
    bench.clock.advance(5)
    story.asked(3)
    assert bench.rows("SELECT node, abandoned FROM v_checkpoints ORDER BY node") == [(1, 1), (2, 0), (3, 0)]
    assert bench.open_waits(story.ref) == ["between"]
    story.push("m", 1)
    story.leave(how)
    story.push("between")
    story.asked(5)
    story.push("m", 2)
    assert story.result() == ["late", 1, 2]


def test_an_event_that_another_engine_accepts_is_taken(bench: Bench) -> None:
    story = Story(bench, take)
    story.asked(1)
    other = bench.durable()
    for number in range(3):
        other.event.push("m", number)
    wait_until(lambda: len(bench.asks(story.ref)) == 4)
    other.event.push("end")
    assert story.result() == [0, 1, 2]


def test_an_event_accepted_between_two_takes_at_a_crash_is_the_next(bench: Bench) -> None:
    """It is accepted, the first take recorded, and the process dead before the second is asked or the event matched."""
    story = Story(bench, take)
    story.asked(1)
    story.durable.close()
    with_event = bench.durable()
    with_event.event.push("m", 1)
    with_event.event.push("m", 2)
    bench.crash()
    story.leave("")
    story.durable = story._engine()
    story.push("m", 3)
    story.asked(4)
    story.push("end")
    assert story.result() == [1, 2, 3]


def test_a_large_payload_is_kept_and_given_whole(bench: Bench) -> None:
    story = Story(bench, lambda _, ctx: take(_, ctx, 2))
    story.asked(1)
    large = {"text": "ß" * 500_000}
    story.push("m", large)
    story.push("m", large)
    story.asked(3).leave("close")
    story.push("end")
    assert story.result() == [large, large]


def test_hostile_keys_and_payloads_come_through(bench: Bench) -> None:
    key, payload = "a';--\x00<img onerror>\u202e", {"</script>": "\x1b[31m", "emoji 🦉": None}

    async def body(_: Any, ctx: DurableContext) -> Any:
        return await anext(ctx.aio_events(key, key))

    story = Story(bench, body)
    story.asked(1)
    story.push(key, payload, scope=key)
    assert story.result() == payload


def test_a_key_that_the_log_cannot_hold_is_refused(bench: Bench, durable: Durable) -> None:
    async def body(_: Any, ctx: DurableContext) -> str:
        with pytest.raises(InputValidationError, match="half a character"):
            ctx.aio_events("\ud800")
        return "refused"

    assert Story(bench, body).result() == "refused"


def test_ten_thousand_events_are_taken_with_one_look_each(bench: Bench) -> None:
    """A look reads one row of the index, however many events were taken before: a plain count of SQLite's steps tells."""
    number = 10_000
    story = Story(bench, lambda _, ctx: take(_, ctx, 2))
    story.asked(1)
    story.durable.close()
    with_events = [("e" + str(n), "m", None, str(n), "{}", 0.0, 1) for n in range(number)]
    import sqlite3
    from contextlib import closing

    from durable_nb.log import mailboxes

    with closing(sqlite3.connect(bench.path)) as connection, connection:
        connection.executemany(
            "INSERT INTO event (id, key, scope, payload, metadata, accepted_at, matched) VALUES (?, ?, ?, ?, ?, ?, ?)",
            with_events,
        )
        steps = []
        for after in (0, number // 2, number - 1):
            count = [0]
            connection.set_progress_handler(lambda count=count: count.__setitem__(0, count[0] + 1), 1)  # type: ignore[misc]
            assert mailboxes.next_event(connection, "m", None, after) is not None
            connection.set_progress_handler(None, 1)
            steps.append(count[0])
    assert max(steps) < 60


def test_many_events_are_taken_in_order(bench: Bench) -> None:
    number = 300
    story = Story(bench, lambda _, ctx: take(_, ctx, number))
    story.asked(1)
    for n in range(number // 2):
        story.push("m", n)
    story.asked(number // 2 + 1).leave("close")
    for n in range(number // 2, number):
        story.push("m", n)
    wait_until(lambda: len(bench.asks(story.ref)) == number + 1)
    settle(story.durable)
    story.push("end")
    assert story.result() == list(range(number))
