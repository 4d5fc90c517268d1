"""`durable-nb`: a log from the terminal, and workers for scripts and notebooks.

A script that ends in ``main(durable)`` has the same verbs for its own app object.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from durable_nb.cli.files import load
from durable_nb.cli.outcomes import said
from durable_nb.cli.verbs import add_verbs
from durable_nb.client import DEFAULT_LOG, LOG_VARIABLE, Durable
from durable_nb.errors import NotALogError

if TYPE_CHECKING:
    from collections.abc import Callable


def main(durable: Durable | None = None) -> None:
    """Run the command line: of a script's app object, or, without one, `durable-nb`.

    Example:
        >>> if __name__ == "__main__":                             # doctest: +SKIP
        ...     main(durable)
    """
    (durable_nb() if durable is None else command_of(durable))()


def command_of(durable: Durable) -> typer.Typer:
    """Give the command line of a script."""
    app = _app(f"Run the tasks of {Path(sys.argv[0]).name}, and look at its log.")

    @app.callback()
    def options(log: Annotated[Path | None, typer.Option(help="The log; else the script's own.")] = None) -> None:
        if log is not None:
            durable.path = log.expanduser().absolute()

    add_verbs(app, lambda: durable)
    return app


def durable_nb() -> typer.Typer:
    """Give the command line of a log, and of the files that it is told."""
    app = _app("Durable execution from the terminal: run, watch and answer what stands in a log.")
    chosen: dict[str, Path | None] = {}

    @app.callback()
    def options(
        log: Annotated[Path | None, typer.Option(help=f"The log; else ${LOG_VARIABLE}, else {DEFAULT_LOG} here.")] = None,
        file: Annotated[Path | None, typer.Option("--file", "-f", help="A script or notebook whose tasks to serve.")] = None,
    ) -> None:
        chosen.update(log=log, file=file)

    add_verbs(app, lambda: _open(chosen["log"], chosen["file"]))

    @app.command()
    @said
    def export(
        notebook: Annotated[Path, typer.Argument(help="The notebook.")],
        script: Annotated[Path | None, typer.Argument(help="The script to write; else it is printed.")] = None,
        explore: Annotated[bool, typer.Option(help="Put the cells that only explore into a function.")] = False,
    ) -> None:
        """Write a notebook's tasks as a Python script."""
        _export(notebook, script, explore)

    return app


def _app(words: str) -> typer.Typer:
    return typer.Typer(help=words, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _open(log: Path | None, file: Path | None) -> Durable:
    if file is not None:
        durable = load(file)
        if log is not None:
            durable.path = log.expanduser().absolute()
        return durable
    path = Path(log or os.environ.get(LOG_VARIABLE) or DEFAULT_LOG).expanduser().absolute()
    if not path.is_file():
        raise NotALogError(f"There is no log {path}: name one with --log PATH, or a script or notebook with --file.")
    return Durable(path)


def _export(notebook: Path, script: Path | None, explore: bool) -> None:
    import json

    from durable_nb.export.script import export

    try:
        document = json.loads(notebook.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotALogError(f"{notebook} is no notebook ({error}).") from None
    written = export(document, log=f"{notebook.stem}.durable.db", name=notebook.stem, explore=explore)
    if script is None:
        print(written.text, end="")
    else:
        script.write_text(written.text, encoding="utf-8")
        print(f"{script}: {', '.join(written.tasks)}", file=sys.stderr)
    if not written.is_formatted:
        print("It is not formatted: ruff is not installed (pip install ruff).", file=sys.stderr)
