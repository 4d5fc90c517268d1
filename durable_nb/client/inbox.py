"""`durable.inbox`."""

from __future__ import annotations

import builtins
from functools import partial
from typing import TYPE_CHECKING, Any

from durable_nb.client.forms import Group, sync_form
from durable_nb.errors import ArgumentError

if TYPE_CHECKING:
    from durable_nb.client.notices import Hook, Notifier
    from durable_nb.log.questions import InboxItem
    from durable_nb.views.inbox_view import InboxView
    from durable_nb.views.still import Still


class Inbox(Group):
    """`durable.inbox`: the questions that tasks ask people, and their answers.

    Example:
        >>> for item in durable.inbox.list(assignee="ada"):  # doctest: +SKIP
        ...     print(item.id, item.question)
        01K…/1/3 Publish the report?
        >>> durable.inbox.answer("01K…/1/3", True, by="ada")  # doctest: +SKIP
    """

    async def aio_list(
        self, *, status: str | None = "open", assignee: str | None = None, limit: int = 100, offset: int = 0
    ) -> builtins.list[InboxItem]:
        """Give questions: the open ones, the oldest run's first, or those of another status, the newest first.

        Args:
            status: ``"open"``, ``"answered"``, ``"timed out"``, ``"withdrawn"``, or None for all of `ctx.aio_ask`. Waits for
                an event whose payload has a type are among the open ones.
            assignee: only those that name this person.
        """
        from durable_nb.log import questions

        if status is not None and status not in questions.STATUSES:
            raise ArgumentError(f"status={status!r} is unknown: give one of {', '.join(questions.STATUSES)}, or None.")
        engine = self._host.engine
        values: dict[str, Any] = {
            "status": status,
            "assignee": assignee,
            "limit": limit,
            "offset": offset,
            "now": engine.clock.now(),
        }
        return await self._on_loop(lambda: engine.reader.run(partial(questions.list_items, **values)))

    list = sync_form(aio_list)

    async def aio_get(self, question: str) -> InboxItem:
        """Give a question, with its answer if there is one.

        Raises:
            UnknownQuestionError: none has this id.
        """
        from durable_nb.log import questions

        engine = self._host.engine
        _, item = await self._on_loop(lambda: engine.reader.run(partial(questions.find, name=question, now=engine.clock.now())))
        return item

    get = sync_form(aio_get)

    async def aio_answer(self, question: str, value: object, *, by: str | None = None, reason: str | None = None) -> None:
        """Answer a question. For a wait for an event it pushes that event.

        Args:
            question: its id. value: a JSON value, or a model, that fits `InboxItem.schema`.
            by: who answers, and reason: why; recorded with the answer.

        Raises:
            InputValidationError: the answer does not fit, field by field (`.fields`); the question stays open.
            AlreadyAnsweredError: somebody was faster. QuestionClosedError: its time is over, or its run has ended.
            UnknownQuestionError: none has this id.
        """
        from durable_nb.engine.asking import answer

        engine = self._host.engine
        await self._on_loop(lambda: answer(engine, question, value, by=by, reason=reason))

    answer = sync_form(aio_answer)

    def view(self, *, assignee: str | None = None) -> InboxView | Still:
        """Give the inbox as a live view, with a form for each open question; as text, where there are no widgets.

        Args:
            assignee: only questions that name this person.

        Example:
            >>> durable.inbox  # doctest: +SKIP
            >>> durable.inbox.view(assignee="ada")  # doctest: +SKIP
        """
        from durable_nb.views.desk import inbox_of

        return inbox_of(self._host, assignee=assignee)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.view()._repr_mimebundle_(**options)

    def notify(self, hook: Hook) -> Notifier:
        """Have somebody told of each question that is asked from now on, in whatever process, once in this one.

        Args:
            hook: is called with the `InboxItem` on a thread of its own, so it may take its time; or a command, as a list: it is
                given the question as JSON on its standard input, and ``DURABLE_NB_QUESTION``, ``…_QUESTION_ID``, ``…_TASK``,
                ``…_RUN`` and ``…_ASSIGNEES`` in its environment; no shell sees any of it. It has a minute. What goes wrong is
                told in a warning.

        Returns:
            Its ``.stop()`` ends it. While the app object is closed nobody is told; what was asked meanwhile is told afterwards.

        Example:
            >>> durable.inbox.notify(lambda item: print("asked:", item.question))  # doctest: +SKIP
            >>> durable.inbox.notify(["notify-send", "A task asks you something"])  # doctest: +SKIP
        """
        from durable_nb.client.notices import Notifier

        return Notifier(self._host, hook)
