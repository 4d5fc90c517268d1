"""The disk under the log: full, cut off in the middle of the WAL, or locked by somebody else."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext
from durable_nb.errors import LogBusyError
from durable_nb.log import connection
from tests.crash.helpers import Expected, Program, check_log
from tests.crash.program import CHILDREN

IS_ALL = os.environ.get("DURABLE_NB_CRASH") == "all"

# ---------------------------------------------------------------- full

FULL = """
import os, resource, sys
from durable_nb import Durable
from durable_nb.errors import DurableError, LogFailedError

log, limit, ballast = sys.argv[1], int(sys.argv[2]), sys.argv[3]
durable = Durable(log)

@durable.task()
async def big(input, ctx):
    return [input, "x" * 20_000]

@durable.durable_task()
async def parent(input, ctx):
    return sum([(await big.aio_run(number))[0] for number in range(input)])

def forbid(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

waiting = durable.start_named(parent, 50, key="parent")
if limit:
    forbid(limit)  # a write beyond it fails, as on a full disk
try:
    for number in range(1000):
        big.run(number)
        print("acknowledged", number, flush=True)
except LogFailedError as error:
    print("stopped:", error, flush=True)
for _ in range(2):
    try:
        big.run(-1)
    except LogFailedError as error:
        print("again:", error, flush=True)
forbid(resource.RLIM_INFINITY)  # there is space again
if ballast:
    os.unlink(ballast)
durable.close()
with durable:
    print("parent", durable.start_named(parent, 50, key="parent").result(), flush=True)
    done = {run.input for run in durable.runs.list(task="big", status="COMPLETED", limit=10_000)}
    print("done", *done, flush=True)
"""


def fill(folder: Path, log: Path, limit: int, ballast: str) -> None:
    """Run the program until there is no space left, and on when there is again; hold what it told against the log."""
    script = folder / "full.py"
    script.write_text(FULL)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "JUPYTER_DATA_DIR": str(folder / "data")}
    command = [sys.executable, str(script), str(log), str(limit), ballast]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    acknowledged = {line.split()[1] for line in lines if line.startswith("acknowledged")}
    assert acknowledged
    [stopped] = [line for line in lines if line.startswith("stopped: ")]
    assert "A commit failed: The log " in stopped
    assert "The engine stopped; what was not acknowledged is not in the log. Mend the cause (disk space, permissions)" in stopped
    assert len([line for line in lines if line.startswith("again: A commit failed")]) == 2, "it stays stopped, and says why"
    assert f"parent {sum(range(50))}" in lines
    [done] = [line for line in lines if line.startswith("done")]
    assert acknowledged <= set(done.split()[1:])
    check_log(log)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    folder, mount = tmp_path / "disk", shutil.which("mount")
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    if sys.platform != "linux" or mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes Linux, and the right to do so")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full_does_the_same(small_disk: Path, tmp_path: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(14_500_000))
    fill(tmp_path, small_disk / "log.db", 0, str(ballast))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX's")
@pytest.mark.parametrize("limit", [250_000, 400_000, 700_000] if IS_ALL else [400_000])
def test_a_full_disk_stops_the_engine_with_a_sentence_and_loses_nothing_that_was_acknowledged(limit: int, tmp_path: Path) -> None:
    fill(tmp_path, tmp_path / "log.db", limit, "")


# ---------------------------------------------------------------- cut off


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program, killed after many commits: its log is a file and a WAL."""
    program = Program(tmp_path_factory.mktemp("killed"))
    assert program.run("after:25").returncode == -9
    return program


def copy_of(program: Program, folder: Path) -> Program:
    shutil.copytree(program.folder, folder, ignore=shutil.ignore_patterns("*-shm"))
    return Program(folder)


def journal(program: Program) -> list[tuple[Any, ...]]:
    return program.query("SELECT seq, run, kind, data FROM journal ORDER BY seq")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the program kills itself by SIGKILL")
@pytest.mark.parametrize("seed", range(60) if IS_ALL else range(4))
def test_a_truncated_wal_opens_at_its_last_whole_commit_and_the_run_goes_on(
    seed: int, killed: Program, undisturbed: Expected, tmp_path: Path
) -> None:
    program, whole = copy_of(killed, tmp_path / "cut"), copy_of(killed, tmp_path / "whole")
    wal = program.log.with_name(program.log.name + "-wal")
    size = wal.stat().st_size
    assert size > 50_000, "most of the log is in the WAL"
    with wal.open("r+b") as file:
        file.truncate(random.Random(seed).randrange(size))
    check_log(program.log)
    entries = journal(program)
    assert entries == journal(whole)[: len(entries)]
    finished = program.run()
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == undisturbed.result
    executed = program.executed()
    assert set(executed) == set(undisturbed.executed)
    assert max(executed.values()) <= 2
    assert program.query("SELECT count(*) FROM run") == [(1 + CHILDREN + 2 + 1,)]
    check_log(program.log)


# ---------------------------------------------------------------- locked

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "file":
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
connection.execute("BEGIN EXCLUSIVE")
connection.execute("CREATE TABLE IF NOT EXISTS foreign_table (a)")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@contextmanager
def held(log: Path, what: str) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold the log's write lock, or its whole file; a line of input has it let go."""
    command = [sys.executable, "-c", HOLDER, str(log), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


def serve(log: Path) -> Durable:
    durable = Durable(log)

    @durable.task()
    async def double(input: int, ctx: Context) -> int:
        return 2 * input

    @durable.durable_task()
    async def work(input: int, ctx: DurableContext) -> Any:
        return [await double.aio_run(input), await ctx.aio_wait_for_event("go")]

    return durable


@pytest.fixture(autouse=True)
def private_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))


def test_a_file_that_another_process_has_for_itself_is_said_and_opens_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.2)
    log = tmp_path / "log.db"
    with serve(log) as durable:
        durable.tasks["double"].run(1)
    refused = pytest.raises(LogBusyError, match=r"Another program held the log .*log\.db for 0 s: close what has it open")
    with held(log, "file"), refused:
        serve(log).open()
    with serve(log) as durable:
        assert durable.tasks["double"].run(2) == 4
    check_log(log)


def test_a_write_lock_held_by_another_process_delays_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.2)
    log = tmp_path / "log.db"
    with serve(log) as durable, ThreadPoolExecutor(2) as pool:
        waiting = durable.tasks["work"].run(1, wait_for_result=False)
        with held(log, "lock") as holder:
            with caplog.at_level(logging.WARNING):
                late = pool.submit(durable.tasks["double"].run, 21)
                deadline = time.monotonic() + 10
                while "durable_nb waits for it" not in caplog.text:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            assert "Another program held the log" in caplog.text
            assert not late.done()
            assert [run.task for run in durable.runs.list()] == ["work"], "reading goes on"
            assert holder.stdin is not None
            holder.stdin.write("go\n")
            holder.stdin.flush()
            assert late.result(10) == 42
        durable.event.push("go", "x")
        assert waiting.result() == [2, "x"]
    check_log(log)


def test_a_reader_that_never_ends_its_transaction_stops_nobody(tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    with serve(log) as durable, closing(sqlite3.connect(log, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM run").fetchone() == (0,)
        assert [durable.tasks["double"].run(number) for number in range(20)] == [2 * number for number in range(20)]
        assert reader.execute("SELECT count(*) FROM run").fetchone() == (0,), "it sees its snapshot"
        reader.execute("ROLLBACK")
    check_log(log)
