"""Programs written for Hatchet run here when their import line and the app object's name are changed, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from durable_nb import Durable
from durable_nb.testing import Harness, harness

IMPORTS = """\
import time
from datetime import timedelta
from uuid import uuid4

from pydantic import BaseModel

from durable_nb import Context, DurableContext, EmptyModel, SleepCondition, UserEventCondition, or_
from the_app import durable
"""

WORKFLOW = """
durable_workflow = durable.workflow(name="DurableWorkflow")
"""

SLEEP_AND_EVENT = """
EVENT_KEY = "durable-example:event"
SLEEP_TIME = 5
REPLAY_RESET_SLEEP_TIME = 3


@durable_workflow.task()
async def ephemeral_task(input: EmptyModel, ctx: Context) -> None:
    print("Running non-durable task")


class AwaitedEvent(BaseModel):
    id: str


@durable_workflow.durable_task()
async def durable_task(input: EmptyModel, ctx: DurableContext) -> dict[str, str | int]:
    print("Waiting for sleep")
    sleep = await ctx.aio_sleep_for(duration=timedelta(seconds=SLEEP_TIME))
    print("Sleep finished")

    print("Waiting for event")
    event = await ctx.aio_wait_for_event(
        EVENT_KEY, "true", payload_validator=AwaitedEvent
    )
    print("Event received")

    return {
        "status": "success",
        "event_id": event.id,
        "sleep_duration_seconds": sleep.duration.seconds,
    }
"""

OR_GROUP = """
@durable_workflow.durable_task()
async def wait_for_or_group_1(
    _i: EmptyModel, ctx: DurableContext
) -> dict[str, str | int | float]:
    start = time.time()
    wait_result = await ctx.aio_wait_for(
        uuid4().hex,
        or_(
            SleepCondition(timedelta(seconds=SLEEP_TIME)),
            UserEventCondition(event_key=EVENT_KEY),
        ),
    )

    key = list(wait_result.keys())[0]
    event_id = list(wait_result[key].keys())[0]

    return {
        "runtime": time.time() - start,
        "key": key,
        "event_id": event_id,
    }
"""


@pytest.fixture(params=[False, True], ids=["live", "always_replay"])
def h(request: pytest.FixtureRequest) -> Iterator[Harness]:
    with harness(always_replay=request.param) as h:
        yield h


def load(durable: Durable, folder: Path, monkeypatch: pytest.MonkeyPatch, *texts: str) -> Any:
    """Import an example as a module; give its workflow."""
    app = ModuleType("the_app")
    app.__dict__["durable"] = durable
    monkeypatch.setitem(sys.modules, "the_app", app)
    path = folder / "example.py"
    path.write_text("\n".join([IMPORTS, *texts]))
    spec = importlib.util.spec_from_file_location("example", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "example", module)
    spec.loader.exec_module(module)
    return module.durable_workflow


def test_a_workflow_of_a_regular_and_a_durable_task(h: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = load(h.durable, tmp_path, monkeypatch, WORKFLOW, SLEEP_AND_EVENT)
    ref = h.start(workflow)
    h.push("durable-example:event", {"id": "too early: nobody waits yet"})
    h.advance(seconds=5)
    h.push("durable-example:event", {"no id": "not what is awaited"})
    assert h.status(ref) == "RUNNING"
    h.push("durable-example:event", {"id": "7"})
    assert h.result(ref)["durable_task"] == {"status": "success", "event_id": "7", "sleep_duration_seconds": 5}


@pytest.mark.parametrize("is_pushed", [True, False])
def test_an_or_group_of_a_sleep_and_an_event(
    h: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_pushed: bool
) -> None:
    workflow = load(h.durable, tmp_path, monkeypatch, WORKFLOW, SLEEP_AND_EVENT, OR_GROUP)
    ref = h.start(workflow)
    if is_pushed:
        h.push("durable-example:event", {"id": "1"})
    h.advance(seconds=5)
    h.push("durable-example:event", {"id": "2"})
    result = h.result(ref)
    assert result["wait_for_or_group_1"]["key"] == "CREATE"
    assert ("durable-example:event" in result["wait_for_or_group_1"]["event_id"]) is is_pushed
    assert result["durable_task"]["event_id"] == "2"


def test_the_same_after_a_crash_in_the_middle(h: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = load(h.durable, tmp_path, monkeypatch, WORKFLOW, SLEEP_AND_EVENT, OR_GROUP)
    ref = h.start(workflow)
    h.advance(seconds=4)
    h.crash()
    h.advance(seconds=1)
    h.crash()
    h.push("durable-example:event", {"id": "7"})
    assert h.result(ref)["durable_task"]["event_id"] == "7"
    assert h.result(ref)["wait_for_or_group_1"]["event_id"].startswith("sleep")
