"""Which runs a worker may execute: by their task, and by the code that they have.

Invariant: a run goes to its own home (notebook or script), whatever code that has by now, and to others only if they have defined
its task with the very code that the run has, since two notebooks may give one name to different tasks. A task that was only
restored from the log serves its own home, so that one notebook does not swallow another's runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

# First what stands in the index.
SERVED = """task IN (SELECT value FROM json_each(:served, '$.tasks'))
  AND (home = :home
       OR (task, coalesce(version, '')) IN (SELECT value ->> 0, value ->> 1 FROM json_each(:served, '$.codes'))
       OR task IN (SELECT value FROM json_each(:served, '$.any')))"""


@dataclass(frozen=True, slots=True)
class Served:
    """What a worker serves.

    Attributes:
        text: JSON: `tasks`, names of all; of those that it serves for other homes too `codes`, pairs of name and version, '' for
            a run without one, and `any`, names of tasks that go with any version: those of a plain script, whose code nobody
            keeps. (In a notebook a task has no version only until its cell has ended.)
    """

    home: str
    text: str

    @classmethod
    def of(cls, home: str, tasks: Iterable[str], codes: Iterable[tuple[str, str | None]]) -> Served:
        """Serve tasks.

        Args:
            codes: those that are served for other homes too: names with versions.
        """
        known = sorted({(name, version or "") for name, version in codes})
        codeless = [name for name, version in known if not version and not home]
        pairs = sorted({*known, *((name, "") for name, _ in known)})
        return cls(home, json.dumps({"tasks": sorted(tasks), "codes": pairs, "any": codeless}))

    def values(self) -> dict[str, object]:
        """Give what `SERVED` is asked with."""
        return {"home": self.home, "served": self.text}
