"""What a task prints, logs or warns of goes to its run's log, with the time and the line of its source, and into no cell.

Who speaks is told by the engine's context variable, which its threads carry too: a cell never has it. So `print`, the kernel's
streams, `Logger.callHandlers` and `warnings.showwarning` ask it first, while the extension is loaded, and do what they always
did where it is empty. Rejected: another `sys.stdout`. It would not reach logging handlers that were made before, a kernel asks
its streams for their class, and `%%capture` and IPython's history put others in its place, for which `print` itself is needed.

Invariants: nothing here may raise into a task or a cell; what a replay says again is dropped; handlers that write elsewhere (a
file) get every record of a task as before.

Limits: what a task writes to a terminal's `sys.stdout` without `print`, what threads say that its own code starts (they carry no
context variables), and what C code or another process writes to the descriptors shows up as it did before.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import contextvars
import functools
import logging
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

from durable_nb.engine.current import CURRENT, INLINE
from durable_nb.log.records import holdable
from durable_nb.log.streams import Said
from durable_nb.views.words import visible

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.execution import Execution
    from durable_nb.engine.regular import RegularRun

    Run = Execution | RegularRun

OURS = "durable_nb"
LONGEST = 10_000  # characters of a line
WAITING = 20_000  # lines that wait to be written; a task that says more in one go loses the rest, which is said
QUIET_SECONDS = 0.3  # after which an unfinished line is taken down as it is

SILENT = "silent"  # the record is in the log already, so consoles stay silent
DIRECT = "direct"  # the engine itself speaks, to the person
MODE: contextvars.ContextVar[str] = contextvars.ContextVar("durable_nb_output", default="")


@dataclass
class _Unfinished:
    """The beginning of a line, as several writes make it."""

    run: Run
    level: str
    text: str = ""
    line: int | None = None
    touched: float = 0.0
    is_watched: bool = False


@dataclass
class _Spoken:
    """Lines on their way to an engine's log."""

    lines: list[Said] = field(default_factory=list)
    is_posted: bool = False
    dropped: int = 0


class TaskOutput:
    """Sends what tasks say to their runs' logs, between `install` and `remove`. One for each process."""

    def __init__(self) -> None:
        self.first: str | None = None  # the id of the first run that said something, until it is told where
        self._is_told = False
        self._lock = threading.Lock()
        self._unfinished: dict[tuple[int, str], _Unfinished] = {}
        self._spoken: weakref.WeakKeyDictionary[Engine, _Spoken] = weakref.WeakKeyDictionary()
        self._users = 0
        self._undo: list[Callable[[], None]] = []

    def hint(self) -> str | None:
        """Give, once, the sentence that says where the lines of tasks are; None while none has said anything."""
        first, self.first = self.first, None
        if first is None:
            return None
        self._is_told = True
        return f"What tasks print goes to the logs of their runs: `%durable log {visible(first)}` shows one."

    # ------------------------------------------------------------ installing

    def install(self) -> None:
        """Begin to listen, unless another shell of the process has."""
        self._users += 1
        if self._users > 1:
            return
        self.first, self._is_told = None, False
        self._undo = [
            _replace(builtins, "print", self._make_print(builtins.print)),
            _replace(logging.Logger, "callHandlers", self._make_call_handlers(logging.Logger.callHandlers)),
            _replace(logging.StreamHandler, "emit", self._make_emit(logging.StreamHandler.emit)),
            _replace(warnings, "showwarning", self._make_show_warning(warnings.showwarning)),
        ]
        stream = getattr(sys.modules.get("ipykernel.iostream"), "OutStream", None)
        if stream is not None:
            self._undo.append(_replace(stream, "write", self._make_write(stream.write)))
        self.uncover()

    @staticmethod
    def uncover() -> None:
        """Have the class's `write` found again when the cell is over: IPython leaves the bound one of before on each stream."""

        def delete() -> None:
            for stream in (sys.stdout, sys.stderr):
                if getattr(getattr(stream, "__dict__", {}).get("write"), "__self__", None) is stream:
                    vars(stream).pop("write")

        try:
            asyncio.get_running_loop().call_soon(delete)
        except RuntimeError:  # no cell of a kernel is running
            delete()

    def remove(self) -> None:
        """Give everything back, when the last shell leaves; what another program has replaced since stays as it is."""
        self._users -= 1
        self.flush()
        if not self._users:
            for undo in reversed(self._undo):
                undo()
            self._undo.clear()

    # ------------------------------------------------------------ what speaks

    def _make_print(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def print(  # noqa: A001  it stands for it
            *values: object, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
        ) -> None:
            if file is not None or not self._hears():
                original(*values, sep=sep, end=end, file=file, flush=flush)
                return
            text = (" " if sep is None else sep).join(map(str, values)) + ("\n" if end is None else end)
            self._take(text, "INFO")

        return print

    def _make_write(self, original: Callable[[Any, str], int]) -> Callable[[Any, str], int]:
        @functools.wraps(original)
        def write(stream: Any, text: str) -> int:
            if MODE.get() == SILENT:
                return len(text)
            if not self._hears():
                return original(stream, text)
            self._take(text, "INFO")
            return len(text)

        return write

    @staticmethod
    def _make_emit(original: Callable[[Any, logging.LogRecord], None]) -> Callable[[Any, logging.LogRecord], None]:
        @functools.wraps(original)
        def emit(handler: Any, record: logging.LogRecord) -> None:
            is_console = handler.stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
            if not (is_console and MODE.get() == SILENT):
                original(handler, record)

        return emit

    def _make_call_handlers(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            if not self._hears():
                original(logger, record)
            elif record.name.partition(".")[0] == OURS:
                with _mode(DIRECT):
                    original(logger, record)
            elif not _is_replaying():
                self._take(_text_of(record) + "\n", record.levelname)
                with _mode(SILENT):
                    original(logger, record)

        return call_handlers

    def _make_show_warning(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def show_warning(message: Any, category: type[Warning], filename: str, lineno: int, *rest: Any, **named: Any) -> None:
            if self._hears() and not any(rest) and not named:
                self._take(f"{category.__name__}: {message}\n", "WARNING")
            else:
                original(message, category, filename, lineno, *rest, **named)

        return show_warning

    def _hears(self) -> bool:
        """Whether a task speaks."""
        return bool(self._users) and CURRENT.get() is not None and not MODE.get()

    # ------------------------------------------------------------ taking down

    def _take(self, text: str, level: str) -> None:
        """Take down what the current run says; whole lines at once, the beginning of another when it is finished."""
        run = CURRENT.get()
        if run is None or _is_replaying():
            return
        with self._lock:
            key = (id(run), level)
            begun = self._unfinished.pop(key, None) or _Unfinished(run, level, line=_line_of(run))
            *whole, rest = (begun.text + text).split("\n")
            for index, one in enumerate(whole):
                self._add(run, level, begun.line if index == 0 else _line_of(run), one)
            if rest:
                if whole:
                    begun = _Unfinished(run, level, line=_line_of(run))
                begun.text, begun.touched = rest[-2 * LONGEST :], time.monotonic()
                self._unfinished[key] = begun
                if not begun.is_watched:
                    begun.is_watched = True
                    _post(run.engine, lambda: self._watch(key, begun))

    def _watch(self, key: tuple[int, str], begun: _Unfinished) -> None:
        """Take an unfinished line down when nothing has been added to it for a while. On the engine's loop."""
        with self._lock:
            if self._unfinished.get(key) is not begun:
                return
            left = begun.touched + QUIET_SECONDS - time.monotonic()
            if left <= 0:
                del self._unfinished[key]
                self._add(begun.run, begun.level, begun.line, begun.text)
                return
        begun.run.engine.loop.call_later(left, self._watch, key, begun, context=contextvars.Context())

    def _add(self, run: Run, level: str, line: int | None, text: str) -> None:
        text = text.rstrip("\r").rpartition("\r")[2]  # of a bar that overwrites itself, its last state
        if len(text) > LONGEST:
            text = text[: LONGEST - 1] + "…"
        spoken = self._spoken.setdefault(run.engine, _Spoken())
        if len(spoken.lines) >= WAITING:
            spoken.dropped += 1
        else:
            at = run.engine.clock.now()
            spoken.lines.append(Said(claim=run.claim, at=at, what=holdable(text), level=level, line=line, is_output=True))
        if not self._is_told:
            self.first = self.first or run.claim.id
        if not spoken.is_posted:
            spoken.is_posted = True
            _post(run.engine, lambda: self._write(run.engine))

    def _write(self, engine: Engine) -> None:
        """Hand what was said to the log's writer. On the engine's loop."""
        with self._lock:
            spoken = self._spoken.get(engine)
            if spoken is None:
                return
            said, dropped = spoken.lines, spoken.dropped
            spoken.lines, spoken.dropped, spoken.is_posted = [], 0, False
        if dropped:
            lost = f"({dropped} lines more were said at once and are lost)"
            said.append(Said(claim=said[-1].claim, at=said[-1].at, what=lost, level="WARNING", is_output=True))
        for item in said:
            engine.streams.say(item)

    def flush(self) -> None:
        """Take down every unfinished line now."""
        with self._lock:
            for begun in self._unfinished.values():
                self._add(begun.run, begun.level, begun.line, begun.text)
            self._unfinished.clear()


OUTPUT = TaskOutput()


def _replace(owner: Any, name: str, new: Callable[..., Any]) -> Callable[[], None]:
    """Put something in a name's place; give what undoes it, unless somebody else has replaced it since."""
    old = getattr(owner, name)
    setattr(owner, name, new)

    def undo() -> None:
        if getattr(owner, name) is new:
            setattr(owner, name, old)

    return undo


@contextlib.contextmanager
def _mode(mode: str) -> Iterator[None]:
    token = MODE.set(mode)
    try:
        yield
    finally:
        MODE.reset(token)


def _post(engine: Engine, work: Callable[[], None]) -> None:
    """Have something done on the engine's loop, in no run's context: it is no move of the run that spoke."""
    contextvars.Context().run(engine.post, work)


def _is_replaying() -> bool:
    """Whether recorded work lies ahead of the code that speaks; a memo is never entered in a replay."""
    cursor = getattr(CURRENT.get(), "cursor", None)
    return cursor is not None and cursor.is_replaying and not INLINE.get()


def _line_of(run: Run) -> int | None:
    """Give the line of the task's source that is executing."""
    file = run.task.function.__code__.co_filename
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != file:
        frame = frame.f_back
    return frame.f_lineno if frame is not None else None


def _text_of(record: logging.LogRecord) -> str:
    """Give a log record's message, with its traceback where it has one; a format that does not fit its arguments as it stands."""
    try:
        text = record.getMessage()
    except Exception:  # logging itself would print a report and go on
        text = f"{record.msg} {record.args}"
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return text
