"""Task programs as data: what a program does is played on the engine by `run`, and told by the oracle in `oracle`.

An operation is one small class. `run(play, at)` does it in a durable task; `oracle(model, at)` is a generator that says what it
must ask and give: it yields futures of the oracle's, and returns the value or raises `FailedError`. `at` is its place in the
program, which names its memos and children. A new operation is such a class, and a line in the strategies of test_model.py.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from durable_nb import DurableContext, SleepCondition, TaskRunError, UserEventCondition, or_
from durable_nb.errors import FailedTaskRunExceptionGroup
from durable_nb.tasks.task import Task
from tests.engine.oracle import (
    CHILD_RETRIES,
    STEP_RETRIES,
    All,
    Asked,
    CancelledError,
    Contest,
    Continued,
    Ended,
    FailedError,
    First,
    Model,
    Row,
    Steps,
)


class Operation(Protocol):
    """One thing that a program does."""

    async def run(self, play: Play, at: str) -> Any:
        """Do it in a durable task."""
        ...

    def oracle(self, model: Model, at: str) -> Steps:
        """Tell what must come of it."""
        ...


@dataclass
class Play:
    """A durable task that plays a program on the engine."""

    ctx: DurableContext
    child: Task[Any]
    sub: Task[Any]
    dag: Task[Any]
    executed: Counter[str]  # outside the log


@dataclass(frozen=True)
class Sleep:
    seconds: int

    async def run(self, play: Play, at: str) -> Any:
        return (await play.ctx.aio_sleep_for(timedelta(seconds=self.seconds))).duration.total_seconds()

    def oracle(self, model: Model, at: str) -> Steps:
        yield model.ask("sleep", "sleep", due=lambda row: row.asked_at + self.seconds <= model.world.now)
        return float(self.seconds)


@dataclass(frozen=True)
class Event:
    key: str

    async def run(self, play: Play, at: str) -> Any:
        return await play.ctx.aio_wait_for_event(self.key)

    def oracle(self, model: Model, at: str) -> Steps:
        asked = model.ask(
            "event", f"event {self.key}", due=lambda row: model.world.pushed(self.key, row) is not None, keys=[self.key]
        )
        row = yield asked
        return model.world.pushed(self.key, row)


@dataclass(frozen=True)
class Either:
    """An event, or so many seconds."""

    key: str
    seconds: int

    async def run(self, play: Play, at: str) -> Any:
        sleep = SleepCondition(timedelta(seconds=self.seconds))
        won = await play.ctx.aio_wait_for(at, or_(UserEventCondition(self.key), sleep))
        return won["CREATE"].get(self.key, ["timeout"])

    def oracle(self, model: Model, at: str) -> Steps:
        world = model.world

        def is_over(row: Row) -> bool:
            return row.asked_at + self.seconds <= world.now

        row = yield model.ask(
            "wait", "wait for", due=lambda row: is_over(row) or world.pushed(self.key, row) is not None, keys=[self.key]
        )
        data = json.loads(row.outcome)["CREATE"]
        assert len(data) == 1
        if self.key not in data:
            assert is_over(row), "a sleep ended early"
            return ["timeout"]
        return [world.pushed(self.key, row)]


@dataclass(frozen=True)
class Both:
    """Two events, in whatever order."""

    keys: tuple[str, str]

    async def run(self, play: Play, at: str) -> Any:
        won = await play.ctx.aio_wait_for(at, *(UserEventCondition(key) for key in self.keys))
        return [won["CREATE"][key][0] for key in self.keys]

    def oracle(self, model: Model, at: str) -> Steps:
        pushed = model.world.pushed
        row = yield model.ask(
            "wait", "wait for", due=lambda row: all(pushed(key, row) is not None for key in self.keys), keys=self.keys
        )
        return [pushed(key, row) for key in self.keys]


@dataclass(frozen=True)
class Memo:
    async def run(self, play: Play, at: str) -> Any:
        label = f"memo {play.ctx.workflow_run_id} {at} {play.ctx.retry_count}"

        def noted() -> str:
            play.executed[label] += 1
            return f"memo {at}"

        return await play.ctx.aio_memo(noted, str)

    def oracle(self, model: Model, at: str) -> Steps:
        yield model.ask_memo(at)
        return f"memo {at}"


@dataclass(frozen=True)
class Step:
    """A step with one retry, whose function fails so many times."""

    fails: int

    async def run(self, play: Play, at: str) -> Any:
        tried = 0

        def work() -> str:
            nonlocal tried
            tried += 1
            play.executed[f"step {play.ctx.workflow_run_id} {at} {play.ctx.retry_count} {tried}"] += 1
            if tried <= self.fails:
                raise ValueError(at)
            return f"step {at}"

        return await play.ctx.aio_step(work, name=at, retries=STEP_RETRIES)

    def oracle(self, model: Model, at: str) -> Steps:
        yield model.ask("step", f"step {at}", due=lambda row: True, fails=self.fails > STEP_RETRIES)
        return f"step {at}"


@dataclass(frozen=True)
class Take:
    """A mailbox, of which so many events are taken."""

    key: str
    number: int

    async def run(self, play: Play, at: str) -> Any:
        mailbox = play.ctx.aio_events(self.key)
        return [await anext(mailbox) for _ in range(self.number)]

    def oracle(self, model: Model, at: str) -> Steps:
        taken: list[Any] = []
        mailbox = model.open_mailbox(self.key)
        for _ in range(self.number):
            due = lambda row: model.next_mail(mailbox) is not None  # noqa: E731
            yield model.ask("take", f"take {self.key}", due=due, keys=[self.key])
            taken.append(model.take(mailbox))
        return taken


@dataclass(frozen=True)
class Ask:
    """A question to a person."""

    async def run(self, play: Play, at: str) -> Any:
        return await play.ctx.aio_ask(f"question {at}", int)

    def oracle(self, model: Model, at: str) -> Steps:
        answers = model.world.answers
        row = yield model.ask("ask", f"ask question {at}", due=lambda row: model.place(row) in answers)
        return answers[model.place(row)]


@dataclass(frozen=True)
class Now:
    async def run(self, play: Play, at: str) -> Any:
        return (await play.ctx.aio_now()).timestamp()

    def oracle(self, model: Model, at: str) -> Steps:
        row = yield model.ask("now", "now", due=lambda row: True)
        assert json.loads(row.outcome) == row.recorded_at
        return row.recorded_at


@dataclass(frozen=True)
class Child:
    """A regular task; its first `fails` attempts fail, counted over all runs that were made at this place."""

    fails: int = 0

    async def run(self, play: Play, at: str) -> Any:
        return await play.child.aio_run({"at": at, "fails": self.fails})

    def oracle(self, model: Model, at: str) -> Steps:
        row = yield model.ask("child", f'child {{"at":"{at}"', due=lambda row: True)
        incarnation = model.world.incarnation(row.child)
        if (incarnation + 1) * (1 + CHILD_RETRIES) <= self.fails:
            raise FailedError(at)
        return f"child {at}"


@dataclass(frozen=True)
class Bulk:
    number: int

    async def run(self, play: Play, at: str) -> Any:
        items = [play.child.create_bulk_run_item({"at": f"{at}.{place}", "fails": 0}) for place in range(self.number)]
        return await play.child.aio_run_many(items)

    def oracle(self, model: Model, at: str) -> Steps:
        places = [f"{at}.{place}" for place in range(self.number)]
        asked = [model.ask("child", f'child {{"at":"{place}"', due=lambda row: True) for place in places]
        try:
            for one in asked:
                if not one.is_done:
                    yield one
        except CancelledError as cancel:
            for one in asked:
                one.cancel(is_lost=cancel.is_lost)
            raise
        return [f"child {place}" for place in places]


@dataclass(frozen=True)
class Dag:
    """A workflow of three tasks, of which one fails in the first `fails` runs that are made at this place."""

    fails: int = 0

    async def run(self, play: Play, at: str) -> Any:
        return await play.dag.aio_run({"at": at, "fails": self.fails})

    def oracle(self, model: Model, at: str) -> Steps:
        yield model.ask("child", f'dag {{"at":"{at}"', due=lambda row: True)
        return {"first": at, "left": f"left of {at}", "right": f"right of {at}"}


@dataclass(frozen=True)
class Map:
    """Children for items that fail so many times each, at most so many at once, until so many have succeeded."""

    fails: tuple[int, ...]
    at_once: int
    spared: int  # how many need not succeed

    @property
    def needed(self) -> int:
        return max(0, len(self.fails) - self.spared)

    async def run(self, play: Play, at: str) -> Any:
        items = [{"at": f"{at}.{place}", "fails": fails} for place, fails in enumerate(self.fails)]
        enough = self.needed if self.spared else None
        try:
            return await play.ctx.aio_map(play.child, items, max_concurrency=self.at_once, min_successful=enough)
        except FailedTaskRunExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    def oracle(self, model: Model, at: str) -> Steps:
        begun, succeeded, failed = 0, dict[int, Any](), dict[int, FailedError]()
        running: dict[int, Asked] = {}
        while len(succeeded) < self.needed:
            can_succeed = len(self.fails) - len(failed) >= self.needed
            while can_succeed and len(running) < self.at_once and begun < len(self.fails):
                running[begun] = model.ask("child", f'child {{"at":"{at}.{begun}"', due=lambda row: True)
                begun += 1
            if not running:
                break
            try:
                place = list(running)[(yield First(list(running.values())))]
            except CancelledError as cancel:
                for asked in running.values():
                    asked.cancel(is_lost=cancel.is_lost)
                raise
            error = running.pop(place).error
            if error is None:
                succeeded[place] = f"child {at}.{place}"
            else:
                failed[place] = error
        for asked in running.values():
            asked.cancel(is_lost=True)
        if len(succeeded) < self.needed:
            failure = FailedError(at)
            failure.nodes = tuple(node for error in failed.values() for node in error.nodes)
            raise failure
        return [succeeded[place] for place in sorted(succeeded)]


@dataclass(frozen=True)
class Onward:
    """Goes on with an empty history after the first part. At the top of a program only."""

    part: Operation
    then: Operation

    async def run(self, play: Play, at: str) -> Any:
        if not play.ctx.input:
            await self.part.run(play, f"{at}.0")
            play.ctx.continue_as_new(1)
        return await self.then.run(play, f"{at}.1")

    def oracle(self, model: Model, at: str) -> Steps:
        if not model.round:
            yield from self.part.oracle(model, f"{at}.0")
            raise Continued
        return (yield from self.then.oracle(model, f"{at}.1"))


@dataclass(frozen=True)
class Edited:
    """A program to which something was added while it ran."""

    part: Operation
    added: Operation

    async def run(self, play: Play, at: str) -> Any:
        return [await self.part.run(play, at), await self.added.run(play, f"{at}+")]

    def oracle(self, model: Model, at: str) -> Steps:
        return [(yield from self.part.oracle(model, at)), (yield from self.added.oracle(model, f"{at}+"))]


@dataclass(frozen=True)
class Other:
    """Asks what no other operation asks, or nothing at all."""

    is_silent: bool

    async def run(self, play: Play, at: str) -> Any:
        if not self.is_silent:
            await play.ctx.aio_wait_for_event("of another program")

    def oracle(self, model: Model, at: str) -> Steps:
        raise NotImplementedError("it never gets that far")


@dataclass(frozen=True)
class Sub:
    """A durable task with a program of its own."""

    program: Operation

    async def run(self, play: Play, at: str) -> Any:
        return await play.sub.aio_run({"at": at})

    def oracle(self, model: Model, at: str) -> Steps:
        world = model.world
        asked = model.ask("child", f'sub {{"at":"{at}"', due=lambda row: world.models[row.child].is_ended)
        world.add(asked.row.child, self.program, f"{at}.0", retries=0)
        row = yield asked
        return world.models[row.child].result()


@dataclass(frozen=True)
class Series:
    parts: tuple[Operation, ...]

    async def run(self, play: Play, at: str) -> Any:
        return [await part.run(play, f"{at}.{place}") for place, part in enumerate(self.parts)]

    def oracle(self, model: Model, at: str) -> Steps:
        values = []
        for place, part in enumerate(self.parts):
            values.append((yield from part.oracle(model, f"{at}.{place}")))
        return values


@dataclass(frozen=True)
class Gather:
    parts: tuple[Operation, ...]

    async def run(self, play: Play, at: str) -> Any:
        return await asyncio.gather(*(part.run(play, f"{at}.{place}") for place, part in enumerate(self.parts)))

    def oracle(self, model: Model, at: str) -> Steps:
        values = yield All([model.spawn(part.oracle(model, f"{at}.{place}")) for place, part in enumerate(self.parts)])
        return values


@dataclass(frozen=True)
class Race:
    """The first wins; the others are cancelled."""

    parts: tuple[Operation, ...]

    async def run(self, play: Play, at: str) -> Any:
        tasks = [asyncio.create_task(part.run(play, f"{at}.{place}")) for place, part in enumerate(self.parts)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            winner = next(place for place, task in enumerate(tasks) if task.done())
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.wait(tasks)
        return [winner, tasks[winner].result()]

    def oracle(self, model: Model, at: str) -> Steps:
        tasks = [model.spawn(part.oracle(model, f"{at}.{place}")) for place, part in enumerate(self.parts)]
        try:
            yield First(tasks)
            winner = next(place for place, task in enumerate(tasks) if task.is_done)
        except CancelledError as cancel:
            for task in tasks:
                task.cancel(is_lost=cancel.is_lost)
            raise
        for task in tasks:
            task.cancel()
        yield Ended(tasks)
        return [winner, tasks[winner].result()]


@dataclass(frozen=True)
class Select:
    """The first wins, and the others are given up."""

    parts: tuple[Operation, ...]

    async def run(self, play: Play, at: str) -> Any:
        return await play.ctx.aio_select(
            **{f"part{place}": part.run(play, f"{at}.{place}") for place, part in enumerate(self.parts)}
        )

    def oracle(self, model: Model, at: str) -> Steps:
        contest = Contest()
        tasks = [model.spawn(part.oracle(model, f"{at}.{place}"), contest) for place, part in enumerate(self.parts)]
        try:
            winner = yield First(tasks)
        except CancelledError as cancel:
            for task in tasks:
                task.cancel(is_lost=cancel.is_lost)
            yield Ended(tasks)
            raise
        contest.is_won = tasks[winner].error is None
        for task in tasks:
            task.cancel(is_lost=contest.is_won)
        yield Ended(tasks)
        return [f"part{winner}", tasks[winner].result()]


@dataclass(frozen=True)
class Group:
    """A TaskGroup: a failure cancels the others."""

    parts: tuple[Operation, ...]

    async def run(self, play: Play, at: str) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part.run(play, f"{at}.{place}")) for place, part in enumerate(self.parts)]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    def oracle(self, model: Model, at: str) -> Steps:
        tasks = [model.spawn(part.oracle(model, f"{at}.{place}")) for place, part in enumerate(self.parts)]
        try:
            values = yield All(tasks, is_owner=False)
        except (FailedError, CancelledError) as error:
            for task in tasks:
                task.cancel(is_lost=isinstance(error, CancelledError) and error.is_lost)
            yield Ended(tasks)
            raise
        return values


@dataclass(frozen=True)
class Rethrow:
    """A failure is let go on only after something else was asked, which a retry must ask again."""

    part: Operation
    then: Operation

    async def run(self, play: Play, at: str) -> Any:
        failure = None
        try:
            value = await self.part.run(play, f"{at}.0")
        except TaskRunError as error:
            failure, value = error, "failed"
        values = [value, await self.then.run(play, f"{at}.1")]
        if failure is not None:
            raise failure
        return values

    def oracle(self, model: Model, at: str) -> Steps:
        failure = None
        try:
            value = yield from self.part.oracle(model, f"{at}.0")
        except FailedError as error:
            if not error.nodes:
                raise
            failure, value = error, "failed"
        values = [value, (yield from self.then.oracle(model, f"{at}.1"))]
        if failure is not None:
            raise failure
        return values


@dataclass(frozen=True)
class Try:
    part: Operation

    async def run(self, play: Play, at: str) -> Any:
        try:
            return await self.part.run(play, f"{at}.0")
        except TaskRunError:
            return "failed"

    def oracle(self, model: Model, at: str) -> Steps:
        try:
            return (yield from self.part.oracle(model, f"{at}.0"))
        except FailedError as failure:
            if not failure.nodes:
                raise
            return "failed"


@dataclass(frozen=True)
class Stumble:
    """The program itself raises, in its first attempt."""

    async def run(self, play: Play, at: str) -> Any:
        await play.ctx.aio_now()
        if play.ctx.retry_count == 0:
            raise ValueError("a stumble")
        return "upright"

    def oracle(self, model: Model, at: str) -> Steps:
        yield model.ask("now", "now", due=lambda row: True)
        if model.attempt == 0:
            raise FailedError("a stumble")
        return "upright"
