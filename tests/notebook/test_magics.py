"""The magics in a shell of this process: what they do, what they say, and that bad input leaves nothing behind."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Durable, TaskRunError
from durable_nb.definitions import Keyring
from durable_nb.errors import RunCancelledError
from durable_nb.notebook.handle import Handle
from durable_nb.tasks.task import Task
from tests.notebook.helpers import Shell, wait_until

DOUBLE = "%%task\ndef double(input: int, ctx) -> int:\n    return 2 * input\n"
WAITER = (
    "%%durable_task\nasync def waiter(input: dict, ctx) -> dict:\n"
    "    return await ctx.aio_wait_for_event('go', 'input.ok == true')\n"
)


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "durable.db")) as log:
        return log.execute(sql).fetchall()


def app(shell: Shell) -> Durable:
    durable = shell.names["durable"]
    assert isinstance(durable, Durable)
    return durable


def wait_for_waits(shell: Shell, run: str = "#1") -> None:
    wait_until(lambda: "◌ waits" in shell.cell(f"%durable show {run}").text, what="the wait")


# ---------------------------------------------------------------- loading


def test_loading_says_one_line_and_is_idempotent(bare_shell: Shell, folder: Path) -> None:
    said = bare_shell.load()
    assert said == f"durable_nb: log {folder / 'durable.db'}: 0 runs go on, 0 wait for an event, none lacks its definition.\n"
    durable = app(bare_shell)
    bare_shell.load()
    assert app(bare_shell) is durable


def test_unloading_closes_the_log_and_takes_everything_back(bare_shell: Shell) -> None:
    bare_shell.load()
    durable = app(bare_shell)
    bare_shell.cell("%unload_ext durable_nb")
    assert not durable.is_open
    assert "durable" not in bare_shell.names
    assert "not found" in bare_shell.try_cell("%durable runs").text
    assert "not found" in bare_shell.try_cell("%trigger double").text


def test_the_log_stands_beside_the_notebook(bare_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "cars.ipynb"))
    bare_shell.load()
    assert app(bare_shell).path == folder / "cars.durable.db"
    assert app(bare_shell).home == str(folder / "cars.ipynb")


def test_vs_code_tells_the_notebook_by_a_variable(bare_shell: Shell, folder: Path) -> None:
    bare_shell.names["__vsc_ipynb_file__"] = str(folder / "cars.ipynb")
    bare_shell.load()
    assert app(bare_shell).path == folder / "cars.durable.db"


def test_the_environment_names_the_log_before_all(bare_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "cars.ipynb"))
    monkeypatch.setenv("DURABLE_NB_LOG", str(folder / "named.db"))
    bare_shell.load()
    assert app(bare_shell).path == folder / "named.db"


def test_it_warns_of_a_log_that_git_would_take_along(bare_shell: Shell, folder: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    assert "git does not ignore the log: add `durable.db*` to .gitignore" in bare_shell.load().splitlines()[1]
    (folder / ".gitignore").write_text("durable.db*\n")
    bare_shell.cell("%unload_ext durable_nb")
    assert len(bare_shell.load().splitlines()) == 1


def test_it_says_how_many_runs_wait_for_an_approval(shell: Shell) -> None:
    shell.cell("%%durable_task\nasync def f(input, ctx):\n    return await ctx.aio_ask('publish?', bool)\n")
    shell.cell("%durable run f --key one\n%durable run f --key two")
    wait_for_waits(shell, "two")
    wait_for_waits(shell, "one")
    shell.cell("%unload_ext durable_nb")
    assert "2 runs go on, 0 wait for an event, 2 wait for an approval (`%durable inbox`)" in shell.load()


def test_a_synced_folder_is_refused_with_a_local_path(bare_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = folder / "Dropbox" / "work"
    synced.mkdir(parents=True)
    monkeypatch.setenv("DURABLE_NB_LOG", str(synced / "durable.db"))
    said = bare_shell.load()
    assert f"would stand in {synced.parent}, which is copied to other machines" in said
    assert "%durable open " in said
    assert "copied to other machines" in bare_shell.usage_error("%durable runs")
    assert list(synced.iterdir()) == []
    bare_shell.cell(f"%durable open {folder / 'durable.db'}")
    bare_shell.cell("%durable runs")


# ---------------------------------------------------------------- cells


def test_a_cell_becomes_a_task_and_its_helpers_stay_names(shell: Shell, folder: Path) -> None:
    shell.cell(
        "%%durable_task --retries 2 --execution-timeout 1h30m --priority 3\n"
        "FACTOR = 3\ndef helper(x):\n    return x * FACTOR\n"
        "async def f(input: int, ctx) -> int:\n    return helper(input)\nhelper(2)"
    )
    task = shell.names["f"]
    assert isinstance(task, Task)
    assert (task.kind, task.options.retries, task.options.execution_timeout, task.options.default_priority) == (
        "durable_task", 2, 5400.0, 3,
    )  # fmt: skip
    assert shell.names["helper"](2) == 6
    assert shell.names["_"] == 6, "the value of the last line is shown, as in any cell"
    assert shell.cell("%durable run f 5 --wait").result == 15
    [(name, version, kind)] = rows(folder, "SELECT task, version, kind FROM definition")
    assert (name, version, kind) == ("f", task.version, "durable_task")


def test_a_task_executes_in_its_captured_namespace(shell: Shell) -> None:
    shell.cell("%%task\nFACTOR = 3\ndef scaled(input: int, ctx) -> int:\n    return input * FACTOR\n")
    shell.cell("FACTOR = 1000")
    assert shell.cell("%durable run scaled 2 --wait").result == 6


def test_a_name_chooses_among_several_functions(shell: Shell) -> None:
    shell.cell("%%durable_task second\nasync def first(input, ctx): return 1\nasync def second(input, ctx): return 2\n")
    assert shell.cell("%durable run second --wait").result == 2
    assert not isinstance(shell.names["first"], Task)


def test_a_context_tells_the_task_from_async_helpers(shell: Shell) -> None:
    shell.cell("%%durable_task\nasync def fetch(url, tries): return url\nasync def f(input, ctx): return await fetch('u', 1)\n")
    assert shell.cell("%durable run f --wait").result == "u"


def test_tracebacks_and_checkpoints_count_lines_as_the_editor_does(shell: Shell) -> None:
    shell.cell("%%durable_task\n# line 2\nasync def f(input, ctx):\n    await ctx.aio_now()\n    raise ValueError('here')\n")
    output = shell.try_cell("%durable run f --wait")
    assert isinstance(output.error, TaskRunError)
    assert "line 5, in f" in output.error.trace
    assert "raise ValueError('here')" in output.error.trace
    assert "line 4" in shell.cell("%durable show #1").text


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("%%durable_task\nx = 1", "The cell defines no async function: write the durable task as `async def NAME(input, ctx)`"),
        (
            "%%durable_task\nx = 1\nasync def a(input, ctx): ...\nasync def b(input, ctx): ...",
            "several functions that could be the task (a, b): name one, as in `%%durable_task b`",
        ),
        ("%%durable_task\nx = 1\nasync def a(input): ...", "a takes (input), and a task takes its input and its context: write"),
        ("%%durable_task\nx = 1\nasync def a(input, *, ctx): ...", "write `async def a(input, ctx)`"),
        (
            "%%durable_task\nx = 1\ndef a(input, ctx): ...",
            "so write `async def a(input, ctx)`, or make it a regular task with %%task.",
        ),
        ("%%durable_task a\nx = 1\ndef a(input, ctx): ...", "a is synchronous, and a durable task must be able to wait"),
        ("%%durable_task b\nx = 1\nasync def a(input, ctx): ...", "The cell defines no function b, it defines a"),
        ("%%task\nx = 1", "The cell defines no function: write the task as `def NAME(input, ctx)` in it."),
        ("%%task --retries -1\nx = 1\ndef a(input, ctx): ...", "retries=-1"),
        ("%%task --retries many\nx = 1\ndef a(input, ctx): ...", "invalid int value: 'many'"),
        ("%%task --execution-timeout soon\nx = 1\ndef a(input, ctx): ...", "execution_timeout='soon' is no duration"),
        ("%%task --priority 9\nx = 1\ndef a(input, ctx): ...", "give 1 (low), 2 or 3 (high)"),
        ("%%task --frobnicate\nx = 1\ndef a(input, ctx): ...", "Unrecognized arguments: --frobnicate: write `%%task"),
        ("%%task\nx = 1\ndef a(input, ctx):\n    yield 1", "a is a generator"),
        ("%%task\nx = 1\ndef durable(input, ctx): ...", "`durable` is the notebook's app object, which a task of"),
        ("%%task\nx = 1\n@durable.task()\ndef a(input, ctx): ...", "made a task twice"),
    ],
)  # fmt: skip
def test_a_cell_that_defines_no_task_says_why_and_leaves_nothing(shell: Shell, folder: Path, cell: str, sentence: str) -> None:
    assert sentence in shell.usage_error(cell)
    assert "a" not in shell.names
    assert list(app(shell).tasks) == []
    assert rows(folder, "SELECT * FROM definition") == []


def test_a_cell_with_a_syntax_error_is_shown_as_any_other(shell: Shell) -> None:
    output = shell.try_cell("%%durable_task\nasync def a(input, ctx) pass\n")
    assert isinstance(output.error, SyntaxError)
    assert "expected ':'" in output.text
    assert list(app(shell).tasks) == []


def test_a_cell_that_awaits_by_itself_is_refused_before_any_of_it_is_executed(shell: Shell) -> None:
    said = shell.usage_error("%%task\nx = 1\ndef a(input, ctx): return 1\nawait a(1, 2)\n")
    assert "awaits outside a function, on line 4, which a cell under %%task cannot: move that to a cell of its own" in said
    assert not {"x", "a"} & set(shell.names)


def test_a_cell_that_fails_keeps_the_task_that_was_there(shell: Shell) -> None:
    shell.cell(DOUBLE)
    task = shell.names["double"]
    output = shell.try_cell("%%task\ndef double(input: int, ctx) -> int:\n    return 3 * input\n1 / 0\n")
    assert isinstance(output.error, ZeroDivisionError)
    assert shell.names["double"] is task
    assert shell.cell("%durable run double 2 --wait").result == 4


def test_a_task_that_is_defined_anew_replaces_the_old_one_in_its_parents(shell: Shell) -> None:
    shell.cell(DOUBLE)
    shell.cell("%%durable_task\nasync def parent(input: int, ctx) -> int:\n    return await double.aio_run(input)\n")
    shell.cell(DOUBLE.replace("2 * input", "20 * input"))
    assert shell.cell("%durable run parent 3 --wait").result == 60


def test_what_cannot_be_kept_is_named_at_definition(shell: Shell) -> None:
    shell.cell("import io\nfile = io.StringIO('text')")
    said = shell.cell("%%task\ndef read(input, ctx):\n    return file.getvalue()\n").text
    assert "`file` (io.StringIO), which `read` uses on line 3, cannot be kept" in said
    assert said.splitlines()[-1] == "After a restart, run this cell again: the runs of read wait for it."
    assert shell.cell("%durable run read --wait").result == "text"


def test_a_parent_may_stand_before_its_child(bare_shell: Shell) -> None:
    bare_shell.load()
    said = bare_shell.cell("%%durable_task\nasync def parent(input: int, ctx):\n    return await double.aio_run(input)\n").text
    assert "`double`, which `parent` uses on line 3, is not defined: define it before this cell." in said
    assert "parent has all that it needs now" in bare_shell.cell(DOUBLE).text
    assert bare_shell.cell("%durable run parent 2 --wait").result == 4
    bare_shell.cell("%unload_ext durable_nb")
    again = Shell()
    try:
        again.load()
        assert again.cell("%durable run parent 3 --wait").result == 6
    finally:
        again.close()


def test_decorators_are_equal_in_power_to_the_magics(bare_shell: Shell) -> None:
    bare_shell.load()
    bare_shell.cell(
        "FACTOR = 3\n@durable.task('by another name', retries=1)\n"
        "def scaled(input: int, ctx) -> int:\n    return late(input) * FACTOR\n"
        "@durable.durable_task()\nasync def parent(input: int, ctx) -> int:\n    return await scaled.aio_run(input)\n"
        "def late(x):\n    return x\n"
    )
    bare_shell.cell("FACTOR = 1000")
    assert bare_shell.cell("parent.run(2)").result == 6
    bare_shell.cell("%unload_ext durable_nb")
    again = Shell()
    try:
        again.load()
        assert app(again).tasks["by another name"].options.retries == 1
        assert again.cell("%durable run parent 5 --wait").result == 15
    finally:
        again.close()


def test_a_type_given_beside_the_function_is_named_as_lost(shell: Shell) -> None:
    said = shell.cell("@durable.task(input_validator=int)\ndef halved(input, ctx) -> float:\n    return input / 2\n").text
    assert "`input_validator` (a type given beside the function)" in said
    assert "annotate `input` with it instead" in said
    assert shell.cell("%durable run halved 3 --wait").result == 1.5
    assert "does not fit" in shell.usage_error('%durable run halved "x"')


@pytest.mark.parametrize("line", ["%%durable_task --help\n1", "%%task -h\n1", "%durable run --help", "%durable", "%durable help"])
def test_help_is_shown_and_nothing_is_done(shell: Shell, line: str) -> None:
    assert "%" in shell.cell(line).text
    assert list(app(shell).tasks) == []


def test_the_magics_explain_themselves() -> None:
    from durable_nb.notebook.magics import DurableMagics

    assert "async def" in (DurableMagics.durable_task.__doc__ or "")
    assert "%durable run TASK" in (DurableMagics.durable.__doc__ or "")


# ---------------------------------------------------------------- run


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('{"path": "a b.csv", "n": {"deep": [1, 2]}}', {"path": "a b.csv", "n": {"deep": [1, 2]}}),
        ('--wait {"a": "--wait"}', {"a": "--wait"}),
        ("-5", -5),
        ('"a word"', "a word"),
        ("'[1, 2]'", [1, 2]),
        ("$config", {"x": "y"}),
        ("@input.json", {"from": "file"}),
        ('@"with space.json"', {"from": "file"}),
        ("", None),
        ("null", None),
        ('{"braces": "{config} $config"}', {"braces": "{config} $config"}),
    ],
)
def test_the_input_of_a_run(shell: Shell, folder: Path, line: str, value: object) -> None:
    for name in ("input.json", "with space.json"):
        (folder / name).write_text('{"from": "file"}')
    shell.names["config"] = {"x": "y"}
    shell.cell("%%task\nfrom typing import Any\ndef same(input: Any, ctx):\n    return [input]\n")
    wait = "" if "--wait" in line[:6] else "--wait"
    [result] = shell.cell(f"%durable run same {line} {wait}").result
    assert result == value


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('double {"a": }', '{"a": } is not JSON (expecting value, character 7): write it as {"name": "value"}'),
        ("double {'a': 1}", "JSON takes double quotes"),
        ('double {"a": 1', "is not JSON"),
        ('double {"a": 1}x', "it goes on after its end"),
        ('double "x"', "the input of task 'double' does not fit its type: value: Input should be a valid integer"),
        ("double word", 'word is not JSON: write "word" for a string'),
        ("double number", "number is not JSON: write $number for the variable"),
        ("double $missing", "$missing is not defined: assign missing in a cell first"),
        ("double @missing.json", "@missing.json cannot be read (No such file or directory)"),
        ("double @broken.json", "@broken.json holds no JSON"),
        ("double 'open", "does not end"),
        ("double 1 2", "Unrecognized arguments: 2"),
        ("double 1 --metadata 5", "--metadata 5 is no JSON object"),
        ("doubel 1", "No task 'doubel' is defined here; did you mean 'double'?"),
        ("", "The following arguments are required: TASK: write `%durable run"),
    ],
)
def test_a_run_that_cannot_start_says_why_and_writes_nothing(shell: Shell, folder: Path, line: str, sentence: str) -> None:
    (folder / "broken.json").write_text("{")
    shell.names["number"] = 1
    shell.cell(DOUBLE)
    assert sentence in shell.usage_error(f"%durable run {line}")
    assert rows(folder, "SELECT count(*) FROM run") == [(0,)]


def test_a_run_gives_a_handle_that_shows_its_state(shell: Shell) -> None:
    shell.cell(WAITER)
    shell.cell('handle = %durable run waiter {"for": "<b>ann</b>"}')
    handle = shell.names["handle"]
    assert isinstance(handle, Handle)
    assert handle.status in ("QUEUED", "RUNNING")
    wait_for_waits(shell)
    bundle = handle._repr_mimebundle_()
    assert f"◌ waiting waiter #1 {handle.id}" in bundle["text/plain"]
    assert "◌ waits for `go` if input.ok == true" in bundle["text/plain"]
    shell.cell('%emit go {"ok": true, "text": "<img src=x onerror=alert(1)>"}')
    assert handle.result()["ok"] is True
    bundle = handle._repr_mimebundle_()
    assert "✓ completed" in bundle["text/plain"]
    assert "<img" not in bundle["text/html"]
    assert "&lt;img" in bundle["text/html"]


@pytest.mark.parametrize(
    ("word", "value"),
    [("-1", -1), ("-1.5e3", -1500.0), ("-.5", -0.5), ("-2.", -2.0), ("-1E-2", -0.01), ("-Infinity", float("-inf"))],
)
def test_a_negative_number_is_an_input_and_no_option(shell: Shell, word: str, value: float) -> None:
    shell.cell("%%task\ndef same(input: float, ctx) -> float:\n    return input\n")
    if word not in ("-.5", "-2."):  # no JSON, and said so
        assert shell.cell(f"%durable run same {word} --wait").result == value
    else:
        assert f"{word} is not JSON" in shell.usage_error(f"%durable run same {word} --wait")


def test_an_options_value_may_be_quoted_behind_its_equals_sign(shell: Shell) -> None:
    shell.cell(DOUBLE)
    for written in ("--key='a b'", '--key="a b"', "--key 'a b'"):
        assert shell.cell(f"%durable run double 1 {written}").result.id == app(shell).runs.get("a b").id
    shell.cell('%durable run double 2 --metadata={"by": "ann"} --wait')


def test_a_key_names_a_run_for_good(shell: Shell) -> None:
    shell.cell(DOUBLE)
    first = shell.cell("%durable run double 1 --key once").result
    second = shell.cell('%trigger double 2 --key "once"').result
    assert first.id == second.id
    assert "key once" in shell.cell("%durable show once").text


def test_metadata_goes_with_the_run(shell: Shell) -> None:
    shell.cell("%%task\ndef who(input, ctx):\n    return ctx.additional_metadata\n")
    assert shell.cell('%durable run who --metadata {"by": "ann"} --wait').result == {"by": "ann"}


def test_a_failed_run_is_a_real_exception(shell: Shell) -> None:
    shell.cell("%%task\ndef bad(input, ctx):\n    raise ValueError('no \\x1b[31m good')\n")
    output = shell.try_cell("%durable run bad --wait")
    assert isinstance(output.error, TaskRunError)
    assert not isinstance(output.error, RunCancelledError)
    shown = shell.cell("%durable show #1").text
    assert "✗ failed bad #1" in shown
    assert "ValueError: no \\x1b[31m good" in shown
    assert "\x1b" not in shown
    assert "line 3, in bad" in shown


@pytest.mark.parametrize("line", ["%durable run bad --wait", "h = %durable run bad\nh.result()", "h = %durable run bad\nawait h"])
def test_the_error_of_a_failed_run_leaves_out_the_frames_of_the_engine(shell: Shell, line: str) -> None:
    shell.cell("%%task\ndef bad(input, ctx):\n    raise ValueError('no')\n")
    text = shell.try_cell(line).text
    assert "TaskRunError: ValueError: no" in text
    assert "engine" not in text.partition("raise error")[0]


def test_a_bad_filter_fails_the_run_with_its_words(shell: Shell) -> None:
    shell.cell("%%durable_task\nasync def f(input, ctx):\n    await ctx.aio_wait_for_event('go', 'input.amount >')\n")
    output = shell.try_cell("%durable run f --wait")
    assert isinstance(output.error, TaskRunError)
    assert output.error.exc_type == "ExpressionError"
    assert "does not compile at its end (line 1, column 15)" in str(output.error)


# ---------------------------------------------------------------- emit, runs, show, status


def test_emit_says_whom_it_reached(shell: Shell) -> None:
    shell.cell(WAITER)
    handle = shell.cell("%durable run waiter").result
    wait_for_waits(shell)
    missed = shell.cell("%durable emit go {}")
    assert "go reached no run: it does not match. It is in the log." in missed.text
    assert f"Near miss: {handle.id}:" in missed.text
    assert "go reached no run" in shell.cell('%durable emit go {"ok": false}').text
    reached = shell.cell('report = %durable emit go {"ok": true}')
    assert f"go reached 1 run: {handle.id}." in reached.text
    assert shell.names["report"].matched_runs == [handle.id]
    assert handle.result() == {"ok": True}


def test_emit_takes_scope_and_metadata(shell: Shell) -> None:
    shell.cell(
        "%%durable_task\nasync def f(input, ctx):\n"
        "    return await ctx.aio_wait_for_event('go', \"additional_metadata.by == 'ann'\", scope='s')\n"
    )
    handle = shell.cell("%durable run f").result
    wait_for_waits(shell)
    assert "no run" in shell.cell('%emit go {"n": 1} --metadata {"by": "ann"}').text
    assert "1 run" in shell.cell('%emit go {"n": 2} --metadata {"by": "ann"} --scope s').text
    assert handle.result() == {"n": 2}


def test_runs_lists_filters_and_limits(shell: Shell) -> None:
    assert "No run is in the log" in shell.cell("%durable runs").text
    shell.cell(DOUBLE)
    shell.cell("%%task\ndef bad(input, ctx):\n    raise ValueError('no')\n")
    for number in range(3):
        shell.cell(f"%durable run double {number} --wait")
    shell.try_cell("%durable run bad --wait")
    assert shell.cell("%durable runs").text.count("double") == 3
    assert "✗ failed" in shell.cell("%durable runs --status failed").text
    assert "double" not in shell.cell("%durable runs --task bad").text
    assert shell.cell("%durable runs --limit 2 --task double").text.count("double") == 2
    assert "No such run" in shell.cell("%durable runs --status cancelled").text
    assert "--status done is no status: write queued, running" in shell.usage_error("%durable runs --status done")
    assert "--limit must be 1 or more" in shell.usage_error("%durable runs --limit 0")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("%durable run double " + "1" * 5000, "has a number of too many digits to be read as JSON"),
        ("%durable run double [" + "1" * 5000 + "]", "has a number of too many digits to be read as JSON"),
        ("%durable run double @deep.json", "@deep.json is nested too deeply"),
        ("%durable run double " + "[" * 100_000, "is nested too deeply"),
        ('%durable run double 1 --key=""', "Argument --key: it is empty"),
        ('%durable run double 1 --key="a b', '"a b is not JSON'),
        ("%durable emit ''", "Argument KEY: it is empty"),
        ("%durable runs --limit 99999999999999999999", "at most 10000"),
    ],
)  # fmt: skip
def test_what_python_cannot_read_is_one_sentence_too(shell: Shell, folder: Path, line: str, sentence: str) -> None:
    shell.cell(DOUBLE)
    (folder / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    assert sentence in shell.usage_error(line)
    assert rows(folder, "SELECT count(*) FROM run") == [(0,)]


def test_a_task_may_stand_in_quotes_as_keys_may(shell: Shell) -> None:
    shell.cell(DOUBLE)
    assert shell.cell('%durable run "double" 2 --wait').result == 4
    assert "double" in shell.cell('%durable runs --task "double"').text


def test_show_folds_many_children(shell: Shell) -> None:
    shell.cell(DOUBLE)
    shell.cell(
        "%%durable_task\nasync def parent(input, ctx):\n"
        "    await ctx.aio_memo(lambda: 1)\n"
        "    return await double.aio_run_many([double.create_bulk_run_item(n) for n in range(30)])\n"
    )
    shell.cell("%durable run parent --wait")
    shown = shell.cell("%durable show #1").text
    assert "2–31 child double: ✓ 30 recorded" in shown
    assert "children double: ✓ 30 completed" in shown
    assert "✓ memo" in shown
    assert len(shown.splitlines()) < 15


def test_an_unknown_run_or_verb(shell: Shell) -> None:
    assert "No run 'nope' is in this log: `%durable runs` lists them." in shell.usage_error("%durable show nope")
    assert "did you mean `%durable show`?" in shell.usage_error("%durable shwo #1")
    assert "was not parked" in _retake_of_an_ended_run(shell)


def _retake_of_an_ended_run(shell: Shell) -> str:
    shell.cell(DOUBLE)
    shell.cell("%durable run double 1 --wait")
    return shell.cell("%durable retake #1").text


def test_status_tells_log_worker_tasks_and_runs(shell: Shell, folder: Path) -> None:
    shell.cell(DOUBLE)
    shell.cell("%durable run double 1 --wait")
    text = shell.cell("%durable status").text
    assert str(folder / "durable.db") in text
    assert app(shell).engine.worker in text
    assert "✓ 1 completed" in text
    assert "double" in text
    assert "a cell" in text


def test_close_keeps_the_runs_and_the_next_magic_opens_again(shell: Shell) -> None:
    shell.cell(WAITER)
    handle = shell.cell("%durable run waiter").result
    wait_for_waits(shell)
    assert "stay in the log" in shell.cell("%durable close").text
    assert not app(shell).is_open
    wait_for_waits(shell)
    shell.cell('%emit go {"ok": true}')
    assert handle.result() == {"ok": True}


def test_open_serves_another_log_with_the_same_tasks(shell: Shell, folder: Path) -> None:
    shell.cell(DOUBLE)
    assert str(folder / "other log.db") in shell.cell('%durable open "other log.db"').text
    assert shell.cell("%durable run double 4 --wait").result == 8
    assert rows(folder, "SELECT count(*) FROM run") == [(0,)]
    with closing(sqlite3.connect(folder / "other log.db")) as log:
        assert log.execute("SELECT task FROM definition").fetchall() == [("double",)]


# ---------------------------------------------------------------- logs that cannot be opened


def test_a_file_that_is_no_log(shell: Shell, folder: Path) -> None:
    (folder / "notes.txt").write_text("just some notes, long enough for a header")
    message = shell.usage_error("%durable open notes.txt")
    assert "SQLite file" in message
    assert "name another path" in message
    assert (folder / "notes.txt").read_text().startswith("just some notes")
    assert app(shell).path == folder / "durable.db", "the old log stays"
    shell.cell(DOUBLE)
    assert shell.cell("%durable run double 4 --wait").result == 8


def test_a_log_of_a_newer_version(bare_shell: Shell, folder: Path) -> None:
    Durable(folder / "durable.db").open().close()
    with closing(sqlite3.connect(folder / "durable.db")) as log:
        log.execute("PRAGMA user_version = 99")
    assert "upgrade durable_nb, or name another path" in bare_shell.load()
    assert "upgrade durable_nb" in bare_shell.usage_error(DOUBLE)
    assert "double" not in bare_shell.names
    assert "upgrade durable_nb" in bare_shell.usage_error("%durable runs")


def test_a_log_in_a_folder_that_is_not_there(bare_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLE_NB_LOG", str(folder / "missing" / "durable.db"))
    assert "cannot be written (no such file or directory)" in bare_shell.load()
    assert "name another path with %durable open PATH" in bare_shell.usage_error("%durable runs")
    bare_shell.cell("%durable open durable.db")
    bare_shell.cell(DOUBLE)
    assert bare_shell.cell("%durable run double 4 --wait").result == 8


# ---------------------------------------------------------------- restoring and trust


def test_tasks_and_runs_come_back_without_their_cells(bare_shell: Shell) -> None:
    bare_shell.load()
    bare_shell.cell(DOUBLE)
    bare_shell.cell(
        "%%durable_task\nasync def parent(input: int, ctx) -> int:\n"
        "    await ctx.aio_wait_for_event('go')\n    return await double.aio_run(input)\n"
    )
    handle = bare_shell.cell("%durable run parent 4").result
    wait_for_waits(bare_shell)
    bare_shell.cell("%unload_ext durable_nb")
    again = Shell()
    try:
        assert "1 run goes on, 1 waits for an event, none lacks its definition" in again.load()
        assert again.names["parent"].is_restored
        assert "the log" in again.cell("%durable status").text
        again.cell("%emit go")
        assert again.cell(f"durable.runs.get_run_ref('{handle.id}').result()").result == 8
    finally:
        again.close()


def test_a_name_that_is_taken_stays(bare_shell: Shell) -> None:
    bare_shell.load()
    bare_shell.cell(DOUBLE)
    bare_shell.cell("%unload_ext durable_nb")
    bare_shell.cell("double = 'mine'")
    bare_shell.load()
    assert bare_shell.names["double"] == "mine"
    assert bare_shell.cell("%durable run double 1 --wait").result == 2


def test_a_parent_waits_for_a_child_that_cannot_be_restored(bare_shell: Shell) -> None:
    bare_shell.load()
    bare_shell.cell("import io\nfile = io.StringIO('text')")
    child = "%%task\ndef read(input, ctx):\n    return file.getvalue()\n"
    bare_shell.cell(child)
    bare_shell.cell(
        "%%durable_task\nasync def parent(input, ctx):\n    await ctx.aio_wait_for_event('go')\n    return await read.aio_run()\n"
    )
    handle = bare_shell.cell("%durable run parent").result
    wait_for_waits(bare_shell)
    bare_shell.cell("%unload_ext durable_nb")
    again = Shell()
    try:
        assert "1 lacks its definition (run the cell of parent)" in again.load()
        status = again.cell("%durable status").text
        assert "read is not restored: `file` (io.StringIO)" in status
        assert "parent waits for the definition of read" in status
        again.cell("import io\nfile = io.StringIO('text')")
        again.cell(child)
        again.cell("%emit go")
        assert again.cell(f"durable.runs.get_run_ref('{handle.id}').result()").result == "text"
    finally:
        again.close()


def test_a_definition_that_was_tampered_with_is_not_executed(bare_shell: Shell, folder: Path) -> None:
    bare_shell.load()
    bare_shell.cell(DOUBLE)
    bare_shell.cell("%unload_ext durable_nb")
    del bare_shell.ip.user_ns["double"]
    with closing(sqlite3.connect(folder / "durable.db", isolation_level=None)) as log:
        log.execute("UPDATE definition SET body = replace(body, '2 * input', '666 * input')")
    assert "not signed by you, so not restored: double (run the cell, or `%durable trust`)" in bare_shell.load()
    assert "double" not in bare_shell.names
    assert "No task 'double'" in bare_shell.usage_error("%durable run double 1")
    bare_shell.cell(DOUBLE)
    assert bare_shell.cell("%durable run double 1 --wait").result == 2
    assert "not signed" not in bare_shell.cell("%durable status").text


@pytest.mark.parametrize("column", ["home = 'elsewhere'", "kind = 'durable_task'", "version = 'aaaaaaaaaaaaaaaa'"])
def test_a_signature_covers_where_and_what_a_definition_is(bare_shell: Shell, folder: Path, column: str) -> None:
    bare_shell.load()
    bare_shell.cell(DOUBLE)
    bare_shell.cell("%unload_ext durable_nb")
    del bare_shell.ip.user_ns["double"]
    with closing(sqlite3.connect(folder / "durable.db", isolation_level=None)) as log:
        log.execute(f"UPDATE definition SET {column}")
    bare_shell.load()
    assert "double" not in bare_shell.names


def test_a_run_that_was_tampered_with_is_parked_not_executed(bare_shell: Shell, folder: Path) -> None:
    bare_shell.load()
    bare_shell.cell(WAITER)
    bare_shell.cell('%durable run waiter {"n": 1}')
    wait_for_waits(bare_shell)
    bare_shell.cell("%unload_ext durable_nb")
    with closing(sqlite3.connect(folder / "durable.db", isolation_level=None)) as log:
        log.execute("UPDATE run SET input = '{\"n\":2}'")
    again = Shell()
    try:
        again.load()
        wait_until(lambda: "parked" in again.cell("%durable show #1").text, what="the park")
        shown = again.cell("%durable show #1").text
        assert "It does not carry this user's signature" in " ".join(shown.split())
        again.cell(WAITER)
        assert "is taken up again" in again.cell("%durable retake #1").text
        wait_for_waits(again)
    finally:
        again.close()


def test_a_log_of_somebody_else_is_inert_until_it_is_trusted(
    bare_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare_shell.load()
    bare_shell.cell(DOUBLE)
    bare_shell.cell(
        "%%durable_task\nSECRET = 7\nasync def parent(input: int, ctx) -> int:\n"
        "    await ctx.aio_wait_for_event('go')\n    return SECRET + await double.aio_run(input)\n"
    )
    handle = bare_shell.cell("%durable run parent 4").result
    wait_for_waits(bare_shell)
    bare_shell.cell("%unload_ext durable_nb")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "another user"))
    other = Shell()
    try:
        assert "was not made by this user, so nothing of it is executed" in other.load()
        for line in ("%durable runs", "%durable run parent 1", DOUBLE, "%emit go"):
            assert "nothing of it is executed" in other.usage_error(line)
        assert "inert" in other.cell("%durable status").text
        shown = other.cell("%durable trust").text
        assert "SECRET = 7" in shown
        assert "async def parent" in shown
        assert "1 unfinished run of parent, 1 of them started by a person" in shown
        assert "until you say `%durable trust --yes`" in shown
        assert "nothing of it is executed" in other.usage_error("%durable runs")
        assert "1 run goes on" in other.cell("%durable trust --yes").text
        other.cell("%emit go")
        assert other.cell(f"durable.runs.get_run_ref('{handle.id}').result()").result == 15
        assert "Nothing to trust" in other.cell("%durable trust").text
        assert Keyring.default().knows(app(other).log_id)
    finally:
        other.close()


HOSTILE = "x\x1b[31m[bold]<img src=x>\u202e\n\x9b"


def test_names_that_only_the_log_gives_are_shown_as_text(bare_shell: Shell, folder: Path) -> None:
    bare_shell.load()
    bare_shell.cell(WAITER)
    bare_shell.cell("%durable run waiter")
    wait_for_waits(bare_shell)
    bare_shell.cell("%unload_ext durable_nb")
    with closing(sqlite3.connect(folder / "durable.db", isolation_level=None)) as log:
        log.execute("UPDATE run SET id = ?, blocked_reason = ?, ready_at = NULL, started_at = 9e999", (HOSTILE, HOSTILE))
        log.execute("UPDATE definition SET task = ?, body = 'broken'", (HOSTILE,))
    again = Shell()
    try:
        said = [again.load()]
        said += [again.try_cell(f"%durable {verb}").text for verb in ("status", "show #1", "runs", "retake #1")]
        assert r"\x1b[31m[bold]" in said[1]
        assert "take it up again" in said[2]
        for character in "\x1b\u202e\x9b":
            assert character not in "".join(said)
    finally:
        again.close()


def other_users_log(shell: Shell, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make a log with one task, and be another user from then on."""
    shell.load()
    shell.cell("import json.tool")
    shell.cell("%%task\ndef dumped(input, ctx):\n    return json.tool.__name__\n")
    shell.cell("%unload_ext durable_nb")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder / "another user"))


def test_every_module_that_trust_would_import_is_shown(bare_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other_users_log(bare_shell, monkeypatch, folder)
    other = Shell()
    try:
        other.load()
        assert "import json as json\nimport json.tool\n" in other.cell("%durable trust").text
    finally:
        other.close()


def test_what_has_changed_since_it_was_shown_is_not_signed(
    bare_shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_users_log(bare_shell, monkeypatch, folder)
    other = Shell()
    try:
        other.load()
        other.cell("%durable trust")
        with closing(sqlite3.connect(folder / "durable.db", isolation_level=None)) as log:
            log.execute("UPDATE definition SET body = replace(body, 'return json', 'return 666 and json')")
        said = other.cell("%durable trust --yes").text
        assert "return 666 and json" in said
        assert "It has changed since it was last shown, so nothing was signed." in said
        assert "nothing of it is executed" in other.usage_error("%durable runs")
        assert "none lacks its definition" in other.cell("%durable trust --yes").text
    finally:
        other.close()


def test_a_key_that_cannot_be_used_is_told_at_loading_and_by_every_magic(bare_shell: Shell) -> None:
    bare_shell.load()
    bare_shell.cell(DOUBLE)
    bare_shell.cell("%unload_ext durable_nb")
    key = Keyring.default().folder / "key"
    secret = key.read_bytes()
    key.unlink()
    key.mkdir()
    again = Shell()
    try:
        assert "cannot be used (is a directory), so nothing can be signed or verified" in again.load()
        key.rmdir()
        key.symlink_to(key.with_name("elsewhere"))
        for line in ("%durable status", "%durable trust --yes", DOUBLE):
            assert "is a link, so it is not used" in again.usage_error(line)
        key.unlink()
        key.write_bytes(secret)
        key.chmod(0o600)
        assert again.cell("%durable run double 2 --wait").result == 4
    finally:
        again.close()
