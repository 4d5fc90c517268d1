"""`matches()`: regular expressions by RE2, which comes with cel-python.

Invariant: the time is linear in the subject, and charged before the search by the subject's length and the size of the
compiled pattern.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from durable_nb.engine.cel.faults import Fault
from durable_nb.engine.cel.frame import Frame
from durable_nb.engine.cel.limits import MAX_PATTERN_CHARS
from durable_nb.engine.cel.values import mismatch

if TYPE_CHECKING:
    from typing import Protocol

    class _Pattern(Protocol):
        @property
        def programsize(self) -> int: ...
        def search(self, text: str) -> object: ...

    class _Options(Protocol):
        log_errors: bool
        never_capture: bool
        max_mem: int

    class _RE2(Protocol):
        """What is used of google-re2, which has no types of its own."""

        Options: type[_Options]
        error: type[Exception]

        def compile(self, pattern: str, options: _Options) -> _Pattern: ...


_WORK_A_STEP: Final = 64
"""Characters of the subject times instructions of the pattern."""
_COMPILE_STEPS: Final = 200


@lru_cache(maxsize=128)
def compile_pattern(pattern: str) -> _Pattern:
    """Compile with RE2. Capturing is off and memory small: only yes or no is asked."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise Fault(f"matches() takes patterns of at most {MAX_PATTERN_CHARS:,} characters; shorten it")
    from importlib import import_module

    re2 = cast("_RE2", import_module("re2"))
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        raise Fault(f"matches() cannot read the pattern ({reason}); use RE2's syntax") from None


def matches_literal(frame: Frame, subject: object, pattern: object) -> object:
    """`subject.matches(pattern)` with a pattern that was compiled along with the expression."""
    if type(subject) is not str or type(pattern) is not str:
        raise mismatch("matches", subject, pattern)
    compiled = compile_pattern(pattern)
    frame.charge(1 + len(subject) * compiled.programsize // _WORK_A_STEP)
    try:
        return compiled.search(subject) is not None
    except UnicodeEncodeError:
        raise Fault("matches() cannot read a text with lone surrogates; mend it where it is sent") from None


def matches(frame: Frame, subject: object, pattern: object) -> object:
    """`subject.matches(pattern)` with a computed pattern: it may have to be compiled for this one subject."""
    frame.charge(_COMPILE_STEPS)
    return matches_literal(frame, subject, pattern)
