"""The process that walks through one recorded history and tells, at each checkpoint, what its suspended frames hold.

The history is replayed as for the check of an edit (`replayer`), under the same guard. Whenever the run is at rest and has asked
something since it was last at rest, the frames of its asyncio tasks are read: no tracing, and nothing of the code is
slowed or changed. One walk serves every position, so that a slider can be dragged.

It says lines of JSON: ``{"nodes": [first, last], …}`` for each stop, and ``{"end": …}``.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_paths
from types import FrameType
from typing import Any

import durable_nb
from durable_nb.client import frames
from durable_nb.client.replayer import Guard, History, Job, Refused, Replay, engine_for, replay, serve
from durable_nb.engine.context import Context
from durable_nb.engine.cursor import Cursor
from durable_nb.engine.engine import Engine
from durable_nb.engine.loop import Moves
from durable_nb.errors import DurableError, IllegalTaskOutputError
from durable_nb.log.records import Ask, Completion, Recorded
from durable_nb.tasks.artifacts import ArtifactText
from durable_nb.tasks.payload import encode
from durable_nb.tasks.task import Task

MOST_TASKS = 12  # asyncio tasks that are shown at a stop
MOST_VALUE_BYTES = 64 * 2**20
OURS = (str(Path(durable_nb.__file__).parent), *(get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")))

Say = Callable[[dict[str, Any]], None]
Described = tuple[str, str, str]  # type, size, text


@dataclass(frozen=True)
class WalkJob(Job):
    """One history to walk through, and the code.

    Attributes:
        cancel: of the run, if it was asked to be cancelled.
        first: the first node at which frames are wanted.
        values_at: the node and the frame (its place among those that are told) whose locals are given as values.
    """

    cancel: Completion | None = None
    first: int = 1
    values_at: tuple[int, int] | None = None


class Ended(Cursor):
    """A cursor to which nothing more will arrive, so that no number is waited for."""

    def has_gap(self) -> bool:
        """Never."""
        return False


class Made(Moves):
    """Moves that remember the asyncio tasks in the order in which they were made."""

    def __init__(self, at_rest: Callable[[], None]) -> None:
        super().__init__(at_rest)
        self.made: list[asyncio.Task[Any]] = []

    def add_task(self, task: asyncio.Task[Any]) -> None:
        """Remember a task."""
        super().add_task(task)
        self.made.append(task)


class Walk(Replay):
    """A replay that tells its frames whenever it is at rest."""

    def __init__(self, engine: Engine, task: Task[Any], history: History, walked: WalkJob, say: Say) -> None:
        super().__init__(engine, task, history)
        claim = history.claim
        self.cursor = Ended(history.recorded, branch=claim.branch, seeds=history.seeds, since=history.since)
        if walked.cancel is not None:
            self.cursor.arrive(walked.cancel)
        self._made = Made(self._at_rest)
        self._moves = self._made
        self._walked, self._say = walked, say
        self._askers: dict[int, asyncio.Task[Any] | None] = {}
        self._told = 0
        self._before: dict[tuple[int, int, str], dict[str, Described]] = {}

    def _take(self, ask: Ask) -> tuple[int, Recorded | None]:
        node, recorded = super()._take(ask)
        self._askers[node] = asyncio.current_task()
        return node, recorded

    def _at_rest(self) -> None:
        main = self._main
        if main is not None and not main.done() and self._is_inside and not self._moves.any and not self.verdict.done():
            self._look()
        super()._at_rest()

    def _look(self) -> None:
        """Tell the frames, if something was asked since they were told last."""
        first, last = self._told + 1, self.cursor.next_node - 1
        if last < first:
            return
        self._told = last
        if last < self._walked.first:
            return
        askers = [self._number(self._askers.pop(node, None)) for node in range(first, last + 1)]
        wanted = self._walked.values_at
        if wanted is not None and first <= wanted[0] <= last:
            self._tell_values(askers, wanted[1])
        elif wanted is None:
            told = askers[0] if len(set(askers)) == 1 else askers
            self._say({"nodes": [first, last], "askers": told, **self._frames(askers)})

    def _number(self, task: asyncio.Task[Any] | None) -> int:
        return self._made.made.index(task) if task in self._made.made else 0

    # ------------------------------------------------------------ frames

    def _shown(self, askers: list[int]) -> tuple[list[tuple[int, FrameType]], int]:
        """Give the frames to be told, each with the number of its asyncio task, and how many tasks more there are."""
        alive = [number for number, task in enumerate(self._made.made) if not task.done()]
        order = sorted(alive, key=lambda number: (number != 0, number not in askers, number))
        chosen = sorted(order[:MOST_TASKS])
        found = [(number, frame) for number in chosen for frame in frames.frames_of(self._made.made[number], self._is_shown)]
        return found, len(alive) - len(chosen)

    def _frames(self, askers: list[int]) -> dict[str, Any]:
        found, more = self._shown(askers)
        return {"frames": self._described([(number, frame, frame.f_lineno) for number, frame in found]), "more": more}

    def _described(self, found: list[tuple[int, FrameType, int]]) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        now: dict[tuple[int, int, str], dict[str, Described]] = {}
        for depth, (number, frame, line) in enumerate(found):
            code = frame.f_code
            key = (number, depth - next(at for at, one in enumerate(found) if one[0] == number), code.co_qualname)
            said = {
                name: (frames.type_name(value), frames.size_of(value), frames.describe(value))
                for name, value in frames.locals_of(frame, _is_left_out).items()
            }
            before, now[key] = self._before.get(key), said
            told.append(
                {
                    "task": number,
                    "function": code.co_qualname,
                    "source": self._source(code.co_filename),
                    "line": line,
                    "locals": [[name, *one, _change(name, one, before)] for name, one in said.items()],
                }
            )
        self._before = now
        return told

    def _is_shown(self, frame: FrameType) -> bool:
        name = frame.f_code.co_filename
        return name.startswith("<durable ") or not name.startswith(("<", *OURS))

    def _source(self, filename: str) -> str:
        """Give '' for the task's own source, the name of what was captured with it, or a file."""
        own = self.task.function.__code__.co_filename
        return "" if filename == own else filename.removeprefix(own[:-1]).removeprefix(": ").removesuffix(">")

    def tell_end(self, kind: str, reason: str, line: int | None) -> None:
        """Tell how the walk ended: where the run waits now, or what its function had when it raised."""
        main = self._main
        said: dict[str, Any] = {"end": kind, "reason": reason, "line": line, "frames": [], "more": 0, "state": "stopped"}
        if main is not None and main.done() and not main.cancelled() and (error := main.exception()) is not None:
            found = frames.frames_of_error(error, self._is_shown)
            said |= {"state": "raised", "frames": self._described([(0, frame, line) for frame, line in found])}
        elif main is not None and main.done():
            said["state"] = "cancelled" if main.cancelled() else "returned"
        elif kind == "goes on":
            said |= {"state": "waits", **self._frames([])}
        self._say(said)

    # ------------------------------------------------------------ values

    def _tell_values(self, askers: list[int], which: int) -> None:
        found, _ = self._shown(askers)
        values: dict[str, Any] = {}
        left_out: dict[str, str] = {}
        room = MOST_VALUE_BYTES
        chosen = frames.locals_of(found[which][1], _is_left_out) if 0 <= which < len(found) else {}
        for name, value in chosen.items():
            try:
                text = encode(value, of=f"`{name}`")
                parts = dict(text.artifacts) if isinstance(text, ArtifactText) else {}
                room -= len(text) + sum(map(len, parts.values()))
                if room < 0:
                    raise DurableError(f"it is larger than {MOST_VALUE_BYTES // 2**20} MiB, with those before it")
                values[name] = [str(text), {digest: base64.b64encode(body).decode() for digest, body in parts.items()}]
            except IllegalTaskOutputError:
                left_out[name] = f"a {frames.type_name(value)} that has no form in JSON"
            except (Exception, Refused) as error:  # its own code fails, or does what a replay may not do
                left_out[name] = str(error)
        self._say({"values": values, "left_out": left_out})
        self._judge("goes on", "")


def _is_left_out(value: object) -> bool:
    return isinstance(value, Context)


def _change(name: str, said: Described, before: Mapping[str, Described] | None) -> str:
    if before is None or before.get(name) == said:
        return ""
    return "changed" if name in before else "new"


# ---------------------------------------------------------------- the process


async def _walk(walked: WalkJob, say: Say) -> None:
    guard = Guard()
    try:
        engine, task = engine_for(walked)
    except (DurableError, Refused) as error:
        say({"end": "not checkable", "reason": str(error), "line": None, "frames": [], "more": 0, "state": "stopped"})
        return
    [history] = walked.histories
    say({"begin": history.claim.number})
    verdict, execution, _ = await replay(
        engine, task, history, guard, lambda engine, task, history: Walk(engine, task, history, walked, say)
    )
    reason = verdict.reason
    if guard.what:
        place = "" if verdict.line is None else f"line {verdict.line} "
        reason = f"{place}needs what a replay may not do ({guard.what})"
    elif verdict.kind == "diverges":
        reason = f"the code asks {verdict.asked} at checkpoint {verdict.node}, where {verdict.recorded} is recorded"
    if not isinstance(execution, Walk):
        say({"end": verdict.kind, "reason": reason, "line": verdict.line, "frames": [], "more": 0, "state": "stopped"})
    elif walked.values_at is None:
        execution.tell_end(verdict.kind, reason, verdict.line)


def main() -> None:
    """Walk through the history of a `WalkJob`."""
    serve(_walk)
