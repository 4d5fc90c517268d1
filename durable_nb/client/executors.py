"""`durable.executor`: where regular tasks run elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_nb.errors import ExecutorError
from durable_nb.tasks.options import OWN_LANES

if TYPE_CHECKING:
    from durable_nb.client.app import Durable
    from durable_nb.engine.executors import Executor


class Executors:
    """`durable.executor(…)`: makes an executor, which tasks name by their option `executor`.

    ``"process"`` is there from the start. A task whose executor was not made waits in the queue until it is, also after a
    restart.

    Attributes:
        by_name: those that were made.
    """

    def __init__(self, host: Durable) -> None:
        from durable_nb.backends.processes import Processes

        self._host = host
        self.by_name: dict[str, Executor] = {"process": Processes()}

    def __call__(self, kind: str, address: Any = None, *, name: str | None = None, **options: Any) -> Executor:
        """Make an executor.

        Args:
            kind: ``"process"`` (local processes, one attempt each: for work that holds the GIL, and for what must be killed when
                its time is over) or ``"dask"`` (the workers of a Dask cluster; needs ``pip install durable_nb[dask]``).
            address: of a Dask scheduler, such as ``"tcp://host:8786"``, or a `distributed.Client` of yours.
            name: by which tasks name it; `kind` by default.
            options: `slots`: how many attempts it is given at once (of processes as many as there are CPUs, of Dask 1000, which
                its own scheduler puts in order).

        Raises:
            ExecutorError: a kind, an option or a name that cannot work, or no Dask is installed.

        Example:
            >>> durable.executor("dask", "tcp://10.0.0.5:8786")                       # doctest: +SKIP
            >>> @durable.task(executor="dask", resources={"GPU": 1}, retries=2)       # doctest: +SKIP
            ... def train(input: Settings, ctx: Context) -> Scores: ...
        """
        chosen = kind if name is None else name
        slots = options.pop("slots", None)
        if options:
            raise ExecutorError(f"durable.executor has no option '{next(iter(options))}': it has address, name and slots.")
        if type(chosen) is not str or chosen in ("", *OWN_LANES):
            raise ExecutorError(f"name={chosen!r} cannot name an executor: give another.")
        if slots is not None and (type(slots) is not int or slots < 1):
            raise ExecutorError(f"slots={slots!r}: give a whole number, 1 or more.")
        made = self._make(kind, address, slots)
        if self._host.is_open and chosen in self.by_name and self.by_name[chosen].slots != made.slots:
            raise ExecutorError(f"The executor '{chosen}' is in use: its slots can be changed before the engine starts only.")
        before = self.by_name.get(chosen)
        self.by_name[chosen] = made
        if before is not None:
            before.close()
        if self._host.is_open:
            engine = self._host.engine
            engine.post(lambda: engine.dispatcher.open_lane(chosen, made.slots))
        return made

    @staticmethod
    def _make(kind: str, address: Any, slots: int | None) -> Executor:
        if kind == "process":
            from durable_nb.backends.processes import Processes

            if address is not None:
                raise ExecutorError("durable.executor('process') has no address: its processes are on this machine.")
            return Processes(slots)
        if kind == "dask":
            from durable_nb.backends.dask import Dask

            return Dask(address, slots)
        raise ExecutorError(f"durable.executor has no kind {kind!r}: it has 'process' and 'dask'.")
