"""Waits that look back: the latest event of the window before the wait, else the next one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from durable_nb import DurableContext
from durable_nb.errors import ArgumentError
from tests.engine.helpers import Bench, closing_log, settle, wait_until
from tests.engine.story import LEAVINGS, Story

HOUR = timedelta(hours=1)


class Approval(BaseModel):
    by: str


async def look(_: Any, ctx: DurableContext, *arguments: Any, **options: Any) -> Any:
    """Wait for the event `open`, then look back for `m`, then wait for `end`."""
    await ctx.aio_wait_for_event("open")
    options = {"scope": "s", "lookback_window": HOUR, **options}
    got = await ctx.aio_wait_for_event("m", *arguments, **options)
    await ctx.aio_wait_for_event("end")
    return got.by if isinstance(got, Approval) else got


def looking(bench: Bench, *arguments: Any, **options: Any) -> Story:
    return Story(bench, lambda _, ctx: look(_, ctx, *arguments, **options)).asked(1)


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_the_latest_event_of_the_window_satisfies_it_at_once(bench: Bench, how: str) -> None:
    story = looking(bench)
    for payload in ("older", "latest"):
        story.push("m", payload, scope="s")
    story.push("m", "elsewhere", scope="t")
    story.push("m", "nowhere")
    bench.clock.advance(HOUR)
    story.push("open")
    story.asked(4).leave(how)
    story.push("m", "too late", scope="s")
    story.push("end")
    assert story.result() == "latest"
    assert [ask for _, _, ask in bench.asks(story.ref)][1:3] == ["now", "event m in scope s, also 1h back"]


def test_the_latest_is_told_by_the_log_not_by_the_clock(bench: Bench) -> None:
    """The clock was set back between the two."""
    story = looking(bench)
    story.push("m", "first", scope="s")
    story.push("m", "second", scope="s")
    with closing_log(bench.path) as connection:
        connection.execute("UPDATE event SET accepted_at = accepted_at + 600 WHERE payload = '\"first\"'")
    story.push("open")
    story.asked(4)
    story.push("end")
    assert story.result() == "second"


@pytest.mark.parametrize("how", ["", *LEAVINGS])
def test_an_event_before_the_window_does_not_count_and_the_next_one_does(bench: Bench, how: str) -> None:
    story = looking(bench)
    story.push("m", "old", scope="s")
    bench.clock.advance(HOUR + timedelta(seconds=1))
    story.push("open")
    story.asked(3).leave(how)
    assert bench.open_waits(story.ref) == ["m"]
    story.push("m", "new", scope="s")
    story.asked(4)
    story.push("end")
    assert story.result() == "new"


@pytest.mark.parametrize("how", LEAVINGS)
def test_the_window_is_anchored_at_the_first_ask(bench: Bench, how: str) -> None:
    story = looking(bench)
    story.push("m", "in time", scope="s")
    bench.clock.advance(timedelta(minutes=59))
    story.push("open")
    story.asked(4)
    bench.clock.advance(timedelta(days=1))
    story.leave(how)
    story.push("end")
    assert story.result() == "in time"


def test_the_filter_applies_to_what_lies_behind(bench: Bench) -> None:
    story = looking(bench, "input.n == 7")
    for number in [7, *range(100, 160)]:
        story.push("m", {"n": number}, scope="s")
    story.push("m", {"other": 1}, scope="s")
    story.push("open")
    story.asked(4)
    story.push("end")
    assert story.result() == {"n": 7}


def test_the_schema_applies_to_what_lies_behind(bench: Bench) -> None:
    story = looking(bench, payload_validator=Approval)
    story.push("m", {"by": "ada"}, scope="s")
    story.push("m", {"by": 7}, scope="s")
    story.push("open")
    story.asked(4)
    story.push("end")
    assert story.result() == "ada"


def test_a_filter_that_fails_on_what_lies_behind_is_shown_and_the_next_event_counts(bench: Bench) -> None:
    story = looking(bench, "input.n > 1")
    story.push("m", {"other": 1}, scope="s")
    story.push("open")
    story.asked(3)
    wait_until(lambda: bench.rows("SELECT 1 FROM wait WHERE filter_error LIKE '%n%'"))
    assert bench.rows("SELECT since FROM wait WHERE key = 'm'") == [(None,)]
    story.push("m", {"n": 2}, scope="s")
    story.asked(4)
    story.push("end")
    assert story.result() == {"n": 2}


def test_a_look_back_that_its_process_did_not_live_to_do_is_done_by_the_next(bench: Bench) -> None:
    story = looking(bench, "input == 7")
    story.push("m", 7, scope="s")
    story.durable.engine.matcher.look_back_soon = lambda: None  # type: ignore[method-assign]  # it dies before
    story.durable.engine.matcher.look_back = never  # type: ignore[method-assign]
    story.push("open")
    bench.asked(story.ref, 3)
    settle(story.durable)
    bench.crash()
    story.leave("crash")
    story.asked(4)
    story.push("end")
    assert story.result() == 7


async def never() -> None:
    """Do nothing, as a dead process."""


def test_two_engines_that_look_back_agree(bench: Bench) -> None:
    story = looking(bench, "input >= 0")
    other = bench.durable().open()
    for number in range(50):
        other.event.push("m", number, scope="s")
    story.push("open")
    story.asked(4)
    other.event.push("end")
    assert story.result() == 49


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scope": None}, "looks back, so it needs a scope"),
        ({"lookback_window": timedelta(0)}, "give a timedelta above zero"),
        ({"lookback_window": -HOUR}, "give a timedelta above zero"),
    ],
)
def test_a_look_back_that_cannot_work_is_a_value_error(bench: Bench, options: dict[str, Any], words: str) -> None:
    async def body(_: Any, ctx: DurableContext) -> str:
        with pytest.raises(ValueError, match=words) as error:
            await ctx.aio_wait_for_event("m", **{"scope": "s", "lookback_window": HOUR, **options})
        return type(error.value).__name__

    story = Story(bench, body)
    assert story.result() == ArgumentError.__name__
    assert bench.asks(story.ref) == []


def test_the_window_is_part_of_what_was_asked(bench: Bench) -> None:
    window = [HOUR]

    async def body(_: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("m", scope="s", lookback_window=window[0])

    story = Story(bench, body).asked(2)
    window[0] = 2 * HOUR
    story.leave("close")
    wait_until(lambda: story.view.blocked_reason)
    assert "event m in scope s, also 1h back, but the code now asks for event m in scope s, also 2h back" in str(
        story.view.blocked_reason
    )
