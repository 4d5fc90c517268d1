"""`jupyter nbconvert --to durable-script notebook.ipynb`: the script as nbconvert's exporters give theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbconvert.exporters import Exporter
from traitlets import Bool, default

from durable_nb.export.cells import log_of
from durable_nb.export.script import export


class DurableScriptExporter(Exporter):
    """Exports the tasks of a notebook as a Python script (see `durable_nb.export.script`)."""

    export_from_notebook = "Durable tasks script"
    output_mimetype = "text/x-python"
    explore = Bool(False, help="Put the cells that only explore into a function explore().").tag(config=True)

    @default("file_extension")
    def _python(self) -> str:
        return ".py"

    def from_notebook_node(self, nb: Any, resources: Any = None, **keywords: Any) -> Any:
        """Give the script's text, with nbconvert's resources: (str, dict), as every text exporter does."""
        nb, resources = super().from_notebook_node(nb, resources, **keywords)
        name = resources.get("metadata", {}).get("name", "notebook")
        return export(nb, log=log_of(nb, Path(f"{name}.ipynb")), name=name, explore=self.explore).text, resources
