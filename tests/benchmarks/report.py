"""How results are told: a table for people, a plain object for programs."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tests.benchmarks.apart import Missing
from tests.benchmarks.measure import Measured
from tests.benchmarks.works import OURS, PEERS, Result, Verdict

PAGE_COLUMNS = 180
ENDINGS = {"_ms": " ms", "_us": " µs", "_s": " s", "_mb": " MB"}
WORDS = {"cpu_us": "processor", "rate": ""}


def machine() -> dict[str, Any]:
    """Say where and when this was measured."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }


def as_json(results: Sequence[Result], scale: float, rounds: int) -> dict[str, Any]:
    """Give all figures and verdicts."""
    rows = {
        result.name: {
            "work": result.work.title,
            "answers": {who: asdict(answer) for who, answer in result.answers.items()},
            "gates": [
                {"gate": str(verdict.gate), "value": verdict.value, "is_met": verdict.is_met} for verdict in result.verdicts()
            ],
        }
        for result in results
    }
    return {"machine": machine(), "scale": scale, "rounds": rounds, "results": rows}


def show(results: Sequence[Result], scale: float, rounds: int) -> None:
    """Print the table, as wide as the terminal, or as a page where there is none."""
    where, console = machine(), Console(width=None if sys.stdout.isatty() else PAGE_COLUMNS, highlight=False)
    title = ", ".join(f"{name} {value}" for name, value in where.items())
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in ("work", "ours", "raw and other sizes", "peers", "gates"):
        table.add_column(column, overflow="fold")
    for result in results:
        table.add_row(*_row(result))
    console.print(table)
    console.print(
        f"Sizes × {scale:g} of the table's, medians of {rounds} rounds. Flushes are the whole disk's, others' included; "
        "processor time is that of all threads of the process, SQLite's included."
    )


def _row(result: Result) -> list[RenderableType]:
    others = [who for who in result.work.contestants if who != OURS and who not in PEERS]
    peers = [who for who in result.work.contestants if who in PEERS]
    return [
        Text(f"{result.name}\n{result.work.title}"),
        Text(_ours(result)),
        Text("\n".join(_theirs(result, who) for who in others)),
        Text("\n".join(_theirs(result, who) for who in peers)),
        Text("\n").join(_verdict(verdict) for verdict in result.verdicts()),
    ]


def _ours(result: Result) -> str:
    answer = result.answers.get(OURS)
    if not isinstance(answer, Measured):
        return answer.reason if isinstance(answer, Missing) else "not measured"
    return "\n".join(
        f"{_word(name)} {formatted(name, answer.figures.get(name), result.work.unit)}".strip() for name in result.work.shown
    )


def _word(figure: str) -> str:
    return WORDS[figure] if figure in WORDS else figure.rpartition("_")[0] or figure


def _theirs(result: Result, who: str) -> str:
    answer = result.answers.get(who)
    if not isinstance(answer, Measured):
        return f"{who}: {answer.reason if isinstance(answer, Missing) else 'not asked for'}"
    figure = result.work.shown[0]
    return f"{who}: {formatted(figure, answer.figures.get(figure), result.work.unit)}"


def formatted(name: str, value: float | None, unit: str) -> str:
    """Give a figure with its unit.

    >>> formatted("rate", 1234.5, "memos"), formatted("wake_p99_ms", 0.5, ""), formatted("flushes", None, "")
    ('1,234 memos/s', '0.5 ms', 'n/a')
    """
    if value is None:
        return "n/a"
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    if name == "rate":
        return f"{number} {unit}/s"
    return number + next((text for ending, text in ENDINGS.items() if name.endswith(ending)), "")


def _verdict(verdict: Verdict) -> Text:
    if verdict.is_met is None or verdict.value is None:
        return Text(f"– {verdict.gate}: not measured", style="dim")
    value = formatted("", verdict.value, "")
    return Text(f"{'✓' if verdict.is_met else '✗'} {verdict.gate}: {value}", style="green" if verdict.is_met else "red")
