"""What a durable task is given beside its input: `Context`, with the operations that are checkpoints."""

from __future__ import annotations

import asyncio
import functools
import inspect
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from durable_nb.engine.asks import ask_event, ask_of, ask_sleep, ask_wait
from durable_nb.engine.context import Context
from durable_nb.errors import DeclarationError, DurableError, InputValidationError
from durable_nb.log.records import Ask, NewWait, Outcome
from durable_nb.tasks.conditions import Condition, OrGroup, SleepCondition, UserEventCondition, grouped
from durable_nb.tasks.options import format_duration
from durable_nb.tasks.payload import ANY, adapter_for, decode, encode, encode_given, schema_of

if TYPE_CHECKING:
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.waiting import Pending
    from durable_nb.tasks.task import Task


@dataclass(frozen=True)
class SleepResult:
    """What a sleep gives.

    Attributes:
        duration: what was asked.
        elapsed: from the first ask to the recorded end, crashes and evictions included.
    """

    duration: timedelta
    elapsed: timedelta


class DurableContext(Context):
    """A durable task's context. Every awaited operation is a checkpoint: done once, replayed for ever.

    Example:
        >>> async def remind(input: dict, ctx: DurableContext) -> str:
        ...     await ctx.aio_sleep_for(timedelta(days=1))
        ...     paid = await ctx.aio_wait_for_event("order:paid", "input.id == 7")
        ...     return paid["by"]
    """

    def __init__(self, execution: Execution, input: object) -> None:
        super().__init__(execution.engine, execution.claim, execution.task, input)
        self._execution = execution
        self._draws = 0

    @property
    def is_replaying(self) -> bool:
        """Whether recorded work lies ahead, so that this code ran before: then lines, chunks and progress are muted."""
        return self._execution.cursor.is_replaying

    def release_slot(self) -> None:
        """Refused: a durable task gives back its slot by waiting."""
        raise DurableError("A durable task gives back its slot while it waits: await a sleep, an event or a child instead.")

    # ------------------------------------------------------------ time and chance

    async def aio_sleep_for(self, duration: timedelta, label: str | None = None) -> SleepResult:
        """Wait for `duration`. The deadline is fixed when first asked, and kept across crashes.

        Raises:
            DeclarationError: the duration is negative.
        """
        now = self._engine.clock.now()
        return await self._sleep(duration, now, now + _seconds(duration), label)

    async def aio_sleep_until(self, until: datetime, label: str | None = None) -> SleepResult:
        """Wait until a time that has a time zone; a past one returns at once. Two checkpoints: now, and the sleep."""
        if until.tzinfo is None:
            raise DeclarationError(
                f"aio_sleep_until({until!r}) has no time zone: give one, for example datetime.now(UTC) + timedelta(hours=1)."
            )
        now = await self.aio_now()
        duration = max(until - now, timedelta(0))
        return await self._sleep(duration, now.timestamp(), until.timestamp(), label)

    async def _sleep(self, duration: timedelta, at: float, due_at: float, label: str | None) -> SleepResult:
        ask = ask_sleep(duration, line=self._execution.line(), label=label)
        wait = NewWait(item=0, group=0, kind="sleep", name=f"sleep:{format_duration(_seconds(duration))}", due_at=due_at)
        node, pending = self._execution.register(ask, [wait], at=at)
        value = await self._value(node, pending, ask)
        return SleepResult(duration=duration, elapsed=timedelta(seconds=value["elapsed"]))

    async def aio_now(self) -> datetime:
        """Give the time, with zone UTC; recorded, so that a replay sees the same."""
        ask = ask_of("now", "now", line=self._execution.line())
        _, outcome = await self._execution.inline(ask, self._now)
        return datetime.fromtimestamp(decode(outcome.value or "null"), UTC)

    async def _now(self) -> str:
        return encode(self._engine.clock.now(), of="the time")

    def random(self) -> float:
        """Give a number in [0, 1) that is the same in every replay of this branch; no checkpoint."""
        return (self._draw() >> 75) / 2**53

    def uuid4(self) -> uuid.UUID:
        """Give a UUID that is the same in every replay of this branch; no checkpoint."""
        return uuid.UUID(int=self._draw(), version=4)

    def _draw(self) -> int:
        """Give 128 bits derived from run, branch and draw count; of a fork's shared part, those of the original."""
        self._draws += 1
        seed = f"{self._execution.cursor.seed_here}/{self._draws}"
        return int.from_bytes(blake2b(seed.encode(), digest_size=16).digest())

    # ------------------------------------------------------------ events

    async def aio_wait_for_event(
        self,
        key: str,
        expression: str | None = None,
        *,
        payload_validator: Any = None,
        scope: str | None = None,
        label: str | None = None,
    ) -> Any:
        """Wait for the first event of `key` that matches.

        Args:
            expression: a CEL filter over ``input`` (the payload), ``additional_metadata``, ``event_key`` and ``scope``.
            payload_validator: a type that the payload is validated to; its JSON Schema is part of the wait, and a
                payload that does not fit it does not match.
            scope: take only events of this scope.

        Returns:
            The payload, validated if a validator is given.

        Raises:
            ExpressionError: the filter does not compile; nothing was asked.
        """
        self._engine.check_filter(expression)
        adapter = ANY if payload_validator is None else adapter_for(payload_validator, of="payload_validator")
        ask = ask_event(key, expression, scope, line=self._execution.line(), label=label)
        wait = NewWait(
            item=0,
            group=0,
            kind="event",
            name=key,
            key=key,
            scope=scope,
            expression=expression or None,
            schema=schema_of(adapter),
        )
        node, pending = self._execution.register(ask, [wait], at=self._engine.clock.now())
        outcome = await self._execution.outcome(node, pending, ask)
        return decode(outcome.value or "null", adapter, of=f"the payload of event '{key}'")

    async def aio_wait_for(
        self, signal_key: str, *conditions: Condition | OrGroup, label: str | None = None
    ) -> dict[str, dict[str, list[Any]]]:
        """Wait until every condition is satisfied, a group of `or_` by any of its members.

        Returns:
            ``{"CREATE": {readable_key: [data, …]}}`` of the satisfied conditions only.

        Raises:
            DeclarationError, ExpressionError: a condition that cannot work; nothing was asked.
        """
        groups = grouped(conditions)
        for condition in (condition for group in groups for condition in group.conditions):
            if isinstance(condition, UserEventCondition):
                self._engine.check_filter(condition.expression)
        now = self._engine.clock.now()
        new_waits = [
            self._wait(condition, item=item, group=group, now=now)
            for item, (group, condition) in enumerate(
                (number, condition) for number, members in enumerate(groups) for condition in members.conditions
            )
        ]
        ask = ask_wait(groups, line=self._execution.line(), label=label)
        node, pending = self._execution.register(ask, new_waits, at=now)
        return await self._value(node, pending, ask)  # type: ignore[no-any-return]

    def _wait(self, condition: Condition, *, item: int, group: int, now: float) -> NewWait:
        match condition:
            case SleepCondition():
                due_at = now + _seconds(condition.duration)
                return NewWait(item=item, group=group, kind="sleep", name=condition.readable_key, due_at=due_at)
            case UserEventCondition():
                return NewWait(
                    item=item,
                    group=group,
                    kind="event",
                    name=condition.readable_key,
                    key=condition.event_key,
                    scope=condition.scope,
                    expression=condition.expression or None,
                )

    # ------------------------------------------------------------ side effects and children

    async def aio_memo(self, fn: Callable[..., Any], result_type: Any = Any, *args: Any, **kwargs: Any) -> Any:
        """Call `fn` once, and give its recorded outcome ever after. A synchronous function runs in a thread.

        The position in the code is the memo's identity; function name and arguments are its fingerprint.

        Raises:
            TaskRunError: `fn` raised; recorded, so a replay raises it too.
        """
        name, bound = name_of(fn)
        try:
            arguments = from_json(encode_given([*bound, args, kwargs], of=f"the arguments of memo {name}", artifacts=True))
        except InputValidationError as error:
            raise InputValidationError(f"{error} Or bind them with a lambda.") from None
        ask = ask_of("memo", f"memo {name}", name, arguments, line=self._execution.line())
        adapter = adapter_for(result_type, of=f"the result type of memo {name}")
        node, outcome = await self._execution.inline(
            ask, lambda: self._call(fn, args, kwargs, f"the result of memo {name}", adapter)
        )
        return self._decode(node, outcome, adapter, of=f"memo {name}")

    async def _call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], of: str, adapter: Any) -> str:
        if inspect.iscoroutinefunction(fn):
            return encode(await fn(*args, **kwargs), of=of, round_trip=adapter is not ANY)
        result = await asyncio.wrap_future(self._engine.threads.submit(lambda: fn(*args, **kwargs)))
        return encode(await result if inspect.isawaitable(result) else result, of=of, round_trip=adapter is not ANY)

    async def aio_run_child(
        self, task: Task[Any], input: object = None, *, child_key: str | None = None, cancel_with_parent: bool = True
    ) -> Any:
        """Spawn a child and wait for its output; the same as ``await task.aio_run(input, child_key=…)``."""
        return await task.aio_run(input, child_key=child_key, cancel_with_parent=cancel_with_parent)

    # ------------------------------------------------------------ outcomes

    async def _value(self, node: int, pending: Pending, ask: Ask) -> Any:
        return self._decode(node, await self._execution.outcome(node, pending, ask))

    def _decode(self, node: int, outcome: Outcome, adapter: Any = ANY, *, of: str = "an outcome") -> Any:
        if outcome.failure is not None:
            error = outcome.failure.to_error()
            error.node_id = node
            raise error
        return decode(outcome.value or "null", adapter, of=of)


def _seconds(duration: object) -> float:
    if not isinstance(duration, timedelta) or duration < timedelta(0):
        raise DeclarationError(f"A durable sleep takes a timedelta of zero or more, not {duration!r}.")
    return duration.total_seconds()


def name_of(fn: Callable[..., Any]) -> tuple[str, list[Any]]:
    """Give what names a callable in every process (an address would not), and the arguments that partials have bound to it."""
    bound: list[Any] = []
    while isinstance(fn, functools.partial):
        bound += [fn.args, fn.keywords]
        fn = fn.func
    return getattr(fn, "__qualname__", type(fn).__qualname__), bound
