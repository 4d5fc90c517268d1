"""Names the task that blocks the engine: an async one that computes, sleeps or waits without awaiting.

A thread looks at the engine's thread now and then. Where that is not waiting for work, it asks the loop to answer; while no
answer comes, the engine's stack tells who holds it. An idle engine is looked at and never woken.

Invariant: one warning for each occurrence. It costs no ownership: that is a lock of the operating system, which nobody can miss.
"""

from __future__ import annotations

import linecache
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from durable_nb.views.words import brief, duration

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

LOOK_SECONDS = 0.1
BLOCKED_SECONDS = 1.0
SELECTORS = ("selectors.py", "windows_events.py")  # where an idle loop waits
CAPTURED = "<durable "  # how the files of captured code begin


class Watchdog:
    """Watches one engine on a thread of its own, until `stop`.

    Args:
        warn: is given the sentence, on the watchdog's thread.
    """

    def __init__(self, engine: Engine, warn: Callable[[str], None]) -> None:
        self._engine = engine
        self._warn = warn
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="durable_nb watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _watch(self) -> None:
        answer: threading.Event | None = None
        asked_at, is_told = 0.0, False
        while not self._stopped.wait(LOOK_SECONDS):
            if answer is not None and answer.is_set():
                answer = None
            stack = self._stack()
            if stack is None or (answer is None and stack.f_code.co_filename.endswith(SELECTORS)):
                continue
            if answer is None:
                answer, asked_at, is_told = threading.Event(), time.monotonic(), False
                self._engine.post(answer.set)
            elif not is_told and time.monotonic() - asked_at >= BLOCKED_SECONDS:
                culprit = self._culprit(stack)
                if culprit is not None:
                    is_told = True
                    self._warn(_sentence(*culprit, time.monotonic() - asked_at))

    def _stack(self) -> FrameType | None:
        return sys._current_frames().get(self._engine.thread.ident or 0)

    def _culprit(self, stack: FrameType) -> tuple[str, FrameType] | None:
        """Give the task whose code holds the loop, and the innermost frame of its source."""
        tasks = {task.function.__code__.co_filename: task.name for task in self._engine.registry}
        innermost: FrameType | None = None
        frame: FrameType | None = stack
        while frame is not None:
            file = frame.f_code.co_filename
            innermost = innermost or (frame if file in tasks or file.startswith(CAPTURED) else None)
            if file in tasks and innermost is not None:
                return tasks[file], innermost
            frame = frame.f_back
        return None


def _sentence(task: str, frame: FrameType, seconds: float) -> str:
    code = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    file = frame.f_code.co_filename
    where = "" if file.startswith("<") or "ipykernel" in file else f" of {Path(file).name}"
    shown = f" (`{brief(code, 80)}`)" if code else ""
    return (
        f"Task '{brief(task)}' has blocked the engine for {duration(seconds)} on line {frame.f_lineno}{where}{shown}: no other "
        "task or timer goes on meanwhile. Await instead, use a memo with a plain function, or make it a `def` task, which has a "
        "thread."
    )
