"""The command line: `durable-nb`, and the same verbs for a script that ends in ``main(durable)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_nb.client import Durable


def main(durable: Durable | None = None) -> None:
    """Run the command line: of a script's app object, or, without one, `durable-nb`. It ends the process.

    Example:
        >>> if __name__ == "__main__":                             # doctest: +SKIP
        ...     main(durable)
    """
    try:
        from durable_nb.cli.command import run  # typer is imported only here: importing a script must stay cheap

        run(durable)
    except KeyboardInterrupt:  # before a verb could say so
        raise SystemExit(130) from None


__all__ = ["main"]
