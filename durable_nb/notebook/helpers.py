"""An edited helper is an edit of every task that uses it: the function or class that a cell defines anew is captured again.

A constant stays as it was when the task was defined. A helper that says the same as before changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from durable_nb.definitions import Code
from durable_nb.notebook.kept import Kept
from durable_nb.tasks.task import Task

if TYPE_CHECKING:
    from durable_nb.notebook.session import Session


def watched(kept: Kept) -> Kept:
    """Note which objects a task's helpers are now."""
    live: Any = kept.live
    namespace = {} if live is None else live.__globals__
    names = [binding.name for binding in kept.definition.bindings if isinstance(binding, Code)]
    return replace(kept, helpers={name: namespace[name] for name in names if name in namespace})


def define_changed(session: Session, namespace: dict[str, Any]) -> list[str]:
    """Define the tasks anew whose helpers a cell has changed; give a note for each.

    Raises:
        DurableError: one cannot be captured or written any more.
    """
    notes = []
    for kept in session.kept():
        changed = [name for name, value in kept.helpers.items() if name in namespace and namespace[name] is not value]
        live: Any = kept.live
        if not changed or live.__globals__ is not namespace:
            continue
        definition = session.capture(kept)
        if definition.version == kept.definition.version or not definition.is_restorable:
            session.keep(watched(kept))
            continue
        old = kept.task
        task: Task[Any] = Task(
            live, host=session.durable, kind=old.kind, name=old.name, options=old.options, version=definition.version
        )
        session.serve(replace(kept, task=task, definition=definition))
        for name, value in list(namespace.items()):
            if value is old:
                namespace[name] = task
        notes.append(f"{task.name} uses the new {', '.join(sorted(changed))} from now on.")
    return notes
