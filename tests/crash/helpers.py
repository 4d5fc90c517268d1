"""What the crash tests share: the program that is killed, and what it gives when nobody kills it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durable_nb.log.rebuild import differences


def check_log(path: Path) -> None:
    """See that a log is sound, and that its current state follows from its facts."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert differences(connection) == []


@dataclass
class Program:
    """A log, a file of counts, and the program that is run on them."""

    folder: Path
    module: str = "tests.crash.program"

    @property
    def log(self) -> Path:
        return self.folder / "crash.db"

    @property
    def counts(self) -> Path:
        return self.folder / "counts.txt"

    def run(self, *point: str) -> subprocess.CompletedProcess[str]:
        """Run the program, to its end or its death."""
        environment = {**os.environ, "JUPYTER_DATA_DIR": str(self.folder / "data")}
        command = [sys.executable, "-W", "error", "-m", self.module, str(self.log), str(self.counts), *point]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def executed(self) -> Counter[str]:
        """How often each memo and child was executed."""
        return Counter(self.counts.read_text().split("\n")[:-1] if self.counts.exists() else [])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Read the log as a person would."""
        connection = sqlite3.connect(self.log)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def committed(self) -> set[str]:
        """What must never be executed again: the children and memos whose completion is in the log."""
        if not self.log.exists() or not self.query("SELECT 1 FROM sqlite_schema WHERE name = 'run'"):
            return set()
        squares = self.query("SELECT input FROM v_runs WHERE task = 'square' AND status = 'COMPLETED'")
        memos = self.query("SELECT 1 FROM v_checkpoints WHERE kind = 'memo' AND seq IS NOT NULL")
        shaky = self.query("SELECT 1 FROM v_runs WHERE task = 'shaky' AND status = 'COMPLETED'")
        return {f"square {row[0]}" for row in squares} | {"memo" for _ in memos} | {"shaky 7 1" for _ in shaky}


@dataclass
class Expected:
    """What a run gives that nobody kills."""

    result: Any
    executed: Counter[str]
