"""Memos and steps: side effects in the asking coroutine, each one row in the log when it is done.

Invariant: attempts of a step are no checkpoints. Between them the step is in flight, so its run keeps its slot; a crash begins
it anew with its first attempt; what failed on the way stands in the run's log lines.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from durable_nb.engine.asks import ask_of
from durable_nb.engine.inline import is_cancelled
from durable_nb.errors import NOT_RETRIED, ArgumentError, ExecutionTimeoutError, InputValidationError, family
from durable_nb.log.records import Failure, Outcome, holdable
from durable_nb.log.streams import Said
from durable_nb.tasks.options import format_duration, parse_duration
from durable_nb.tasks.payload import encode, encode_given

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.execution import Execution

LONGEST_BACKOFF = 3.15e8  # seconds, as of a task's backoff
Backoff = float | Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """What a step does when its function fails. `timeout` is seconds; `is_typed` tells that a type is to read the result back."""

    retries: int
    backoff: Backoff | None
    timeout: float | None
    is_typed: bool = False

    @classmethod
    def of(
        cls, retries: int, backoff: Backoff | None, timeout: timedelta | str | float | None, *, is_typed: bool = False
    ) -> StepOptions:
        """Check the options of a call.

        Raises:
            ArgumentError, DeclarationError: one that cannot work.
        """
        if type(retries) is not int or retries < 0:
            raise ArgumentError(f"retries={retries!r}: give a whole number, 0 or more.")
        if not (backoff is None or callable(backoff) or backoff > 0):
            raise ArgumentError(f"backoff={backoff!r}: give a factor above 0, or a function of the attempt that gives seconds.")
        seconds = None if timeout is None else parse_duration(timeout, of="timeout").total_seconds()
        if seconds == 0:
            raise ArgumentError("timeout=0 leaves a step no time: give more, or None for no limit.")
        return cls(retries=retries, backoff=backoff, timeout=seconds, is_typed=is_typed)

    def pause(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1)."""
        if self.backoff is None:
            return 0.0
        try:
            seconds = self.backoff(attempt) if callable(self.backoff) else self.backoff**attempt
        except OverflowError:
            return LONGEST_BACKOFF
        return min(max(float(seconds), 0.0), LONGEST_BACKOFF)


async def memo(
    execution: Execution, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, is_typed: bool
) -> tuple[int, Outcome]:
    """Call a function once; give the node and the outcome.

    Args:
        is_typed: whether a type is to read the result back.
    """
    name, bound = name_of(fn)
    ask = ask_of("memo", f"memo {name}", name, _written([*bound, args, kwargs], f"memo {name}"), line=execution.line())
    of = f"the result of memo {name}"
    return await execution.inline(ask, lambda: _call(execution.engine, lambda: fn(*args, **kwargs), of, fn, is_typed))


async def step(execution: Execution, fn: Callable[..., Any], name: str | None, options: StepOptions) -> tuple[int, Outcome]:
    """Call a function until it succeeds or its retries have run out; give the node and the outcome."""
    function, bound = name_of(fn)
    said = name if name is not None else function
    ask = ask_of("step", f"step {said}", name, function, _written(bound, f"step {said}"), line=execution.line())
    return await execution.inline(ask, lambda: _attempt_all(execution, fn, said, options))


def name_of(fn: Callable[..., Any]) -> tuple[str, list[Any]]:
    """Give what names a callable in every process (an address would not), and the arguments that partials have bound to it."""
    bound: list[Any] = []
    while isinstance(fn, functools.partial):
        bound += [fn.args, fn.keywords]
        fn = fn.func
    return getattr(fn, "__qualname__", type(fn).__qualname__), bound


def _written(arguments: list[Any], of: str) -> Any:
    try:
        return from_json(encode_given(arguments, of=f"the arguments of {of}", artifacts=True))
    except InputValidationError as error:
        raise InputValidationError(f"{error} Or bind them with a lambda.") from None


async def _attempt_all(execution: Execution, fn: Callable[..., Any], name: str, options: StepOptions) -> str:
    attempt, attempts = 1, options.retries + 1
    while True:
        try:
            return await _attempt(execution, fn, name, options)
        except (Exception, asyncio.CancelledError, SystemExit, KeyboardInterrupt) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            is_last = attempt == attempts or any(isinstance(item, NOT_RETRIED) for item in family(error))
            pause = 0.0 if is_last else options.pause(attempt)
            then = "" if is_last else f"; tried again in {format_duration(pause)}" if pause else "; tried again"
            failure = Failure.of(error)
            _say(execution, f"step {name}: attempt {attempt} of {attempts} failed: {failure.type}: {failure.message}{then}")
            if is_last:
                raise
        await _pause(execution.engine, pause)
        attempt += 1


async def _attempt(execution: Execution, fn: Callable[..., Any], name: str, options: StepOptions) -> str:
    """Call the function within its time.

    Raises:
        ExecutionTimeoutError: it took longer. A coroutine was cancelled; a thread goes on, and what it gives is dropped.
    """
    engine = execution.engine
    of, timeout = f"the result of step {name}", options.timeout
    if timeout is None:
        return await _call(engine, fn, of, fn, options.is_typed)
    work = asyncio.ensure_future(_call(engine, fn, of, fn, options.is_typed))
    rung: list[bool] = []
    alarm = engine.timers.alarm(timeout, lambda: rung.append(work.cancel()))
    try:
        result = await work
    except asyncio.CancelledError:
        if is_cancelled() or not any(rung):
            raise
    else:
        if not any(rung):
            return result
    finally:
        alarm.cancel()
    if not inspect.iscoroutinefunction(fn):
        _say(execution, f"step {name}: its thread cannot be stopped and goes on; what it gives is dropped")
        engine.warn(f"Step {name} of run {execution.claim.id} is over its time; its thread cannot be killed and goes on.")
    raise ExecutionTimeoutError(f"Step {name} took longer than its timeout of {format_duration(timeout)}.")


async def _call(engine: Engine, call: Callable[[], Any], of: str, fn: Callable[..., Any], is_typed: bool) -> str:
    """Call a function, on a thread where it is synchronous; give its result as JSON text."""
    if inspect.iscoroutinefunction(fn):
        return encode(await call(), of=of, round_trip=is_typed)
    result = await asyncio.wrap_future(engine.threads.submit(call))
    return encode(await result if inspect.isawaitable(result) else result, of=of, round_trip=is_typed)


async def _pause(engine: Engine, seconds: float) -> None:
    """Let time go by, by the engine's clock."""
    if seconds <= 0:
        return
    is_over = asyncio.Event()
    alarm = engine.timers.alarm(seconds, is_over.set)
    try:
        await is_over.wait()
    finally:
        alarm.cancel()


def _say(execution: Execution, text: str) -> None:
    engine = execution.engine
    engine.streams.say(Said(claim=execution.claim, at=engine.clock.now(), what=holdable(text), level="WARNING"))
