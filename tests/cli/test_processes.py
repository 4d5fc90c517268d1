"""The commands in real processes: signals, kills, several workers on one log, pipes that close, terminals that can little."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.cli.helpers import make_script, process, query, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows delivers neither SIGKILL nor SIGTERM to a process"),
]
TAKEN_OVER_SECONDS = 2.0
LAG_SECONDS = 1.0  # of a busy machine
TICK = """@durable.task(on_crons=["* * * * * *"])
def tick(input: None, ctx: Context) -> None:
    count("tick")"""


def counts(folder: Path) -> list[str]:
    path = folder / "counts.txt"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def script(folder: Path) -> Path:
    return make_script(folder)


@pytest.fixture
def log(script: Path) -> Path:
    return script.with_suffix(".durable.db")


def test_a_killed_run_goes_on_with_the_next_worker(script: Path, folder: Path, log: Path) -> None:
    """As a new user would: run, kill -9, resume."""
    with process("run", "story", "1", "-f", "flow.py", folder=folder) as run:
        wait_until(lambda: query(log, "SELECT 1 FROM v_waits"), what="the sleep")
        run.tell(signal.SIGKILL)
    with process("worker", "flow.py", "--until-done", folder=folder) as worker:
        worker.end()
    [(status, output)] = query(log, "SELECT status, output FROM v_runs")
    assert (status, json.loads(output)) == ("COMPLETED", ["memo", "last"])
    assert counts(folder) == ["memo", "last"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number: signal.Signals, script: Path, folder: Path, log: Path) -> None:
    with process("worker", "flow.py", folder=folder) as worker:
        worker.until("serving ")
        for task, value in (("story", "3600"), ("slow", "1.0")):
            with process("run", task, value, "-f", "flow.py", "--no-wait", folder=folder) as start:
                start.end()
        wait_until(lambda: "slow begins" in counts(folder) and query(log, "SELECT 1 FROM v_waits"), what="both runs")
        worker.tell(number)
        worker.end()
    assert "slow ends" in counts(folder), "what works comes to its end"
    found = dict(query(log, "SELECT task, is_evicted FROM run WHERE status = 'RUNNING' AND owner IS NULL"))
    assert found == {"story": 1}, "what waits is evicted"


def test_a_second_signal_stops_at_once_and_another_worker_takes_over(script: Path, folder: Path, log: Path) -> None:
    with process("worker", "flow.py", folder=folder) as worker:
        worker.until("serving ")
        with process("run", "slow", "1.5", "-f", "flow.py", "--no-wait", folder=folder) as start:
            start.end()
        wait_until(lambda: "slow begins" in counts(folder), what="its begin")
        worker.tell(signal.SIGINT)
        worker.until("Stopping")
        worker.tell(signal.SIGINT)
        worker.end(code=130)
    assert "Stopped at once" in worker.errors and "Traceback" not in worker.errors
    with process("worker", "flow.py", "--until-done", folder=folder) as next_worker:
        next_worker.end()
    assert counts(folder) == ["slow begins", "slow begins", "slow ends"]


def test_an_interrupted_run_goes_back_to_the_log(script: Path, folder: Path, log: Path) -> None:
    with process("run", "story", "3600", "-f", "flow.py", folder=folder) as run:
        wait_until(lambda: query(log, "SELECT 1 FROM v_waits"), what="the sleep")
        run.tell(signal.SIGINT)
        assert run.end(code=130) == ""
    assert "goes on with the next worker" in run.errors and "Traceback" not in run.errors
    assert query(log, "SELECT status, is_evicted, owner FROM run") == [("RUNNING", 1, None)]
    with process("watch", "#1", folder=folder) as watch:
        wait_until(lambda: watch.process.stdout is not None and "waiting" in watch.process.stdout.readline(), what="a line")
        watch.tell(signal.SIGINT)
        watch.end(code=130)
    assert "Traceback" not in watch.errors


def test_a_dead_workers_runs_are_taken_over_in_time(script: Path, folder: Path, log: Path) -> None:
    with process("worker", "flow.py", folder=folder) as first:
        first.until("serving ")
        with process("run", "slow", "600", "-f", "flow.py", "--no-wait", folder=folder) as start:
            start.end()
        wait_until(lambda: counts(folder) == ["slow begins"], what="its begin")
        with process("worker", "flow.py", folder=folder) as second:
            second.until("serving ")
            killed = time.monotonic()
            first.tell(signal.SIGKILL)
            wait_until(lambda: counts(folder) == ["slow begins"] * 2, what="the take-over")
            assert time.monotonic() - killed < TAKEN_OVER_SECONDS + LAG_SECONDS


def test_crons_and_schedules_fire_once_with_two_workers(folder: Path) -> None:
    script = make_script(folder)
    script.write_text(script.read_text().replace("@durable.task()\ndef fail", f"{TICK}\n\n\n@durable.task()\ndef fail"))
    log = script.with_suffix(".durable.db")
    with process("worker", "flow.py", folder=folder) as first, process("worker", "flow.py", folder=folder) as second:
        first.until("serving ")
        second.until("serving ")
        wait_until(lambda: len(query(log, "SELECT 1 FROM run WHERE task = 'tick' AND status = 'COMPLETED'")) >= 4, what="4 ticks")
        for worker in (first, second):
            worker.tell(signal.SIGTERM)
            worker.end()
    runs = query(log, "SELECT cast(created_at AS int) FROM run WHERE task = 'tick'")
    assert len(set(runs)) == len(runs), "no second has two"


def test_slots_are_kept(script: Path, folder: Path, log: Path) -> None:
    for _ in range(3):
        with process("run", "slow", "0.4", "-f", "flow.py", "--no-wait", folder=folder) as start:
            start.end()
    with process("worker", "flow.py", "--concurrency", "1", "--until-done", folder=folder) as worker:
        worker.end()
    assert counts(folder) == ["slow begins", "slow ends"] * 3


def test_a_script_has_the_verbs_too(script: Path, folder: Path, log: Path) -> None:
    python = (sys.executable, "flow.py")

    def told(*arguments: str, code: int = 0) -> str:
        with process(*arguments, folder=folder, command=python) as made:
            output = made.end(code)
        assert "Traceback" not in made.errors
        return output

    assert json.loads(told("run", "story", "0")) == ["memo", "last"]
    run = told("run", "order", "--no-wait").strip()
    told("worker", "--until-idle")
    assert told("emit", "paid", '{"sum": 9}') == f"reached {run}\n"
    assert told("emit", "greeted", '{"by": "A"}').startswith("started "), "the script's own listeners are known"
    told("worker", "--until-done")
    assert told("runs").count("completed") == 3
    assert 'output {"sum":9}' in told("show", run)
    told("replay", run)
    assert told("cancel", run) == f"cancelled {run} order\n"
    told("show", "none", code=4)
    assert "export" not in told("--help")


def test_a_worker_in_the_background_outlives_who_started_it(script: Path, folder: Path, log: Path) -> None:
    with process("run", "story", "1.5", "-f", "flow.py", "--no-wait", folder=folder) as start:
        start.end()
    with process("worker", "--detached", "--until-done", "--log", str(log), folder=folder) as starter:  # with the log's code
        pid = int(starter.end())
    assert os.getsid(pid) == pid, "a closed terminal does not reach it"
    wait_until(lambda: query(log, "SELECT 1 FROM v_runs WHERE status = 'COMPLETED'"), what="the end")
    wait_until(lambda: not query(log, "SELECT 1 FROM worker"), what="its own end")
    with process("worker", "--detached", "--log", "none.db", folder=folder) as refused:
        assert refused.end(code=6) == ""
    assert "There is no log" in refused.errors


def test_a_reader_that_leaves_ends_it_quietly(script: Path, folder: Path, log: Path) -> None:
    for _ in range(3):
        with process("run", "story", "0", "-f", "flow.py", folder=folder) as run:
            run.end()
    for _ in range(2):  # what is written first may fit into the pipe
        with process("runs", "--json", "--limit", "1000", folder=folder) as runs:
            assert runs.process.stdout is not None
            runs.process.stdout.close()
            runs.process.stdout = None
            runs.end(code=141)
        assert runs.errors == ""


def test_a_terminal_that_can_little(script: Path, folder: Path) -> None:
    with process("run", "story", "0", "-f", "flow.py", "--key", "Grüße 🌍", folder=folder) as run:
        run.end()
    with process("show", "Grüße 🌍", folder=folder, PYTHONIOENCODING="ascii", LC_ALL="C", COLUMNS="20") as show:
        text = show.end()
    assert text.isascii() and "\\u2713" in text
    with process("runs", folder=folder, COLUMNS="8") as runs:
        assert runs.end()
    assert runs.errors == ""


def test_importing_a_script_imports_no_command_line(script: Path, folder: Path, log: Path) -> None:
    code = "import sys, flow; print('typer' in sys.modules, 'IPython' in sys.modules, flow.durable.is_open)"
    with process("-c", code, command=(sys.executable,), folder=folder) as made:
        assert made.end() == "False False False\n"
    assert not log.exists()
