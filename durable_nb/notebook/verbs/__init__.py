"""The verbs of `%durable`: a module for each group of them, and the table of all.

To add a verb, write a `Verb` into the `VERBS` of a module here, and name a new module in `GROUPS`: its help, its completion and
its place in `%durable help` follow from that.
"""

from __future__ import annotations

from collections.abc import Mapping

from durable_nb.notebook.verbs import leaving, logs, looking, people, starting, steering, upkeep
from durable_nb.notebook.verbs.verb import Verb

GROUPS = (starting, looking, steering, people, leaving, logs, upkeep)

TABLE: Mapping[str, Verb] = {verb.name: verb for group in GROUPS for verb in group.VERBS}

__all__ = ["TABLE", "Verb"]
