"""The version is what the code means: not its layout, comments, decorators or the order of what was captured."""

from __future__ import annotations

import ast
import io
import tokenize

import pytest
from hypothesis import assume, given, strategies as st

from durable_nb.definitions import Binding, Code, Constant, FromImport, Import, Reference
from durable_nb.definitions.normal import version_of
from tests.unit.test_definitions import Notebook, notebook

__all__ = ["notebook"]  # the fixture

names = st.sampled_from(["a", "b", "ñ", "total"])
atoms = st.one_of(
    names,
    st.integers(-(10**6), 10**6).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(max_size=12).map(repr),
    st.binary(max_size=6).map(repr),
    st.sampled_from(
        ["None", "True", "u'x'", "'a' \"b\"", "1_000", "0x10", "f'{a}'", "f\"{a!r:>{b}}x\" 'y'", "f'{a=}'", "...", "()", "1j"]
    ),
)
templates = st.sampled_from(
    [
        "({} + {})",
        "({} if {} else 0)",
        "f({}, *{})",
        "[{}, {}]",
        "{{{}: {}}}",
        "(lambda a: {} or {})",
        "[a for a in {} if {}]",
        "({}).x[{}]",
        "(a := {}, {})",
        "({} < {} is not None)",
        "f'{{ {} }} {{ {} }}'.upper()",
        "(not {}) ** -({})",
    ]
)


def safe(template: str, left: str, right: str) -> str:
    """Fill a template; a text within an f-string of Python 3.11 may hold no quote or backslash, so it gives way to a name."""
    if template.startswith("f'"):
        left, right = (part if part.isidentifier() else "a" for part in (left, right))
    return template.format(left, right)


expressions = st.recursive(atoms, lambda inner: st.builds(safe, templates, inner, inner), max_leaves=6)
statements = st.sampled_from(
    [
        "x = {}",
        "x: int = {}",
        "return {}",
        "if {}:\n        pass\n    elif a:\n        b\n    else:\n        a",
        "for a in {}:\n        break\n    else:\n        pass",
        "with f({}) as a, b:\n        pass",
        "try:\n        {}\n    except (A, B) as e:\n        raise X from e\n    finally:\n        pass",
        "match {}:\n        case [1, *a] | (2, *a) if a: pass\n        case {{'k': 1, **b}}: pass",
        "match {}:\n        case C(x=0) as a: pass\n        case _: pass",
        "async def g(a, /, b=1, *, c=2, **d) -> None:\n        '''Doc.\n\n        More.\n        '''\n        await ({})",
        "global z; z = {}",
        "assert {}, 'why'",
        "del a",
    ]
)


@st.composite
def functions(draw: st.DrawFn) -> str:
    body = [draw(statements).format(draw(expressions)) for _ in range(draw(st.integers(1, 4)))]
    doc = draw(st.sampled_from(["", "    '''Words.\n\n      deeper\n    '''\n", "    'one line'\n"]))
    return f"async def task(a, b=1, *c, d: int = 2, **e) -> 'T':\n{doc}" + "".join(f"    {statement}\n" for statement in body)


def commented(source: str) -> str:
    """Add a comment at the end of every logical line."""
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            lines[token.start[0] - 1] += "  # a comment"
    return "\n".join(lines)


@given(functions())
def test_layout_and_comments_do_not_matter(source: str) -> None:
    version = version_of(source, [])
    assert version_of(ast.unparse(ast.parse(source)), []) == version
    assert version_of(commented(source), []) == version
    assert version_of(source.replace("\n", "\r\n"), []) == version or "\\r" in source


def tree(source: str) -> str:
    """The syntax tree as this Python writes it, less the `u` of texts."""
    parsed = ast.parse(source)
    for node in ast.walk(parsed):
        if isinstance(node, ast.Constant):
            node.kind = None
    return ast.dump(parsed)


@given(st.data())
def test_versions_differ_exactly_where_trees_do(data: st.DataObject) -> None:
    one = data.draw(functions())
    other = data.draw(st.one_of(functions(), st.builds(one.replace, st.sampled_from(["a", "1", "x = ", "pass"]), st.just("b"))))
    try:
        same = tree(one) == tree(other)
    except SyntaxError:
        assume(False)
    else:
        assert (version_of(one, []) == version_of(other, [])) == same


BINDINGS: list[Binding] = [
    Import(name="m", module="math"),
    FromImport(name="f", module="math", attribute="floor"),
    Code(name="helper", source="def helper(): return 1", first_line=1),
    Constant(name="N", value="1"),
    Reference(name="other", target="task:child"),
]
CHANGED: list[Binding] = [
    Import(name="m", module="cmath"),
    Import(name="mm", module="math"),
    Import(name="m", module="math", sha256="0" * 64),
    FromImport(name="f", module="math", attribute="ceil"),
    Code(name="helper", source="def helper(): return 2", first_line=1),
    Code(name="helper", source="@cache\ndef helper(): return 1", first_line=1),
    Constant(name="N", value="2"),
    Constant(name="N", value='"1"'),
    Reference(name="other", target="task:child2"),
]


@given(st.permutations(BINDINGS))
def test_the_order_of_bindings_does_not_matter(bindings: list[Binding]) -> None:
    assert version_of("def f(): pass", bindings) == version_of("def f(): pass", BINDINGS)


@pytest.mark.parametrize("changed", CHANGED, ids=str)
def test_every_binding_counts(changed: Binding) -> None:
    others = [changed if type(binding) is type(changed) else binding for binding in BINDINGS]
    assert version_of("def f(): pass", others) != version_of("def f(): pass", BINDINGS)


def test_where_helpers_stand_and_what_their_names_already_say_does_not_count() -> None:
    plain = version_of("def f(): pass", BINDINGS)
    moved = Code(name="helper", source="def helper():\n\n  return (1)  # one", first_line=99, future_annotations=True)
    same = [moved if binding.name == "helper" else binding for binding in BINDINGS]
    assert (
        version_of("def f(): pass", [*same, Reference(name="score", target="task:score"), Reference(name="f", target="self")])
        == plain
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(): return 1", "def f(): return 1.0"),
        ("def f(): return 1", "def f(): return True"),
        ("def f(): return 'a'", "def f(): return b'a'"),
        ("def f(): return None", "def f(): return"),
        ("def f(): 'one'", "def f(): 'two'"),
        ("def f(): pass", "async def f(): pass"),
        ("def f(a): pass", "def f(a, /): pass"),
        ("def f(a): pass", "def f(a: int): pass"),
        ("def f(): return [], ()", "def f(): return (), []"),
        ("def f(): return x[1:]", "def f(): return x[:1]"),
        ("def f(*, a, b=None): pass", "def f(*, a=None, b): pass"),
    ],
)
def test_what_the_code_means_counts(one: str, other: str) -> None:
    assert version_of(one, []) != version_of(other, [])


def test_the_version_is_the_same_in_every_python_and_release() -> None:
    """A changed value here means that every run in every log would be taken for a run of other code."""
    source = (
        "def f(a, *b, c=1, **d) -> int:\n    '''Doc.'''\n    return [x async for x in a] if f'{a!r:>{c}}' 'y' else lambda: {**d}"
    )
    assert version_of(source, BINDINGS) == "f4cd08facdffd638"


def test_a_notebooks_definition_changes_with_what_it_needs_and_only_then(notebook: Notebook) -> None:
    notebook.cell("N = 1\nM = 1\ndef helper(): return N")
    notebook.cell("def task(): return helper()")
    first = notebook.capture("task")
    notebook.cell("M = 2\n\n@(lambda f: f)\ndef task( ): # comment\n    return (helper())")
    second = notebook.capture("task")
    assert second.version == first.version and second.first_line != first.first_line
    notebook.cell("N = 2")
    third = notebook.capture("task")
    assert third.version != first.version
    notebook.cell("N = 1\ndef helper(): return +N")
    assert notebook.capture("task").version not in {first.version, third.version}
