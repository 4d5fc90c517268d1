"""The cell under `%%workflow`: its functions become the tasks of one workflow.

Every top-level function `(input, ctx)` is a task; the decorators that say more stand under short names while the cell runs, as if
it said `from NAME import task, durable_task, on_failure_task, on_success_task`. What is a task is read off the source, so all
else in the cell stays ordinary names.

Invariant: the workflow is served, and replaces the one of its name, when all of the cell has run; else nothing has changed.
"""

from __future__ import annotations

import ast
import keyword
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from durable_nb.notebook.cells import APP_NAME, Cell, FunctionNode, takes_context
from durable_nb.tasks.workflow import Workflow
from durable_nb.views.words import brief

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

DECORATORS = ("task", "durable_task", "on_failure_task", "on_success_task")
IMPLIED = {name: f"__durable_{name}" for name in DECORATORS}  # what functions without a decorator get; no cell names these
_MISSING = object()


class WorkflowCell(Cell):
    """A cell's body, parsed, with the functions marked that are tasks.

    Raises:
        SyntaxError: it is no Python. UsageError: it cannot be a workflow of that name.
    """

    def __init__(self, shell: InteractiveShell, body: str, name: str) -> None:
        if not name.isidentifier() or keyword.iskeyword(name) or name == APP_NAME:
            raise UsageError(
                f"{brief(name, 60)} cannot name a workflow here, since it becomes a variable: write one such as `%%workflow etl`."
            )
        super().__init__(shell, body)
        self._workflow = name
        functions = [node for node in self._tree.body if isinstance(node, FunctionNode)]
        if any(node.name == name for node in functions):
            raise UsageError(f"{name} is the workflow and one of its functions: name one of them otherwise.")
        if any(node.name == APP_NAME for node in functions):
            raise UsageError(f"`{APP_NAME}` is the notebook's app object, which that function would replace: name it otherwise.")
        found = [self._mark(node) for node in functions]
        if not any(found):
            raise UsageError("The cell defines no task: write each as `def NAME(input, ctx)` in it.")
        self._compile("workflow")

    def _mark(self, node: FunctionNode) -> bool:
        """Make a function a task, unless it is one by its decorator or a helper; give whether it is a task."""
        if any(self._declares(decorator) for decorator in node.decorator_list):
            return True
        if not takes_context(node):
            return False
        annotation = node.args.args[-1].annotation if node.args.args else None
        is_durable = annotation is not None and ast.unparse(annotation).strip("'\"").endswith("DurableContext")
        called = ast.Call(ast.Name(IMPLIED["durable_task" if is_durable else "task"], ast.Load()), [], [])
        ast.copy_location(called, node)
        node.decorator_list.insert(0, ast.fix_missing_locations(called))
        return True

    def _declares(self, decorator: ast.expr) -> bool:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            return target.value.id == self._workflow and target.attr in DECORATORS
        return isinstance(target, ast.Name) and target.id in DECORATORS

    def declare(self, workflow: Workflow) -> None:
        """Execute the cell with a new workflow of its name in the notebook's namespace; where it fails, that is as it was."""
        __tracebackhide__ = True
        namespace = self._shell.user_ns
        names = {node.name for node in self._tree.body if isinstance(node, FunctionNode)}
        lent: dict[str, Any] = {name: getattr(workflow, name) for name in DECORATORS}
        lent |= {hidden: lent[name] for name, hidden in IMPLIED.items()}
        before = {name: namespace.get(name, _MISSING) for name in (*lent, *names, self._workflow)}
        namespace.update(lent, **{self._workflow: workflow})
        try:
            self._execute()
            workflow.check_runnable()
        except BaseException:
            _put_back(namespace, before)
            raise
        _put_back(namespace, {name: before[name] for name, value in lent.items() if namespace.get(name) is value})
        namespace[self._workflow] = workflow


def _put_back(namespace: dict[str, Any], before: dict[str, Any]) -> None:
    for name, value in before.items():
        if value is _MISSING:
            namespace.pop(name, None)
        else:
            namespace[name] = value
