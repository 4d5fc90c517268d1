"""One notebook's session: the app object, the definitions that its cells make, and those that the log gives back.

Invariants: a task whose code can be kept executes in its captured namespace from the first run on, so that it behaves the
same before and after a restart; nothing of a definition is executed unless this user's signature on it verifies; a restored
task is served only when everything it refers to is there.

Lives on the kernel's main thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING, Any

from durable_nb.definitions import (
    Classes,
    Definition,
    bind,
    capture,
    definition_parts,
    is_signed,
    notes,
    rebuild,
    unbound,
)
from durable_nb.definitions.records import UNDEFINED
from durable_nb.errors import DeclarationError, DurableError, LogError, UntrustedError
from durable_nb.log import definitions as stored
from durable_nb.log.definitions import StoredDefinition
from durable_nb.notebook.app import NotebookDurable
from durable_nb.notebook.editing import Edit
from durable_nb.notebook.helpers import watched
from durable_nb.notebook.kept import Kept, lost_validator, notes_on, references_of
from durable_nb.tasks.flow import plain
from durable_nb.tasks.options import TaskOptions, options_from_json, options_to_json
from durable_nb.tasks.task import Kind, Task
from durable_nb.tasks.workflow import WorkflowTask

if TYPE_CHECKING:
    from durable_nb.log.records import Claim

APP = "app"
TASK = "task:"


class Session:
    """What a notebook's tasks need beyond the engine.

    Attributes:
        durable: the app object.
        untrusted: names of tasks in the log whose definition does not carry this user's signature.
        unrestorable: names of tasks whose cell must be run again, with the reason.
    """

    def __init__(self, durable: NotebookDurable) -> None:
        self.durable = durable
        self.untrusted: list[str] = []
        self.unrestorable: dict[str, str] = {}
        self._kept: dict[str, Kept] = {}
        self._classes = Classes()
        self._edits: dict[str, Edit] = {}
        self._older: list[Kept] = []  # former definitions, which their own runs still execute
        self._held: dict[str, Task[Any]] = {}  # restored, but something that they refer to is not there yet

    # ------------------------------------------------------------ defining

    def define(self, function: FunctionType, kind: Kind, options: TaskOptions, source: str) -> tuple[Task[Any], list[str]]:
        """Make a function the task of its name: capture it, write its definition, serve it.

        Returns:
            The task, and notes for the person: what could not be kept with it, and what its code should not do.

        Raises:
            DeclarationError: it cannot be a task; nothing was written or served.
            LogError: the log cannot be opened or written.
        """
        definition = capture(function, references=self._references(), source=source)
        task: Task[Any] = Task(function, host=self.durable, kind=kind, name=None, options=options, version=definition.version)
        if definition.is_restorable:
            self._move_in(task, definition)
        self._put(task, definition)
        self._serve(Kept(task, definition, function, source))
        return task, notes_on(task, definition)

    def define_declared(self, namespace: dict[str, Any]) -> list[str]:
        """Keep the code of the tasks that decorators have declared in the notebook since the last call.

        Returns:
            Notes for the person, and for a task whose code could not be kept the reason.
        """
        declared, lines = list(dict.fromkeys(self.durable.declared)), list[str]()
        self.durable.declared.clear()
        for task in declared:
            function: Any = task.function
            is_kept = task.name in self._kept and self._kept[task.name].task is task
            is_alone = not isinstance(task, WorkflowTask)  # one of a workflow is nothing without it, whose cell is run again
            if is_alone and not is_kept and function.__globals__ is namespace:
                try:
                    lines += self._keep_declared(task, function)
                except DurableError as error:
                    lines.append(str(error))
        return lines

    def _keep_declared(self, task: Task[Any], function: FunctionType) -> list[str]:
        definition = capture(function, references=self._references())
        annotated: Task[Any] = Task(function, host=self.durable, kind=task.kind, name=task.name, options=task.options)
        if task.input_adapter is not annotated.input_adapter:
            definition = replace(definition, lost=(*definition.lost, lost_validator(task, definition)))
        if definition.is_restorable:
            self._move_in(task, definition)
        task.version = definition.version
        self._put(task, definition)
        self._serve(Kept(task, definition, function))
        return notes_on(task, definition)

    def define_completed(self) -> list[str]:
        """Capture again the tasks that used a name before it was defined, where that is what they lacked.

        Returns:
            Notes for the person.
        """
        lines = list[str]()
        for kept in list(self._kept.values()):
            if kept.live is not None and any(loss.type_name == UNDEFINED for loss in kept.definition.lost):
                try:
                    lines += self._complete(kept, capture(kept.live, references=self._references(), source=kept.source))
                except DurableError as error:
                    lines.append(str(error))
        return lines

    def _complete(self, kept: Kept, definition: Definition) -> list[str]:
        if not definition.is_restorable:
            return []
        self._move_in(kept.task, definition)
        kept.task.version = definition.version
        self._put(kept.task, definition)
        self._serve(replace(kept, definition=definition))
        return [f"{kept.task.name} has all that it needs now: it goes on after a restart without its cell."]

    def _move_in(self, task: Task[Any], definition: Definition) -> None:
        """Have a task execute in its captured namespace from now on."""
        captured: Task[Any] = Task(
            self._rebuild(definition), host=self.durable, kind=task.kind, name=task.name, options=task.options
        )
        task.cell_adapter = task.cell_adapter or task.output_adapter  # a cell gets instances of its own classes
        task.input_adapter, task.output_adapter = captured.input_adapter, captured.output_adapter
        task.function, task.dependencies = captured.function, captured.dependencies
        self._take_in(task, definition)

    def _references(self) -> dict[int, str]:
        tasks = {id(task): f"{TASK}{task.name}" for task in [*self.durable.tasks, *self._held.values()]}
        return {**tasks, id(self.durable): APP}

    def _rebuild(self, definition: Definition) -> FunctionType:
        filename = f"<durable {definition.name} {definition.version[:6]}>"
        return rebuild(definition, resolve=self._resolve, filename=filename, classes=self._classes)

    def _resolve(self, target: str) -> object:
        if target == APP:
            return self.durable
        name = target.removeprefix(TASK) if target.startswith(TASK) else ""
        if name in self._held:
            return self._held[name]
        if name in self.durable.tasks:
            return self.durable.tasks[name]
        raise LookupError(target)

    @staticmethod
    def _take_in(task: Task[Any], definition: Definition) -> None:
        """To a task's own code, its name means the task."""
        for reference in references_of(definition):
            if reference.target == "self":
                bind(task.function, reference.name, task)  # type: ignore[arg-type]

    def _put(self, task: Task[Any], definition: Definition) -> None:
        row = self._row(task, definition)
        engine = self.durable.engine

        async def put() -> None:
            await engine.writer.submit(lambda connection: stored.put(connection, row))

        self.durable.call(put, aio="a cell")

    def _row(self, task: Task[Any], definition: Definition) -> StoredDefinition:
        engine = self.durable.engine
        row = StoredDefinition(
            task=task.name,
            version=definition.version,
            kind=task.kind,
            options=_options_json(task.kind, self.durable.home, task.options),
            body=definition.to_json(),
            home=self.durable.home,
            signature=b"",
            created_at=engine.clock.now(),
        )
        return replace(row, signature=self.sign(row))

    def sign(self, row: StoredDefinition) -> bytes:
        """Sign a definition as the log is to keep it."""
        definition = Definition.from_json(row.body)
        return self.durable.keyring.sign(*definition_parts(self.durable.log_id, row.task, row.options, definition))

    def _serve(self, kept: Kept) -> None:
        """Serve a task that a cell has defined, and give it to the tasks that refer to it."""
        task = kept.task
        self._held.pop(task.name, None)
        self.unrestorable.pop(task.name, None)
        if task.name in self.untrusted:
            self.untrusted.remove(task.name)
        before = self._kept.get(task.name)
        if before is not None and before.definition.version != kept.definition.version and before.task is not task:
            self._edits[task.name] = Edit(task.name, task.kind, kept.definition.version, before.definition.version)
            self._older.append(before)
        self._kept[task.name] = watched(kept)
        self._introduce(task)
        self.durable.add(task)
        self._release_held()

    def _introduce(self, task: Task[Any]) -> None:
        """Let the captured code that names a task find this one, which is new or defined anew."""
        for kept in [*self._kept.values(), *self._older]:
            if kept.definition.is_restorable and kept.task is not task:
                for reference in references_of(kept.definition):
                    if reference.target == f"{TASK}{task.name}":
                        bind(kept.task.function, reference.name, task)  # type: ignore[arg-type]

    def _release_held(self) -> None:
        for name, task in list(self._held.items()):
            if not unbound(task.function):  # type: ignore[arg-type]
                del self._held[name]
                self.durable.add(task)

    # ------------------------------------------------------------ restoring

    def restore(self) -> list[Task[Any]]:
        """Make the tasks of this notebook again from their newest definitions in the log, without their cells.

        Returns:
            The tasks that are there again; `untrusted` and `unrestorable` name the others.

        Raises:
            UntrustedError: the user's key cannot be used; nothing was restored.
        """
        restored = [task for task in (self._restore_one(row) for row in self.rows(self.durable.home)) if task is not None]
        for task in restored:
            self._held[task.name] = task
        self._restore_older()
        for task in restored:
            self._introduce(task)
        self._release_held()
        return restored

    def _restore_older(self) -> None:
        """Make the former versions again that unfinished runs still execute."""
        home = self.durable.home
        for row in self.read(lambda connection: stored.list_wanted(connection, home)):
            if self.version_of(row.task) != row.version and (kept := self._rebuilt(row)) is not None:
                self._older.append(kept)
                self.durable.tasks.keep(kept.task)

    def rows(self, home: str | None) -> list[StoredDefinition]:
        """Read the newest definitions of a home from the open log."""
        return self.read(lambda connection: stored.list_newest(connection, home))  # type: ignore[no-any-return]

    def read(self, work: Callable[[Any], Any]) -> Any:
        """Read from the open log."""
        engine = self.durable.engine
        return self.durable.call(lambda: engine.reader.run(work), aio="await durable.runs.aio_list(…)")

    def _restore_one(self, row: StoredDefinition) -> Task[Any] | None:
        if row.task in self.durable.tasks:
            return None
        kept = self._rebuilt(row)
        if kept is None:
            return None
        self._kept[row.task] = kept
        return kept.task

    def _rebuilt(self, row: StoredDefinition) -> Kept | None:
        try:
            definition = Definition.from_json(row.body)
            if not self.is_signed(row, definition):
                self.untrusted.append(row.task)
                return None
            kind, options = _options_of(row.options)
            if definition.lost:
                self.unrestorable[row.task] = str(definition.lost[0])
                return None
            task: Task[Any] = Task(
                self._rebuild(definition),
                host=self.durable,
                kind=kind,
                name=row.task,
                options=options,
                version=definition.version,
            )
        except UntrustedError:
            raise  # the key cannot be used: that is not this definition's fault, and holds for all of them
        except DurableError as error:
            self.unrestorable[row.task] = str(error)
            return None
        task.is_restored = True
        self._take_in(task, definition)
        return Kept(task, definition)

    def is_signed(self, row: StoredDefinition, definition: Definition) -> bool:
        """Whether this user's signature covers a definition as it stands in the log, its home and version included."""
        return is_signed(self.durable.keyring, self.durable.log_id, row, definition)

    # ------------------------------------------------------------ versions

    def version_of(self, task: str) -> str | None:
        """Give the version of a task as it is defined now."""
        kept = self._kept.get(task)
        return kept.definition.version if kept else None

    def kept(self) -> list[Kept]:
        """Give every task of the session with its definition."""
        return list(self._kept.values())

    def keep(self, kept: Kept) -> None:
        """Put a task's account in the place of the one before."""
        self._kept[kept.task.name] = kept

    def capture(self, kept: Kept) -> Definition:
        """Capture a task's live function again, each part as the cell says it that defined it last."""
        return capture(kept.live, references=self._references())  # type: ignore[arg-type]

    def serve(self, kept: Kept) -> None:
        """Have a new definition of a task executed, written and served."""
        self._move_in(kept.task, kept.definition)
        self._put(kept.task, kept.definition)
        self._serve(kept)

    def restorable(self) -> dict[str, tuple[Kind, str]]:
        """Give the definitions that can be rebuilt anywhere: by name, kind and JSON."""
        return {
            name: (kept.task.kind, kept.definition.to_json())
            for name, kept in self._kept.items()
            if kept.definition.is_restorable
        }

    def sign_run(self, claim: Claim, version: str) -> bytes:
        """Sign a run for another version of its task."""
        durable = self.durable
        return durable.keyring.sign("run", durable.log_id, claim.id, claim.task, version, claim.input)

    def edits(self) -> list[Edit]:
        """Give the tasks that were given new code since the last call."""
        edits, self._edits = list(self._edits.values()), {}
        return edits

    # ------------------------------------------------------------ another log

    def serve_again(self) -> None:
        """Write the definitions of this session's own tasks to the log that is open now, and serve them there."""
        for kept in list(self._kept.values()):
            if not kept.task.is_restored:
                self._put(kept.task, kept.definition)
                self.durable.add(kept.task)

    def forget_restored(self) -> list[Task[Any]]:
        """Forget what another log gave back; give it."""
        gone = [kept.task for kept in self._kept.values() if kept.task.is_restored]
        for task in gone:
            del self._kept[task.name]
        self._held.clear()
        self._older.clear()
        self.untrusted.clear()
        self.unrestorable.clear()
        return gone

    def notes(self) -> list[str]:
        """What a person should know of the restored code: local modules that have changed since its definition."""
        return [note for kept in self._kept.values() if kept.task.is_restored for note in notes(kept.task.function)]  # type: ignore[arg-type]

    def held(self) -> dict[str, list[str]]:
        """Restored tasks that wait for others, with the names of those."""
        return {
            name: [target.removeprefix(TASK) for target in unbound(task.function).values()]  # type: ignore[arg-type]
            for name, task in self._held.items()
        }


def _options_json(kind: Kind, home: str, options: TaskOptions) -> str:
    """Write a declaration's options as JSON, with kind and home, so that one signature covers them all."""
    said = {"kind": kind, "home": home, "options": options_to_json(options)}
    return json.dumps(said, default=plain, sort_keys=True, ensure_ascii=True)


def _options_of(text: str) -> tuple[Kind, TaskOptions]:
    """Read what `_options_json` wrote, once its signature has been verified.

    Raises:
        LogError: another version of durable_nb wrote it.
    """
    try:
        said = json.loads(text)
        return said["kind"], options_from_json(said["options"])
    except (KeyError, TypeError, ValueError, DeclarationError) as error:
        raise LogError(f"The options of a definition cannot be read ({error}): run its cell again.") from error
