"""The commands: `durable-nb`, and that of a script. Each is made of the verbs of the groups that are named here.

A verb is a function whose first parameter is the `Place` that it works on; the others are its arguments and options. To add
verbs, write a module with a tuple ``VERBS`` of such functions, and name it in GROUPS.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from durable_nb.cli.outcomes import EXIT_CODES, said
from durable_nb.cli.place import LogPlace, Place, ScriptPlace
from durable_nb.views import words

if TYPE_CHECKING:
    from durable_nb.client import Durable

# By module: whether a script has its verbs too.
GROUPS = {
    "starting": False,
    "running": True,
    "working": True,
    "looking": True,
    "watching": True,
    "people": True,
    "steering": True,
    "exporting": False,
    "trusting": False,
    "upkeep": False,
}


def run(durable: Durable | None) -> None:
    """Run the command line of a script's app object, or `durable-nb`; end the process with its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed by who started us
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")  # what a terminal cannot show, it shows as a number
    (durable_nb() if durable is None else command_of(durable))()


def durable_nb() -> typer.Typer:
    """Give the command `durable-nb`."""
    words.COMMAND = "durable-nb"
    return _command("Durable execution from the terminal: run, watch and answer what stands in a log.", LogPlace())


def command_of(durable: Durable) -> typer.Typer:
    """Give the command of a script."""
    name = Path(sys.argv[0]).name
    words.COMMAND = f"python {name}"
    return _command(f"Run the tasks of {name}, and look at its log.", ScriptPlace(durable))


def _command(help_text: str, place: Place) -> typer.Typer:
    app = typer.Typer(
        help=help_text,
        epilog=EXIT_CODES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        add_completion=isinstance(place, LogPlace),
    )
    app.callback()(lambda: None)
    for module, is_for_scripts in GROUPS.items():
        if is_for_scripts or isinstance(place, LogPlace):
            for verb in import_module(f"durable_nb.cli.{module}").VERBS:
                app.command(verb.__name__.rstrip("_"), help=inspect.getdoc(verb))(_bound(verb, place))
    return app


def _bound(verb: Callable[..., None], place: Place) -> Callable[..., None]:
    """Give a verb as typer takes it: its place given, and without the options that its place has no use for."""
    signature = inspect.signature(verb, eval_str=True)
    parameters = [item for name, item in signature.parameters.items() if name not in ("place", *place.without)]

    @said
    def command(**given: Any) -> None:
        verb(place, **given)

    command.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    command.__name__ = verb.__name__
    return command
