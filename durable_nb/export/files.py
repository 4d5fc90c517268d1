"""Reading notebooks from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from durable_nb.export.cells import ExportError


def read_notebook(path: Path) -> dict[str, Any]:
    """Read a notebook's JSON.

    Raises:
        ExportError: it is none. OSError: it cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and isinstance(document.get("cells"), list):
            return document
        why = "it has no cells"
    except (ValueError, RecursionError) as error:
        why = str(error)
    raise ExportError(f"{path} is no notebook of nbformat 4 ({why}).")
