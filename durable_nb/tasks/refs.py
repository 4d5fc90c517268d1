"""Refs: the handle of a run that was started without waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any, Generic, Protocol, TypeVar

Output = TypeVar("Output")


class Stream(Protocol):
    """What a run streams: iterated with `async for`, or with `for` from synchronous code."""

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Begin with the first chunk; end with the run."""
        ...

    def __iter__(self) -> Iterator[str | bytes]:
        """Begin with the first chunk; end with the run."""
        ...


class RunHost(Protocol):
    """Who can tell how a run ended."""

    async def aio_result_of(self, ref: RunRef[Any]) -> Any:
        """Wait for the end of a run; give its validated output."""
        ...

    def stream_of(self, ref: RunRef[Any]) -> Stream:
        """Give what a run streams."""
        ...

    def call(self, make: Callable[[], Awaitable[Any]], *, aio: str) -> Any:
        """Run an aio form from synchronous code."""
        ...


class RunRef(Generic[Output]):
    """A run that was started. `await ref` waits for its output; ceasing to wait never stops the run.

    Attributes:
        workflow_run_id: the run's id.
        task_name: the task that it is a run of.
    """

    def __init__(self, host: RunHost, workflow_run_id: str, number: int, task_name: str) -> None:
        self._host = host
        self.workflow_run_id = workflow_run_id
        self.number = number
        self.task_name = task_name

    def __repr__(self) -> str:
        return f"<run {self.workflow_run_id!r} of {self.task_name!r}>"

    def __await__(self) -> Generator[Any, None, Output]:
        return self.aio_result().__await__()

    async def aio_result(self) -> Output:
        """Wait for the run to end; give its output.

        Raises:
            TaskRunError: it failed. RunCancelledError: it was cancelled.
        """
        return await self._host.aio_result_of(self)  # type: ignore[no-any-return]

    def result(self) -> Output:
        """As `aio_result`, from synchronous code. Ctrl-C or the kernel's interrupt stops the waiting only."""
        return self._host.call(self.aio_result, aio="await ref.aio_result()")  # type: ignore[no-any-return]

    def stream(self) -> Stream:
        """Give what the run streams with `ctx.put_stream`, from its first chunk to its end, whenever it is listened to.

        Example:
            >>> async for chunk in ref.stream():  # doctest: +SKIP
            ...     print(chunk, end="")
        """
        return self._host.stream_of(self)
