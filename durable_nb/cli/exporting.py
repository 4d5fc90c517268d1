"""`export`: a notebook as a script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from durable_nb.cli.outcomes import NOT_FOUND, CommandError
from durable_nb.cli.place import Place
from durable_nb.export.files import read_notebook


def export(
    place: Place,
    notebook: Annotated[Path, typer.Argument(metavar="NOTEBOOK", help="The .ipynb file.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="SCRIPT", help="Where to; else beside the notebook; - is standard output."),
    ] = None,
    explore: Annotated[
        bool, typer.Option("--explore", help="Put the cells that only explore into a function explore().")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a script that is there.")] = False,
) -> None:
    """Write a notebook's tasks as a plain Python script, which works on the notebook's log."""
    from durable_nb.export.script import export_to

    if not notebook.is_file():
        raise CommandError(f"There is no notebook {notebook}.", NOT_FOUND)
    target = output or notebook.with_suffix(".py")
    written = export_to(
        None if str(target) == "-" else target, read_notebook(notebook), notebook, explore=explore, is_forced=force
    )
    if str(target) == "-":
        print(written.text, end="")
    else:
        print(target)
    print(written.said(), file=sys.stderr)


VERBS = (export,)
