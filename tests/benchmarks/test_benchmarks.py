"""Every benchmark does its work rightly, at a tiny size. How fast is never asserted: that is for a person to read."""

from __future__ import annotations

import importlib
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from durable_nb.log import writer
from tests.benchmarks import soak
from tests.benchmarks.__main__ import main, middle, options_of, without_venv
from tests.benchmarks.apart import Missing, answer, measure_apart
from tests.benchmarks.measure import Measured, Meter, Setting, counted_commits, latencies, percentile
from tests.benchmarks.report import as_json, formatted, show
from tests.benchmarks.works import OURS, PEERS, WORKS, Gate, Result, least, most

TINY = 0.001
OWN = sorted(
    {function for work in WORKS.values() for who, function in work.contestants.items() if who not in PEERS},
)
IN_PROCESSES = {"sleeping:sleeping", "startup:startup", "stream:stream", "resume:resume"}
FOREIGN = sorted({function for work in WORKS.values() for who, function in work.contestants.items() if who in PEERS})


@pytest.fixture(autouse=True)
def private_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))


def function_of(name: str) -> Callable[[Setting], Measured]:
    module, _, function = name.partition(":")
    found: Callable[[Setting], Measured] = getattr(importlib.import_module(f"tests.benchmarks.{module}"), function)
    return found


# ---------------------------------------------------------------- the work itself


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in IN_PROCESSES else pytest.param(name) for name in OWN], ids=OWN
)
def test_the_work_is_done_and_told(name: str, tmp_path: Path) -> None:
    measured = function_of(name)(Setting(tmp_path, TINY))  # each asserts inside that its work is right
    assert measured.count > 0
    assert all(value >= 0 for value in measured.figures.values())
    for work in WORKS.values():
        if work.contestants[OURS] == name:
            wanted = {*work.shown, *(gate.figure for gate in work.gates)} - {"flushes"}  # no disk may tell those here
            assert wanted <= measured.figures.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", FOREIGN)
def test_a_peer_does_the_same_work_or_is_said_to_be_missing(name: str, tmp_path: Path) -> None:
    said = measure_apart(f"tests.benchmarks.{name}", TINY, tmp_path)
    package = name.partition(":")[0].removeprefix("peer_")
    assert said == Missing(f"{package} is not installed") or (isinstance(said, Measured) and said.figures["rate"] > 0)


def test_copies_of_sleeping_runs_are_whole_runs(tmp_path: Path) -> None:
    from durable_nb.log.connection import prepare
    from tests.benchmarks.checkpoints import opened, rows
    from tests.benchmarks.sleeping import ASLEEP, declare, fill

    with opened(tmp_path) as durable:
        sleeper = declare(durable, [])
        sleeper.run_many([sleeper.create_bulk_run_item(index) for index in range(3)], wait_for_result=False)
        while rows(tmp_path, ASLEEP) != [(3,)]:
            pass
    fill(tmp_path / "log.db", 3, 10)
    assert rows(tmp_path, "SELECT count(*), count(DISTINCT id) FROM run WHERE ready_at IS NULL") == [(10, 10)]
    assert rows(tmp_path, "SELECT count(*) FROM run JOIN checkpoint ON run = number JOIN wait USING (run, branch, node)") == [
        (10,)
    ]
    assert rows(tmp_path, "PRAGMA foreign_key_check") == []
    assert prepare(tmp_path / "log.db")[1] is False


# ---------------------------------------------------------------- instruments


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert [percentile([5, 1, 3], percent) for percent in (0, 50, 99, 100)] == [1, 3, 5, 5]
    assert latencies([0.001] * 98 + [0.5, 0.5]) == {"p50_ms": 1.0, "p99_ms": 500.0}


def test_a_meter_counts_time_and_the_disks_flushes_where_it_can_tell(tmp_path: Path) -> None:
    with Meter(tmp_path) as meter:
        sum(range(10_000))
    figures = meter.figures(10)
    assert figures["rate"] == 10 / meter.seconds
    assert figures["cpu_us"] == meter.cpu_seconds * 1e5
    assert ("flushes" in figures) == (meter.flushes is not None)


def test_commits_are_counted_only_inside(tmp_path: Path) -> None:
    from tests.benchmarks.checkpoints import counter, opened

    as_ever = writer.transact
    with opened(tmp_path) as durable:
        count = counter(durable)
        count.run(1)
        with counted_commits() as commits:
            count.run(5)
        assert 6 <= commits.number <= 12
    assert writer.transact is as_ever


# ---------------------------------------------------------------- other processes


def test_the_answer_of_a_process_is_its_last_line() -> None:
    assert answer(0, 'noise\n{"count": 2, "figures": {"rate": 3.0}}\n', "") == Measured(2, {"rate": 3.0})
    assert answer(0, '{"missing": "dbos is not installed"}', "") == Missing("dbos is not installed")
    assert answer(1, "", "Traceback\nValueError: no") == Missing("failed: ValueError: no")
    assert answer(-9, "", "") == Missing("failed: status -9")


def test_what_fails_apart_is_said(tmp_path: Path) -> None:
    said = measure_apart("tests.benchmarks.raw:opened", TINY, tmp_path)
    assert isinstance(said, Missing)
    assert said.reason.startswith("failed: TypeError")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- judging and telling


def result(ours: float, theirs: float | None, *gates: Gate) -> Result:
    answers: dict[str, Measured | Missing] = {OURS: Measured(1, {"rate": ours})}
    answers["raw"] = Missing("raw is not installed") if theirs is None else Measured(1, {"rate": theirs})
    work = WORKS["sequential"]
    return Result("row", type(work)(work.title, work.unit, work.shown, work.contestants, gates), answers)


def test_a_gate_is_a_bound_or_a_ratio_and_says_nothing_without_figures() -> None:
    verdicts = result(8.0, 10.0, least("rate", 0.8, "raw"), most("rate", 0.7, "raw"), least("rate", 9)).verdicts()
    assert [(verdict.value, verdict.is_met) for verdict in verdicts] == [(0.8, True), (0.8, False), (8.0, False)]
    [unknown] = result(8.0, None, least("rate", 0.8, "raw")).verdicts()
    assert (unknown.value, unknown.is_met, str(unknown.gate)) == (None, None, "rate ≥ 0.8 × raw")


def test_every_gate_names_a_contestant_of_its_work() -> None:
    for work in WORKS.values():
        assert {gate.of for gate in work.gates if gate.of} <= work.contestants.keys()


def test_the_table_shows_figures_reasons_and_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    show([result(8.0, 10.0, least("rate", 0.8, "raw")), result(8.0, None, least("rate", 9))], 0.1, 1)
    printed = capsys.readouterr().out
    for text in (
        "8 memos/s",
        "raw: 10 memos/s",
        "raw is not installed",
        "✓ rate ≥ 0.8 × raw: 0.8",
        "✗ rate ≥ 9: 8",
        "flushes n/a",
    ):
        assert text in printed
    assert (formatted("p50_ms", 1.234, ""), formatted("rate", 12_345.6, "runs")) == ("1.23 ms", "12,346 runs/s")


def test_medians_are_of_each_figure_and_a_failure_hides_none() -> None:
    rounds: list[Measured | Missing] = [Measured(1, {"rate": rate, "p50_ms": 9 - rate}) for rate in (1.0, 5.0, 3.0)]
    assert middle(rounds) == Measured(1, {"rate": 3.0, "p50_ms": 6.0})
    assert middle([*rounds, Missing("failed")]) == Missing("failed")


def test_the_results_are_json() -> None:
    said = json.loads(json.dumps(as_json([result(8.0, None, least("rate", 9))], 0.1, 1)))
    assert said["results"]["row"]["gates"] == [{"gate": "rate ≥ 9", "value": 8.0, "is_met": False}]
    assert said["results"]["row"]["answers"]["raw"] == {"reason": "raw is not installed"}
    assert said["machine"]["sqlite"]


def test_an_unknown_work_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options_of(["--only", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err


def test_the_command_is_the_same_in_its_own_environment() -> None:
    assert without_venv(["--quick", "--venv", "./x", "--peers"]) == ["--quick", "--peers"]
    assert without_venv(["--venv=./x", "--only", "empty"]) == ["--only", "empty"]


@pytest.mark.slow
def test_the_command_measures_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--scale", "0.005", "--rounds", "1", "--only", "sequential", "--json", str(tmp_path / "said.json")])
    assert status == 0
    assert "1,000 sequential memos" in capsys.readouterr().out.replace("\n", " ")
    said = json.loads((tmp_path / "said.json").read_text(encoding="utf-8"))
    assert set(said["results"]["sequential"]["answers"]) == {"ours", "raw"}


@pytest.mark.slow
def test_the_command_stands_alone() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--help"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert "--peers" in done.stdout


# ---------------------------------------------------------------- the soak


@pytest.mark.slow
def test_a_soak_kills_goes_on_and_checks_every_journey(tmp_path: Path) -> None:
    samples = soak.watch(tmp_path, seconds=6.0, chance=random.Random(1), kill=(2.0, 3.0))
    assert samples[-1].life > 1
    assert soak.check(tmp_path / "log.db") == []
    assert soak.judge(samples) == []
    assert "bytes a journey" in soak.summary(samples)
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        connection.execute("UPDATE run SET output = '1' WHERE key = 'journey 3'")
        connection.execute("DELETE FROM checkpoint WHERE node = 6 AND run = (SELECT number FROM run WHERE key = 'journey 4')")
        connection.commit()
    assert soak.check(tmp_path / "log.db") == [
        "'journey 3' is COMPLETED with 1",
        "'journey 4' has 5 checkpoints, the last numbered 5",
    ]


def test_growth_is_told() -> None:
    def sample(at: int, resident_mb: float, log_mb: float, wal_mb: float) -> soak.Sample:
        return soak.Sample(at=at, life=1, age=at, done=at * 10, resident_mb=resident_mb, log_mb=log_mb, wal_mb=wal_mb)

    flat = [sample(at, 80.0, at * 0.1, 4.0) for at in range(200)]
    assert soak.judge(flat) == []
    growing = [sample(at, 80.0 + at, 0.001 * at * at, 100.0) for at in range(200)]
    assert [sentence.split()[0:2] for sentence in soak.judge(growing)] == [["the", "WAL"], ["memory", "grew"], ["a", "journey"]]
