r"""Words for states, times and data: the same in terminals, pages and messages. Pure.

Invariant: `visible` is applied to everything that comes from data before it is shown. Control characters can move a
terminal's cursor, and bidirectional overrides can make a line read as something else, so both are written as escapes.

>>> visible("a\x1b[31m\u202eb")
'a\\x1b[31m\\u202eb'
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from datetime import datetime

from durable_nb.log.reads import WaitView
from durable_nb.log.records import RunView

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
JOINERS = frozenset("\u200c\u200d")  # letters of Persian and members of emoji need them
LENGTH = 240
COMMAND = "%durable"  # what verbs follow where people are told of them; a command line puts its own name here


@dataclass(frozen=True, slots=True)
class State:
    """A state by symbol, word and colour, so that none of them is needed to read the others."""

    symbol: str
    word: str
    colour: str

    def __str__(self) -> str:
        return f"{self.symbol} {self.word}"


QUEUED = State("…", "queued", "cyan")
RUNNING = State("●", "running", "blue")
WAITING = State("◌", "waiting", "magenta")
PARKED = State("⏸", "parked", "yellow")
COMPLETED = State("✓", "completed", "green")
FAILED = State("✗", "failed", "red")
CANCELLED = State("⊘", "cancelled", "yellow")
CANCELLING = State("⊘", "cleans up, being cancelled", "yellow")
BY_STATUS = {
    "QUEUED": QUEUED,
    "RUNNING": RUNNING,
    "COMPLETED": COMPLETED,
    "FAILED": FAILED,
    "CANCELLED": CANCELLED,
}


def state_of(run: RunView, *, waits: bool = False) -> State:
    """Give a run's state; `waits` tells that it has open conditions."""
    if run.is_ended:
        return BY_STATUS[run.status]
    if run.cancelled_at is not None:
        return CANCELLING
    if run.blocked_reason is not None:
        return PARKED
    if run.ready_at is None and (waits or run.is_evicted):
        return WAITING
    return BY_STATUS[run.status] if not run.is_evicted else QUEUED


def visible(text: str, *, lines: bool = False) -> str:
    """Give a text with everything written out that is not seen, or is obeyed, when it is shown.

    Args:
        lines: keep line breaks and tabs, for traces and sources.
    """
    if text.isascii() and text.isprintable():
        return text
    if lines:
        text = text.replace("\r\n", "\n").expandtabs(4)
    return "".join(
        character if _is_shown(character) or (lines and character == "\n") else _escape(character) for character in text
    )


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in HIDDEN or character in JOINERS


def _escape(character: str) -> str:
    code = ord(character)
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if named:
        return named
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def brief(text: str, length: int = LENGTH) -> str:
    """Give a text from data on one line, cut where it is long."""
    cut = text[: length + 1]
    return visible(cut if len(cut) <= length else cut[: length - 1] + "…")


def duration(seconds: float) -> str:
    """Give seconds as people say them, two units at most.

    >>> [duration(seconds) for seconds in (0.034, 3.24, 250, 86_280, 300_000)]
    ['34 ms', '3.2 s', '4 min 10 s', '23 h 58 min', '3 d 11 h']
    """
    if not math.isfinite(seconds):
        return "unknown time"
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small, below in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def progress(run: RunView) -> str:
    """Give what a run said last of its progress: the percentage, and its message."""
    said = f"{(run.progress or 0) * 100:.0f} %"
    return f"{said} {brief(run.progress_message, 80)}" if run.progress_message else said


def moment(at: float) -> str:
    """Give a time of the log as local time; one that no calendar has, as the number it is."""
    try:
        return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{at:g} s"


def wait_words(wait: WaitView, now: float) -> str:
    """Give an open condition in words: what it waits for, and how long is left.

    >>> wait_words(WaitView(1, "event", "paid", None, "order:paid", None, "input.id == 7", None), 0.0)
    '`order:paid` if input.id == 7'
    """
    if wait.due_at is not None:
        left = wait.due_at - now
        return f"{brief(wait.name)} ({duration(left)} left)" if left > 0 else f"{brief(wait.name)} (due)"
    if wait.kind == "ask":
        return f"an answer to “{brief(wait.name)}”"
    scope = f" in scope {brief(wait.scope)}" if wait.scope is not None else ""
    return f"`{brief(wait.key or wait.name)}`{scope}" + (f" if {brief(wait.expression)}" if wait.expression else "")


def counted(number: int, singular: str, plural: str = "") -> str:
    """Give a number with its noun.

    >>> counted(1, "run"), counted(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
