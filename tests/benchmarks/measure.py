"""What is measured, and with which instruments.

Invariant: a figure that an instrument cannot tell here is absent, never zero.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from durable_nb.log import writer

FLUSHES_FIELD = 15  # of a block device's `stat`: flush requests completed


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a piece of work is measured, and how much of it.

    Attributes:
        folder: on the disk that is measured; empty at first.
        scale: 1 for the sizes of the table, less for a quick look.
    """

    folder: Path
    scale: float

    def count(self, full: int, *, least: int = 1) -> int:
        """Give how many of what the table has `full` of.

        >>> Setting(Path(), 0.01).count(1000), Setting(Path(), 0.01).count(10, least=3)
        (10, 3)
        """
        return max(least, round(full * self.scale))


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a piece of work.

    Attributes:
        count: units of work that were done, and were checked to be right.
        figures: numbers by name. ``rate`` is units a second, ``…_us`` microseconds, ``…_ms`` milliseconds, ``…_s`` seconds,
            ``…_mb`` megabytes, ``flushes`` and ``commits`` of one unit, ``cpu_us`` processor time of one unit.
    """

    count: int
    figures: Mapping[str, float]


@dataclass
class Commits:
    """How many transactions the log's writer has committed."""

    number: int = 0


@contextmanager
def counted_commits() -> Iterator[Commits]:
    """Count the commits of this process's log."""
    commits, transact = Commits(), writer.transact

    def counting(connection: sqlite3.Connection, batch: list[writer.Item]) -> None:
        transact(connection, batch)
        commits.number += 1

    with mock.patch.object(writer, "transact", counting):
        yield commits


def device_of(folder: Path) -> Path | None:
    """Give the `stat` file of the disk that holds a folder, where the kernel has one (Linux, a real disk)."""
    device = folder.stat().st_dev
    try:
        block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve(strict=True)
    except OSError:
        return None
    return (block.parent if (block / "partition").exists() else block) / "stat"


def flushes_of(device: Path | None) -> int | None:
    """Give how many flushes a disk has completed, whoever asked for them."""
    if device is None:
        return None
    fields = device.read_text().split()
    return int(fields[FLUSHES_FIELD]) if len(fields) > FLUSHES_FIELD else None


def resident_mb() -> float:
    """Give the memory of this process that is resident, in megabytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Meter:
    """Measures the work inside a ``with``: time, processor time of all threads of this process, flushes of the disk.

    Args:
        folder: on the disk whose flushes are counted.
    """

    folder: Path
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    flushes: int | None = None
    _device: Path | None = field(default=None, repr=False)
    _began: tuple[float, float, int | None] = field(default=(0.0, 0.0, None), repr=False)

    def __enter__(self) -> Meter:
        self._device = device_of(self.folder)
        self._began = (time.perf_counter(), time.process_time(), flushes_of(self._device))
        return self

    def __exit__(self, *_: object) -> None:
        began, cpu, flushes = self._began
        self.seconds, self.cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        now = flushes_of(self._device)
        self.flushes = None if now is None or flushes is None else now - flushes

    def figures(self, count: int) -> dict[str, float]:
        """Give rate, processor time and flushes of each of `count` units."""
        figures = {"rate": count / self.seconds, "cpu_us": self.cpu_seconds / count * 1e6}
        if self.flushes is not None:
            figures["flushes"] = self.flushes / count
        return figures


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the value below or at which `percent` of the values lie.

    >>> percentile(range(1, 101), 99), percentile([3.0], 50)
    (99, 3.0)
    """
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered)) - 1))]


def latencies(seconds: Sequence[float], prefix: str = "") -> dict[str, float]:
    """Give p50 and p99 in milliseconds."""
    return {f"{prefix}p50_ms": percentile(seconds, 50) * 1e3, f"{prefix}p99_ms": percentile(seconds, 99) * 1e3}
