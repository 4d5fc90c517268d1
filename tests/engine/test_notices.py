"""Somebody is told of each new question once, and the engine never waits for that."""

from __future__ import annotations

import json
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Durable, DurableContext
from durable_nb.errors import ArgumentError
from tests.engine.helpers import Bench, wait_until

ECHO = """
import json, os, sys
item = json.load(sys.stdin)
names = ("QUESTION", "QUESTION_ID", "TASK", "RUN", "ASSIGNEES")
with open(sys.argv[1], "a") as out:
    print(json.dumps([item["question"], item["schema"], [os.environ["DURABLE_NB_" + name] for name in names]]), file=out)
"""


def asker(durable: Durable) -> Any:
    @durable.durable_task()
    async def ask(question: str, ctx: DurableContext) -> bool:
        return bool(await ctx.aio_ask(question, bool, assignees=["ada", "bob"]))

    return ask


def test_each_new_question_is_told_once_and_a_failing_hook_is_warned_of(
    bench: Bench, durable: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    ask = asker(durable)
    ask.run("before", wait_for_result=False)
    wait_until(durable.inbox.list)
    told: list[str] = []

    def hook(item: Any) -> None:
        told.append(item.question)
        if item.question == "bad":
            raise OSError("no bell")

    with caplog.at_level(logging.WARNING, "durable_nb"):
        notifier = durable.inbox.notify(hook)
        ask.run("bad", wait_for_result=False)
        wait_until(lambda: told == ["bad"])
        other = bench.durable()
        asker(other).run("from elsewhere", wait_for_result=False)
        wait_until(lambda: told == ["bad", "from elsewhere"])
    assert "the notify hook failed: OSError: no bell" in caplog.text
    notifier.stop()
    assert repr(notifier) == "<Notifier stopped: .stop() ends it>"


def test_a_slow_hook_holds_up_no_answer(durable: Durable) -> None:
    ask, gate, told = asker(durable), threading.Event(), threading.Event()

    def hook(item: Any) -> None:
        told.set()
        gate.wait(10)

    notifier = durable.inbox.notify(hook)
    ref = ask.run("Go?", wait_for_result=False)
    assert told.wait(10)
    durable.inbox.answer(durable.inbox.list()[0].id, True)
    assert ref.result() is True
    notifier.stop()
    gate.set()


@pytest.mark.slow
def test_a_command_is_given_the_question_and_no_shell_sees_it(durable: Durable, tmp_path: Path) -> None:
    said = tmp_path / "said"
    notifier = durable.inbox.notify([sys.executable, "-c", ECHO, str(said)])
    question = "$(touch hacked); `id`\0 ü\n\"'" + "x" * 5000
    ref = asker(durable).run(question, wait_for_result=False)
    wait_until(lambda: said.exists() and said.read_text().endswith("\n"), timeout=30)
    [whole, schema, [cut, id_, task, run, assignees]] = json.loads(said.read_text())
    assert (whole, schema) == (question, {"type": "boolean"})
    assert (cut, task, assignees) == (question.replace("\0", "\ufffd")[:2000], "ask", "ada, bob")
    assert (id_, run) == (f"{ref.workflow_run_id}/1/1", ref.workflow_run_id)
    notifier.stop()


def test_a_command_that_fails_or_is_not_there_is_warned_of(durable: Durable, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "durable_nb"):
        hooks = [
            durable.inbox.notify(["no-such-command-is-there"]),
            durable.inbox.notify([sys.executable, "-c", "raise SystemExit('broken bell')"]),
        ]
        asker(durable).run("Go?", wait_for_result=False)
        wait_until(lambda: "FileNotFoundError" in caplog.text and "ended with 1: broken bell" in caplog.text, timeout=30)
    for hook in hooks:
        hook.stop()


@pytest.mark.parametrize("hook", ["say hello", [], ["say", 3], None])
def test_what_cannot_be_told_is_refused(durable: Durable, hook: Any) -> None:
    with pytest.raises(ArgumentError, match="give a function of one argument, or a command as a list"):
        durable.inbox.notify(hook)
