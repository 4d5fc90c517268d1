"""What a durable task is given beside its input: `Context`, with the operations that are checkpoints."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NoReturn

from durable_nb.engine.asking import ask_person
from durable_nb.engine.asks import ask_event, ask_of, ask_sleep, ask_wait
from durable_nb.engine.context import Context
from durable_nb.engine.current import INLINE
from durable_nb.engine.mailbox import Mailbox
from durable_nb.engine.mapping import map_children
from durable_nb.engine.registering import waits_of
from durable_nb.engine.selecting import Option, Selected, select
from durable_nb.engine.steps import Backoff, StepOptions, memo, name_of, step
from durable_nb.errors import ArgumentError, ContinuedAsNew, DeclarationError, DurableError
from durable_nb.log.records import Ask, NewWait, Outcome
from durable_nb.tasks.conditions import Condition, OrGroup, UserEventCondition, grouped
from durable_nb.tasks.durations import sleep_seconds
from durable_nb.tasks.options import format_duration
from durable_nb.tasks.payload import ANY, adapter_for, decode, encode, encode_input, schema_of

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
        self._mailboxes: list[Mailbox] = []

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
        return await self._sleep(duration, now, now + sleep_seconds(duration), label)

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
        wait = NewWait(item=0, group=0, kind="sleep", name=f"sleep:{format_duration(sleep_seconds(duration))}", due_at=due_at)
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
        lookback_window: timedelta | None = None,
        label: str | None = None,
    ) -> Any:
        """Wait for the first event of `key` that matches.

        Args:
            expression: a CEL filter over ``input`` (the payload), ``additional_metadata``, ``event_key`` and ``scope``.
            payload_validator: a type that the payload is validated to; its JSON Schema is part of the wait, and a
                payload that does not fit it does not match.
            scope: take only events of this scope.
            lookback_window: take an event that was accepted in this time before the wait too, the latest of them first. It
                needs a scope, and is a checkpoint of its own: the time from which it is counted back.

        Returns:
            The payload, validated if a validator is given.

        Raises:
            ExpressionError: the filter does not compile; nothing was asked.
            ArgumentError (a ValueError): a lookback without a scope, or one that is no time.
        """
        self._engine.check_filter(expression)
        adapter = ANY if payload_validator is None else adapter_for(payload_validator, of="payload_validator")
        since = None
        if lookback_window is not None:
            if scope is None:
                raise ArgumentError(f"The wait for event '{key}' looks back, so it needs a scope: give scope=….")
            if lookback_window <= timedelta(0):
                raise ArgumentError(f"lookback_window={lookback_window!r}: give a timedelta above zero.")
            since = (await self.aio_now()).timestamp() - lookback_window.total_seconds()
        ask = ask_event(key, expression, scope, lookback=lookback_window, line=self._execution.line(), label=label)
        wait = NewWait(
            item=0,
            group=0,
            kind="event",
            name=key,
            key=key,
            scope=scope,
            expression=expression or None,
            schema=schema_of(adapter),
            since=since,
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
        ask = ask_wait(groups, line=self._execution.line(), label=label)
        node, pending = self._execution.register(ask, waits_of(groups, now=now), at=now)
        return await self._value(node, pending, ask)  # type: ignore[no-any-return]

    def aio_events(self, key: str, scope: str | None = None) -> Mailbox:
        """Open a mailbox of the events of `key` that were accepted since the run began; with a scope, of that scope.

        Each event is given once, in the order of acceptance, and none is lost between two takes, at an eviction or in a crash.
        Every mailbox has a place of its own: one that is opened anew gives all events again, so open it once, before the loop.
        After `continue_as_new` the first mailbox of a key and scope goes on where the first one stood, the second where the
        second stood, and so on.

        Returns:
            An async iterator over payloads that never ends; each take is a checkpoint.

        Example:
            >>> async def clerk(input: dict, ctx: DurableContext) -> list[str]:
            ...     orders, done = ctx.aio_events("order"), []
            ...     async for order in orders:
            ...         done.append(order["id"])
            ...         if len(done) == 3:
            ...             return done
        """
        which = sum(mailbox.is_of(key, scope) for mailbox in self._mailboxes)
        mailbox = Mailbox(self._execution, key, scope, which)
        self._mailboxes.append(mailbox)
        return mailbox

    async def aio_select(self, **named: Option) -> Selected:
        """Wait for the first of several, and give up the others.

        Children among the others are cancelled, unless they were spawned with `cancel_with_parent=False`. Where the first to
        complete has failed they go on, since a retry waits for them again.

        Args:
            named: calls that are not awaited yet (``ctx.aio_sleep_for(…)``, ``task.aio_run(…)``, ``anext(mailbox)``),
                mailboxes, refs, or conditions. They are asked in the order given.

        Returns:
            ``Selected(name, value)``: the first to complete, with what it gave; of two outcomes the one that was recorded first.

        Raises:
            ArgumentError: nothing to wait for. What the first to complete raised.

        Example:
            >>> async def pay(input: dict, ctx: DurableContext) -> str:
            ...     first = await ctx.aio_select(paid=ctx.aio_wait_for_event("paid"), late=SleepCondition(timedelta(days=3)))
            ...     return first.name
        """
        return await select(self, named)

    # ------------------------------------------------------------ people

    async def aio_ask(
        self,
        question: str,
        answer_type: Any = str,
        *,
        timeout: timedelta | str | float | None = None,
        assignees: str | Sequence[str] | None = None,
    ) -> Any:
        """Ask a person, and wait for the answer. It is given by `durable.inbox.answer`, in any process that has the log.

        Args:
            answer_type: a pydantic model, bool, Literal, Enum, int, … An answer that does not fit it is refused where it is
                given, and the question stays open. What only the type's own code can tell (a validator) is told while the
                task is in memory there; else an unfit answer raises InputValidationError here.
            timeout: a timedelta, seconds, or text such as ``"3d"``, from the first ask; no answer is taken after it.
            assignees: who is meant to answer. It filters `durable.inbox.list`; anybody may answer, and who did is recorded.

        Returns:
            The first answer, as `answer_type`.

        Raises:
            AskTimeoutError (a TaskRunError and a TimeoutError): nobody answered in time.

        Example:
            >>> async def publish(input: dict, ctx: DurableContext) -> bool:
            ...     return await ctx.aio_ask(f"Publish {input['title']}?", bool, timeout="3d", assignees="ada")
        """
        adapter = adapter_for(answer_type, of="the type of the answer")
        return await ask_person(self._execution, question, adapter, timeout=timeout, assignees=assignees)

    # ------------------------------------------------------------ side effects and children

    async def aio_memo(self, fn: Callable[..., Any], result_type: Any = Any, *args: Any, **kwargs: Any) -> Any:
        """Call `fn` once, and give its recorded outcome ever after. A synchronous function runs in a thread.

        The position in the code is the memo's identity; function name and arguments are its fingerprint.

        Raises:
            TaskRunError: `fn` raised; recorded, so a replay raises it too.
        """
        name, _ = name_of(fn)
        adapter = adapter_for(result_type, of=f"the result type of memo {name}")
        node, outcome = await memo(self._execution, fn, args, kwargs, is_typed=adapter is not ANY)
        return self._decode(node, outcome, adapter, of=f"memo {name}")

    async def aio_step(
        self,
        fn: Callable[[], Any],
        *,
        name: str | None = None,
        retries: int = 0,
        backoff: Backoff | None = None,
        timeout: timedelta | str | float | None = None,
        result_type: Any = Any,
    ) -> Any:
        """Call `fn` until it succeeds, and give its recorded outcome ever after. A synchronous function runs in a thread.

        Its identity is its position; its fingerprint the name, the function's name and what a partial has bound. Each failed
        attempt is a line of the run's log. Between attempts the run is not evicted; a crash begins with the first attempt again.

        Args:
            name: what the log shows; the function's name by default.
            retries: attempts after the first. NonRetryableException, or a result that JSON cannot hold, ends them at once.
            backoff: a factor: after failed attempt n it waits ``backoff ** n`` seconds; or a function of n giving seconds.
            timeout: of each attempt: a timedelta, seconds, or text such as ``"30s"``. A coroutine is cancelled. A thread cannot
                be stopped: that is said, its result is dropped, and the next attempt may run beside it.
            result_type: what the result is read as.

        Raises:
            TaskRunError: the last attempt failed; recorded, so a replay raises it too. ArgumentError: an option cannot work.

        Example:
            >>> async def fetch(input: dict, ctx: DurableContext) -> str:
            ...     return await ctx.aio_step(lambda: download(input["url"]), name="download", retries=3, backoff=2, timeout="1m")
        """
        options = StepOptions.of(retries, backoff, timeout, is_typed=result_type is not Any)
        adapter = adapter_for(result_type, of="the result type of a step")
        node, outcome = await step(self._execution, fn, name, options)
        return self._decode(node, outcome, adapter, of=f"step {name or name_of(fn)[0]}")

    async def aio_run_child(
        self, task: Task[Any], input: object = None, *, child_key: str | None = None, cancel_with_parent: bool = True
    ) -> Any:
        """Spawn a child and wait for its output; the same as ``await task.aio_run(input, child_key=…)``."""
        return await task.aio_run(input, child_key=child_key, cancel_with_parent=cancel_with_parent)

    async def aio_map(
        self,
        task: Task[Any],
        items: Iterable[Any],
        *,
        max_concurrency: int | None = None,
        min_successful: int | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Run a child for each item, at most `max_concurrency` at once, begun in the order of the items.

        Args:
            items: inputs, or what `task.create_bulk_run_item` gives (for child keys and metadata).
            min_successful: stop when so many have succeeded; children that still run then are cancelled.
            return_exceptions: give an entry for each item, with the error in place of an output, and a RunCancelledError for
                those that were not needed.

        Returns:
            The outputs in the order of the items; with `min_successful` those of the children that succeeded.

        Raises:
            TaskRunError, or FailedTaskRunExceptionGroup for several: too many failed. No child is begun after that, and those
            that run are waited for. ArgumentError: an option cannot work. InputValidationError: an item does not fit; nothing
            was begun.

        Example:
            >>> async def clean_all(input: dict, ctx: DurableContext) -> list[str]:
            ...     return await ctx.aio_map(clean, input["files"], max_concurrency=8)
        """
        return await map_children(
            self._execution,
            task,
            list(items),
            max_concurrency=max_concurrency,
            min_successful=min_successful,
            return_exceptions=return_exceptions,
        )

    def continue_as_new(self, input: object = None) -> NoReturn:
        """Leave the function, and go on in the same run with a new input and an empty history: for agents that never end.

        The run keeps its id, so whoever waits for its result waits on; attempts and working time begin anew. Events that its
        mailboxes have not given yet are still there for the next. Children that run go on and report to nobody.

        Raises:
            ContinuedAsNew: always, to leave the function; let it pass. InputValidationError: the input does not fit the task.

        Example:
            >>> async def count(input: int, ctx: DurableContext) -> None:
            ...     await ctx.aio_sleep_for(timedelta(days=1))
            ...     ctx.continue_as_new(input + 1)
        """
        if INLINE.get():
            raise DurableError("A memo or step cannot continue its run: return from it, then continue in the task.")
        text, _ = encode_input(input, self._task.input_adapter, of=f"the input of task '{self._task.name}'")
        raise ContinuedAsNew(text, lambda: [mailbox.position for mailbox in self._mailboxes if mailbox.position is not None])

    # ------------------------------------------------------------ outcomes

    async def _value(self, node: int, pending: Pending, ask: Ask) -> Any:
        return self._decode(node, await self._execution.outcome(node, pending, ask))

    def _decode(self, node: int, outcome: Outcome, adapter: Any = ANY, *, of: str = "an outcome") -> Any:
        if outcome.failure is not None:
            error = outcome.failure.to_error()
            error.node_id = node
            raise error
        return decode(outcome.value or "null", adapter, of=of)
