"""The verbs of `durable-nb`, in this process on a real log: what they print, for people and programs, and how they end."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb import Context, Durable
from tests.cli.helpers import command, lines_of, make_script


@pytest.fixture
def script(folder: Path) -> str:
    return str(make_script(folder))


def started(script: str, task: str, *arguments: str) -> str:
    """Start a run for a worker; give its id."""
    return command("run", task, *arguments, "-f", script, "--no-wait").stdout.strip()


def worked(script: str) -> None:
    """Have a worker do what can be done."""
    command("worker", script, "--until-idle")


def test_run_prints_the_output_and_nothing_of_what_the_task_prints(script: str) -> None:
    done = command("run", "story", "0", "-f", script)
    assert json.loads(done.stdout) == ["memo", "last"]
    assert "said memo" in done.stderr


def test_run_ends_with_what_became_of_the_run(script: str) -> None:
    failed = command("run", "fail", "-f", script, code=1)
    assert "failed: ValueError: no \\x1b[31mluck\\u202e" in failed.stderr
    assert "Traceback" not in failed.stderr and "\x1b" not in failed.stderr
    late = command("run", "story", "3600", "-f", script, "--key", "K", "--timeout", "0.1", code=5)
    assert "has not ended within 0.1 s; it goes on with the next worker" in late.stderr
    command("cancel", "K", "--reason", "enough")
    assert "was cancelled" in command("run", "story", "3600", "-f", script, "--key", "K", code=3).stderr
    [record] = lines_of(command("run", "fail", "-f", script, "--json", code=1))
    assert (record["status"], record["error"]["type"]) == ("FAILED", "ValueError")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "storey", "1", "-f", "flow.py"], 4, "did you mean 'story'?"),
        (["run", "story", '"x"', "-f", "flow.py"], 2, "does not fit its type"),
        (["run", "story", "{x", "-f", "flow.py"], 2, "{x is no JSON"),
        (["run", "story", "word", "-f", "flow.py"], 2, "for a string write '\"word\"'"),
        (["run", "story", "@none.json", "-f", "flow.py"], 4, "none.json: No such file"),
        (["run", "story", "1", "-f", "none.py"], 4, "There is no file none.py"),
        (["run", "story", "1", "-f", "flow.py", "--metadata", "[]"], 2, "--metadata [] is no JSON object"),
        (["show", "#9", "-l", "flow.durable.db"], 4, "`durable-nb runs` lists them"),
        (["runs", "--status", "odd", "-l", "flow.durable.db"], 2, "--status odd is no status"),
        (["runs", "-l", "none.db"], 4, "There is no log"),
        (["runs", "-l", "flow.py"], 6, "is not an SQLite file"),
        (["approve", "#1", "-l", "flow.durable.db"], 4, "asks nothing"),
        (["approve", "x/1/1", "-l", "flow.durable.db"], 4, "x/1/1"),
        (["approve", "x/1/1", "@none.json", "-l", "flow.durable.db"], 4, "none.json: No such file"),
        (["reset", "#1", "--node", "77", "-l", "flow.durable.db"], 4, "77"),
        (["replay", "#2", "-l", "flow.durable.db"], 2, "cannot be replayed"),
        (["worker", "-l", "empty.db"], 4, "holds no task"),
        (["export", "flow.py"], 2, "flow.py is no notebook"),
        (["init"], 2, "flow.py is there already"),
        (["runs", "--bogus"], 2, "No such option"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_errors_are_a_sentence_and_an_exit_code(script: str, arguments: list[str], code: int, words: str) -> None:
    command("run", "story", "0", "-f", script)
    started(script, "story", "3600")
    Path("empty.db").touch()
    done = command(*arguments, code=code)
    assert words in done.stderr and not done.stdout
    assert "Traceback" not in done.stderr


def test_a_script_that_cannot_be_loaded_is_said_with_its_line(folder: Path) -> None:
    (folder / "bad.py").write_text("import math\n\nmath.sqrt(-1)\n")
    assert "bad.py, line 3 failed: ValueError" in command("worker", "bad.py", code=2).stderr
    (folder / "worse.py").write_text("def f(:\n")
    assert "worse.py is no Python (line 1" in command("worker", "worse.py", code=2).stderr
    (folder / "empty.py").write_text("")
    assert "makes no app object" in command("worker", "empty.py", code=2).stderr


def test_looking(script: str) -> None:
    command("run", "family", "2", "-f", script, "--key", "first", "--metadata", '{"team": "red"}')
    table = command("runs").stdout
    assert "family" in table and "✓ completed" in table and "slow" not in table
    assert table.count("slow") == 0 < command("runs", "--parent", "first").stdout.count("slow")
    [run] = lines_of(command("runs", "--json"))
    assert (run["key"], run["output"], run["metadata"]) == ("first", [0.0, 0.0], {"team": "red"})
    assert len(run["version"]) == 16, "the code is the version"
    assert run["home"] == script
    shown = command("show", "first").stdout
    assert "2 checkpoints" in shown and "output [0.0,0.0]" in shown
    [details] = lines_of(command("show", "first", "--json"))
    assert {"run", "checkpoints", "children", "waits", "attempts"} == details.keys()
    assert [child["task"] for child in details["children"]] == ["slow", "slow"]
    assert "has said nothing" in command("log", "first").stdout
    assert command("log", "first", "--json").stdout == ""
    assert "completed family #1" in command("watch", "first").stdout
    assert command("runs", "--task", "none").stdout == "No such run is in the log.\n"
    assert len(lines_of(command("runs", "--json", "--children", "--since", "1h"))) == 3
    assert len(lines_of(command("runs", "--json", "--metadata", '{"team": "red"}'))) == 1
    assert command("runs", "--json", "--until", "2020-01-01").stdout == ""
    assert "--since never is no time" in command("runs", "--since", "never", code=2).stderr


def test_what_a_task_logs_is_shown_and_followed(folder: Path) -> None:
    with Durable("talk.durable.db") as durable:

        @durable.task()
        async def talk(input: None, ctx: Context) -> None:
            ctx.log("one")
            ctx.log("two\x1b[2J")

        talk.run()
    assert "two\\x1b[2J" in command("log", "#1").stdout
    assert [line["text"] for line in lines_of(command("log", "#1", "--json"))] == ["one", "two\x1b[2J"]
    followed = command("log", "#1", "--follow").stdout
    assert "one" in followed and "two\\x1b[2J" in followed and "\x1b" not in followed


def test_events_reach_waits_and_start_listeners(script: str, folder: Path) -> None:
    run = started(script, "order")
    worked(script)
    near = command("emit", "paid", '{"sum": 1}', "--json")
    assert lines_of(near)[0]["matched_runs"] == []
    assert "It reached no run. It is in the log." in command("emit", "paid", '{"sum": 2}').stderr
    assert command("emit", "paid", "-", input='{"sum": 5}').stdout == f"reached {run}\n"
    assert command("emit", "greeted", '{"by": "Ada"}').stdout.startswith("started ")
    worked(script)
    outputs = {view["task"]: view["output"] for view in lines_of(command("runs", "--json"))}
    assert outputs == {"order": {"sum": 5}, "listener": "heard"}


def test_questions_are_listed_and_answered(script: str) -> None:
    assert command("inbox", code=4).stderr.startswith("There is no log")
    run = started(script, "question")
    worked(script)
    assert "Publish?" in command("inbox").stdout
    assert '{"ok": boolean, "why": string}' in command("inbox").stdout
    assert command("inbox", "--assignee", "bob").stdout == "Nobody is asked anything.\n"
    [item] = lines_of(command("inbox", "--json"))
    assert (item["run_id"], item["assignees"]) == (run, ["ada"])
    assert "does not fit" in command("approve", run[-6:], '{"ok": 7}', code=2).stderr
    Path("answer.json").write_text('{"ok": true, "why": "fine"}')
    assert command("approve", run[-6:], "@answer.json", "--by", "Ada", "--reason", "read it").stdout == f"answered {item['id']}\n"
    worked(script)
    [answered] = lines_of(command("inbox", "--status", "answered", "--json"))
    assert (answered["answered_by"], answered["reason"]) == ("Ada", "read it")
    assert answered["answer"] == {"ok": True, "why": "fine"}
    assert lines_of(command("runs", "--json"))[0]["output"] == "fine"


def test_runs_are_steered(script: str) -> None:
    first, second = started(script, "story", "3600"), started(script, "story", "0")
    worked(script)
    assert command("cancel", first, second).stdout == f"cancelled {first} story\nhad ended {second} story\n"
    assert command("replay", second).stdout == f"queued {second} story\n"
    worked(script)
    forked = command("fork", second, "--node", "1", "--value", '"forged"').stdout.strip()
    assert command("retake", second).stdout == f"was not parked {second} story\n"
    assert command("reset", second, "--node", "3").stdout == f"reset {second} story\n"
    worked(script)
    runs = {view["id"]: view for view in lines_of(command("runs", "--json"))}
    assert runs[first]["status"] == "CANCELLED"
    assert runs[second]["output"] == ["memo", "last"]
    assert runs[forked]["output"] == ["forged", "last"]
    counts = sorted(Path("counts.txt").read_text().splitlines())
    assert counts == ["last"] * 3 + ["memo"] * 2, "the replay did nothing again"


def test_a_run_that_no_longer_fits_its_code_is_parked_and_that_has_a_code_of_its_own(script: str) -> None:
    run = started(script, "order", "--key", "K")
    worked(script)
    path = Path(script)
    path.write_text(
        path.read_text().replace(
            "    return await ctx.aio_wait_for_event", "    await ctx.aio_now()\n    return await ctx.aio_wait_for_event"
        )
    )
    command("emit", "paid", '{"sum": 9}')
    parked = command("run", "order", "-f", script, "--key", "K", "--timeout", "30", code=7).stderr
    assert f"Run {run} of order is parked" in parked
    command("worker", script, "--until-done")  # it waits for a person, not for a worker
    assert "⏸ parked" in command("runs").stdout


def test_a_worker_whose_lifespan_fails_ends(script: str) -> None:
    started(script, "story", "0")
    path = Path(script)
    broken = "async def lifespan():\n    raise OSError('no database')\n    yield\n\n\ndurable = Durable("
    path.write_text(
        path.read_text().replace("durable = Durable(", broken).replace('.durable.db"))', '.durable.db"), lifespan=lifespan)')
    )
    assert "no database" in command("worker", script, code=1).stderr
    assert lines_of(command("runs", "--json"))[0]["status"] == "QUEUED"


def test_a_log_is_found_in_the_folder_or_named(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("run", "story", "0", "-f", script)
    command("run", "story", "0", "-f", script, "--log", "other.durable.db")
    assert "Several logs are here" in command("runs", code=2).stderr
    assert "story" in command("runs", "--log", "other.durable.db").stdout
    monkeypatch.setenv("DURABLE_NB_LOG", str(folder / "flow.durable.db"))
    assert "story" in command("runs").stdout
    assert "schema" in command("migrate").stdout


def test_a_foreign_log_is_looked_at_but_nothing_of_it_is_executed(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(script, "story", "0")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "somebody else"))
    assert "story" in command("runs").stdout
    refused = command("worker", script, code=6).stderr
    assert "was not made by this user" in refused and "`durable-nb trust`" in refused and "%durable" not in refused
    assert command("emit", "paid", code=6).stdout == ""
    assert "1 unfinished run of story" in command("trust").stdout
    command("worker", script, code=6)
    command("trust", "--yes")
    worked(script)
    assert lines_of(command("runs", "--json"))[0]["output"] == ["memo", "last"]


def test_a_newer_log_is_refused(script: str) -> None:
    command("run", "story", "0", "-f", script)
    with closing(sqlite3.connect("flow.durable.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "schema version 99" in command("runs", code=6).stderr


def test_hostile_names_are_shown_and_not_obeyed(folder: Path) -> None:
    with Durable("evil.durable.db") as durable:

        @durable.task(name="[red]\x1b[2J\u202e</script>")
        def evil(input: str, ctx: object) -> str:
            return input

        evil.run("\x07[bold]\x9b31m", additional_metadata={"\x1b]0;title": "x"})
    for verb in (["runs"], ["show", "#1"], ["watch", "#1"], ["log", "#1"]):
        text = command(*verb).stdout
        assert not {"\x1b", "\u202e", "\x07", "\x9b"} & set(text), verb
        assert "[red]\\x1b[2J\\u202e" in text


def test_the_first_steps(folder: Path) -> None:
    assert "durable-nb worker flow.py" in command("init").stdout
    assert command("run", "greet", '{"name": "Ada", "seconds": 0}', "-f", "flow.py").stdout == '"Hello, Ada! And goodbye."\n'
    assert Path(".gitignore").read_text() == "*.durable.db*\n"
    command("init", "sub/flow.ipynb")
    command("run", "greet", '{"seconds": 0}', "-f", "sub/flow.ipynb")
    assert "cells left out" in command("export", "sub/flow.ipynb").stderr
    assert "say --force" in command("export", "sub/flow.ipynb", code=2).stderr
    text = command("export", "sub/flow.ipynb", "-o", "-").stdout
    assert text == Path("sub/flow.py").read_text()
    versions = {
        view["version"]
        for name in ("flow", "sub/flow")
        for view in lines_of(command("runs", "--json", "-l", f"{name}.durable.db"))
    }
    assert len(versions) == 1, "the code is the version, in a notebook as in a script"
