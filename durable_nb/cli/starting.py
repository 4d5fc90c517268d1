"""`init` and `migrate`: a folder with a first script and a log, and a log brought up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from durable_nb.cli.options import Log
from durable_nb.cli.outcomes import CommandError
from durable_nb.cli.place import Place, existing
from durable_nb.log.connection import migrations, prepare, schema_version
from durable_nb.views.words import visible

IGNORED = "*.durable.db*"
TASK = '''async def greet(input: Greeting, ctx: DurableContext) -> str:
    """Say hello, sleep, say goodbye. Kill the process at any time: the next one goes on where it was."""
    hello = await ctx.aio_memo(say, str, f"Hello, {input.name}!")
    await ctx.aio_sleep_for(timedelta(seconds=input.seconds))
    return f"{hello} And goodbye."
'''
HELPERS = """class Greeting(BaseModel):
    name: str = "world"
    seconds: float = 10.0


def say(text: str) -> str:
    print(text)
    return text
"""
SCRIPT = f'''"""A first durable task."""

from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from durable_nb import Durable, DurableContext
from durable_nb.cli import main

durable = Durable(Path(__file__).with_suffix(".durable.db"))


{HELPERS}

@durable.durable_task()
{TASK}

if __name__ == "__main__":
    main(durable)
'''
CELLS = (
    ("markdown", "# A first durable task"),
    ("code", "%load_ext durable_nb"),
    (
        "code",
        f"from datetime import timedelta\n\nfrom durable_nb import DurableContext\nfrom pydantic import BaseModel\n\n\n{HELPERS}",
    ),
    ("code", f"%%durable_task\n{TASK}"),
    ("code", '%durable run greet {"name": "Ada"}'),
)


def init(
    place: Place,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A script (.py) or notebook (.ipynb) to make.")] = Path("flow.py"),
) -> None:
    """Make a first script or notebook with a durable task, and have git ignore its log."""
    if file.suffix not in (".py", ".ipynb"):
        raise CommandError(f"{visible(str(file))} is neither a script (.py) nor a notebook (.ipynb).")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as made:
            made.write(SCRIPT if file.suffix == ".py" else _notebook())
    except FileExistsError:
        raise CommandError(f"{visible(str(file))} is there already: name another file.") from None
    _ignore(file.parent / ".gitignore")
    print(f"made {visible(str(file))}; now try:")
    for words in ("worker {}", """run greet '{{"name": "Ada"}}' -f {}"""):
        print(f"  durable-nb {words.format(visible(str(file)))}")


def _ignore(path: Path) -> None:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if IGNORED not in text.splitlines():
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{'' if not text or text.endswith(chr(10)) else chr(10)}{IGNORED}\n")


def _notebook() -> str:
    cells = [_cell(f"cell-{number}", kind, source) for number, (kind, source) in enumerate(CELLS)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def _cell(name: str, kind: str, source: str) -> dict[str, object]:
    cell: dict[str, object] = {"cell_type": kind, "id": name, "metadata": {}, "source": source.rstrip()}
    return {**cell, "outputs": [], "execution_count": None} if kind == "code" else cell


def migrate(place: Place, log: Log = None) -> None:
    """Bring a log to the form of this durable_nb; every other verb does it too, when it opens one."""
    path = existing(place.path(log))
    before = schema_version(path)
    prepare(path)
    now = len(migrations())
    print(f"{visible(str(path))}: schema {now}{' already' if before == now else f', was {before}'}")


VERBS = (init, migrate)
