"""The cells under `%%task` and `%%durable_task` (of `%%workflow`: `workflow_cell`): which function is the task, and running it.

Invariant: what can be seen in the source is checked before anything of the cell is executed, so a cell that cannot define a
task defines nothing at all.
"""

from __future__ import annotations

import ast
from types import FunctionType
from typing import TYPE_CHECKING, cast

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from durable_nb.tasks.task import Kind

APP_NAME = "durable"  # under which the app object stands in the notebook
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Cell:
    """A cell's body, parsed.

    Args:
        body: what stands below the magic's line.

    Raises:
        SyntaxError: it is no Python; IPython shows it as for any other cell.
    """

    def __init__(self, shell: InteractiveShell, body: str) -> None:
        self._shell = shell
        # The magic's own line is replaced by an empty one, so that line numbers are those that the editor shows.
        self.source: str = "\n" + shell.transform_cell(body)  # type: ignore[no-untyped-call]
        self._name = shell.compile.cache(self.source, shell.execution_count, raw_code="\n" + body)
        self._tree = cast("ast.Module", shell.compile.ast_parse(self.source, filename=self._name))

    def function_name(self, kind: Kind, wanted: str | None) -> str:
        """Give the name of the function that is the task.

        Raises:
            UsageError: the cell has none, several, or one that cannot be a task, or it awaits outside of functions.
            SyntaxError: it does not compile.
        """
        node = self._function(kind, wanted)
        _check(node, kind)
        self._compile(kind)
        return node.name

    def _compile(self, kind: str) -> None:
        """Compile the cell before any of it is executed. The magic runs it at once, so it cannot await by itself."""
        try:
            self._shell.compile(self._tree, self._name, "exec")  # type: ignore[arg-type]
        except SyntaxError as error:
            try:
                compile(self._tree, self._name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            except SyntaxError:
                raise error from None
            raise UsageError(
                f"The cell awaits outside a function, on line {error.lineno}, which a cell under %%{kind} cannot: "
                "move that to a cell of its own."
            ) from None

    def _function(self, kind: Kind, wanted: str | None) -> FunctionNode:
        functions = {node.name: node for node in self._tree.body if isinstance(node, FunctionNode)}
        if wanted is not None:
            if wanted not in functions:
                defined = f"it defines {', '.join(functions)}" if functions else "it defines no function"
                raise UsageError(f"The cell defines no function {wanted}, {defined}: name one that stands in the cell.")
            return functions[wanted]
        found: list[FunctionNode] = [node for node in functions.values() if isinstance(node, ast.AsyncFunctionDef)]
        if not found and kind == "task":
            found = list(functions.values())
        if not found:
            raise UsageError(_none_found(kind, list(functions)))
        if len(found) > 1:
            found = [node for node in found if takes_context(node)] or found
        if len(found) > 1:
            names = ", ".join(node.name for node in found)
            raise UsageError(
                f"The cell defines several functions that could be the task ({names}): name one, as in "
                f"`%%{kind} {found[-1].name}`, or move the others to cells of their own."
            )
        return found[0]

    def run(self, name: str) -> FunctionType:
        """Execute the cell in the notebook's namespace; give the function. What it raises, IPython shows as for any cell.

        Raises:
            UsageError: something else stands under the function's name afterwards.
        """
        __tracebackhide__ = True  # a traceback of the cell shows the cell
        self._execute()
        function = self._shell.user_ns.get(name)
        if not isinstance(function, FunctionType):
            kind = type(function).__name__
            raise UsageError(
                f"{name} is a {kind} after the cell, not a function: leave out what makes it one (a decorator, an assignment)."
            )
        return function

    def _execute(self) -> None:
        __tracebackhide__ = True
        namespace = self._shell.user_ns
        tree = self._shell.transform_ast(self._tree)  # type: ignore[no-untyped-call]
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(self._shell.compile(tree, self._name, "exec"), namespace)  # noqa: S102  it is what running a cell means
        if last is not None:
            shown = self._shell.compile(ast.Interactive([last]), self._name, "single")  # type: ignore[arg-type]
            exec(shown, namespace)  # noqa: S102  shows its value


def _check(node: FunctionNode, kind: Kind) -> None:
    if node.name == APP_NAME:
        raise UsageError(
            f"`{APP_NAME}` is the notebook's app object, which a task of that name would replace: name the function otherwise."
        )
    form = f"async def {node.name}(input, ctx)" if kind == "durable_task" else f"def {node.name}(input, ctx)"
    if kind == "durable_task" and isinstance(node, ast.FunctionDef):
        raise UsageError(
            f"{node.name} is synchronous, and a durable task must be able to wait: write `{form}`, or make it a regular task "
            "with %%task."
        )
    if any(isinstance(decorator, ast.Call | ast.Attribute) and _is_declaration(decorator) for decorator in node.decorator_list):
        raise UsageError(f"{node.name} is made a task twice, by %%{kind} and by its decorator: leave out one of them.")
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    if len(plain) != 2 or arguments.kwonlyargs or arguments.vararg or arguments.kwarg:
        raise UsageError(
            f"{node.name} takes ({ast.unparse(arguments)}), and a task takes its input and its context: write `{form}`."
        )


def takes_context(node: FunctionNode) -> bool:
    """Whether the second parameter of a function is a context by its name or type: what tells a task from its helpers."""
    parameters = [*node.args.posonlyargs, *node.args.args]
    if len(parameters) != 2:
        return False
    hint = ast.unparse(parameters[1].annotation) if parameters[1].annotation else ""
    return parameters[1].arg in ("ctx", "context") or hint.strip("'\"").endswith("Context")


def _is_declaration(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(target, ast.Attribute) and target.attr in ("task", "durable_task")


def _none_found(kind: Kind, functions: list[str]) -> str:
    if kind == "task":
        return "The cell defines no function: write the task as `def NAME(input, ctx)` in it."
    if functions:
        return (
            f"The cell defines no async function, only {', '.join(functions)}: a durable task must be able to wait, so write "
            f"`async def {functions[-1]}(input, ctx)`, or make it a regular task with %%task."
        )
    return "The cell defines no async function: write the durable task as `async def NAME(input, ctx)` in it."
