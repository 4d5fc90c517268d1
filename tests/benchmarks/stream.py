"""A stream of events from two processes into one log, at a fixed pace: each is due at its time, however late the last one was."""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from pathlib import Path

from durable_nb import Durable
from tests.benchmarks.apart import answer, start
from tests.benchmarks.checkpoints import opened, rows
from tests.benchmarks.measure import Measured, Meter, Setting, latencies

PROCESSES = 2
EVENTS_A_SECOND = 10_000
TICK_SECONDS = 0.01
IN_FLIGHT = 2000  # of one process; beyond that it waits, and its latencies grow
PATIENCE_SECONDS = 60.0


def stream(setting: Setting) -> Measured:
    """10,000 events a second for a minute; an engine that is slower gets twice the time, and is then cut off."""
    folder = setting.folder
    with opened(folder):
        pass
    pushers = [start("tests.benchmarks.stream:pusher", setting.scale, folder) for _ in range(PROCESSES)]
    try:
        _wait_for(folder, "ready-*", PROCESSES)
        (folder / "go").touch()
        said = [answer(pusher.returncode, *texts) for pusher, texts in [(each, each.communicate()) for each in pushers]]
    finally:
        for pusher in pushers:
            pusher.kill()
    seconds = array("d")
    for file in folder.glob("latencies-*"):
        seconds.frombytes(file.read_bytes())
    assert all(isinstance(each, Measured) for each in said), said
    measured = [each for each in said if isinstance(each, Measured)]
    (accepted,) = rows(folder, "SELECT count(*) FROM event WHERE key = 'tick'")[0]
    (unmatched,) = rows(folder, "SELECT count(*) FROM event WHERE matched = 0")[0]
    unanswered = sum(each.figures["unanswered"] for each in measured)
    assert accepted >= len(seconds), "an acknowledged event is lost"
    assert unmatched <= unanswered, "an acknowledged event was not matched"
    figures = {name: sum(each.figures[name] for each in measured) for name in ("rate", "flushes") if name in measured[0].figures}
    cpu_us = sum(each.figures["cpu_us"] * each.count for each in measured) / accepted
    return Measured(accepted, figures | latencies(seconds) | {"cpu_us": cpu_us, "unanswered": unanswered})


def pusher(setting: Setting) -> Measured:
    """Push one process's part, from an event loop of its own, as a program would."""
    with Durable(setting.folder / "log.db") as durable:
        durable.event.push("warm")
        (setting.folder / f"ready-{os.getpid()}").touch()
        _wait_for(setting.folder, "go", 1)
        with Meter(setting.folder) as meter:
            seconds, unanswered = asyncio.run(_pump(durable, max(0.1, 60 * setting.scale)))
    (setting.folder / f"latencies-{os.getpid()}").write_bytes(seconds.tobytes())
    return Measured(len(seconds), meter.figures(len(seconds)) | {"unanswered": unanswered})


async def _pump(durable: Durable, duration: float) -> tuple[array[float], int]:
    """Push for `duration` seconds; give how long each took from when it was due, and how many had no answer in the end."""
    seconds, in_flight = array("d"), set[asyncio.Task[None]]()

    async def push(number: int, due_at: float) -> None:
        await durable.event.aio_push("tick", {"number": number})
        seconds.append(time.perf_counter() - due_at)

    began, number = time.perf_counter(), 0
    ticks, each = round(duration / TICK_SECONDS), round(EVENTS_A_SECOND * TICK_SECONDS / PROCESSES)
    for tick in range(ticks):
        due_at = began + tick * TICK_SECONDS
        await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
        if time.perf_counter() > began + 2 * duration:
            break
        for _ in range(each):
            number += 1
            in_flight.add(task := asyncio.create_task(push(number, due_at)))
            task.add_done_callback(in_flight.discard)
        while len(in_flight) > IN_FLIGHT and time.perf_counter() < began + 2 * duration:  # noqa: ASYNC110  to wait for them costs more
            await asyncio.sleep(TICK_SECONDS)
    _, late = await asyncio.wait(in_flight, timeout=PATIENCE_SECONDS)
    for task in late:
        task.cancel()
    return seconds, len(late)


def _wait_for(folder: Path, pattern: str, number: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(folder.glob(pattern))) < number:
        assert time.monotonic() < deadline, f"{pattern} did not come"
        time.sleep(0.01)
