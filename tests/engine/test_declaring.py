"""Declaring tasks: what cannot work is refused where it is written, with the form that works."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Durable, DurableContext
from durable_nb.errors import DeclarationError
from tests.engine.helpers import Bench


def none() -> None: ...
def only_input(input: Any) -> None: ...
def three(input: Any, ctx: Any, more: Any) -> None: ...
def keyword(input: Any, *, ctx: Any) -> None: ...
def star(*args: Any) -> None: ...
def stars(input: Any, ctx: Any, **more: Any) -> None: ...
def generator(input: Any, ctx: Any) -> Iterator[int]:
    yield 1


async def async_generator(input: Any, ctx: Any) -> AsyncIterator[int]:
    yield 1


class Callable_:  # noqa: N801
    def __call__(self, input: Any, ctx: Any) -> None: ...


async def fine(input: Any, ctx: Any) -> Any:
    return input


def fine_sync(input: Any, ctx: Any) -> Any:
    return input


@pytest.mark.parametrize("function", [none, only_input, three, keyword, star, stars, generator, async_generator, Callable_()])
def test_a_wrong_signature_is_refused_with_the_right_form(durable: Durable, function: Callable[..., Any]) -> None:
    with pytest.raises(DeclarationError, match=r"def \S+\(input, ctx\)"):
        durable.task()(function)
    assert list(durable.tasks) == []


async def one(input: Any) -> None: ...


@pytest.mark.parametrize("function", [one, async_generator])
def test_a_durable_task_with_a_wrong_signature_is_refused(durable: Durable, function: Callable[..., Any]) -> None:
    with pytest.raises(DeclarationError, match=r"async def \S+\(input, ctx\)"):
        durable.durable_task()(function)


def test_a_sync_durable_task_is_refused_and_told_what_to_do(durable: Durable) -> None:
    with pytest.raises(DeclarationError, match=r"fine_sync.*async def fine_sync\(input, ctx\)"):
        durable.durable_task()(fine_sync)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", -1),
        ("retries", 1.5),
        ("retries", "3"),
        ("backoff_factor", 0),
        ("backoff_factor", -2.0),
        ("backoff_max_seconds", -1),
        ("execution_timeout", "soon"),
        ("execution_timeout", timedelta(seconds=-1)),
        ("schedule_timeout", -5),
        ("schedule_timeout", "5 parsecs"),
        ("default_priority", 0),
        ("default_priority", 4),
        ("retires", 3),
    ],
)
@pytest.mark.parametrize("kind", ["task", "durable_task"])
def test_an_option_that_cannot_work_is_refused_by_name(durable: Durable, kind: str, option: str, value: object) -> None:
    with pytest.raises(DeclarationError, match=option):
        getattr(durable, kind)(**{option: value})(fine)


def test_default_metadata_that_json_cannot_hold_is_refused(durable: Durable) -> None:
    with pytest.raises(DeclarationError, match="default_additional_metadata"):
        durable.task(default_additional_metadata={"at": object()})(fine)


def test_an_eviction_policy_is_for_durable_tasks_only(durable: Durable) -> None:
    from durable_nb import EvictionPolicy

    durable.durable_task(eviction_policy=EvictionPolicy(ttl=None))(fine)
    with pytest.raises(DeclarationError, match="eviction_policy"):
        durable.task(eviction_policy=EvictionPolicy(ttl=None))(fine)


def test_the_decorator_without_parentheses_is_no_silent_nothing(durable: Durable) -> None:
    with pytest.raises(DeclarationError, match=re.escape("task()")):
        durable.task(fine)  # type: ignore[arg-type]


def test_a_task_is_named_by_its_function_or_by_its_name(durable: Durable) -> None:
    assert durable.task()(fine).name == "fine"
    assert durable.task(name="other")(fine).name == "other"
    assert sorted(task.name for task in durable.tasks) == ["fine", "other"]


def test_declaring_a_name_again_replaces_the_task(durable: Durable) -> None:
    durable.task(name="same")(fine)

    @durable.task(name="same")
    def second(input: Any, ctx: Any) -> str:
        return "second"

    assert durable.tasks["same"].run() == "second"


def test_declaring_neither_opens_nor_writes_the_log(bench: Bench, durable: Durable) -> None:
    durable.task()(fine)
    durable.durable_task(name="durable")(fine)
    assert not durable.is_open
    assert not bench.path.exists()


def test_a_task_is_still_the_function(durable: Durable) -> None:
    @durable.task()
    def double(input: int, ctx: Any) -> int:
        """Twice as much."""
        return 2 * input

    assert double(21, None) == 42
    assert double.__doc__ == "Twice as much."
    assert not durable.is_open


def test_a_condition_that_cannot_work_is_refused() -> None:
    from durable_nb import SleepCondition, or_

    with pytest.raises(DeclarationError, match="at least one"):
        or_()
    with pytest.raises(DeclarationError, match="str"):
        or_(SleepCondition(timedelta(seconds=1)), "paid")  # type: ignore[arg-type]


def test_a_task_inside_a_function_may_name_itself(durable: Durable) -> None:
    @durable.durable_task()
    async def countdown(input: int, ctx: DurableContext) -> list[int]:
        return [input, *(await countdown.aio_run(input - 1) if input else [])]

    assert countdown.run(3) == [3, 2, 1, 0]
