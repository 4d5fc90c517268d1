"""The handle of a run that a cell started: awaitable, showable, and no owner of the run.

Invariant: nothing done to a handle stops its run; ceasing to wait only stops the waiting, and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from durable_nb.errors import DurableError
from durable_nb.notebook.output import OUTPUT
from durable_nb.views.detail import detail_of as read_detail
from durable_nb.views.still import bundle
from durable_nb.views.text import RunDetail, run_summary
from durable_nb.views.words import state_of, visible

if TYPE_CHECKING:
    from durable_nb.client import Durable
    from durable_nb.tasks.refs import RunRef


class Handle:
    """A run as a cell holds it.

    Example:
        >>> handle = %durable run clean {"path": "cars.csv"}   # doctest: +SKIP
        >>> await handle                                        # doctest: +SKIP
        {'rows': 406}
    """

    def __init__(self, durable: Durable, ref: RunRef[Any]) -> None:
        self._durable = durable
        self.ref = ref

    @property
    def id(self) -> str:
        """The run's id."""
        return self.ref.workflow_run_id

    @property
    def status(self) -> str:
        """QUEUED, RUNNING, COMPLETED, FAILED or CANCELLED, as the log has it now."""
        return self._durable.runs.get(self.id).status

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        __tracebackhide__ = True
        try:
            result = await self.ref.aio_result()
        except (asyncio.CancelledError, KeyboardInterrupt):
            self._say_it_goes_on()
            raise
        except DurableError as error:
            raise error.with_traceback(None)  # noqa: B904  the engine's frames say nothing of what failed; `%durable show` does
        finally:
            _say_where_lines_are()
        return result

    def result(self) -> Any:
        """Wait for the end of the run; give its output. The kernel's interrupt stops the waiting only.

        Raises:
            TaskRunError: the run failed. RunCancelledError: it was cancelled.
        """
        __tracebackhide__ = True
        try:
            result = self.ref.result()
        except KeyboardInterrupt:
            self._say_it_goes_on()
            raise
        except DurableError as error:
            raise error.with_traceback(None)  # noqa: B904  as in `_wait`
        finally:
            _say_where_lines_are()
        return result

    def _say_it_goes_on(self) -> None:
        run, name = visible(self.id), visible(self.ref.task_name)
        print(f"Stopped waiting; run {run} of {name} goes on: `%durable show {run}` shows it.", flush=True)

    def __repr__(self) -> str:
        view = self._durable.runs.get(self.id)
        return f"<run {visible(self.id)} of {visible(self.ref.task_name)}: {state_of(view).word}>"

    def _ipython_display_(self) -> None:
        from durable_nb.views.shown import kernel_shell

        if kernel_shell() is None:
            raise NotImplementedError  # by which IPython knows that the text is to be shown
        from durable_nb.views.run_view import RunView

        RunView(self._durable, self.id)._ipython_display_()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return bundle(run_summary(detail_of(self._durable, self.id)))


def _say_where_lines_are() -> None:
    """Say, the first time in a session, where what tasks print has gone: into no cell, so not into this one either."""
    hint = OUTPUT.hint()
    if hint is not None:
        print(hint)


def detail_of(durable: Durable, run: str) -> RunDetail:
    """Read everything that the views of one run show.

    Raises:
        UnknownRunError: no run, or several, have that name.
    """
    engine = durable.engine
    detail: RunDetail = durable.call(
        lambda: engine.reader.run(lambda connection: read_detail(connection, run, now=engine.clock.now())),
        aio="await durable.runs.aio_get(…)",
    )
    return detail
