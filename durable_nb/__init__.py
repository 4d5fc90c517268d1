"""durable_nb: durable execution inside the notebook.

A task asks, the log remembers, the engine moves, the notebook shows. Names are imported when they are first used, so that
importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable_nb.client import Durable as Durable
    from durable_nb.engine.context import Context as Context
    from durable_nb.engine.durable_context import DurableContext as DurableContext
    from durable_nb.engine.durable_context import SleepResult as SleepResult
    from durable_nb.engine.mailbox import Mailbox as Mailbox
    from durable_nb.engine.selecting import Selected as Selected
    from durable_nb.errors import AlreadyAnsweredError as AlreadyAnsweredError
    from durable_nb.errors import AskTimeoutError as AskTimeoutError
    from durable_nb.errors import DurableError as DurableError
    from durable_nb.errors import IdempotencyCollisionError as IdempotencyCollisionError
    from durable_nb.errors import NonDeterminismError as NonDeterminismError
    from durable_nb.errors import NonRetryableException as NonRetryableException
    from durable_nb.errors import (
        ParentOutputError as ParentOutputError,
    )
    from durable_nb.errors import (
        QuestionClosedError as QuestionClosedError,
    )
    from durable_nb.errors import (
        RateLimitError as RateLimitError,
    )
    from durable_nb.errors import (
        RunCancelledError as RunCancelledError,
    )
    from durable_nb.errors import (
        TaskRunError as TaskRunError,
    )
    from durable_nb.log.questions import InboxItem as InboxItem
    from durable_nb.tasks.conditions import (
        ParentCondition as ParentCondition,
    )
    from durable_nb.tasks.conditions import (
        SleepCondition as SleepCondition,
    )
    from durable_nb.tasks.conditions import (
        UserEventCondition as UserEventCondition,
    )
    from durable_nb.tasks.conditions import (
        or_ as or_,
    )
    from durable_nb.tasks.depends import Depends as Depends
    from durable_nb.tasks.events import BulkPushEventWithMetadata as BulkPushEventWithMetadata
    from durable_nb.tasks.flow import (
        ConcurrencyExpression as ConcurrencyExpression,
    )
    from durable_nb.tasks.flow import (
        ConcurrencyLimitStrategy as ConcurrencyLimitStrategy,
    )
    from durable_nb.tasks.flow import (
        Cron as Cron,
    )
    from durable_nb.tasks.flow import (
        DefaultFilter as DefaultFilter,
    )
    from durable_nb.tasks.flow import (
        RateLimit as RateLimit,
    )
    from durable_nb.tasks.flow import (
        RateLimitDuration as RateLimitDuration,
    )
    from durable_nb.tasks.flow import (
        StatusBasedIdempotencyConfig as StatusBasedIdempotencyConfig,
    )
    from durable_nb.tasks.flow import (
        TTLBasedIdempotencyConfig as TTLBasedIdempotencyConfig,
    )
    from durable_nb.tasks.options import EvictionPolicy as EvictionPolicy
    from durable_nb.tasks.payload import EmptyModel as EmptyModel
    from durable_nb.tasks.refs import RunRef as RunRef
    from durable_nb.tasks.workflow import Workflow as Workflow

__version__ = "0.1.0"

HOMES = {
    "AlreadyAnsweredError": "errors",
    "AskTimeoutError": "errors",
    "BulkPushEventWithMetadata": "tasks.events",
    "ConcurrencyExpression": "tasks.flow",
    "ConcurrencyLimitStrategy": "tasks.flow",
    "Context": "engine.context",
    "Cron": "tasks.flow",
    "DefaultFilter": "tasks.flow",
    "Depends": "tasks.depends",
    "Durable": "client",
    "DurableContext": "engine.durable_context",
    "DurableError": "errors",
    "EmptyModel": "tasks.payload",
    "EvictionPolicy": "tasks.options",
    "IdempotencyCollisionError": "errors",
    "InboxItem": "log.questions",
    "Mailbox": "engine.mailbox",
    "NonDeterminismError": "errors",
    "NonRetryableException": "errors",
    "ParentCondition": "tasks.conditions",
    "ParentOutputError": "errors",
    "QuestionClosedError": "errors",
    "RateLimit": "tasks.flow",
    "RateLimitDuration": "tasks.flow",
    "RateLimitError": "errors",
    "RunCancelledError": "errors",
    "RunRef": "tasks.refs",
    "Selected": "engine.selecting",
    "SleepCondition": "tasks.conditions",
    "SleepResult": "engine.durable_context",
    "StatusBasedIdempotencyConfig": "tasks.flow",
    "TTLBasedIdempotencyConfig": "tasks.flow",
    "TaskRunError": "errors",
    "UserEventCondition": "tasks.conditions",
    "Workflow": "tasks.workflow",
    "or_": "tasks.conditions",
}
__all__ = sorted(HOMES)  # noqa: PLE0605  the keys are literals


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'durable_nb' has no attribute '{name}'")
    value = getattr(import_module(f"durable_nb.{HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Load the notebook extension: `%load_ext durable_nb`."""
    from durable_nb.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Stop the engine; its runs stay in the log: `%unload_ext durable_nb`."""
    from durable_nb.notebook.extension import unload

    unload(shell)
