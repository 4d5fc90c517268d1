"""A definition's options come back from the log as they were declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from durable_nb import Context, Durable
from durable_nb.notebook import rows
from durable_nb.tasks.options import make_options


def test_what_steers_a_run_survives_being_kept(tmp_path: Path) -> None:
    given: dict[str, Any] = {"cancel_grace": "2m", "deadline": "1d", "on_exhausted": "park", "retries": 2}

    @Durable(tmp_path / "durable.db").task(description="says what it does", **given)
    def task(input: int, ctx: Context) -> int:
        return input

    assert (task.options.cancel_grace, task.options.deadline, task.options.on_exhausted) == (120.0, 86400.0, "park")
    said = rows.read(rows.write(task, "home"))
    assert (said.kind, said.home, said.description) == ("task", "home", "says what it does")
    assert said.options == make_options("task", given)
