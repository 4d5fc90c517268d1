"""Verbs that keep a log in order, and take things out of it: gc, doctor, backup, bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_nb.notebook.arguments import Arguments, plain
from durable_nb.notebook.verbs.verb import Verb, one_run
from durable_nb.views.upkeep_text import removed_line, report_lines
from durable_nb.views.words import visible

if TYPE_CHECKING:
    from argparse import Namespace

    from durable_nb.engine.sweeping import Removed
    from durable_nb.log.doctor import Report
    from durable_nb.notebook.extension import Extension


def _path(parser: Arguments) -> None:
    parser.add_argument("path", metavar="PATH", type=plain, help="the new file; one that exists is never written over")


def _gc_options(parser: Arguments) -> None:
    parser.add_argument("--older-than", metavar="D", type=plain, default="30d", help="since their end, such as 90d or 12h (30d)")
    parser.add_argument("--status", metavar="S", type=plain, help="only those that are completed, failed or cancelled")
    parser.add_argument("--named", action="store_true", help="those too that --key names for good")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, and say what would go")


def _gc(extension: Extension, given: Namespace) -> Removed:
    status = given.status.upper() if given.status else ("COMPLETED", "FAILED", "CANCELLED")
    durable = extension.ready().durable
    removed = durable.upkeep.gc(given.older_than, status=status, include_named=given.named, dry_run=given.dry_run)
    print(removed_line(removed))
    return removed


def _doctor_options(parser: Arguments) -> None:
    parser.add_argument("--quick", action="store_true", help="do not read the whole file")


def _doctor(extension: Extension, given: Namespace) -> Report:
    report = extension.ready().durable.upkeep.doctor(thorough=not given.quick)
    for line in report_lines(report):
        print(line)
    return report


def _backup(extension: Extension, given: Namespace) -> None:
    made = extension.ready().durable.upkeep.backup(given.path)
    print(f"The log was copied to {visible(str(made))}.")


def _bundle_options(parser: Arguments) -> None:
    one_run(parser)
    _path(parser)


def _bundle(extension: Extension, given: Namespace) -> None:
    made = extension.ready().durable.runs.bundle(given.run, given.path)
    print(
        f"{visible(str(made))} holds the run with its history and code: durable_nb.open_bundle({str(made)!r}) opens it anywhere."
    )


VERBS = (
    Verb(
        name="bundle",
        description="Write a run with everything below it, its history and its code, into one file.",
        do=_bundle,
        options=_bundle_options,
    ),
    Verb(
        name="doctor",
        description="Say what is damaged, stuck or slow in the log, and what helps.",
        do=_doctor,
        options=_doctor_options,
    ),
    Verb(
        name="gc",
        description="Remove runs that ended long ago, whole trees only, and events that nobody can take any more.",
        do=_gc,
        options=_gc_options,
    ),
    Verb(name="backup", description="Copy the log into a file, while runs go on.", do=_backup, options=_path),
)
