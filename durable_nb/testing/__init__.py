"""What users test their own tasks with: an app object whose log is gone at the end and whose time is moved by hand.

Example:
    >>> from durable_nb.testing import harness
    >>> with harness(always_replay=True) as h:
    ...
    ...     @h.durable.durable_task()
    ...     async def approval(input: str, ctx: DurableContext) -> str:
    ...         await ctx.aio_sleep_for(timedelta(days=30))
    ...         answer = await ctx.aio_wait_for_event("approve")
    ...         return f"{input}: {answer['by']}"
    ...
    ...     h.push_when_awaited("approve", {"by": "Ada"})
    ...     assert h.run(approval, "budget") == "budget: Ada"
"""

from durable_nb.testing.clock import VirtualClock
from durable_nb.testing.harness import Harness, harness
from durable_nb.testing.place import memory_log

__all__ = ["Harness", "VirtualClock", "harness", "memory_log"]
