"""The engine is killed while an attempt executes in a process of its own: that one dies too, and is executed once more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from durable_nb import Context, Durable

PROGRAM = """
import os, sys, time
from pathlib import Path
from durable_nb import Context, Durable

durable = Durable(sys.argv[1])
pids = Path(sys.argv[2])


@durable.task(executor="process")
def works(input: str, ctx: Context) -> int:
    with open(input, "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(60)
    return 0


with durable:
    durable.start_named(works, str(pids), key="it")
    time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_an_attempt_elsewhere_dies_with_its_engine_and_is_executed_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    log, pids, program = tmp_path / "log.db", tmp_path / "pids.txt", tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen([sys.executable, str(program), str(log), str(pids)], env=environment) as process:
        deadline = time.monotonic() + 30
        while not pids.exists() or not pids.read_text().endswith("\n"):
            assert time.monotonic() < deadline, "the attempt does not begin"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    [pid] = map(int, pids.read_text().split())
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline, "the process outlives its engine"
        time.sleep(0.02)
    durable = Durable(log)

    @durable.task(executor="process")
    def works(input: str, ctx: Context) -> int:
        with Path(input).open("a") as file:
            file.write(f"{os.getpid()}\n")
        return ctx.invocation_count

    with durable:
        assert durable.runs.get_run_ref("it").result() == 2
    assert len(pids.read_text().split()) == 2
