"""What a command ends with: its exit code, and its words on standard error.

Exit codes are part of the interface: 0 done, 1 the run failed or was cancelled, 2 bad usage or input, 3 no such run, task or file,
4 the time to wait was over, 5 the log cannot be used, 130 interrupted.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from durable_nb.errors import (
    DurableError,
    EngineStoppedError,
    FailedTaskRunExceptionGroup,
    LogError,
    RunCancelledError,
    TaskRunError,
    UnknownRunError,
    UnknownTaskError,
)
from durable_nb.views.words import visible

P = ParamSpec("P")
R = TypeVar("R")
FAILED, USAGE, UNKNOWN, TIMED_OUT, NO_LOG, INTERRUPTED = 1, 2, 3, 4, 5, 130


def exit_code(error: BaseException) -> int:
    """Give the exit code that an error means.

    >>> exit_code(UnknownRunError("none"))
    3
    """
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED
        case TaskRunError() | FailedTaskRunExceptionGroup() | RunCancelledError():
            return FAILED
        case UnknownRunError() | UnknownTaskError() | FileNotFoundError():
            return UNKNOWN
        case LogError() | EngineStoppedError():
            return NO_LOG
        case TimeoutError():
            return TIMED_OUT
        case _:
            return USAGE


def said(verb: Callable[P, R]) -> Callable[P, R]:
    """Have a verb's errors said in a sentence on standard error, with their exit code."""

    @functools.wraps(verb)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except (DurableError, KeyboardInterrupt, FileNotFoundError, TimeoutError) as error:
            print(visible(str(error) or type(error).__name__, lines=True), file=sys.stderr)
            raise typer.Exit(exit_code(error)) from None

    return command
