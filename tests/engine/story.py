"""A story: one run of one body, told on engines that come and go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from durable_nb import Durable, DurableContext, RunRef
from durable_nb.log.records import RunView
from tests.engine.helpers import Bench, reach, settle, view, wait_until

Body = Callable[[Any, DurableContext], Awaitable[Any]]
LEAVINGS = ["evict", "close", "crash"]


class Story:
    """A run of `body`, begun at once. `declare` makes further tasks on each engine: they are in `ctx._engine.registry`."""

    def __init__(
        self,
        bench: Bench,
        body: Body,
        input: Any = None,
        *,
        declare: Callable[[Durable], object] = lambda durable: None,
        **options: Any,
    ) -> None:
        self.bench = bench
        self._body = body
        self._declare = declare
        self._options = options
        self.durable = self._engine()
        self.ref: RunRef[Any] = self.durable.tasks["story"].run(input, wait_for_result=False)

    def _engine(self) -> Durable:
        durable = self.bench.durable()
        self._declare(durable)

        @durable.durable_task(**self._options)
        async def story(input: Any, ctx: DurableContext) -> Any:
            return await self._body(input, ctx)

        return durable

    @property
    def id(self) -> str:
        return self.ref.workflow_run_id

    @property
    def view(self) -> RunView:
        return view(self.durable, self.ref)

    def asked(self, number: int) -> Story:
        """Wait until so many checkpoints are in the log, and everything that is due has been done."""
        self.bench.asked(self.ref, number)
        settle(self.durable)
        return self

    def leave(self, how: str) -> None:
        """Evict the run, or go on with another engine: after closing this one, or on what it had written at this instant."""
        if how == "evict":
            wait_until(self.evict, what="the eviction")
            return
        if how == "close":
            self.durable.close()
        elif how == "crash":
            self.bench.crash()
        self.durable = self._engine()
        self.durable.open()

    def evict(self) -> bool:
        """Evict the run, if it waits; give whether it is evicted."""
        engine = self.durable.engine
        execution = engine.executions.get(self.ref.number)
        return execution is None or self.durable.call(lambda: engine.dispatcher.evict(execution), aio="")

    def push(self, key: str, payload: object = None, **options: Any) -> Any:
        return self.durable.event.push(key, payload, **options)

    def result(self) -> Any:
        reach(self.durable, self.ref, lambda run: run.is_ended or run.blocked_reason, "the end of the run")
        assert self.view.blocked_reason is None, self.view.blocked_reason
        return self.durable.runs.get_run_ref(self.id).result()

    def lines(self) -> list[str]:
        """Give what the run said in its log."""
        rows = self.bench.rows(
            "SELECT text FROM line JOIN run ON run.number = line.run WHERE run.id = ? ORDER BY line.seq", self.id
        )
        return [text for (text,) in rows]
