"""durable_nb: durable execution inside the notebook.

A task asks, the log remembers, the engine moves, the notebook shows. Names are imported when they are first used, so that
importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable_nb.bundles.opening import open_bundle as open_bundle
    from durable_nb.client import Durable as Durable
    from durable_nb.client.upkeep import import_jsonl as import_jsonl
    from durable_nb.engine.context import Context as Context
    from durable_nb.engine.durable_context import (
        DurableContext as DurableContext,
        SleepResult as SleepResult,
    )
    from durable_nb.engine.mailbox import Mailbox as Mailbox
    from durable_nb.engine.selecting import Selected as Selected
    from durable_nb.errors import (
        AlreadyAnsweredError as AlreadyAnsweredError,
        ArgumentError as ArgumentError,
        ArtifactError as ArtifactError,
        AskTimeoutError as AskTimeoutError,
        ChildKeyConflictError as ChildKeyConflictError,
        DeclarationError as DeclarationError,
        DurableError as DurableError,
        ElsewhereError as ElsewhereError,
        EngineStoppedError as EngineStoppedError,
        ExecutionTimeoutError as ExecutionTimeoutError,
        ExecutorError as ExecutorError,
        ExpressionError as ExpressionError,
        ExpressionEvaluationError as ExpressionEvaluationError,
        FailedTaskRunExceptionGroup as FailedTaskRunExceptionGroup,
        IdempotencyCollisionError as IdempotencyCollisionError,
        IllegalTaskOutputError as IllegalTaskOutputError,
        InertLogError as InertLogError,
        InputValidationError as InputValidationError,
        LifespanError as LifespanError,
        LogBusyError as LogBusyError,
        LogError as LogError,
        LogFailedError as LogFailedError,
        LogUnwritableError as LogUnwritableError,
        NewerLogError as NewerLogError,
        NonDeterminismError as NonDeterminismError,
        NonRetryableException as NonRetryableException,
        NotALogError as NotALogError,
        NotAtRestError as NotAtRestError,
        ParentOutputError as ParentOutputError,
        PayloadTooLargeError as PayloadTooLargeError,
        QuestionClosedError as QuestionClosedError,
        RateLimitError as RateLimitError,
        RunActiveError as RunActiveError,
        RunCancelledError as RunCancelledError,
        ScheduleTimeoutError as ScheduleTimeoutError,
        ShippingError as ShippingError,
        SyncCallError as SyncCallError,
        TaskRunError as TaskRunError,
        UnfinishedRunError as UnfinishedRunError,
        UnfitFolderError as UnfitFolderError,
        UnknownCheckpointError as UnknownCheckpointError,
        UnknownQuestionError as UnknownQuestionError,
        UnknownRunError as UnknownRunError,
        UnknownScheduleError as UnknownScheduleError,
        UnknownTaskError as UnknownTaskError,
        UntrustedError as UntrustedError,
        WorkerLostError as WorkerLostError,
    )
    from durable_nb.log.questions import InboxItem as InboxItem
    from durable_nb.tasks.conditions import (
        ParentCondition as ParentCondition,
        SleepCondition as SleepCondition,
        UserEventCondition as UserEventCondition,
        or_ as or_,
    )
    from durable_nb.tasks.depends import Depends as Depends
    from durable_nb.tasks.events import BulkPushEventWithMetadata as BulkPushEventWithMetadata
    from durable_nb.tasks.flow import (
        ConcurrencyExpression as ConcurrencyExpression,
        ConcurrencyLimitStrategy as ConcurrencyLimitStrategy,
        Cron as Cron,
        DefaultFilter as DefaultFilter,
        RateLimit as RateLimit,
        RateLimitDuration as RateLimitDuration,
        StatusBasedIdempotencyConfig as StatusBasedIdempotencyConfig,
        TTLBasedIdempotencyConfig as TTLBasedIdempotencyConfig,
    )
    from durable_nb.tasks.options import EvictionPolicy as EvictionPolicy
    from durable_nb.tasks.payload import EmptyModel as EmptyModel
    from durable_nb.tasks.refs import RunRef as RunRef
    from durable_nb.tasks.workflow import Workflow as Workflow

__version__ = "0.1.0"

HOMES = {
    "AlreadyAnsweredError": "errors",
    "ArgumentError": "errors",
    "ArtifactError": "errors",
    "AskTimeoutError": "errors",
    "BulkPushEventWithMetadata": "tasks.events",
    "ChildKeyConflictError": "errors",
    "ConcurrencyExpression": "tasks.flow",
    "ConcurrencyLimitStrategy": "tasks.flow",
    "Context": "engine.context",
    "Cron": "tasks.flow",
    "DeclarationError": "errors",
    "DefaultFilter": "tasks.flow",
    "Depends": "tasks.depends",
    "Durable": "client",
    "DurableContext": "engine.durable_context",
    "DurableError": "errors",
    "ElsewhereError": "errors",
    "EmptyModel": "tasks.payload",
    "EngineStoppedError": "errors",
    "EvictionPolicy": "tasks.options",
    "ExecutionTimeoutError": "errors",
    "ExecutorError": "errors",
    "ExpressionError": "errors",
    "ExpressionEvaluationError": "errors",
    "FailedTaskRunExceptionGroup": "errors",
    "IdempotencyCollisionError": "errors",
    "IllegalTaskOutputError": "errors",
    "InboxItem": "log.questions",
    "InertLogError": "errors",
    "InputValidationError": "errors",
    "LifespanError": "errors",
    "LogBusyError": "errors",
    "LogError": "errors",
    "LogFailedError": "errors",
    "LogUnwritableError": "errors",
    "Mailbox": "engine.mailbox",
    "NewerLogError": "errors",
    "NonDeterminismError": "errors",
    "NonRetryableException": "errors",
    "NotALogError": "errors",
    "NotAtRestError": "errors",
    "ParentCondition": "tasks.conditions",
    "ParentOutputError": "errors",
    "PayloadTooLargeError": "errors",
    "QuestionClosedError": "errors",
    "RateLimit": "tasks.flow",
    "RateLimitDuration": "tasks.flow",
    "RateLimitError": "errors",
    "RunActiveError": "errors",
    "RunCancelledError": "errors",
    "RunRef": "tasks.refs",
    "ScheduleTimeoutError": "errors",
    "Selected": "engine.selecting",
    "ShippingError": "errors",
    "SleepCondition": "tasks.conditions",
    "SleepResult": "engine.durable_context",
    "StatusBasedIdempotencyConfig": "tasks.flow",
    "SyncCallError": "errors",
    "TTLBasedIdempotencyConfig": "tasks.flow",
    "TaskRunError": "errors",
    "UnfinishedRunError": "errors",
    "UnknownCheckpointError": "errors",
    "UnknownQuestionError": "errors",
    "UnknownRunError": "errors",
    "UnknownScheduleError": "errors",
    "UnfitFolderError": "errors",
    "UnknownTaskError": "errors",
    "UntrustedError": "errors",
    "UserEventCondition": "tasks.conditions",
    "WorkerLostError": "errors",
    "Workflow": "tasks.workflow",
    "import_jsonl": "client.upkeep",
    "open_bundle": "bundles.opening",
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
