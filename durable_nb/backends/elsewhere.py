"""What executes a parcel where it has arrived: the function with a context whose words go back to the engine.

Invariants: nothing here knows the log; a failure of any kind becomes a reply; what the function prints and logs goes back by the
context variable `SPEAK`, so that several attempts in threads of one process do not mix, and what is printed outside of any
attempt goes where it always went.

Lives in the process that executes, on the thread that calls `execute`; `Attempt.cancel` may be called from any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import io
import linecache
import logging
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from durable_nb.backends.shipping import Parcel, unpack
from durable_nb.engine.context import Context
from durable_nb.engine.executors import Reply, Word
from durable_nb.engine.injection import Injection
from durable_nb.engine.threads import Threads
from durable_nb.errors import NOT_RETRIED, ElsewhereError, family
from durable_nb.log.records import Failure
from durable_nb.tasks.artifacts import ArtifactText
from durable_nb.tasks.options import parse_duration
from durable_nb.tasks.payload import encode

Speak = Callable[[Word], None]
SPEAK: contextvars.ContextVar[Speak | None] = contextvars.ContextVar("durable_nb_speak", default=None)
_installing = threading.Lock()


class FarContext(Context):
    """A task's context where neither log nor engine are: what it says and wants is sent back."""

    def __init__(self, parcel: Parcel, speak: Speak) -> None:
        task: Any = SimpleNamespace(name=parcel.name, options=SimpleNamespace(retries=parcel.max_attempts - 1))
        engine: Any = _Outpost()
        super().__init__(engine, parcel.claim, task, parcel.input)
        self._siblings = parcel.siblings
        self._speak = speak

    def _say(self, **what: Any) -> None:
        self._speak(Word("said", what))

    @property
    def lifespan(self) -> Any:
        """There is none elsewhere.

        Raises:
            ElsewhereError: always.
        """
        raise ElsewhereError(
            f"Task '{self._task.name}' executes elsewhere (executor=…), where the lifespan's value is not: make what it needs "
            "by a Depends."
        )

    def on_finish(self, fn: Callable[..., object]) -> None:
        """It cannot be asked for elsewhere.

        Raises:
            ElsewhereError: always.
        """
        raise ElsewhereError(
            f"Task '{self._task.name}' executes elsewhere (executor=…), from where no function can be left for the end of the "
            "run: ask for it in the durable task that runs this one."
        )

    def refresh_timeout(self, increment_by: timedelta | str | float) -> None:
        """Let the attempt work for longer than its `execution_timeout`, by a duration; without one, nothing happens."""
        self._speak(Word("extend", {"seconds": parse_duration(increment_by, of="refresh_timeout").total_seconds()}))

    def release_slot(self) -> None:
        """Give back the task's slot; its place elsewhere it keeps."""
        self._speak(Word("release"))

    def cancel(self) -> None:
        """Cancel the run itself: CancelledError is raised at its next await."""
        self._speak(Word("cancel"))

    async def aio_cancel(self) -> None:
        """As `cancel`, and wait here for the CancelledError."""
        self._speak(Word("cancel"))
        await asyncio.get_running_loop().create_future()


class _Outpost:
    """What dependencies need of an engine: threads."""

    def __init__(self) -> None:
        self.threads = Threads("durable_nb dependency")


class Attempt:
    """One attempt, from its parcel to its reply.

    Args:
        speak: takes what the function says. May be called from any thread of the function.
    """

    def __init__(self, speak: Speak) -> None:
        self._speak = speak
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._context: FarContext | None = None
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def cancel(self) -> None:
        """Tell the function that its run is cancelled."""
        with self._lock:
            self._is_cancelled = True
            if self._context is not None:
                self._context.is_cancelled = True
            if self._task is not None:
                loop, task = self._task
                with contextlib.suppress(RuntimeError):  # it is over, and so is its loop
                    loop.call_soon_threadsafe(task.cancel)

    def execute(self, body: bytes) -> Reply:
        """Execute a parcel."""
        run_id, file = "", ""
        try:
            parcel = unpack(body)
            run_id, file = parcel.claim.id, parcel.function.__code__.co_filename
            for name, lines in parcel.sources.items():
                linecache.cache[name] = (sum(map(len, lines)), None, list(lines), name)
            self._speak(Word("began"))
            scope = contextvars.copy_context()
            scope.run(SPEAK.set, self._speak)
            text = scope.run(self._output, parcel)
            return Reply(text=text, artifacts=dict(text.artifacts) if isinstance(text, ArtifactText) else {})
        except BaseException as error:  # whatever a task raises is its outcome
            failure = Failure.of(_from(error, file), run_id)
            return Reply(failure=failure, is_final=any(isinstance(item, NOT_RETRIED) for item in family(error)))

    def _output(self, parcel: Parcel) -> str:
        context = FarContext(parcel, self._speak)
        with self._lock:
            self._context = context
            context.is_cancelled = self._is_cancelled
        if inspect.iscoroutinefunction(parcel.function) or parcel.dependencies:
            value = asyncio.run(self._call(parcel, context))
        else:
            value = parcel.function(parcel.input, context)
        return encode(value, of=f"the output of task '{parcel.name}'", round_trip=parcel.round_trip)

    async def _call(self, parcel: Parcel, context: FarContext) -> Any:
        with self._lock:
            task: Any = asyncio.current_task()
            self._task = asyncio.get_running_loop(), task
            is_cancelled = self._is_cancelled
        if is_cancelled:
            task.cancel()
        engine: Any = context._engine
        async with Injection(engine, parcel.dependencies, parcel.input, context) as given:
            result = parcel.function(parcel.input, context, **given)
            return await result if inspect.isawaitable(result) else result


def _from(error: BaseException, file: str) -> BaseException:
    """Have a traceback begin in the function's own file, where it goes through it."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            return error.with_traceback(trace)
        trace = trace.tb_next
    return error


# ---------------------------------------------------------------- what functions print and log


class Printed(io.TextIOBase):
    """Stands for `sys.stdout`: what an attempt writes goes back, the rest to where it went before."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def write(self, text: str) -> int:
        """Take text."""
        speak = SPEAK.get()
        if speak is None:
            self._before.write(text)
        else:
            speak(Word("printed", {"text": text}))
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered."""
        self._before.flush()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream before."""
        return str(self._before.encoding)

    def fileno(self) -> int:
        """Give the descriptor of the stream before."""
        return int(self._before.fileno())


class Logged(logging.Handler):
    """Sends the log records of attempts back."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        speak = SPEAK.get()
        if speak is not None:
            message = self.format(record)
            fields = {"name": record.name, "level": record.levelno, "message": message, "file": record.pathname}
            speak(Word("logged", {**fields, "line": record.lineno, "function": record.funcName}))


def install() -> None:
    """Have what attempts print and log in this process go back, from now on."""
    with _installing:
        if not isinstance(sys.stdout, Printed):
            sys.stdout = Printed(sys.stdout)
        root = logging.getLogger()
        if not any(isinstance(handler, Logged) for handler in root.handlers):
            root.addHandler(Logged())
