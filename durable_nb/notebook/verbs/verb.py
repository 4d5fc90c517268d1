"""What a verb of `%durable` is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable_nb.notebook.arguments import Arguments, place, plain

if TYPE_CHECKING:
    from argparse import Namespace

    from durable_nb.notebook.extension import Extension


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb.

    Attributes:
        description: what it does, for `%durable help` and its own `--help`.
        options: adds what its line takes. The `metavar` of each tells Tab what can stand there (see `completion`).
        do: does it, on the kernel's main thread; what it gives is the magic's value. What the person can mend in the line is a
            UsageError of one sentence.
    """

    name: str
    description: str
    do: Callable[[Extension, Namespace], Any]
    options: Callable[[Arguments], None] = lambda parser: None

    def parser(self) -> Arguments:
        """Give what reads its line."""
        parser = Arguments(f"%durable {self.name}", self.description)
        self.options(parser)
        return parser


def one_run(parser: Arguments) -> None:
    """Have a verb take one run."""
    parser.add_argument("run", metavar="RUN", type=plain, help="a run's id, its start or end, its key, or #number")


def some_runs(parser: Arguments) -> None:
    """Have a verb take one run or several."""
    parser.add_argument("runs", metavar="RUN", nargs="+", type=plain, help="runs: an id, its start or end, a key, or #number")


def one_node(parser: Arguments) -> None:
    """Have a verb take a checkpoint of a run."""
    one_run(parser)
    parser.add_argument(
        "--node", type=place, metavar="N", required=True, help="the checkpoint, as `%%durable show RUN` counts them"
    )
