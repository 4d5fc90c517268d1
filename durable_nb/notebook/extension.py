"""Loading: `%load_ext durable_nb` opens the notebook's log, restores its tasks and lets its runs go on.

Invariants: loading again changes nothing; loading never fails, a log that cannot be opened is told in one sentence, and the
magics say it again; at the end of the kernel the engine is closed within seconds, and what it cannot give back by then is
taken up by the next engine, since the operating system tells it that this one is gone.
"""

from __future__ import annotations

import atexit
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable_nb.client import DEFAULT_LOG, LOG_VARIABLE
from durable_nb.errors import DurableError
from durable_nb.log import definitions as stored, reads
from durable_nb.notebook.app import NotebookDurable
from durable_nb.notebook.cells import APP_NAME
from durable_nb.notebook.completion import Completer
from durable_nb.notebook.display import Area
from durable_nb.notebook.editing import Check
from durable_nb.notebook.helpers import define_changed
from durable_nb.notebook.magics import ALIASES, LINE_MAGIC, DurableMagics, ask_for_help
from durable_nb.notebook.output import OUTPUT
from durable_nb.notebook.reruns import Reruns
from durable_nb.notebook.session import Session
from durable_nb.views.text import LogState, log_line
from durable_nb.views.words import visible

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from durable_nb.log.definitions import StoredDefinition

CLOSE_SECONDS = 4.0
GIT_SECONDS = 2.0


class Extension:
    """The extension in one shell.

    Attributes:
        session: the tasks of this notebook and its app object.
        reruns: the cells that were executed, so that Restart & Run All starts nothing twice.
        shown: the log's id and the definitions that `%durable trust` has shown last.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        notebook = notebook_path(shell.user_ns)
        self.shell = shell
        self.durable = NotebookDurable(log_path(notebook), str(notebook) if notebook else "")
        self.session = Session(self.durable)
        self.reruns = Reruns()
        self.shown: tuple[str, list[StoredDefinition]] | None = None
        self._completer = Completer(self)
        self._pid = os.getpid()
        self._restored: dict[str, object] = {}
        self._is_restored = False

    # ------------------------------------------------------------ life

    def load(self) -> None:
        """Take the shell: the app object, the magics, the log."""
        self.shell.push({APP_NAME: self.durable}, interactive=False)  # type: ignore[no-untyped-call]
        self.shell.register_magics(DurableMagics(self.shell, self))
        for alias, verb in ALIASES.items():
            self.shell.magics_manager.register_alias(alias, LINE_MAGIC, "line", verb)
        self.shell.events.register("pre_run_cell", self._before_cell)
        self.shell.events.register("post_run_cell", self._after_cell)
        self.shell.Completer.custom_matchers.append(self._completer.match)
        self.shell.input_transformers_cleanup.append(ask_for_help)
        OUTPUT.install()
        atexit.register(self._close_at_exit)
        try:
            self.ready()
            lines = self.lines()
        except DurableError as error:
            lines = [visible(str(error))]
        say(self.shell, lines)

    def unload(self) -> None:
        """Give the shell back; the runs stay in the log."""
        atexit.unregister(self._close_at_exit)
        self.shell.events.unregister("pre_run_cell", self._before_cell)
        self.shell.events.unregister("post_run_cell", self._after_cell)
        self.shell.Completer.custom_matchers.remove(self._completer.match)
        self.shell.input_transformers_cleanup.remove(ask_for_help)
        OUTPUT.remove()
        self.durable.close()
        if self.shell.user_ns.get(APP_NAME) is self.durable:
            self.shell.user_ns.pop(APP_NAME)
        self._withdraw_restored()
        for kind in self.shell.magics_manager.magics.values():
            for name in [name for name, magic in kind.items() if isinstance(getattr(magic, "__self__", None), DurableMagics)]:
                del kind[name]
        for alias in ALIASES:
            self.shell.magics_manager.magics["line"].pop(alias, None)

    def _before_cell(self, cell: Any) -> None:
        self.reruns.begin(getattr(cell, "cell_id", None), cell.raw_cell or "", is_kernel=hasattr(self.shell, "kernel"))

    def _after_cell(self, _: object) -> None:
        """Keep the code of what the cell declared by decorators, now that all of the cell's names are there."""
        OUTPUT.uncover()
        try:
            lines = define_changed(self.session, self.shell.user_ns)
            if self.durable.declared:
                lines += [*self.session.define_declared(self.shell.user_ns), *self.session.define_completed()]
        except DurableError as error:
            lines = [str(error)]
        for line in lines:
            print(visible(line))
        self.check_edits()

    def check_edits(self) -> None:
        """Replay the unfinished runs of tasks that have got new code; the report fills itself in below the cell."""
        for edit in self.session.edits():
            Check(self.session, edit, Area(self.shell).show).begin()

    def _close_at_exit(self) -> None:
        if os.getpid() == self._pid:  # not in a process that was forked off: the engine's thread is not there
            with suppress(Exception):
                self.durable.close(timeout=CLOSE_SECONDS)

    # ------------------------------------------------------------ the log

    def ready(self) -> Session:
        """Give the session with its log open; open it, and restore its tasks, if it is not.

        Raises:
            LogError: the log cannot be opened, or is not known to this user; UntrustedError: the user's key is not private.
        """
        self.durable.open()
        if not self._is_restored:
            self._give_names()
            self._is_restored = True
        return self.session

    def open(self, path: Path) -> None:
        """Open another log; the tasks defined here serve it from now on. Where it cannot be opened, the old one stays.

        Raises:
            LogError: as for `ready`.
        """
        before = self.durable.path
        self.durable.close()
        self.durable.path = path
        try:
            self.durable.open()
        except DurableError:
            self.durable.path = before
            raise
        self.durable.close()
        self._withdraw_restored()
        own = [task for task in self.durable.tasks if not task.is_restored]
        self.session.forget_restored()
        self.durable.tasks = type(self.durable.tasks)()
        for task in own:
            self.durable.add(task)
        self._is_restored = False
        self.session.serve_again()
        self.ready()

    def restore(self) -> None:
        """Restore again what could not be restored before it was trusted."""
        self.session.untrusted.clear()
        self._give_names()

    def _give_names(self) -> None:
        """Restore the tasks; put each into the notebook under its name, where that is free."""
        for task in self.session.restore():
            if task.name.isidentifier() and task.name not in self.shell.user_ns:
                self.shell.push({task.name: task}, interactive=False)  # type: ignore[no-untyped-call]
                self._restored[task.name] = task

    def _withdraw_restored(self) -> None:
        for name, task in self._restored.items():
            if self.shell.user_ns.get(name) is task:
                del self.shell.user_ns[name]
        self._restored.clear()

    # ------------------------------------------------------------ what is said

    def state(self) -> LogState:
        """Read what the line at loading tells."""
        home = self.durable.home
        unfinished, (_, blocked, waiting, asking) = self.session.read(
            lambda connection: (stored.list_unfinished(connection, home), reads.count_status(connection))
        )
        served = {task.name for task in self.durable.tasks}
        return LogState(
            path=self.durable.path,
            going=sum(group.roots for group in unfinished if group.task in served),
            waiting=waiting,
            blocked=blocked,
            asking=asking,
            lacking=[(group.task, group.runs) for group in unfinished if group.task not in served],
            untrusted=tuple(self.session.untrusted),
        )

    def lines(self) -> list[str]:
        """Give the line about the log, and the warning if git would take the log along."""
        lines = [log_line(self.state()), *(visible(note) for note in self.session.notes())]
        if self.durable.took_back is not None:
            lines.append(
                f"durable_nb: the runs were taken back from process {self.durable.took_back}, which served them meanwhile."
            )
            self.durable.took_back = None
        if not is_ignored(self.durable.path):
            name = visible(self.durable.path.name)
            lines.append(
                f"durable_nb: git does not ignore the log: add `{name}*` to .gitignore, since it holds inputs and outputs."
            )
        return lines


LOADED: dict[InteractiveShell, Extension] = {}


def load(shell: InteractiveShell) -> None:
    """Load the extension into a shell, unless it is loaded."""
    if shell not in LOADED:
        LOADED[shell] = Extension(shell)
        LOADED[shell].load()


def unload(shell: InteractiveShell) -> None:
    """Take the extension out of a shell again."""
    if shell in LOADED:
        LOADED.pop(shell).unload()


# ---------------------------------------------------------------- where we are


def notebook_path(namespace: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Path | None:
    """Give the notebook's path, where the frontend tells it: Jupyter by the environment, VS Code by a variable."""
    for name in (environment.get("JPY_SESSION_NAME"), namespace.get("__vsc_ipynb_file__")):
        if isinstance(name, str) and name.endswith(".ipynb"):
            path = Path(name).absolute()
            if path.parent.is_dir():
                return path
    return None


def log_path(notebook: Path | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Give the log's path: the one that the environment names, else beside the notebook, else in the working folder."""
    named = environment.get(LOG_VARIABLE)
    if named:
        return Path(named)
    return notebook.with_suffix(".durable.db") if notebook else Path(DEFAULT_LOG)


def is_ignored(log: Path) -> bool:
    """Whether git leaves the log alone: it is in no work tree, or ignored; True where that cannot be told."""
    if not any((folder / ".git").exists() for folder in log.absolute().parents):
        return True
    command = ["git", "check-ignore", "--quiet", log.name]
    try:
        done = subprocess.run(
            command, cwd=log.parent, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return True
    return done.returncode != 1


def say(shell: InteractiveShell, lines: list[str]) -> None:
    """Print lines into the running cell; in a kernel that has not run one yet, into the first."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None or kernel.get_parent():
        print(*lines, sep="\n")
        return

    def print_once(_: object) -> None:
        shell.events.unregister("pre_run_cell", print_once)
        print(*lines, sep="\n", flush=True)

    shell.events.register("pre_run_cell", print_once)
