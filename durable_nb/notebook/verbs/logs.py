"""Verbs for the log and the process that serves it: open, trust, close, detach, crash."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from IPython.core.error import UsageError

from durable_nb.errors import DurableError, LogError
from durable_nb.notebook import inspection
from durable_nb.notebook.arguments import Arguments, plain
from durable_nb.notebook.verbs.verb import Verb
from durable_nb.views.words import brief, visible

if TYPE_CHECKING:
    from argparse import Namespace

    from durable_nb.notebook.extension import Extension


def _open_options(parser: Arguments) -> None:
    parser.add_argument("path", metavar="PATH", type=plain, help="the log's file; made if there is none")


def _open(extension: Extension, given: Namespace) -> None:
    extension.open(Path(given.path).expanduser().absolute())
    print(*extension.lines(), sep="\n")


def _trust_options(parser: Arguments) -> None:
    parser.add_argument("--yes", action="store_true", help="trust what is shown, and open the log")


def _trust(extension: Extension, given: Namespace) -> None:
    inspection.trust(extension, is_agreed=given.yes)


def _close(extension: Extension, _: Namespace) -> None:
    extension.durable.close()
    print("The engine is closed; its runs stay in the log, and go on when the next magic opens it.")


def _detach(extension: Extension, _: Namespace) -> None:
    durable = extension.ready().durable
    try:
        found = durable.detach()
    except LogError:
        raise
    except DurableError as error:
        raise UsageError(visible(str(error))) from None
    served = ", ".join(brief(name, 60) for name in found.serves) or "no task"
    print(f"Process {found.pid} serves {served} from now on, also when this kernel has ended; it writes to {found.output}.")
    for name, why in found.lacks.items():
        print(f"{brief(name, 60)} is not served, its runs wait for this notebook: {brief(why, 400)}")
    print("It ends when nothing is left to do. The next use of `durable` here takes the runs back.")


def _crash(extension: Extension, _: Namespace) -> None:
    print(f"Killing process {os.getpid()}: load durable_nb again in a new kernel, and the runs go on.", flush=True)
    sys.stderr.flush()
    os.kill(
        os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM)
    )  # on Windows, where there is no SIGKILL, this ends it at once


VERBS = (
    Verb(
        name="open", description="Open another log; the tasks defined here serve it from now on.", do=_open, options=_open_options
    ),
    Verb(
        name="trust",
        description="Show the code in a log that you did not make; with --yes, trust it and execute it.",
        do=_trust,
        options=_trust_options,
    ),
    Verb(
        name="close",
        description="Stop the engine; the runs stay in the log and go on when it is opened again.",
        do=_close,
    ),
    Verb(
        name="detach",
        description="Give the runs to a process that goes on when this kernel ends; the next use of the log takes them back.",
        do=_detach,
    ),
    Verb(
        name="crash",
        description="Kill this kernel at once, as a lost machine would: its variables are lost, its runs go on in the next.",
        do=_crash,
    ),
)
