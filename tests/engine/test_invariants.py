"""Invariants over the corpus of task shapes, checked after every step: what the log says is never unsaid."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, EvictionPolicy
from durable_nb.errors import NonRetryableException
from durable_nb.testing import Harness, harness
from tests.engine import operation_shapes  # noqa: F401  it adds to the corpus
from tests.engine.shapes import SHAPES, Kin, Shape, act

KINDS = {"sleep", "event", "wait", "child", "memo", "now", "step", "take", "ask", "select", "map"}
Rows = dict[tuple[int, int, int], tuple[Any, ...]]
SQL = """SELECT run, branch, node, kind, ask, fingerprint, child, asked_at, conditions, seq, recorded_at, outcome, error
         FROM checkpoint ORDER BY run, branch, node"""


def checkpoints(h: Harness) -> Rows:
    """Give every checkpoint of the log, by its place; the last four columns are its outcome."""
    with closing(sqlite3.connect(h.path)) as connection:
        return {row[:3]: row[3:] for row in connection.execute(SQL)}


def serve(app: Durable, shape: Shape) -> None:
    policy = EvictionPolicy(ttl=None)

    @app.durable_task(eviction_policy=policy)
    async def gate(input: str, ctx: DurableContext) -> str:
        await ctx.aio_wait_for_event(input)
        return input

    @app.durable_task(eviction_policy=policy)
    async def fails(input: str, ctx: DurableContext) -> str:
        await ctx.aio_wait_for_event(input)
        raise NonRetryableException(f"{input} failed")

    @app.task()
    async def quick(input: str, ctx: Context) -> str:
        return input

    @app.durable_task(eviction_policy=policy)
    async def main(input: Any, ctx: DurableContext) -> Any:
        result = await shape.body(ctx, Kin(gate, fails, quick))
        await ctx.aio_wait_for_event("end")
        return result


def check_extends(before: Rows, after: Rows) -> None:
    """Nothing that was asked is gone or another thing now; what was satisfied has the outcome that it had."""
    assert list(before) == [place for place in after if place in before]
    for place, row in before.items():
        assert after[place][:6] == row[:6]
        if row[6] is not None:
            assert after[place] == row


def evict(h: Harness) -> None:
    h.evict()
    app = h.durable  # what was evicted is entered again only by something new: let it replay as it is
    app.close()
    app.open()


def crash(h: Harness) -> None:
    h.crash()


def close(h: Harness) -> None:
    h.durable.close()
    h.durable.open()


@pytest.mark.parametrize("replay", [evict, crash, close])
@pytest.mark.parametrize("name", SHAPES)
def test_replay_is_a_fixed_point_and_more_outcomes_only_extend(name: str, replay: Callable[[Harness], None]) -> None:
    shape = SHAPES[name]
    with harness() as h:
        serve(h.durable, shape)
        ref = h.start(h.durable.tasks["main"])
        seen = checkpoints(h)
        for action in [action for action, _ in shape.script if action] + ["go end"]:
            replay(h)
            h.settle()
            assert checkpoints(h) == seen, "a replay of an unchanged log changes nothing"
            act(h.durable, action, advance=h.advance)
            h.settle()
            now = checkpoints(h)
            check_extends(seen, now)
            assert {row[0] for row in now.values()} <= KINDS
            seen = now
        assert h.result(ref) == shape.result
        assert h.view(ref).invocation_count > 1
