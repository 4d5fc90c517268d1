"""`doctor`, `gc`, `backup`, `bundle` and `open`: keeping a log in order, and taking runs out of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from durable_nb.cli.options import AsJson, Log, RunName
from durable_nb.cli.outcomes import FAILED
from durable_nb.cli.place import Place, existing
from durable_nb.cli.screen import console
from durable_nb.cli.shapes import dumps
from durable_nb.views.upkeep_text import removed_line, report_lines
from durable_nb.views.words import visible

Target = Annotated[Path, typer.Argument(metavar="PATH", help="The new file; one that exists is never written over.")]


def doctor(
    place: Place,
    quick: Annotated[bool, typer.Option("--quick", help="Do not read the whole file.")] = False,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Say what is damaged, stuck or slow in a log, and what helps. Exit code 1 if something is damaged or stuck."""
    from durable_nb.client.upkeep import doctor as examine

    report = examine(existing(place.path(log)), thorough=not quick)
    if as_json:
        print(dumps({"facts": dict(report.facts), "findings": [asdict(finding) for finding in report.findings]}))
    else:
        for line in report_lines(report):
            print(line)
    if not report.is_healthy:
        raise typer.Exit(FAILED)


def gc(
    place: Place,
    older_than: Annotated[str, typer.Option(metavar="D", help="Since their end: 90d, 12h.")] = "30d",
    status: Annotated[list[str] | None, typer.Option(metavar="S", help="completed, failed, cancelled; repeatable.")] = None,
    named: Annotated[bool, typer.Option("--named", help="Those too that a key names for good.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, and say what would go.")] = False,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Remove runs that ended long ago, whole trees only, and events that nobody can take any more."""
    statuses = [name.upper() for name in status or ("completed", "failed", "cancelled")]
    with place.steering(log) as durable:
        removed = durable.upkeep.gc(older_than, status=statuses, include_named=named, dry_run=dry_run)
    if as_json:
        print(dumps(asdict(removed)))
    else:
        print(removed_line(removed))


def backup(place: Place, path: Target, log: Log = None) -> None:
    """Copy a log into a file, while runs go on."""
    from durable_nb.client.upkeep import absolute
    from durable_nb.log.copying import backup as copy

    print(copy(existing(place.path(log)), absolute(path)))


def bundle(
    place: Place,
    run: RunName,
    path: Target,
    redact: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Leave this field out, such as card.number; repeatable.")
    ] = None,
    log: Log = None,
) -> None:
    """Write a run with everything below it, its history and its code, into one file; what --redact names is left out."""
    from durable_nb.log.redacting import Redaction

    with place.steering(log) as durable:
        durable.redaction = Redaction(redact or [])
        print(durable.runs.bundle(run, path))


def open_(
    place: Place,
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A file that `bundle` wrote.")],
    source: Annotated[bool, typer.Option("--source", help="Print its code; nothing of it is executed.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Replay it offline; exit code 1 if it diverges.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Let --replay execute its code: read --source first.")] = False,
    to_test: Annotated[Path | None, typer.Option(metavar="PATH", help="Write a pytest file beside it, with --module.")] = None,
    module: Annotated[str, typer.Option(metavar="M", help="Where the test imports the app object from.")] = "flow",
) -> None:
    """Show a bundle, print its code, replay it, or make a test of it. Nothing of it is executed until it is trusted."""
    from durable_nb.bundles.opening import open_bundle

    opened = open_bundle(path)
    if trust:
        opened.trust()
    if source:
        for task, text in opened.sources().items():
            print(f"# {visible(task)}\n{visible(text, lines=True)}\n")
    elif replay:
        verdicts = opened.replay()
        for verdict in verdicts:
            print(f"run #{verdict.number}: {verdict.kind} {visible(verdict.reason)}".rstrip())
        if any(verdict.kind != "goes on" for verdict in verdicts):
            raise typer.Exit(FAILED)
    elif to_test is not None:
        print(opened.to_test(to_test, module=module))
    else:
        console().print(opened)


VERBS = (doctor, gc, backup, bundle, open_)
