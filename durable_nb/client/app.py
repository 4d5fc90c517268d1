"""`Durable`: the app object. Declares tasks, opens the log, runs tasks.

One async core on the engine's thread; every sync form is that core called through `EngineThread.call`, made in one place.
The engine starts when it is first needed. All methods may be called from any thread, the aio forms from any event loop.
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable_nb.client import trusting
from durable_nb.client.cel import CEL
from durable_nb.client.cron import Crons
from durable_nb.client.events import Events
from durable_nb.client.executors import Executors
from durable_nb.client.inbox import Inbox
from durable_nb.client.queue import Queue
from durable_nb.client.rate_limits import RateLimits
from durable_nb.client.runs import Runs
from durable_nb.client.scheduled import Scheduled
from durable_nb.client.streams import RunStream
from durable_nb.client.upkeep import Upkeep
from durable_nb.engine.current import CURRENT, LIVING
from durable_nb.engine.muting import MUTING
from durable_nb.errors import DeclarationError, EngineStoppedError, SyncCallError
from durable_nb.log.connection import Durability, prepare
from durable_nb.log.redacting import Redaction
from durable_nb.tasks.options import make_options
from durable_nb.tasks.payload import check_text
from durable_nb.tasks.refs import RunRef
from durable_nb.tasks.task import BulkItem, Declarer, Kind, Task

if TYPE_CHECKING:
    from durable_nb.definitions.trust import Keyring
    from durable_nb.engine.clock import Clock
    from durable_nb.engine.dispatch import Slots
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.lifespan import LifespanFunction
    from durable_nb.engine.probe import Probe
    from durable_nb.log.records import Claim, NewRun
    from durable_nb.tasks.workflow import Workflow

LOG_VARIABLE = "DURABLE_NB_LOG"
DEFAULT_LOG = "durable.db"


class Durable:
    """The app object.

    Args:
        log: the log's path; else the environment variable ``DURABLE_NB_LOG``; else ``durable.db`` in the working directory.
        durability: ``"full"`` (every acknowledged checkpoint survives a power cut) or ``"relaxed"`` (survives a killed
            process only).
        home: the notebook or script that this serves; runs of definitions restored from the log stay at their home.
        slots: how many runs may be in memory at once.
        lifespan: an async generator function that yields once, or one under `contextlib.asynccontextmanager`; entered once before
            the first task runs, its value stands at ``ctx.lifespan``, and it goes on when the engine is closed. If it fails,
            nothing is executed and whoever waits for a run gets a LifespanError; the runs wait in the log.
        redact: fields that bundles and exports leave out (the log keeps them, since a replay needs them): names at any depth, or
            the ends of paths, such as ``["password", "card.number", "*_token"]``. So are fields that the types of
            tasks mark: a `SecretStr` (with a serializer), or ``Field(json_schema_extra={"redact": True})``.
        clock: where time is read; tests give a virtual one.
        keyring: the user's key and list of known logs.

    Example:
        >>> durable = Durable("example.db")                        # doctest: +SKIP
        >>> @durable.task()                                        # doctest: +SKIP
        ... def double(input: int, ctx: Context) -> int:
        ...     return 2 * input
        >>> double.run(21)                                         # doctest: +SKIP
        42
    """

    mutes_prints = True  # of a durable task, while its recorded work is replayed

    def __init__(
        self,
        log: str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "full",
        home: str = "",
        slots: Slots | None = None,
        lifespan: LifespanFunction | None = None,
        redact: Sequence[str] = (),
        clock: Clock | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        from durable_nb.engine.lifespan import check_lifespan
        from durable_nb.engine.registry import Registry

        self.path = Path(log if log is not None else os.environ.get(LOG_VARIABLE) or DEFAULT_LOG).expanduser().absolute()
        self.tasks = Registry()
        self.event = Events(self, "durable.event")
        self.inbox = Inbox(self, "durable.inbox")
        self.runs = Runs(self, "durable.runs")
        self.cron = Crons(self, "durable.cron")
        self.scheduled = Scheduled(self, "durable.scheduled")
        self.rate_limits = RateLimits(self, "durable.rate_limits")
        self.queue = Queue(self, "durable.queue")
        self.cel = CEL(self)
        self.executor = Executors(self)
        self.upkeep = Upkeep(self, "durable.upkeep")
        self.home = home
        self.redaction = Redaction(redact)
        self._durability: Durability = durability
        self.slots = slots
        self._lifespan = check_lifespan(lifespan)
        self._clock = clock
        self._keyring = keyring
        self._probe: Probe | None = None  # a test's, see `durable_nb.testing`
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._left_by_fork: Engine | None = None  # kept, since collecting it would close connections of the parent process
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=functools.partial(_forked, weakref.ref(self)))

    def __repr__(self) -> str:
        return f"<Durable {self.path} {'open' if self._engine else 'closed'}>"

    # ------------------------------------------------------------ declaring

    def task(self, name: str | None = None, **options: Any) -> Declarer:
        """Declare a regular task: ``(input, ctx)``, sync or async, run to its end in a slot.

        Args:
            name: the function's name by default.
            options: `description`, `input_validator` (a type, else the annotation of `input`), `retries`, `backoff_factor`,
                `backoff_max_seconds` (seconds), `execution_timeout`, `schedule_timeout` (timedelta, seconds or ``"90s"``),
                `default_priority` (1 to 3), `default_additional_metadata`, `cancel_grace` (how long a cancelled run may clean up,
                30 s), `deadline` (from creation on; then the run is cancelled), `on_exhausted` (``"fail"``, or ``"park"`` to
                have a run whose retries ran out wait for a person); `concurrency` (a number, a `ConcurrencyExpression`, or
                a list of them), `rate_limits` (a list of `RateLimit`), `idempotency`; `on_events` (keys, ``*`` for any
                characters), `default_filters` (a list of `DefaultFilter`), `on_crons` (cron expressions, or a `Cron` each);
                `executor` (``"process"``, or one of `durable.executor`) with `resources` (of a cluster, such as ``{"GPU": 1}``).

        Raises:
            DeclarationError: a signature or option that cannot work.
        """
        return self._declarer("task", name, options)

    def durable_task(self, name: str | None = None, **options: Any) -> Declarer:
        """Declare a durable task: ``async def f(input, ctx)`` with a `DurableContext`. Takes `eviction_policy` too."""
        return self._declarer("durable_task", name, options)

    def _declarer(self, kind: Kind, name: str | None, options: dict[str, Any]) -> Declarer:
        if name is not None and not isinstance(name, str):
            raise DeclarationError(f"@durable.{kind} is written with parentheses: `@durable.{kind}()`.")
        if name is not None:
            check_text(name, of="the task's name")
        validator, description = options.pop("input_validator", None), options.pop("description", None)
        checked = make_options(kind, options)
        return lambda function: self.add(
            Task(function, host=self, kind=kind, name=name, options=checked, input_validator=validator, description=description)
        )

    def workflow(self, name: str, *, input_validator: Any = None, description: str | None = None, **options: Any) -> Workflow:
        """Declare a workflow (DAG): a graph of tasks, which are declared by ``@workflow.task(parents=[...])`` and the like.

        Args:
            name: unique among the tasks of this app object.
            input_validator: the type of the input, to which it is validated before a run is written; else any JSON value is
                taken, and each task reads it as its own annotation says.
            options: `default_priority` (its tasks' too), `default_additional_metadata`, `schedule_timeout`, `eviction_policy`,
                and `retries` with `backoff_factor` and `backoff_max_seconds`: a retry runs the tasks again that failed, and
                those after them.

        Raises:
            DeclarationError: an option that cannot work.
        """
        from durable_nb.client.workflows import declare

        return declare(self, name, input_validator, description, options)

    def add(self, task: Task[Any]) -> Task[Any]:
        """Serve a task from now on; one of the same name is replaced.

        Raises:
            DeclarationError, ExpressionError: an expression of its options or conditions cannot work; nothing is changed.
        """
        from durable_nb.client.workflows import check, complete
        from durable_nb.engine.flow import check_declared

        check(task)
        check_declared(task)
        self.tasks.add(task)
        if self._engine is not None:
            self._engine.declared(task)
            complete(self._engine, task)
        return task

    # ------------------------------------------------------------ the engine

    @property
    def engine(self) -> Engine:
        """The running engine; started if it is not.

        Raises:
            LogError: the log cannot be opened; InertLogError: it is not known to this user.
            EngineStoppedError: this process is the fork of one that uses the log.
        """
        current = CURRENT.get()
        own = LIVING.get() if current is None else current.engine
        if own is not None and own.host is self:
            return own  # inside a task or lifespan its own, which a late call must not start again while it is closed
        with self._lock:
            if self._engine is None:
                self._start()
            assert self._engine is not None  # noqa: S101  _start has set it
            return self._engine

    @property
    def is_open(self) -> bool:
        """Whether the engine runs."""
        return self._engine is not None

    @property
    def keyring(self) -> Keyring:
        """The user's key and list of known logs."""
        if self._keyring is None:
            from durable_nb.definitions.trust import Keyring

            self._keyring = Keyring.default()
        return self._keyring

    def _start(self) -> None:
        if self._left_by_fork is not None:
            raise EngineStoppedError(
                "This process was forked from one that uses the log, and SQLite survives no fork: start processes by "
                "multiprocessing's 'spawn' or 'forkserver'."
            )
        from durable_nb.engine.clock import SystemClock
        from durable_nb.engine.engine import Engine
        from durable_nb.engine.thread import EngineThread

        self.log_id = trusting.open_log(self.path, self.keyring)
        thread = EngineThread()
        engine = Engine(
            self.path,
            self,
            thread,
            self.tasks,
            clock=self._clock or SystemClock(),
            home=self.home,
            slots=self.slots,
            lifespan=self._lifespan,
            refusal=self._refuse,
            sign=self._sign,
            probe=self._probe,
            executors=self.executor.by_name,
        )
        if self.mutes_prints:
            MUTING.begin()
        try:
            thread.call(lambda: engine.open(self._durability), aio="")
        except BaseException:
            if self.mutes_prints:
                MUTING.end()
            thread.stop()
            raise
        self._engine = engine

    def trust(self) -> None:
        """Take the log into this user's list of known logs, so that its runs are executed."""
        log_id, _ = prepare(self.path)
        self.keyring.remember(log_id, self.path)

    def _sign(self, run: NewRun | Claim) -> bytes | None:
        return trusting.signature_of(self.keyring, self.log_id, run)

    def _refuse(self, claim: Claim, task: Task[Any]) -> str | None:
        return trusting.refusal_of(self.keyring, self.log_id, claim, task)

    def open(self) -> Durable:
        """Open the log and let its runs go on; else the first use does."""
        self.engine  # noqa: B018  reading it starts it
        return self

    def close(self, timeout: float | None = None) -> None:
        """Give every run back to the log and stop the engine; a later use starts it again.

        Args:
            timeout: how many seconds to wait at most. What is not given back by then is taken up after this process has ended.
        """
        with self._lock:
            engine = self._engine
            if engine is not None and engine.thread.is_here:
                raise SyncCallError("The engine cannot be closed from a task on its own thread: close it where it was opened.")
            self._engine = None
        if engine is None:
            return
        if self.mutes_prints:
            MUTING.end()
        if timeout is None:
            engine.thread.call(engine.close, aio="")
            engine.thread.stop()
        else:
            concurrent.futures.wait([engine.thread.submit(engine.close)], timeout=timeout)

    async def aio_drain(self, grace: float = 10.0) -> int:
        """Take up no further run; evict what waits, and let what works come to its end; then close the app object.

        Args:
            grace: how many seconds to wait for that at most.

        Returns:
            How many runs still work; closing gives them back to the log, where their unfinished work is done again.
        """
        from durable_nb.engine.draining import drain

        engine = self.engine
        return await self.aio_call(lambda: drain(engine, grace))  # type: ignore[no-any-return]

    def drain(self, grace: float = 10.0) -> int:
        """As `aio_drain`, from synchronous code."""
        return self.call(lambda: self.aio_drain(grace), aio="await durable.aio_drain(…)")  # type: ignore[no-any-return]

    def __enter__(self) -> Durable:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, make: Callable[[], Awaitable[Any]], *, aio: str) -> Any:
        """Run an aio form from synchronous code (see `EngineThread.call`)."""
        return self.engine.thread.call(make, aio=aio)

    async def aio_call(self, make: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine on the engine's loop and await it from any loop (see `EngineThread.aio_call`)."""
        return await self.engine.thread.aio_call(make)

    # ------------------------------------------------------------ running

    async def aio_start(self, task: Task[Any], items: Sequence[BulkItem], *, wait: bool) -> list[Any]:
        """Start runs, as children where a task is running; give refs, or an output or error each where `wait`."""
        from durable_nb.engine.running import start

        engine = self.engine
        return await self.aio_call(lambda: start(engine, task, items, wait=wait))  # type: ignore[no-any-return]

    async def aio_start_named(
        self,
        task: Task[Any],
        input: object,
        *,
        key: str | None = None,
        metadata: Mapping[str, object] | None = None,
        deadline: timedelta | datetime | None = None,
    ) -> RunRef[Any]:
        """Start a run that `key` names for good: with a key that is in the log, give the run that has it."""
        from durable_nb.engine.new_runs import new_run

        engine = self.engine

        async def start() -> RunRef[Any]:
            item = BulkItem(input=input, additional_metadata=metadata, deadline=deadline)
            run, _ = new_run(engine, task, item, parent=None, index=None, key=key)
            [(number, run_id)] = await engine.start_runs(task, [run])
            return RunRef(self, run_id, number, task.name)

        return await self.aio_call(start)  # type: ignore[no-any-return]

    def start_named(
        self,
        task: Task[Any],
        input: object,
        *,
        key: str | None = None,
        metadata: Mapping[str, object] | None = None,
        deadline: timedelta | datetime | None = None,
    ) -> RunRef[Any]:
        """As `aio_start_named`, from synchronous code."""
        return self.call(  # type: ignore[no-any-return]
            lambda: self.aio_start_named(task, input, key=key, metadata=metadata, deadline=deadline),
            aio="durable.aio_start_named(…)",
        )

    async def aio_result_of(self, ref: RunRef[Any]) -> Any:
        """Wait for the end of a run; inside a durable task as a checkpoint."""
        from durable_nb.engine.running import result

        engine = self.engine
        return await self.aio_call(lambda: result(engine, ref))

    def stream_of(self, ref: RunRef[Any]) -> RunStream:
        """Give what a run streams."""

        async def number() -> int:
            return ref.number

        return RunStream(self, number)


def _forked(durable: weakref.ref[Durable]) -> None:
    """Part a forked process from the engine, whose threads it has not."""
    if (here := durable()) is not None:
        here._lock = threading.Lock()
        here._left_by_fork, here._engine = here._engine or here._left_by_fork, None
