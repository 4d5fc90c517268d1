"""`open_bundle`: what a colleague does with a bundle.

Invariants: the file is only read; nothing of it is executed unless its very content is trusted (made here, or by `trust()` after
its code was seen), and then only in a process of its own, which an audit hook keeps from writing and from networks.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from durable_nb.client.guarded import guarded
from durable_nb.client.plans import Plan, plan_of
from durable_nb.client.replayer import History, Job, Verdict
from durable_nb.client.stepping import Steps, Walk
from durable_nb.definitions import Definition
from durable_nb.definitions.trust import Keyring
from durable_nb.engine.siblings import siblings_in
from durable_nb.errors import InertLogError, LogError, UntrustedError
from durable_nb.log import branches, bundling, checkpoints, reads
from durable_nb.log.copying import new_file
from durable_nb.log.definitions import COLUMNS, StoredDefinition, list_newest
from durable_nb.log.queue import as_claim
from durable_nb.log.records import RunView
from durable_nb.log.versions import RETURNED
from durable_nb.views.detail import detail_of
from durable_nb.views.text import RunDetail, plain, run_history

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")
DURABLE_RUNS = f"SELECT {RETURNED} FROM run WHERE kind = 'durable_task' ORDER BY number"  # noqa: S608  constants
DEFINITIONS = "SELECT task, version, kind, options, body, home, signature, created_at FROM definition ORDER BY created_at"
REPLAY_SECONDS = 60.0

TEST = '''"""A recorded run, replayed against the code of today."""

from pathlib import Path

from durable_nb.bundles.checking import check_bundle
from {module} import {app}


def test_{slug}_does_what_was_recorded() -> None:
    check_bundle(Path(__file__).with_name({bundle}), {app})
'''


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle, inert and for reading only.

    Raises:
        LogError: there is no such file. NotALogError: it is no bundle, is damaged, or is of another version.

    Example:
        >>> bundle = open_bundle("order.bundle")  # doctest: +SKIP
        >>> bundle  # shows the run's history  # doctest: +SKIP
        >>> bundle.trust().replay()  # doctest: +SKIP
        [Verdict(number=1, kind='goes on', …)]
    """
    return Bundle(Path(path).expanduser().absolute())


class Bundle:
    """An open bundle. Where a view takes an app object to read from, it takes a bundle too.

    Attributes:
        path: of the file.
        info: the number of the run that it was made of, when, and which fields were taken out.
    """

    def __init__(self, path: Path, keyring: Keyring | None = None) -> None:
        self.path = path
        self._keyring = keyring or Keyring.default()
        self.info = self.read(bundling.read_info)

    def __repr__(self) -> str:
        return f"<Bundle {self.path.name}: run {self.run.id} of {self.run.task!r}>"

    def __rich__(self) -> RenderableType:
        return run_history(self.read(self._detail))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": plain(self.__rich__())}

    def __getattr__(self, name: str) -> Any:
        if name in ("runs", "event", "inbox", "engine", "upkeep", "queue", "cron", "scheduled"):
            raise InertLogError(f"{self.path.name} is a bundle: it can be looked at and replayed, and changes nothing.")
        raise AttributeError(name)

    # ------------------------------------------------------------ looking

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read by a function that takes a connection, such as those of `durable_nb.log.reads`."""
        try:
            with closing(bundling.open_readonly(self.path)) as connection:
                return work(connection)
        except (sqlite3.Error, json.JSONDecodeError) as error:
            raise LogError(f"The bundle {self.path} cannot be read: {error}. Ask for it again.") from error

    @property
    def run(self) -> RunView:
        """The run that it was made of."""
        return self.read(lambda connection: reads.find_run(connection, f"#{self.info.run}"))

    def definitions(self) -> Sequence[StoredDefinition]:
        """Give the code in it, as text: nothing of it is executed."""
        return self.read(
            lambda connection: [
                StoredDefinition(**dict(zip(COLUMNS, row, strict=True))) for row in connection.execute(DEFINITIONS)
            ]
        )

    def sources(self) -> Mapping[str, str]:
        """Give the source of each task's newest definition, as text, to be read before `trust()`."""
        newest = self.read(lambda connection: list_newest(connection, None))
        return {row.task: Definition.from_json(row.body).source for row in newest}

    def histories(self) -> Iterator[tuple[RunView, History]]:
        """Give the durable runs with what was recorded for each, as an engine would enter it."""

        def read(connection: sqlite3.Connection) -> list[tuple[RunView, History]]:
            found = []
            for row in connection.execute(DURABLE_RUNS).fetchall():
                claim = as_claim(connection, row)
                place = (claim.number, claim.branch)
                history = History(
                    claim,
                    checkpoints.load_history(connection, *place),
                    branches.seeds_of(connection, *place),
                    checkpoints.seq_before(connection, *place),
                    siblings_in(connection, claim),
                )
                found.append((reads.find_run(connection, f"#{claim.number}"), history))
            return found

        yield from self.read(read)

    def _detail(self, connection: sqlite3.Connection) -> RunDetail:
        return detail_of(connection, f"#{self.info.run}", now=self.info.made_at)

    # ------------------------------------------------------------ trusting and replaying

    @property
    def is_trusted(self) -> bool:
        """Whether its very content was made by this user, or trusted."""
        return self._keyring.knows(bundling.identity(self.path))

    def trust(self) -> Bundle:
        """Let its code be executed when it is replayed; read `sources()` first. Another content of the file is not trusted."""
        self._keyring.remember(bundling.identity(self.path), self.path)
        return self

    def replay(self) -> list[Verdict]:
        """Replay the durable runs offline against the code in the bundle, in a process that may neither write nor connect.

        Returns:
            What came of each: `.kind` is ``"goes on"`` where the code asks what was recorded, else ``"diverges"``, ``"fails"`` or
            ``"not checkable"`` with `.reason`.

        Raises:
            UntrustedError: the bundle is not trusted.
        """
        if not self.is_trusted:
            raise UntrustedError(
                f"{self.path.name} was not made by you, so none of its code is executed: read bundle.sources(), then say "
                "bundle.trust()."
            )
        by_code: dict[tuple[str, str | None], list[History]] = {}
        for run, history in self.histories():
            by_code.setdefault((run.task, run.version), []).append(history)
        return [verdict for (task, version), found in by_code.items() for verdict in self._replay(task, version, found)]

    def _replay(self, task: str, version: str | None, histories: Sequence[History]) -> list[Verdict]:
        stored = self.definitions()
        chosen = {row.task: (row.kind, row.body) for row in stored} | {
            row.task: (row.kind, row.body) for row in stored if row.task == task and row.version == version
        }
        reason = "" if task in chosen else "its code is not in the bundle"
        if any(item.recorded and item.recorded[0].kind == "plan" for item in histories):
            reason = "a workflow has no code of its own; each of its durable tasks is judged"
        if reason:
            return [Verdict(number=item.claim.number, kind="not checkable", reason=reason) for item in histories]
        job = Job(task, chosen, histories, [""])  # type: ignore[arg-type]  # kinds are text in the log
        verdicts, ends_at = list[Verdict](), time.monotonic() + REPLAY_SECONDS
        with guarded("durable_nb.client.replayer", job) as hear:
            while len(verdicts) < len(histories) and (said := hear(max(0.0, ends_at - time.monotonic()))) is not None:
                if "begin" not in said:
                    verdicts.append(Verdict(**said))
        judged = {verdict.number for verdict in verdicts}
        late = [item.claim.number for item in histories if item.claim.number not in judged]
        return verdicts + [Verdict(number=number, kind="not checkable", reason="its replay did not end") for number in late]

    def step_through(self, *, branch: int | None = None) -> Steps:
        """Walk through the run's history offline: every position with its suspended frames and locals, as `runs.step_through`.

        Nothing of the bundle is executed before it is trusted: until then each `Step.reason` says so.

        Raises:
            UnknownCheckpointError: the run has no such branch.

        Example:
            >>> for step in bundle.trust().step_through():  # doctest: +SKIP
            ...     print(step.node, step.line, {name: local.text for name, local in step.locals.items()})
        """
        is_trusted = self.is_trusted

        def read(connection: sqlite3.Connection) -> Plan:
            run = reads.find_run(connection, f"#{self.info.run}")
            return plan_of(connection, run, branch, trusts=lambda row, definition: is_trusted)

        return Walk(self.read(read)).finish()

    # ------------------------------------------------------------ keeping

    def to_test(self, path: str | os.PathLike[str], *, module: str, app: str = "durable") -> Path:
        """Write a pytest file beside the bundle that replays the recorded runs against the code of `module`; give its path.

        The test fails where the code asks something else than was recorded, or gives another outcome. It executes the code of
        `module` only, none of the bundle.

        Args:
            path: of the test, in the bundle's own folder.
            module: from which the app object is imported. app: the app object's name in it.

        Raises:
            LogError: there is such a file, it would lie in another folder, or the names are none of Python's.

        Example:
            >>> open_bundle("tests/order.bundle").to_test("tests/test_order.py", module="flow")  # doctest: +SKIP
        """
        target = Path(path).expanduser().absolute()
        if target.parent != self.path.parent:
            raise LogError(f"The test finds its bundle beside itself: write it into {self.path.parent}.")
        if not all(part.isidentifier() for part in module.split(".")) or not app.isidentifier():
            raise LogError(f"`from {module} import {app}` is no import: name a module, and the app object in it.")
        slug = re.sub(r"[^a-z0-9]+", "_", self.run.task.lower()).strip("_")[:60] or "run"
        text = TEST.format(
            bundle=ascii(self.path.name),
            module=module,
            app=app,
            slug=slug,
        )
        with new_file(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return target
