"""What the command line's tests share: commands in this process, commands in real ones, and a script to work with."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from typer.testing import CliRunner, Result

from durable_nb.cli.command import durable_nb
from durable_nb.views import words

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
COMMAND = (sys.executable, "-m", "durable_nb")

SCRIPT = '''"""Tasks to try the command line with."""

import time
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from durable_nb import Context, Durable, DurableContext
from durable_nb.cli import main

durable = Durable(Path(__file__).with_suffix(".durable.db"))
COUNTS = Path(__file__).with_name("counts.txt")


def count(what: str) -> str:
    with COUNTS.open("a") as file:
        file.write(what + "\\n")
    print("said", what)
    return what


class Verdict(BaseModel):
    ok: bool
    why: str = ""


@durable.task()
def slow(input: float, ctx: Context) -> float:
    count("slow begins")
    deadline = time.monotonic() + input
    while time.monotonic() < deadline:
        time.sleep(0.02)
    count("slow ends")
    return input


@durable.task()
def fail(input: None, ctx: Context) -> None:
    raise ValueError("no \\x1b[31mluck\\u202e")


@durable.durable_task()
async def story(input: float, ctx: DurableContext) -> list[str]:
    first = await ctx.aio_memo(count, str, "memo")
    await ctx.aio_sleep_for(timedelta(seconds=input))
    return [first, await ctx.aio_memo(count, str, "last")]


@durable.durable_task()
async def question(input: None, ctx: DurableContext) -> str:
    verdict = await ctx.aio_ask("Publish?", Verdict, assignees=["ada"])
    return verdict.why


@durable.durable_task()
async def order(input: None, ctx: DurableContext) -> dict[str, int]:
    return await ctx.aio_wait_for_event("paid", "input.sum > 3")


@durable.durable_task()
async def family(input: int, ctx: DurableContext) -> list[float]:
    return [await slow.aio_run(0.0) for _ in range(input)]


@durable.task(on_events=["greeted"])
def listener(input: dict[str, str], ctx: Context) -> str:
    return "heard"


if __name__ == "__main__":
    main(durable)
'''


def make_script(folder: Path, name: str = "flow.py") -> Path:
    """Write the script into a folder."""
    path = folder / name
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def command(*words_given: str, code: int = 0, input: str | None = None) -> Result:
    """Run `durable-nb` in this process; see that it ends with this exit code."""
    told = words.COMMAND
    try:
        done = CliRunner().invoke(durable_nb(), list(words_given), input=input)
    finally:
        words.COMMAND = told
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return done


def lines_of(done: Result) -> list[Any]:
    """Give the JSON values of a command's output."""
    return [json.loads(line) for line in done.stdout.splitlines()]


class Process:
    """A command in a process of its own."""

    def __init__(self, *arguments: str, folder: Path, command: Sequence[str] = COMMAND, **environment: str) -> None:
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
        self.said = folder / f"said-{time.monotonic_ns()}.txt"
        with self.said.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    @property
    def errors(self) -> str:
        """What it has said on standard error."""
        return self.said.read_text(encoding="utf-8")

    def until(self, text: str) -> None:
        """Wait until it has said something on standard error."""
        wait_until(lambda: text in self.errors or self.process.poll() is not None, what=f"{text!r} in {self.errors!r}")
        assert text in self.errors, self.errors

    def end(self, code: int = 0) -> str:
        """Wait for its end with this exit code; give its output."""
        output, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == code, (self.process.returncode, output, self.errors)
        return output

    def tell(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


@contextmanager
def process(*arguments: str, folder: Path, command: Sequence[str] = COMMAND, **environment: str) -> Iterator[Process]:
    """A process that is killed at the end, if it still lives."""
    made = Process(*arguments, folder=folder, command=command, **environment)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate()


def wait_until(condition: Callable[[], T], *, what: str, timeout: float = PATIENCE) -> T:
    """Give the condition's first true value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        time.sleep(0.01)
    return value


def query(log: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Read a log as a person would; nothing of one that is not there yet."""
    if not log.exists():
        return []
    with closing(sqlite3.connect(log)) as connection:
        try:
            return connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
