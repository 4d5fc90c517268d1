"""What a replay would do again is pointed at by line when a task is defined, with the operation to use; never a refusal."""

from __future__ import annotations

import ast
import asyncio
import linecache
import random
import textwrap
from types import FunctionType
from typing import Any

import pytest

from durable_nb.definitions import Definition, capture
from durable_nb.definitions.lint import lint

CELLS = iter(range(10_000))


def finds(source: str, *, is_durable: bool = True, task: str = "f", **names: Any) -> list[str]:
    """Run a cell, capture the task in it, lint it."""
    text = textwrap.dedent(source).strip("\n")
    filename = f"<lint cell {next(CELLS)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(text, filename, "exec"), namespace)
    function = namespace[task]
    assert isinstance(function, FunctionType)
    references = {id(value): name for name, value in names.items() if name in ("app", "child")}
    definition = capture(function, references={key: {"child": "task:child"}.get(name, name) for key, name in references.items()})
    return [str(find) for find in lint(definition, is_durable=is_durable)]


def body(*lines: str, head: str = "") -> str:
    return "\n".join([*head.splitlines(), "async def f(input, ctx):", *(f"    {line}" for line in lines)])


@pytest.mark.parametrize(
    ("head", "line", "sentence"),
    [
        ("import datetime", "datetime.datetime.now()", "clock, which a replay sees differently: use `await ctx.aio_now()`."),
        ("from datetime import datetime as dt", "dt.utcnow()", "dt.utcnow() reads the clock"),
        ("from datetime import date", "date.today().isoformat()", "date.today() reads the clock"),
        ("import time as t", "t.time()", "t.time() reads the clock"),
        ("from time import perf_counter as pc", "pc()", "pc() reads the clock"),
        ("import time", "time.localtime()", "time.localtime() reads the clock"),
        ("import random", "random.choice([1])", "another value in a replay: use `ctx.random()`, or `await ctx.aio_memo(…)`."),
        ("from random import random", "random()", "random() gives another value"),
        ("import random", "random.Random()", "random.Random() gives another value"),
        ("import secrets", "secrets.token_hex()", "secrets.token_hex() gives another value"),
        ("import os", "os.urandom(4)", "os.urandom() gives another value"),
        ("import uuid", "uuid.uuid4()", "uuid.uuid4() gives another value in a replay: use `ctx.uuid4()`."),
        ("import numpy as np", "np.random.normal()", "np.random.normal() gives another value"),
        ("from http import client", "client.HTTPSConnection('x.org')", "again at every replay: use `await ctx.aio_memo(…)`"),
        ("from urllib import request", "request.urlopen('x')", "request.urlopen() uses the network"),
        ("import socket", "socket.create_connection(('h', 1))", "socket.create_connection() uses the network"),
        ("", "open('x')", "open() reads or writes files again at every replay: use `await ctx.aio_memo(…)` or a child task."),
        ("from pathlib import Path", "(Path('a') / 'b').read_text()", "(Path('a') / 'b').read_text() reads or writes files"),
        ("from pathlib import Path", "Path.home().joinpath('x').exists()", "exists() reads or writes files"),
        ("from pathlib import Path\nBASE = Path('data')", "BASE.mkdir()", "BASE.mkdir() reads or writes files"),
        ("import shutil", "shutil.rmtree('x')", "shutil.rmtree() reads or writes files"),
        ("", "input.to_csv('x')", "input.to_csv() reads or writes files"),
        ("import subprocess", "subprocess.run(['ls'])", "subprocess.run() starts a process again at every replay"),
        ("import os", "os.environ.get('HOME')", "os.environ.get() depends on the process that replays it: pass it as input"),
        ("import time", "time.sleep(1)", "blocks the engine and every task in it: use `await ctx.aio_sleep_for(timedelta(…))`."),
        ("import asyncio", "await asyncio.sleep(1)", "begins anew at every replay: use `await ctx.aio_sleep_for(timedelta(…))`."),
        ("import asyncio", "await asyncio.to_thread(len, input)", "to_thread() is not recorded, so a replay does it again"),
        ("", "for x in {1, 2}: pass", "the order of a set is another one in every process, so a replay may ask otherwise: use"),
        ("", "[x for x in set(input)]", "the order of a set"),
        ("seen = []", "seen.append(1)", "`seen`, which starts anew after a restart while recorded work is not done again"),
        ("seen = {}", "seen['a'] = 1", "it changes the global `seen`"),
        ("count = 0", "global count; count += 1", "it changes the global `count`"),
    ],
)  # fmt: skip
def test_each_hazard_is_one_line_with_its_place_and_the_way_out(head: str, line: str, sentence: str) -> None:
    pytest.importorskip("numpy") if "numpy" in head else None
    source = body("ctx.log('begin')", line, head=head)
    [found] = finds(source)
    number = len(source.splitlines())
    assert found.startswith(f"`f`, line {number}: ")
    assert sentence in found


def test_pandas_reads_files() -> None:
    pandas = pytest.importorskip("vega_datasets") and pytest.importorskip("pandas")
    assert "pd.read_csv() reads or writes files" in finds(body("pd.read_csv('x')"), pd=pandas)[0]


@pytest.mark.parametrize(
    ("head", "lines"),
    [
        ("import time", ["await ctx.aio_memo(time.time, float)"]),
        ("import time", ["await ctx.aio_memo(lambda: time.time(), float)"]),
        ("import time", ["def now():", "    return time.time()", "await ctx.aio_memo(now, float)"]),
        ("import time", ["async def now():", "    return time.time()", "await ctx.aio_step(fn=now, retries=2)"]),
        ("import time, functools", ["def now(n): return time.time()", "await ctx.aio_memo(functools.partial(now, 1), float)"]),
        ("import time\ndef now(): return time.time()", ["await ctx.aio_memo(now, float)"]),
        ("import random", ["rng = random.Random(7)", "rng.random()"]),
        ("import asyncio", ["await asyncio.sleep(0)"]),
        ("import datetime", ["datetime.datetime.fromtimestamp(input)", "datetime.datetime.now  # not called"]),
        ("import time", ["time.gmtime(0)"]),
        ("", ["for x in sorted({1, 2}): pass"]),
        ("", ["seen = []", "seen.append(1)", "seen[0] = 2"]),
        ("", ["random = input", "random.random()"]),
        ("", ["import json", "json.dumps(input)", "'a'.replace('a', 'b')"]),
        ("import asyncio", ["task = asyncio.create_task(ctx.aio_now())", "await task", "task.result()"]),
    ],
)  # fmt: skip
def test_what_is_right_is_not_pointed_at(head: str, lines: list[str]) -> None:
    assert finds(body(*lines, head=head)) == []


@pytest.mark.parametrize("comment", ["# durable: ok", "#durable:ok", "# Durable: OK, read once by design"])
def test_a_comment_on_the_line_keeps_it_quiet(comment: str) -> None:
    assert finds(body(f"time.time()  {comment}", head="import time")) == []
    assert len(finds(body(f"time.time()  {comment}", "time.time()", head="import time"))) == 1


def test_a_comment_on_the_def_keeps_the_whole_function_quiet() -> None:
    assert finds("import time\nasync def f(input, ctx):  # durable: ok\n    time.time()\n    time.sleep(1)\n") == []


def test_a_text_that_says_so_is_no_comment() -> None:
    assert len(finds(body("print('# durable: ok', time.time())", head="import time"))) == 1


def test_the_lines_of_a_call_over_several_lines_are_all_its_own() -> None:
    assert finds("import time\nasync def f(input, ctx):\n    print(\n        time.time(\n        ))  # durable: ok\n") == []


def test_a_helper_that_is_called_is_followed_and_named_and_another_is_not() -> None:
    source = """
        import time
        def stamp():
            return time.time()
        def unused():
            return time.time()
        def outer():
            return stamp()
        async def f(input, ctx):
            return outer(), unused
    """
    assert finds(source) == [
        "`stamp`, line 3: time.time() reads the clock, which a replay sees differently: use `await ctx.aio_now()`."
    ]


def test_a_nested_function_that_is_called_too_is_looked_at_though_a_memo_has_it() -> None:
    lines = ["def now():", "    return time.time()", "await ctx.aio_memo(now, float)", "now()"]
    assert len(finds(body(*lines, head="import time"))) == 1


def test_the_arguments_of_a_memo_are_made_in_the_body() -> None:
    assert "line 3: time.time()" in finds(body("await ctx.aio_memo(str, str, time.time())", head="import time"))[0]


def test_the_context_is_called_as_the_task_calls_it() -> None:
    assert "use `await context.aio_now()`" in finds("import time\nasync def f(order, context):\n    time.time()\n")[0]


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("child.run(1)", "child.run() is synchronous and would wait for the engine that runs it: use `await child.aio_run(…)`."),
        ("child.run_many([])", "use `await child.aio_run_many(…)`"),
        ("f.run(1)", "use `await f.aio_run(…)`"),
        ("app.event.push('k')", "use `await app.event.aio_push(…)`"),
        ("app.runs.get('x')", "use `await app.runs.aio_get(…)`"),
        ("ref = await child.aio_run(1, wait_for_result=False); ref.result()", "use `await ref.aio_result(…)`"),
        ("later.run(1)", "use `await later.aio_run(…)`"),
    ],
)
def test_synchronous_forms_are_named_with_their_async_ones(line: str, form: str) -> None:
    [found] = finds(body(line), child=object(), app=object())
    assert form in found


def test_the_async_forms_are_right() -> None:
    lines = ["await child.aio_run(1)", "await app.event.aio_push('k')", "ref = await child.aio_run(1, wait_for_result=False)"]
    assert finds(body(*lines, "await ref.aio_result()", "asyncio.run"), child=object(), app=object(), asyncio=asyncio) == []


def test_of_an_async_regular_task_only_what_blocks_the_engine_is_said() -> None:
    source = body("time.time()", "random.random()", "time.sleep(1)", head="import time")
    assert [found.partition(":")[0] for found in finds(source, is_durable=False, random=random)] == ["`f`, line 5"]
    assert finds("import time\ndef f(input, ctx):\n    time.sleep(1)\n", is_durable=False) == []


def test_nothing_of_the_code_is_executed() -> None:
    assert finds(body("raise SystemExit", "time.time()", head="import time"))


def test_code_that_is_nested_too_deeply_is_not_refused() -> None:
    deep = f"async def f(input, ctx):\n    x = {'+'.join(['1'] * 900)}"
    assert lint(Definition(name="f", source=deep, first_line=1, bindings=(), lost=(), version="0" * 16)) == []
    deep = "(" * 80 + "time.time()" + ")" * 80
    assert len(finds(body(f"x = {deep}", head="import time"))) == 1


def test_every_example_of_the_syntax_can_be_looked_through() -> None:
    source = """
        async def f(input, ctx, *, a=[x async for x in y] if 0 else None):
            match input:
                case {"a": [1, *rest], **kw} if (n := len(rest)):
                    async with ctx as (p, q): del p
                case _:
                    try:
                        yield_ = [lambda z=1: z for _ in ()]
                    except* ValueError as error:
                        raise error from None
            return f"{input!r:>{10}}"
    """
    tree = ast.parse(textwrap.dedent(source).replace("[x async for x in y] if 0 else None", "None"))
    assert finds(ast.unparse(tree)) == []
