"""The process in which recorded histories are replayed against new code: see `main`.

The code is entered as the engine enters it, with the engine's own `Execution` and cursor, and given every recorded outcome in
order. What the log does not have is never done: an ask beyond the history is where a replay ends well, and an audit hook refuses
writing, sockets and processes, so code that needs them between checkpoints cannot be checked. Whoever started the process may
kill it at any moment; it holds no log and nothing else that lasts.

It reads one pickled `Job`, made by its parent (see `guarded`), and writes one line of JSON before and after each history.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import pickle
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from durable_nb.client.app import Durable
from durable_nb.definitions import Classes, Definition, bind, rebuild, unbound
from durable_nb.engine.clock import SystemClock
from durable_nb.engine.durable_context import DurableContext
from durable_nb.engine.engine import Engine
from durable_nb.engine.execution import Execution
from durable_nb.engine.loop import EngineLoop
from durable_nb.engine.siblings import Siblings
from durable_nb.errors import DurableError, NonDeterminismError
from durable_nb.log.records import Ask, Claim, Outcome, Recorded
from durable_nb.tasks.options import TaskOptions
from durable_nb.tasks.payload import decode
from durable_nb.tasks.task import Kind, Task

FOREIGN_SECONDS = 0.2  # for what a replay awaits that no checkpoint brings
MEMORY_BYTES = 4 * 2**30
CPU_SECONDS = 60
REFUSED = ("socket.", "subprocess.", "shutil.", "sqlite3.", "os.exec", "os.posix_spawn", "os.spawn", "os.fork")
REFUSED_ALONE = frozenset(
    {"os.system", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}
    | {"os.chown", "os.kill", "os.utime", "pty.spawn", "urllib.Request", "webbrowser.open"}
)

Kinds = Literal["goes on", "diverges", "fails", "not checkable"]


@dataclass(frozen=True)
class History:
    """A run's recorded work, as an engine would enter it with.

    Attributes:
        siblings: what it knows of the others, where its task is one of a workflow.
    """

    claim: Claim
    recorded: Sequence[Recorded]
    seeds: Sequence[tuple[int, str]]
    since: int
    siblings: Siblings | None


@dataclass(frozen=True)
class Job:
    """Histories to replay, and the code to replay them against.

    Attributes:
        definitions: of every task that can be restored, by name: (kind, JSON of the definition).
        path: `sys.path` of the notebook, for its local modules.
    """

    task: str
    definitions: dict[str, tuple[Kind, str]]
    histories: Sequence[History]
    path: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of one history.

    Attributes:
        node: the checkpoint at which it diverges. recorded, asked: what the log has there, and what the code asks, in words.
        recorded_line, line: the source lines of both; of one that goes on, the line up to which the new code has run.
        reason: why it fails, or cannot be checked.
    """

    number: int
    kind: Kinds
    node: int | None = None
    recorded: str = ""
    asked: str = ""
    recorded_line: int | None = None
    line: int | None = None
    reason: str = ""


class Replay(Execution):
    """A run that is replayed as far as its history goes."""

    def __init__(self, engine: Engine, task: Task[Any], history: History) -> None:
        super().__init__(engine, history.claim, task, history.recorded, history.seeds, history.since)
        self.verdict: asyncio.Future[tuple[Kinds, str]] = asyncio.get_running_loop().create_future()
        self.diverged_line: int | None = None
        self._siblings = history.siblings

    def context(self, value: Any) -> DurableContext:
        """Give what the task is entered with."""
        context = DurableContext(self, value)
        context._siblings = self._siblings
        return context

    async def inline(
        self, ask: Ask, work: Callable[[], Awaitable[str]], *, write: Callable[..., None] | None = None
    ) -> tuple[int, Outcome]:
        """Give the recorded outcome of a memo or step; one that is not recorded is not done."""
        return await super().inline(ask, self._beyond)

    async def _beyond(self) -> str:
        return str(await asyncio.get_running_loop().create_future())

    def _take(self, ask: Ask) -> tuple[int, Recorded | None]:
        try:
            return super()._take(ask)
        except NonDeterminismError:
            self.diverged_line = self.diverged_line or ask.line
            raise

    def _rest(self) -> None:
        """Everything that is recorded and was asked for is delivered: judge."""
        if self.is_waiting():
            divergence = self.cursor.starve()
            self._judge("diverges" if divergence else "goes on", "")
        elif self._inline:
            self._judge("goes on", "")
        else:
            asyncio.get_running_loop().call_later(FOREIGN_SECONDS, self._judge_foreign, context=contextvars.Context())

    def _judge_foreign(self) -> None:
        if not self._moves.any and not self.is_waiting():
            line = self.suspended_line()
            self._judge("not checkable", f"{_place(line)}awaits something that is not recorded")

    def suspended_line(self) -> int | None:
        """Give the line of the task's source in which it is suspended."""
        line: int | None = None
        awaitable: Any = self._main.get_coro() if self._main is not None else None
        while (frame := getattr(awaitable, "cr_frame", None)) is not None:
            if frame.f_code.co_filename == self.task.function.__code__.co_filename:
                line = frame.f_lineno
            awaitable = awaitable.cr_await
        return line

    def _judge(self, kind: Kinds, reason: str) -> None:
        if not self.verdict.done():
            self.verdict.set_result((kind, reason))


def _place(line: int | None) -> str:
    return "" if line is None else f"line {line} "


# ---------------------------------------------------------------- an engine without a log


class Nowhere:
    """What stands for the parts of an engine that would write, wake or wait: it takes everything and does nothing."""

    def submit(self, *_: object) -> asyncio.Future[Any]:
        """Take a write that is never made."""
        return asyncio.get_running_loop().create_future()

    def reserve(self, *_: object) -> int:
        """Give no slots."""
        return 0

    async def aio_call(self, make: Callable[[], Awaitable[Any]]) -> Any:
        """Do what would be done on the engine's thread, which this is."""
        return await make()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def engine_for(job: Job) -> tuple[Engine, Task[Any]]:
    """Make the tasks of a job, and an engine that serves them.

    Raises:
        DurableError: the task cannot be made again, or what it refers to.
    """
    nowhere: Any = Nowhere()
    host = Durable(Path(os.devnull))
    engine = Engine(Path(os.devnull), host, nowhere, host.tasks, clock=SystemClock())
    engine.loop = asyncio.get_running_loop()
    engine.writer = engine.dispatcher = engine.timers = engine.watch = engine.matcher = engine.reader = nowhere
    engine.triggers = engine.schedules = engine.streams = nowhere
    host._engine = engine
    classes = Classes()
    for name, (kind, text) in sorted(job.definitions.items(), key=lambda item: item[0] == job.task):
        definition = Definition.from_json(text)
        try:
            function = rebuild(definition, resolve={"app": host}.__getitem__, filename=f"<durable {name}>", classes=classes)
            host.tasks.add(Task(function, host=host, kind=kind, name=name, options=TaskOptions(), version=definition.version))
        except DurableError:
            if name == job.task:
                raise
    for task in host.tasks:
        for name, target in unbound(task.function).items():  # type: ignore[arg-type]
            other = task if target == "self" else host.tasks.get(target.removeprefix("task:"))
            if other is not None:
                bind(task.function, name, other)  # type: ignore[arg-type]
    task = host.tasks[job.task]
    missing = [target.removeprefix("task:") for target in unbound(task.function).values()]  # type: ignore[arg-type]
    if missing:
        raise DurableError(f"the code of {', '.join(missing)} is not kept")
    return engine, task


# ---------------------------------------------------------------- the guard


class Refused(BaseException):
    """Code between checkpoints wanted to write, or to reach another process or machine."""


class Guard:
    """Refuses, from its making on, what a replay must not do; `what` names the last thing that was refused."""

    def __init__(self) -> None:
        self.what = ""
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = (*arguments, None, None, None)[:3]
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            if not writes and not (isinstance(mode, str) and set(mode) & set("wax+")):
                return
            event = f"writes {path!r}"
        elif event in ("socket.__new__", "socket.gethostname") or not (event in REFUSED_ALONE or event.startswith(REFUSED)):
            return
        self.what = event
        raise Refused(event)


# ---------------------------------------------------------------- replaying


async def replay(
    engine: Engine,
    task: Task[Any],
    history: History,
    guard: Guard,
    enter: Callable[[Engine, Task[Any], History], Replay] = Replay,
) -> tuple[Verdict, Replay | None, object]:
    """Replay one history; give the verdict, the execution, and what must be kept alive lest its collection runs more of the code.

    Args:
        enter: makes the execution.
    """
    claim, recorded = history.claim, history.recorded
    execution, guard.what = enter(engine, task, history), ""
    try:
        value = decode(claim.input, task.input_adapter, of="its input")
    except DurableError as error:
        return Verdict(number=claim.number, kind="fails", reason=str(error)), None, None
    run: asyncio.Future[Any] = asyncio.get_running_loop().create_task(execution.run(value, execution.context(value)))
    ends: list[asyncio.Future[Any]] = [run, execution.verdict]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if guard.what:
        line = _line_of_error(execution, task) or execution.suspended_line()
        reason = f"{_place(line)}needs what a check may not do ({guard.what})"
        return Verdict(number=claim.number, kind="not checkable", line=line, reason=reason), execution, run
    divergence = execution.cursor.diverged
    kind, reason = execution.verdict.result() if execution.verdict.done() else ("goes on", "")
    if run.done() and not execution.verdict.done():
        left = run.result()
        divergence = divergence or left.parked
        if divergence is None and left.error is not None:
            line = _line_of_error(execution, task)
            reason = f"{type(left.error).__name__}: {left.error}" + (f" on line {line}" if line else "")
            return Verdict(number=claim.number, kind="fails", line=line, reason=reason), execution, run
    if divergence is not None:
        there = next((item for item in recorded if item.node == divergence.node_id), None)
        verdict = Verdict(
            number=claim.number,
            kind="diverges",
            node=divergence.node_id,
            recorded=divergence.expected,
            asked=divergence.received,
            recorded_line=there.line if there else None,
            line=execution.diverged_line,
        )
        return verdict, execution, run
    line = execution.suspended_line() if kind == "goes on" else None
    return Verdict(number=claim.number, kind=kind, line=line, reason=reason), execution, run


def _line_of_error(execution: Replay, task: Task[Any]) -> int | None:
    main = execution._main
    error = main.exception() if main is not None and main.done() and not main.cancelled() else None
    line, trace = None, error.__traceback__ if error else None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == task.function.__code__.co_filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


async def _work(job: Job, say: Callable[[dict[str, Any]], None]) -> None:
    guard, kept = Guard(), []
    try:
        engine, task = engine_for(job)
    except (DurableError, Refused) as error:
        for history in job.histories:
            say(asdict(Verdict(number=history.claim.number, kind="not checkable", reason=str(error))))
        return
    for history in job.histories:
        say({"begin": history.claim.number})
        verdict, *alive = await replay(engine, task, history, guard)
        kept.append(alive)
        say(asdict(verdict))


def main() -> None:
    """Judge histories: the process of the check of an edit."""
    serve(_work)


def serve(work: Callable[[Any, Callable[[dict[str, Any]], None]], Coroutine[Any, Any, None]]) -> None:
    """Read the job, limit what it may take, and work; leave without running what the replays left behind."""
    job: Any = pickle.load(sys.stdin.buffer)  # noqa: S301  the parent, this user's own kernel, has made it
    sys.path[:] = job.path
    sys.dont_write_bytecode = True
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    except (ImportError, ValueError, OSError):
        pass  # this system, or whoever started the kernel, has limits of its own

    def say(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    with asyncio.Runner(loop_factory=EngineLoop) as runner:
        try:
            runner.run(work(job, say))
        finally:
            answers.flush()
            os._exit(0)
