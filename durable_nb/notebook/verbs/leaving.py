"""The verb that leaves the notebook: export."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from durable_nb.export.cells import ExportError
from durable_nb.export.files import read_notebook
from durable_nb.export.script import export_to
from durable_nb.notebook.arguments import Arguments, plain
from durable_nb.notebook.verbs.verb import Verb
from durable_nb.views.words import visible

if TYPE_CHECKING:
    from argparse import Namespace

    from durable_nb.notebook.extension import Extension


def _export_options(parser: Arguments) -> None:
    parser.add_argument("script", nargs="?", metavar="SCRIPT", type=plain, help="where to; else beside the notebook")
    parser.add_argument("--explore", action="store_true", help="put the cells that only explore into a function explore()")
    parser.add_argument("--force", action="store_true", help="write over a script that is there")


def _export(extension: Extension, given: Namespace) -> None:
    try:
        notebook, document, origin = _document(extension)
        target = Path(given.script).expanduser() if given.script else notebook.with_suffix(".py")
        script = export_to(target, document, notebook, log=extension.durable.path, explore=given.explore, is_forced=given.force)
    except ExportError as error:
        raise UsageError(visible(str(error))) from None
    except OSError as error:
        raise UsageError(f"{visible(str(error.filename))} cannot be used ({error.strerror}): name another file.") from None
    print(f"{visible(str(target))} is made of {origin}.", script.said(), f"`python {visible(target.name)} --help`", sep="\n")


def _document(extension: Extension) -> tuple[Path, dict[str, Any], str]:
    """Give the notebook's path and JSON as it was saved last; in a terminal, what was entered in this session."""
    home = extension.durable.home
    if home and Path(home).is_file():
        saved = datetime.fromtimestamp(Path(home).stat().st_mtime).astimezone()
        return Path(home), read_notebook(Path(home)), f"the notebook as it was saved at {saved:%H:%M:%S}"
    history = extension.shell.history_manager
    entered = [] if history is None else history.input_hist_raw
    cells = [{"cell_type": "code", "source": source} for source in entered if source.strip()]
    return extension.durable.path.with_suffix("").with_suffix(".ipynb"), {"cells": cells}, "what was entered in this session"


VERBS = (
    Verb(
        name="export",
        description="Write the tasks, and what they need, as a plain Python script, which works on the same log.",
        do=_export,
        options=_export_options,
    ),
)
