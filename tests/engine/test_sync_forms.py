"""Sync forms: all of them refuse to stop the engine that they wait for, each with the name of its aio form, and write nothing."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from durable_nb import Context, Durable
from durable_nb.client.forms import Group
from durable_nb.errors import SyncCallError
from durable_nb.tasks.refs import RunRef
from tests.engine.helpers import Bench

AT = datetime(2030, 1, 1, tzinfo=UTC)
# What a form is called with, by the names of its parameters that have no default; the aio form need not accept it.
GIVEN: dict[str, Any] = {
    "run": "#1", "left": "#1", "right": "#1", "key": "key", "payload": {}, "events": [], "question": "q", "value": 1,
    "node_id": 1, "node": 1, "path": "never.db", "limit": 1, "cron_id": "c", "scheduled_id": "s", "trigger_at": AT, "name": "n",
    "task": "child", "cron_name": "n", "expression": "* * * * *", "run_at": AT, "items": [],
}  # fmt: skip


def groups(durable: Durable) -> dict[str, Group]:
    return {name: group for name, group in vars(durable).items() if isinstance(group, Group)}


def pairs(owner: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Give every sync form that stands beside an aio form."""
    for name, _ in inspect.getmembers(type(owner), inspect.isfunction):
        sync = name.removeprefix("aio_")
        if sync != name and hasattr(owner, sync) and sync not in ("call", "debug"):  # the way itself; and no work of the engine's
            yield name, getattr(owner, sync)


def called(form: Callable[..., Any]) -> Any:
    """Call a form with a value for each parameter that needs one."""
    signature = inspect.signature(form)
    needed = [
        p for p in signature.parameters.values() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    positional = [GIVEN.get(p.name, "#1") for p in needed if p.kind is not p.KEYWORD_ONLY]
    return form(*positional, **{p.name: GIVEN.get(p.name, "#1") for p in needed if p.kind is p.KEYWORD_ONLY})


def forms(durable: Durable) -> dict[str, tuple[Callable[[], Any], str]]:
    """Give every sync form that there is, by name, with the aio form that its refusal has to name."""
    child, wf = durable.tasks["child"], durable.tasks["wf"]
    ref: RunRef[Any] = RunRef(durable, "01NEVER", 1, "child")
    owners: dict[str, object] = {**groups(durable), "app": durable, "task": child, "workflow": wf, "ref": ref}
    found: dict[str, tuple[Callable[[], Any], str]] = {}
    for name, owner in owners.items():
        found |= {f"{name}.{aio}": (functools.partial(called, form), aio) for aio, form in pairs(owner)}
    found["ref.stream"] = (lambda: list(ref.stream()), "async for")
    found["runs.subscribe_to_stream"] = (lambda: list(durable.runs.subscribe_to_stream("01NEVER")), "async for")
    found["close"] = (durable.close, "close it where it was opened")
    found["without wait"] = (lambda: child.run(1, wait_for_result=False), "aio_run")
    return found


def declare(durable: Durable) -> None:
    @durable.task()
    async def child(input: int, ctx: Context) -> int:
        return input

    durable.workflow(name="wf").task(name="only")(lambda input, ctx: input)


@pytest.mark.parametrize("kind", ["task", "durable_task", "memo"])
def test_every_sync_form_is_refused_on_the_engines_thread_and_names_its_aio_form(
    bench: Bench, durable: Durable, kind: str
) -> None:
    declare(durable)
    wrong: dict[str, str] = {}

    def try_all() -> int:
        every = forms(durable)
        for name, (form, aio) in every.items():
            try:
                wrong[name] = f"went through: {form()!r}"
            except SyncCallError as error:
                if aio not in str(error):
                    wrong[name] = f"names another form: {error}"
            except Exception as error:
                wrong[name] = f"{type(error).__name__}: {error}"
        return len(every)

    @getattr(durable, "durable_task" if kind == "memo" else kind)(name="caller")  # type: ignore[untyped-decorator]
    async def caller(input: Any, ctx: Any) -> int:
        async def inner() -> int:
            await asyncio.sleep(0)
            return try_all()

        return int(await ctx.aio_memo(inner, int)) if kind == "memo" else await inner()

    assert durable.tasks["caller"].run() > 50
    assert wrong == {}
    assert [bench.count(table) for table in ("run", "event", "schedule", "pause")] == [1, 0, 0, 0]
