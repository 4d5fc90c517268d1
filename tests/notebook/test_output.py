"""What a task says goes to its run's log with time and source line, and into no cell; a replay says nothing twice."""

from __future__ import annotations

import builtins
import io
import logging
import time
import warnings
from pathlib import Path

import pytest
from ipykernel.iostream import OutStream

from tests.notebook.helpers import Kernel, Shell, wait_until

SPEAKER = """%%durable_task
import logging, sys, warnings
from datetime import timedelta

def helper():
    print("from a helper")

async def speaker(input, ctx):
    print("one", 2, sep="-")
    helper()
    logging.getLogger("mine").warning("careful: %s", input)
    warnings.warn("old habit")
    sys.stderr.write("to stderr\\n")
    print("half a ", end="")
    print("line")
    await ctx.aio_sleep_for(timedelta(milliseconds=1))
    print("never finished", end="")
"""
SAID = [
    (9, "INFO", "one-2"),
    (10, "INFO", "from a helper"),
    (11, "WARNING", "careful: 7"),
    (12, "WARNING", "UserWarning: old habit"),
    (13, "INFO", "to stderr"),
    (14, "INFO", "half a line"),
    (17, "INFO", "never finished"),
]

FORMS = {
    "an async task": "%%task\nasync def f(input, ctx):\n    print('hello')\n    return 1\n",
    "a task in a thread": "%%task\ndef f(input, ctx):\n    print('hello')\n    return 1\n",
    "a memo in a thread": "%%durable_task\nasync def f(input, ctx):\n    await ctx.aio_memo(lambda: print('hello'))\n",
    "a decorated task": "@durable.task()\ndef f(input, ctx):\n    print('hello')\n    return 1\n",
}

LINES = "[(line.line, line.level, line.text) for line in durable.runs.logs({run!r})]"


def said(shell: Shell, run: str = "#1") -> list[tuple[int | None, str, str]]:
    found: list[tuple[int | None, str, str]] = shell.cell(LINES.format(run=run)).result
    return found


@pytest.mark.slow
def test_prints_logs_and_warnings_stand_in_the_log_with_their_lines_and_in_no_cell(kernel: Kernel) -> None:
    kernel.cell("import logging; logging.basicConfig()  # a handler made before the extension is loaded")
    kernel.cell("%load_ext durable_nb")
    kernel.cell(SPEAKER)
    reply = kernel.cell("%durable run speaker 7 --wait\nimport time; time.sleep(0.5)")
    assert reply.text.startswith("What tasks print goes to the logs of their runs: `%durable log ")
    assert len(reply.text.splitlines()) == 1
    assert kernel.cell("print('a cell', end='')").text == "a cell", "a cell's own output is its own"
    assert wait_until(lambda: eval(kernel.cell(f"print({LINES.format(run='#1')})").text), what="the lines") == SAID
    shown = kernel.cell("%durable log #1").results[0]["text/plain"]
    assert "warning: careful: 7" in shown
    assert "said 7 lines" in kernel.cell("%durable show #1").results[0]["text/plain"]
    assert kernel.cell("%durable run speaker 8 --wait").text == "", "it is said once where lines go"


@pytest.mark.slow
def test_a_record_whose_arguments_do_not_fit_is_taken_down_as_it_stands(kernel: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell("%%task\nimport logging\ndef f(input, ctx):\n    logging.error('%d', 'no number')\n")
    assert kernel.cell("f.run()").text == ""
    assert eval(kernel.cell(f"print({LINES.format(run='#1')})").text) == [(4, "ERROR", "%d ('no number',)")]


@pytest.mark.slow
def test_a_task_that_speaks_while_another_cell_captures_is_not_in_it(kernel: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell("%%task\ndef f(input, ctx):\n    import time\n    for n in range(5):\n        print(n); time.sleep(0.05)\n")
    reply = kernel.cell("%%capture taken\nhandle = f.run(wait_for_result=False)\nprint('mine')\nhandle.result()")
    assert reply.text == ""
    assert kernel.cell("print(repr(taken.stdout + taken.stderr))").text == "'mine\\n'\n"
    assert eval(kernel.cell(f"print({LINES.format(run='#1')})").text) == [(5, "INFO", str(n)) for n in range(5)]


@pytest.mark.parametrize("cell", FORMS.values(), ids=list(FORMS))
def test_every_kind_of_task_speaks_to_its_run(shell: Shell, cell: str) -> None:
    shell.cell(cell)
    assert "hello" not in shell.cell("durable.tasks['f'].run()").text
    assert said(shell) == [(3, "INFO", "hello")]


def test_children_speak_to_their_own_runs(shell: Shell) -> None:
    shell.cell("%%task\ndef child(input: int, ctx) -> None:\n    print(f'child {input}')\n")
    shell.cell(
        "%%durable_task\nasync def parent(input, ctx):\n    print('parent')\n"
        "    await child.aio_run_many([child.create_bulk_run_item(n) for n in range(2)])\n    print('end')\n"
    )
    shell.cell("%durable run parent --wait")
    assert [text for _, _, text in said(shell)] == ["parent", "end"]
    assert [[text for _, _, text in said(shell, f"#{number}")] for number in (2, 3)] == [["child 0"], ["child 1"]]


def test_a_replay_says_nothing_twice(bare_shell: Shell) -> None:
    bare_shell.load()
    bare_shell.cell(
        "%%durable_task\nimport logging\nasync def f(input, ctx):\n    print('before')\n    logging.warning('before too')\n"
        "    await ctx.aio_wait_for_event('go')\n    print('after')\n"
    )
    bare_shell.cell("%durable run f")
    wait_until(lambda: "◌ waits" in bare_shell.cell("%durable show #1").text, what="the wait")
    bare_shell.cell("%durable close")
    bare_shell.cell("%emit go")
    bare_shell.cell("durable.runs.get_run_ref('#1').result()")
    assert [text for _, _, text in said(bare_shell)] == ["before", "before too", "after"]


def test_handlers_that_write_elsewhere_get_a_tasks_records(shell: Shell) -> None:
    kept = io.StringIO()
    handler = logging.StreamHandler(kept)
    logging.getLogger("mine").addHandler(handler)
    try:
        shell.cell("%%task\nimport logging\ndef f(input, ctx):\n    logging.getLogger('mine').warning('careful: 7')\n")
        shell.cell("f.run()")
    finally:
        logging.getLogger("mine").removeHandler(handler)
    assert kept.getvalue() == "careful: 7\n"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("print()", ""),
        ("print(1, 2, sep=None, end=None)", "1 2"),
        ("print('a\\rb\\rc')", "c"),
        ("print('\\udc80')", "\\udc80"),
        ("print('x' * 20_000)", "x" * 9_999 + "…"),
    ],
)
def test_odd_lines_are_taken_down(shell: Shell, call: str, text: str) -> None:
    shell.cell(f"%%task\ndef f(input, ctx):\n    {call}\n")
    shell.cell("f.run()")
    assert [line for _, _, line in said(shell)] == [text]


def test_an_error_that_is_logged_brings_its_trace(shell: Shell) -> None:
    shell.cell(
        "%%task\nimport logging\ndef f(input, ctx):\n    try:\n        1 / 0\n    except ZeroDivisionError:\n"
        "        logging.exception('it failed')\n"
    )
    shell.cell("f.run()")
    first, *_, last = said(shell)
    assert first == (7, "ERROR", "it failed")
    assert last[1:] == ("ERROR", "ZeroDivisionError: division by zero")


def test_a_print_into_a_file_stays_there(shell: Shell, folder: Path) -> None:
    shell.cell("%%task\ndef f(input, ctx):\n    with open('out.txt', 'w') as file:\n        print('text', file=file)\n")
    shell.cell("f.run()")
    assert (folder / "out.txt").read_text() == "text\n"
    assert said(shell) == []


def test_a_flood_is_kept_in_order(shell: Shell) -> None:
    shell.cell("%%task\ndef f(input, ctx):\n    for n in range(3000):\n        print(n)\n")
    shell.cell("f.run()")
    shell.cell("%durable log #1 --limit 5")
    found = shell.cell("[line.text for line in durable.runs.logs('#1', limit=5000)]").result
    assert found == [str(n) for n in range(3000)]


def test_a_run_that_says_nothing_says_so_and_a_bad_limit_is_a_sentence(shell: Shell) -> None:
    shell.cell("%%task\ndef f(input, ctx):\n    pass\n")
    shell.cell("f.run()")
    assert "of f has said nothing." in shell.cell("%durable log #1").text
    assert "--limit must be 1 or more" in shell.usage_error("%durable log #1 --limit 0")
    assert "No run 'nope'" in shell.usage_error("%durable log nope")


def test_a_hostile_line_is_shown_as_text(shell: Shell) -> None:
    shell.cell("%%task\ndef f(input, ctx):\n    print('\\x1b[31m<img src=x>[bold]\\u202e')\n")
    shell.cell("f.run()")
    for verb in ("log", "show"):
        text = shell.cell(f"%durable {verb} #1").text
        assert r"\x1b[31m<img src=x>[bold]\u202e" in text


def test_unloading_gives_everything_back(bare_shell: Shell) -> None:
    def patched() -> list[object]:
        return [builtins.print, logging.Logger.callHandlers, logging.StreamHandler.emit, warnings.showwarning, OutStream.write]

    before = patched()
    bare_shell.load()
    assert not set(map(id, before)) & set(map(id, patched()))
    bare_shell.cell("%unload_ext durable_nb")
    assert patched() == before


def test_a_line_without_an_end_is_taken_down_when_nothing_follows(shell: Shell) -> None:
    shell.cell(
        "%%task\nimport time\ndef f(input, ctx):\n    for n in range(3):\n        print(n, end=' ')\n        time.sleep(0.1)\n"
    )
    began = time.monotonic()
    shell.cell("f.run()")
    found = wait_until(lambda: said(shell), what="the line")
    assert time.monotonic() - began < 3
    assert found == [(5, "INFO", "0 1 2 ")]
