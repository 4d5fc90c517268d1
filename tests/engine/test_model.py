"""Random programs under random disturbances, on the engine and on the oracle: asks, outcomes, results and executions agree.

CI takes a fixed sample. ``DURABLE_NB_MODEL=5000 python -m pytest tests/engine/test_model.py`` takes so many new ones (all: 2000).
A failure prints the program and the disturbances, shrunk, and how to have them again.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from durable_nb import Context, Durable, DurableContext, EvictionPolicy
from durable_nb.errors import LogFailedError
from durable_nb.log.rebuild import differences
from durable_nb.testing import Harness, harness
from tests.engine.oracle import CHILD_RETRIES, World
from tests.engine.programs import (
    Ask,
    Both,
    Bulk,
    Child,
    Dag,
    Edited,
    Either,
    Event,
    Gather,
    Group,
    Map,
    Memo,
    Now,
    Onward,
    Operation,
    Other,
    Play,
    Race,
    Rethrow,
    Select,
    Series,
    Sleep,
    Step,
    Stumble,
    Sub,
    Take,
    Try,
)

WANTED = os.environ.get("DURABLE_NB_MODEL", "")
EXAMPLES = 2000 if WANTED == "all" else int(WANTED or 400)
KEYS = ("a", "b", "c")
MAIN_RETRIES = 1
STEPS_TO_THE_END = 300

# ---------------------------------------------------------------- programs

keys = st.sampled_from(KEYS)
seconds = st.sampled_from([0, 1, 1, 2, 3, 5, 20])
leaves: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Event, keys),
    st.builds(Sleep, seconds),
    st.builds(Either, keys, seconds),
    st.builds(Both, st.sampled_from([("a", "b"), ("b", "c"), ("c", "a")])),
    st.builds(Memo),
    st.builds(Step, st.integers(0, 2)),
    st.builds(Take, keys, st.integers(1, 2)),
    st.builds(Ask),
    st.builds(Now),
    st.builds(Child, st.sampled_from([0, 0, 1, 2, 3, 4])),
    st.builds(Bulk, st.integers(1, 3)),
    st.builds(Stumble),
    st.builds(Dag, st.integers(0, 2)),
    st.builds(
        Map, st.lists(st.sampled_from([0, 0, 2, 4]), min_size=1, max_size=4).map(tuple), st.integers(1, 3), st.integers(0, 2)
    ),
)


def composed(parts: st.SearchStrategy[Operation]) -> st.SearchStrategy[Operation]:
    """Give operations that are made of others."""
    several = st.lists(parts, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Series, several),
        st.builds(Gather, several),
        st.builds(Race, several),
        st.builds(Select, several),
        st.builds(Group, several),
        st.builds(Try, parts),
        st.builds(Sub, parts),
        st.builds(Rethrow, parts, parts),
    )


programs = st.recursive(leaves, composed, max_leaves=10)
mains = programs | st.builds(Onward, programs, programs)

# ---------------------------------------------------------------- disturbances


class Action(Protocol):
    """Something that happens to the engines, or time."""

    def do(self, drive: Drive) -> None: ...


@dataclass(frozen=True)
class Push:
    key: str

    def do(self, drive: Drive) -> None:
        drive.push(self.key)


@dataclass(frozen=True)
class Answer:
    """The oldest question is answered."""

    def do(self, drive: Drive) -> None:
        drive.answer()


@dataclass(frozen=True)
class Cancel:
    """The run is cancelled while it waits."""

    def do(self, drive: Drive) -> None:
        main = drive.world.models[drive.ref.number]
        if not main.is_ended:
            drive.steer(lambda: drive.h.durable.runs.cancel(drive.ref), "cancelled", lambda: drive.world.cancel(main.number))


@dataclass(frozen=True)
class Replay:
    """The run is replayed, if it has ended."""

    def do(self, drive: Drive) -> None:
        main = drive.world.models[drive.ref.number]
        if main.is_ended:
            drive.steer(lambda: drive.h.durable.runs.replay(drive.ref), "replayed", main.replay)


@dataclass(frozen=True)
class Reset:
    """The run is reset to one of its nodes, wherever it is."""

    node: int

    def do(self, drive: Drive) -> None:
        main = drive.world.models[drive.ref.number]
        if main.asks:
            node = 1 + self.node % len(main.asks)
            drive.steer(lambda: drive.h.durable.runs.reset_durable_task(drive.ref, node), "reset", lambda: main.reset(node))


@dataclass(frozen=True)
class Edit:
    """The code is replaced by code that asks the same so far, and something more in the end."""

    added: Operation

    def do(self, drive: Drive) -> None:
        main = drive.world.models[drive.ref.number]
        if not main.is_ended:
            drive.program = Edited(drive.program, self.added)
            drive.crash_all()
            main.edit(drive.program)


@dataclass(frozen=True)
class EditBadly:
    """The code is replaced by code that asks something else: the run is parked, and goes on when the old code is back."""

    other: Other

    def do(self, drive: Drive) -> None:
        main = drive.world.models[drive.ref.number]
        if main.is_ended or not any((main.owner(node), node) in drive.world.rows[main.number] for node in main.asks):
            return
        kept, drive.program = drive.program, self.other
        drive.crash_all()
        for _ in range(2):  # one that was evicted would wait on; and a crash may be to come
            with suppress(LogFailedError):
                drive.h.durable.runs.restore(drive.ref)
            drive.h.settle()
        blocked = drive.h.durable.runs.get(drive.ref).blocked_reason
        assert blocked is not None and blocked.startswith("It diverged"), blocked
        drive.program = kept
        while drive.h.durable.runs.get(drive.ref).blocked_reason is not None:
            with suppress(LogFailedError):  # a crash that was to come
                drive.h.durable.runs.retake(drive.ref)
            drive.h.settle()
        drive.world.load()
        main.retake()


@dataclass(frozen=True)
class Restore:
    """The run is evicted, and taken into memory again though nothing has come for it."""

    def do(self, drive: Drive) -> None:
        drive.h.evict()
        with suppress(LogFailedError):
            drive.h.durable.runs.restore(drive.ref)


@dataclass(frozen=True)
class PushInHaste:
    """Events one upon the other, and the engine killed before they may have reached anybody."""

    keys: tuple[str, ...]
    is_killed: bool

    def do(self, drive: Drive) -> None:
        for key in self.keys:
            try:
                drive.h.durable.event.push(key, drive.note(key))
            except LogFailedError:  # a crash that was to come, before or after it was accepted
                drive.forget_unaccepted()
                return
        if self.is_killed:
            drive.h.crash()


@dataclass(frozen=True)
class Advance:
    seconds: int

    def do(self, drive: Drive) -> None:
        drive.h.advance(self.seconds)


@dataclass(frozen=True)
class Jump:
    """Time goes by in one jump, as while a laptop sleeps; or the engine is killed in it."""

    seconds: int
    is_killed: bool

    def do(self, drive: Drive) -> None:
        drive.h.clock.advance(self.seconds)
        if self.is_killed:
            drive.h.crash()


@dataclass(frozen=True)
class Evict:
    def do(self, drive: Drive) -> None:
        drive.h.evict()


@dataclass(frozen=True)
class Close:
    """An engine is closed, as at the end of a session, and opened again."""

    which: int

    def do(self, drive: Drive) -> None:
        app = drive.app(self.which)
        app.close()
        with suppress(LogFailedError):  # a crash that was to come: the harness opens it again
            app.open()


@dataclass(frozen=True)
class Crash:
    which: int

    def do(self, drive: Drive) -> None:
        drive.h.crash(drive.app(self.which))


@dataclass(frozen=True)
class CrashAt:
    """The engine will be killed at a commit to come."""

    which: int
    number: int
    is_before: bool

    def do(self, drive: Drive) -> None:
        (drive.h.crash_before_commit if self.is_before else drive.h.crash_at)(self.number, drive.app(self.which))


which = st.integers(0, 1)
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Push, keys),
    st.builds(Answer),
    st.builds(Cancel),
    st.builds(Replay),
    st.builds(Reset, st.integers(0, 9)),
    st.builds(PushInHaste, st.lists(keys, min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(Advance, seconds),
    st.builds(Jump, seconds, st.booleans()),
    st.builds(Evict),
    st.builds(Restore),
    st.builds(Edit, leaves),
    st.builds(EditBadly, st.builds(Other, st.booleans())),
    st.builds(Close, which),
    st.builds(Crash, which),
    st.builds(CrashAt, which, st.integers(1, 6), st.booleans()),
)

# ---------------------------------------------------------------- both together


def subs(program: Any, at: str) -> Iterator[tuple[str, Operation]]:
    """Give the programs of durable children by their place."""
    if isinstance(program, Sub):
        yield at, program.program
    for place, part in enumerate(parts_of(program)):
        yield from subs(part, f"{at}.{place}")


def parts_of(program: Any) -> tuple[Operation, ...]:
    """Give the operations that one is made of."""
    match program:
        case Sub():
            return (program.program,)
        case Try():
            return (program.part,)
        case Rethrow():
            return program.part, program.then
        case Onward():
            return program.part, program.then
        case Series() | Gather() | Race() | Select() | Group():
            return program.parts
        case _:
            return ()


class Drive:
    """A program on the engine and on the oracle, step by step."""

    def __init__(self, h: Harness, log: sqlite3.Connection, program: Operation, first: Action | None) -> None:
        self.h = h
        self.executed: Counter[str] = Counter()
        self.program, self._subs = program, dict(subs(program, "p"))
        self._pushes = self._answers = self.resets = 0
        self._log = log
        self.apps = [h.durable]
        self.serve(h.durable)
        self.world = World(lambda sql, *values: log.execute(sql, values).fetchall(), h.clock.now())
        if first is not None:
            first.do(self)
        self.ref = h.start(h.durable.tasks["main"], 0)
        self.world.add(self.ref.number, program, "p", MAIN_RETRIES)

    def serve(self, app: Durable) -> None:
        """Declare the tasks."""
        policy, executed = EvictionPolicy(ttl=None), self.executed

        @app.task(retries=CHILD_RETRIES)
        async def child(input: dict[str, Any], ctx: Context) -> str:
            at, fails = input["at"], input["fails"]
            executed[f"child {ctx.workflow_run_id} {ctx.retry_count}"] += 1
            incarnation = self.incarnation(ctx.workflow_run_id)
            if incarnation * (1 + CHILD_RETRIES) + ctx.retry_count < fails:
                raise ValueError(at)
            return f"child {at}"

        @app.durable_task(eviction_policy=policy)
        async def sub(input: dict[str, Any], ctx: DurableContext) -> Any:
            return await self._subs[input["at"]].run(Play(ctx, child, sub, dag, executed), f"{input['at']}.0")

        @app.durable_task(eviction_policy=policy, retries=MAIN_RETRIES)
        async def main(input: Any, ctx: DurableContext) -> Any:
            return await self.program.run(Play(ctx, child, sub, dag, executed), "p")

        dag = app.workflow(name="dag")

        @dag.task()
        async def first(input: dict[str, Any], ctx: Context) -> str:
            return str(input["at"])

        @dag.task(parents=[first])
        async def left(input: dict[str, Any], ctx: Context) -> str:
            if self.incarnation(ctx.workflow_run_id) < input["fails"]:
                raise ValueError("left")
            return f"left of {ctx.task_output(first)}"

        @dag.durable_task(parents=[first])
        async def right(input: dict[str, Any], ctx: DurableContext) -> str:
            await ctx.aio_now()
            return f"right of {ctx.task_output(first)}"

    def incarnation(self, run_id: str) -> int:
        """Give how many children were made before at the place of this one, from a connection of the calling thread's own."""
        with closing(sqlite3.connect(self.h.path)) as connection:
            sql = """SELECT count(*) FROM run JOIN run AS this ON this.id = ?
                     WHERE run.task = this.task AND run.input ->> 'at' = this.input ->> 'at' AND run.number < this.number"""
            return int(connection.execute(sql, (run_id,)).fetchone()[0])

    def app(self, number: int) -> Durable:
        """Give an app object; the second is made when it is first named."""
        if number == len(self.apps):
            self.apps.append(self.h.another())
            self.serve(self.apps[number])
            self.apps[number].open()
        return self.apps[number]

    def crash_all(self) -> None:
        """Kill every engine, so that whatever runs is entered again."""
        for app in self.apps:
            self.h.crash(app)

    def note(self, key: str) -> int:
        """Tell the oracle of an event that is pushed now; give its payload."""
        self._pushes += 1
        self.world.events.append((key, self._pushes))
        return self._pushes

    def forget_unaccepted(self) -> None:
        """Tell the oracle that the last event was never accepted, if it was not."""
        [(accepted,)] = self._log.execute("SELECT count(*) FROM event")
        del self.world.events[accepted:]

    def push(self, key: str) -> None:
        self.h.push(key, self.note(key))

    def steer(self, do: Callable[[], object], kind: str, tell: Callable[[], object]) -> None:
        """Do something to the run, and tell the oracle of it, unless a crash came before."""
        sql = "SELECT count(*) FROM journal WHERE run = ? AND kind = ?"
        before = self._log.execute(sql, (self.ref.number, kind)).fetchall()
        with suppress(LogFailedError):
            do()
        self.h.settle()
        if self._log.execute(sql, (self.ref.number, kind)).fetchall() != before:
            self.resets += kind == "reset"
            self.world.load()
            tell()

    def answer(self) -> None:
        """Answer the oldest question that is open, if there is one."""
        for item in self.h.durable.inbox.list(limit=1):
            self._answers += 1
            with suppress(LogFailedError):  # a crash that was to come, before or after it was accepted
                self.h.durable.inbox.answer(item.id, self._answers)
            self.h.settle()
            if self.h.durable.inbox.get(item.id).status == "answered":
                self.world.answers[item.id] = self._answers

    def do(self, action: Action) -> None:
        """Do something on the engine, then compare it with the oracle."""
        action.do(self)
        self.compare()

    def compare(self) -> None:
        self.h.settle()
        self.world.sync(self.h.clock.now())
        assert differences(self._log) == []

    def finish(self) -> None:
        """Bring what is waited for until the program has ended."""
        for _ in range(STEPS_TO_THE_END):
            main = self.world.models[self.ref.number]
            wanted = self.world.wanted()
            if main.is_ended or wanted is None:
                break
            missing = [key for key in wanted.keys if self.world.pushed(key, wanted.row) is None]
            is_asked = wanted.row.kind == "ask"
            self.do(Answer() if is_asked else Push(missing[0]) if missing else Advance(20))
        assert self.world.models[self.ref.number].is_ended
        self.check_executions()

    def check_executions(self) -> None:
        """Nothing was executed twice but what was in flight at a crash, or lay beyond the node of a reset."""
        crashes = self.h.crashes + self.resets
        assert all(times <= 1 + crashes for times in self.executed.values()), self.executed
        for model in self.world.models.values():
            for at, asked in model.memos.items():
                times = [number for name, number in self.executed.items() if name.startswith(f"memo {model.run_id} {at} ")]
                is_undisturbed = not crashes and not model.attempt and not model.round
                assert not asked.is_done or asked.is_cancelled or (sum(times) == 1 if is_undisturbed else sum(times) >= 1), times
        for run_id, retries in self._log.execute("SELECT id, retry_count FROM run WHERE task = 'child' AND status = 'COMPLETED'"):
            times = [self.executed[f"child {run_id} {attempt}"] for attempt in range(retries + 1)]
            assert min(times) >= 1 and max(times) <= 1 + crashes, times


@contextmanager
def driven(program: Operation, first: Action | None = None, *, always_replay: bool = False) -> Iterator[Drive]:
    with harness(always_replay=always_replay) as h, closing(sqlite3.connect(h.path, isolation_level=None)) as log:
        yield Drive(h, log, program, first)


sampled = settings(
    max_examples=EXAMPLES,
    derandomize=not WANTED,
    database=None,
    deadline=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if WANTED else [])],  # shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
@pytest.mark.timeout(0 if WANTED else 300)
@sampled
@given(
    program=mains,
    first=st.none() | st.builds(CrashAt, st.just(0), st.integers(1, 6), st.booleans()),
    then=st.lists(actions, max_size=6),
)
def test_the_engine_and_the_oracle_agree(program: Operation, first: Action | None, then: list[Action]) -> None:
    with driven(program, first) as drive:
        drive.compare()
        for action in then:
            drive.do(action)
        drive.finish()


NOTHING = Map(fails=(0,), at_once=1, spared=1)  # asks nothing and is done where it is begun


@pytest.mark.parametrize("always_replay", [False, True])
@pytest.mark.parametrize(
    "program",
    [
        Race((Series((NOTHING,)), Gather((Event("a"),)))),
        Race((NOTHING, Gather((Gather((Event("a"),)),)))),
        Group((Event("a"), Race((NOTHING, Gather((Now(),)))))),
        Group((Stumble(), Race((NOTHING, Gather((Event("a"),)))))),
        Group((Rethrow(Memo(), Event("a")), Race((NOTHING, Gather((Event("b"),)))))),
        Gather((Series((Race((NOTHING, Event("a"))), Event("b"))), Gather((Gather((Event("c"),)),)))),
        Gather((Series((Select((NOTHING, Group((Sub(Event("a")),)))), Event("b"))), Gather((Select((Event("c"),)),)))),
        Gather((Series((Race((NOTHING, Select((Child(), Race((Bulk(2), Now())))))), Event("b"))), Gather((Group((Ask(),)),)))),
    ],
)
def test_what_asks_nothing_wins_at_the_same_turn_live_and_replayed(program: Operation, always_replay: bool) -> None:
    with driven(program, always_replay=always_replay) as drive:
        drive.compare()
        for action in (Crash(0), Restore(), Push("a"), Replay()):
            drive.do(action)
        drive.finish()


@pytest.mark.parametrize("program", [Select((Gather((Sleep(0),)), Sub(Event("a")))), Select((Sub(Event("a")), Event("b")))])
def test_a_child_that_lost_to_what_a_reset_undoes_is_made_anew(program: Operation) -> None:
    with driven(program) as drive:
        for action in (Push("b"), Reset(1), Crash(0)):
            drive.do(action)
        drive.finish()
        assert drive.h.durable.runs.get(drive.ref).status == "COMPLETED"


@pytest.mark.parametrize("first", [Stumble(), Child(2)])
def test_a_child_that_an_error_gave_up_is_cancelled_when_the_retry_wins_without_it(first: Operation) -> None:
    with driven(Select((first, Sub(Event("a"))))) as drive:
        drive.compare()
        assert [item.status for item in drive.h.durable.runs.list(task="sub", include_children=True)] == ["CANCELLED"]
