"""The command line: `durable-nb`, and the same verbs for a script that ends in ``main(durable)``."""

from durable_nb.cli.main import main

__all__ = ["main"]
