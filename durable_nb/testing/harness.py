"""The harness: an app object with a log of its own and time moved by hand, for tests of durable tasks.

Invariants: a call of the harness returns when its engines are at rest, so a test sees no half-done work and never sleeps; it
never waits for what cannot come, but says what is missing.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from durable_nb.client.app import Durable
from durable_nb.definitions.trust import Keyring
from durable_nb.errors import LogFailedError, NotAtRestError, UnfinishedRunError
from durable_nb.log import reads
from durable_nb.log.ids import new_id
from durable_nb.log.records import RunView
from durable_nb.tasks.refs import RunRef
from durable_nb.tasks.task import Task
from durable_nb.testing.clock import START, VirtualClock, seconds_of
from durable_nb.testing.disturbance import Answer, Disturbance, SimulatedCrash
from durable_nb.testing.place import memory_log
from durable_nb.testing.rest import Unrest, next_due, unrest_of

logger = logging.getLogger("durable_nb")
PATIENCE_SECONDS = 10.0
LAST_SECONDS = 0.3  # after so long, a ready run that nobody takes counts as left lying
LOOK_SECONDS = 0.002


@contextmanager
def harness(
    *, always_replay: bool = False, start: datetime = START, patience: float = PATIENCE_SECONDS, **options: Any
) -> Iterator[Harness]:
    """Give a harness; its log is gone at the end.

    Args:
        always_replay: evict each durable task at every wait and replay it at every wake, and once more when it has ended, so that
            code that does not ask the same again is found in the test. What is no checkpoint is executed as often.
        start: what the clock shows first.
        patience: real seconds that the engines may work before `NotAtRestError` is raised.
        options: for `Durable`, such as `slots`.

    Example:
        >>> with harness() as h:
        ...
        ...     @h.durable.durable_task()
        ...     async def remind(input: str, ctx: DurableContext) -> str:
        ...         await ctx.aio_sleep_for(timedelta(days=30))
        ...         return f"{input}, thirty days later"
        ...
        ...     ref = h.start(remind, "hello")
        ...     h.advance(days=29)
        ...     assert h.status(ref) == "RUNNING"
        ...     h.advance(days=1)
        ...     assert h.result(ref) == "hello, thirty days later"

        As a fixture of pytest:

        >>> @pytest.fixture  # doctest: +SKIP
        ... def h():
        ...     with harness(always_replay=True) as h:
        ...         yield h
    """
    with memory_log() as path:
        made = Harness(path, always_replay=always_replay, start=start, patience=patience, options=options)
        try:
            yield made
        finally:
            made.close()


class Harness:
    """What `harness()` gives. Call it from the test's own thread.

    Attributes:
        durable: the app object; declare tasks on it.
        clock: its time. `advance` of the harness stops at each deadline on the way; `clock.advance` jumps.
        crashes: how often an engine was killed so far.
    """

    def __init__(self, path: Path, *, always_replay: bool, start: datetime, patience: float, options: dict[str, Any]) -> None:
        self.path = path
        self.clock = VirtualClock(start)
        self.crashes = 0
        self._always_replay = always_replay
        self._patience = patience
        self._options: dict[str, Any] = {
            "clock": self.clock,
            "durability": "relaxed",
            "keyring": Keyring(path.parent / "keys"),
            **options,
        }
        self._apps: dict[Durable, Disturbance] = {}
        logger.addFilter(_is_unexpected)
        self.durable = self.another().open()

    def another(self, **options: Any) -> Durable:
        """Give one more app object on the same log and clock: another process, as far as the log can tell.

        It takes part from its first use (`open()`), with the tasks that are declared on it.
        """
        app = Durable(self.path, **{**self._options, **options})
        app._probe = self._apps[app] = Disturbance(lambda: app._engine, always_replay=self._always_replay)
        return app

    def close(self) -> None:
        """Close every engine."""
        for app in self._apps:
            app.close()
        logger.removeFilter(_is_unexpected)

    # ------------------------------------------------------------ running

    def start(self, task: Task[Any], input: object = None) -> RunRef[Any]:
        """Start a run and let it go on until all is at rest; give its ref."""
        key = new_id()
        for app in self._apps:
            if app.tasks.get(task.name) is task:
                ref = self._start(app, task, input, key)
                self.settle()
                return ref
        raise UnfinishedRunError(f"Task '{task.name}' is not declared on an app object of this harness: use h.durable.")

    def _start(self, app: Durable, task: Task[Any], input: object, key: str) -> RunRef[Any]:
        while True:
            try:
                return app.start_named(task, input, key=key)
            except LogFailedError:  # a crash point; the key makes one run of any number of starts
                if not self._mend():
                    raise

    def run(self, task: Task[Any], input: object = None) -> Any:
        """Run a task to its end, letting time go by to whatever is due next; give its output, or raise how it failed.

        Raises:
            UnfinishedRunError: it waits for what time does not bring (an event), or is blocked.
        """
        ref = self.start(task, input)
        while not self.view(ref).is_ended and (due := self._next_due()) is not None:
            self._jump(due)
        return self.result(ref)

    def result(self, ref: RunRef[Any]) -> Any:
        """Give the output of a run that has ended, or raise how it failed. Never waits.

        Raises:
            UnfinishedRunError: it has not ended; the message tells what it waits for.
        """
        self.settle()
        view = self.view(ref)
        if not view.is_ended:
            raise UnfinishedRunError(f"Run {view.id} of '{view.task}' has not ended: {self._why(view)}")
        return self.durable.runs.ref_to(view).result()

    def view(self, ref: RunRef[Any]) -> RunView:
        """Give a run's state."""
        return self.durable.runs.get(ref.workflow_run_id)

    def status(self, ref: RunRef[Any]) -> str:
        """Give a run's status."""
        return self.view(ref).status

    def _why(self, view: RunView) -> str:
        if view.blocked_reason:
            return f"it is blocked. {view.blocked_reason}"
        engine = self.durable.engine
        waits = self.durable.call(lambda: engine.reader.run(lambda connection: reads.list_waits(connection, view.number)), aio="")
        if waits:
            return f"it waits for {', '.join(wait.name for wait in waits)}. Let time go by, or push the event."
        if view.ready_at is not None and view.ready_at > self.clock.now():
            return f"its next attempt is due in {view.ready_at - self.clock.now():g} s. Let time go by."
        if view.ready_at is not None:
            return "it is ready, but no engine of this harness has declared its task, or no slot is free."
        return "it waits for other runs."

    # ------------------------------------------------------------ time and events

    def settle(self) -> None:
        """Wait until every engine is at rest.

        Raises:
            NotAtRestError: something is still at work after `patience` real seconds.
        """
        deadline, changed, commits, clean = time.monotonic() + self._patience, time.monotonic(), -1, 0
        while clean < 2:  # twice, since what one engine ends another may go on with
            self._mend()
            unrest = self._unrest()
            if commits != (commits := self._commits()):
                changed, clean = time.monotonic(), 0
            elif unrest is None or (unrest.may_last and time.monotonic() - changed > LAST_SECONDS):
                clean += 1
            else:
                clean = 0
                time.sleep(LOOK_SECONDS)
            if time.monotonic() > deadline:
                raise NotAtRestError(
                    f"After {self._patience:g} s the engines are still not at rest: "
                    f"{unrest.words if unrest else 'the log is written to again and again'}."
                )

    def advance(self, duration: timedelta | float = 0.0, **units: float) -> None:
        """Let time go by, as it would: whatever falls due on the way happens at its time, and what follows from it.

        Args:
            duration: a timedelta, or seconds.
            units: further time, as `timedelta` takes it: ``days=30``.

        Raises:
            ValueError: it is negative.
        """
        until = self.clock.now() + seconds_of(duration, **units)
        self.settle()
        while (due := self._next_due()) is not None and due <= until:
            self._jump(due)
        if until > self.clock.now():
            self._jump(until)

    def push(self, key: str, payload: object = None, *, scope: str | None = None) -> None:
        """Push an event and let all come to rest that follows from it."""
        self.settle()
        accepted = self._count_events()
        while self._count_events() == accepted:
            try:
                self.durable.event.push(key, payload, scope=scope)
            except LogFailedError:  # a crash point, before or after it was accepted
                if not self._mend():
                    raise
        self.settle()

    def push_when_awaited(self, key: str, payload: object = None, *, scope: str | None = None) -> None:
        """Push an event once, as soon as some run waits for its key; at once, if one does already."""
        self._apps[self.durable].answers.append(Answer(key, {} if payload is None else payload, scope))
        self._touch(self.durable)
        self.settle()

    def _touch(self, app: Durable) -> None:
        """Have an engine make a commit: it looks then what is awaited, or dies of it."""
        engine = app.engine
        with suppress(LogFailedError):
            app.call(lambda: engine.writer.submit(lambda connection: None), aio="")

    def _count_events(self) -> int:
        engine = self.durable.engine
        return int(self.durable.call(lambda: engine.reader.run(_count_events), aio=""))

    # ------------------------------------------------------------ eviction and crashes

    def evict(self) -> int:
        """Evict every durable run that waits, whatever its policy; give how many were."""
        self.settle()
        evicted = 0
        for app, engine in self._engines():
            with suppress(LogFailedError):  # a crash point
                evicted += app.call(functools.partial(_evict_all, engine), aio="")
        self.settle()
        return evicted

    def crash(self, app: Durable | None = None) -> None:
        """Kill an engine as it stands (that of `durable` unless another is named), and go on with a fresh one on the same log."""
        app = app or self.durable
        self._apps[app].is_dead = True
        self._touch(app)
        self._mend()

    def crash_at(self, number: int, app: Durable | None = None) -> None:
        """Kill the engine right after its `number`-th commit from now, before anybody hears of it.

        The harness goes on with a fresh engine on what the log then holds; `crashes` tells whether it came to that.

        Example:
            >>> def test_no_crash_changes_the_result():
            ...     for number in itertools.count(1):
            ...         with harness() as h:
            ...             task = declare(h.durable)
            ...             h.crash_at(number)
            ...             assert h.run(task, 3) == 14
            ...             if not h.crashes:
            ...                 break
        """
        self._apps[app or self.durable].arm(_at_least_one(number), before=False)

    def crash_before_commit(self, number: int, app: Durable | None = None) -> None:
        """Kill the engine right before its `number`-th commit from now, which is then lost. Otherwise as `crash_at`."""
        self._apps[app or self.durable].arm(_at_least_one(number), before=True)

    def _mend(self) -> bool:
        """Put a fresh engine in the place of each that was killed; give whether one was."""
        dead = [app for app, probe in self._apps.items() if probe.is_dead]
        for app in dead:
            app.close()
            self._apps[app].revive()
            self.crashes += 1
            app.open()
        return bool(dead)

    # ------------------------------------------------------------ looking

    def _engines(self) -> list[tuple[Durable, Any]]:
        return [(app, app.engine) for app in self._apps if app.is_open or app is self.durable]

    def _commits(self) -> int:
        return sum(probe.commits for probe in self._apps.values())

    def _unrest(self) -> Unrest | None:
        engines = self._engines()
        workers = [engine.worker for _, engine in engines]
        served = frozenset(task.name for app, _ in engines for task in app.tasks)
        if any(probe.pushing for probe in self._apps.values()):
            return Unrest("an event is being pushed")
        for app, engine in engines:
            if engine.failure is not None:
                if not self._apps[app].is_dead:
                    raise engine.failure
                return Unrest("an engine was killed")
            try:
                found: Unrest | None = app.call(functools.partial(unrest_of, engine, workers, served), aio="")
                if found is not None and found.unmatched:  # whoever accepted it is dead; others would wait for a second
                    app.call(functools.partial(engine.matcher.match, found.unmatched), aio="")
            except LogFailedError:
                return Unrest("an engine was killed")
            if found is not None:
                return found
        return None

    def _next_due(self) -> float | None:
        due = [app.call(functools.partial(next_due, engine), aio="") for app, engine in self._engines()]
        return min((at for at in due if at is not None), default=None)

    def _jump(self, until: float) -> None:
        now = self.clock.now()
        self.clock.advance(max(0.0, until - now))
        self.settle()


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Keep to itself that a commit failed which the test had fail."""
    return SimulatedCrash.__name__ not in record.getMessage()


def _at_least_one(number: int) -> int:
    if number < 1:
        raise ValueError(f"The {number}-th commit from now does not exist: commits are counted from 1.")
    return number


async def _evict_all(engine: Any) -> int:
    return sum([await engine.dispatcher.evict(execution) for execution in list(engine.executions.values())])


def _count_events(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])
