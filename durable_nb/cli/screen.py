"""The terminal: rich where there is one, plain lines that are not cut where the output goes elsewhere."""

from __future__ import annotations

import os

from rich.console import Console

PIPE_WIDTH = 200  # of tables that go into a file or another program


def console() -> Console:
    """Give the console of standard output."""
    made = Console(highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made = Console(highlight=False, width=PIPE_WIDTH)
    return made
