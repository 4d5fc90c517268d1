"""What a command ends with: its exit code, and its words on standard error.

Exit codes are part of the interface (EXIT_CODES); a number keeps its meaning for good.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from durable_nb.errors import (
    DurableError,
    EngineStoppedError,
    FailedTaskRunExceptionGroup,
    InertLogError,
    LifespanError,
    LogError,
    RunCancelledError,
    TaskRunError,
    UnknownCheckpointError,
    UnknownQuestionError,
    UnknownRunError,
    UnknownTaskError,
    UntrustedError,
)
from durable_nb.views import words
from durable_nb.views.words import visible

P = ParamSpec("P")
R = TypeVar("R")

FAILED, USAGE, CANCELLED, NOT_FOUND, TIMED_OUT, NO_LOG, BLOCKED, INTERRUPTED = 1, 2, 3, 4, 5, 6, 7, 130
BROKEN_PIPE = 141  # as a shell says of a program that SIGPIPE ended
EXIT_CODES = (
    "Exit codes: 0 done, 1 the run failed, 2 bad usage or input, 3 the run was cancelled, 4 no such run, task or file, "
    "5 the time to wait is over, 6 the log cannot be used, 7 the run is parked, 130 interrupted, 143 terminated. "
    "The shapes of --json: `pydoc durable_nb.cli.shapes`."
)


class CommandError(DurableError):
    """A command cannot do what it was asked.

    Attributes:
        code: the exit code.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def exit_code(error: BaseException) -> int:
    """Give the exit code that an error means.

    >>> exit_code(UnknownRunError("none"))
    4
    """
    match error:
        case CommandError():
            return error.code
        case KeyboardInterrupt():
            return INTERRUPTED
        case TimeoutError() if not isinstance(error, DurableError):
            return TIMED_OUT
        case RunCancelledError():
            return CANCELLED
        case TaskRunError() | FailedTaskRunExceptionGroup() | LifespanError():
            return FAILED
        case UnknownRunError() | UnknownTaskError() | UnknownQuestionError() | UnknownCheckpointError() | FileNotFoundError():
            return NOT_FOUND
        case LogError() | EngineStoppedError() | UntrustedError():
            return NO_LOG
        case _:
            return USAGE


def sentence(error: BaseException) -> str:
    """Give an error in the words of a terminal: verbs are written as commands, not as magics."""
    match error:
        case KeyboardInterrupt():
            text = "Interrupted."
        case OSError() if error.filename is not None:
            text = f"{error.filename}: {error.strerror}."
        case OSError() if error.strerror is not None:
            text = f"{error.strerror}."
        case InertLogError():
            text = str(error).replace(", or durable.trust() in a script", "")
        case _:
            text = str(error) or type(error).__name__
    return visible(text.replace("%durable ", f"{words.COMMAND} "), lines=True)


def said(verb: Callable[P, R]) -> Callable[P, R]:
    """Have a verb's errors said in a sentence on standard error, with their exit code."""

    @functools.wraps(verb)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = verb(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:  # `| head` has seen enough
            _close_output()
            raise typer.Exit(BROKEN_PIPE) from None
        except (DurableError, KeyboardInterrupt, OSError) as error:
            print(sentence(error), file=sys.stderr)
            raise typer.Exit(exit_code(error)) from None
        return given

    return command


def _close_output() -> None:
    """Have what Python still flushes at its end go nowhere."""
    with contextlib.suppress(OSError, ValueError):  # no real file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
