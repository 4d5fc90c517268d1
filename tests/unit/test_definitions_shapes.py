"""Shapes of notebooks: whatever its cells hold, a restored task does what the live one did."""

from __future__ import annotations

import pytest

from tests.unit.test_definitions import Notebook, assert_same_after_restart, notebook

__all__ = ["notebook"]  # the fixture

# Each shape: cells, the last of which calls `task`.
SHAPES = {
    "module under another name": """
import math as m, json
# %%
def task(x): return json.dumps(m.floor(x))
# %%
task(2.5)
""",
    "name under another name": """
from math import floor as fl
# %%
def task(x): return fl(x)
# %%
task(2.5)
""",
    "star import": """
from math import *
# %%
def task(x): return sin(x) + pi
# %%
task(1)
""",
    "submodules": """
import xml.etree.ElementTree
# %%
def task(x): return xml.etree.ElementTree.fromstring(x).tag
# %%
task('<a/>')
""",
    "platform module": """
from os import path, getcwd
# %%
def task(x): return path.join(x, 'b'), bool(getcwd())
# %%
task('a')
""",
    "method of a module's object": """
from random import randint
# %%
def task(x): return randint(x, x)
# %%
task(3)
""",
    "ufunc": """
from numpy import sin as s
# %%
def task(x): return float(s(x))
# %%
task(0.5)
""",
    "numpy and pandas": """
import numpy as np
import pandas as pd
# %%
def task(n): return int(pd.Series(np.arange(n)).sum())
# %%
task(5)
""",
    "constants": """
LIMITS = {'a': (1, {2, 3}), 4: None}
# %%
def task(key): return LIMITS[key]
# %%
task('a')
""",
    "helpers of helpers": """
def add(x): return x + STEP
STEP = 2
# %%
def twice(x): return add(add(x))
# %%
def task(x): return twice(x)
# %%
task(1)
""",
    "mutual recursion": """
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n > 0 and even(n - 1)
# %%
def task(n): return even(n)
# %%
task(7)
""",
    "cached helper": """
import functools
@functools.lru_cache(maxsize=None)
def fib(n): return n if n < 2 else fib(n-1) + fib(n-2)
# %%
def task(n): return fib(n), fib.cache_info().maxsize
# %%
task(40)
""",
    "decorator of the notebook": """
def shout(f):
    def inner(x): return f(x).upper()
    return inner
# %%
@shout
def greet(x): return 'hi ' + x
# %%
def task(x): return greet(x)
# %%
task('you')
""",
    "decorator that is a class": """
class Twice:
    def __init__(self, f): self.f = f
    def __call__(self, x): return self.f(self.f(x))
# %%
@Twice
def grow(x): return x + 1
# %%
def task(x): return grow(x)
# %%
task(1)
""",
    "decorator that calls helpers at once": """
def base(): return leaf()
def leaf(): return 5
# %%
def deco(f):
    n = base()
    return lambda x: f(x) + n
# %%
@deco
def alpha(x): return x
# %%
def task(x): return alpha(x)
# %%
task(1)
""",
    "default values": """
BASE = 3
def add(x, *, by=BASE): return x + by
# %%
def task(x, y=BASE * 2): return add(x, by=y)
# %%
task(1)
""",
    "lambda and alias": """
inc = lambda x: x + 1
# %%
also = inc
# %%
def task(x): return inc(x) + also(x)
# %%
task(1)
""",
    "partial": """
import functools
def add(x, y): return x + y
add2 = functools.partial(add, 2)
# %%
def task(x): return add2(x)
# %%
task(1)
""",
    "pydantic": """
from pydantic import BaseModel, Field, field_validator
from typing import Annotated
MAX = 9
# %%
class Order(BaseModel):
    '''An order.'''
    lines: list["Line"]
    note: Annotated[str, Field(max_length=MAX)] = "none"
    parent: "Order | None" = None
    @field_validator("note")
    @classmethod
    def short(cls, value): return clean(value)
# %%
class Line(BaseModel):
    n: int = 1
def clean(value): return value.strip()
# %%
def task(data: Order): return Order.model_validate(data).model_dump()
# %%
task({'lines': [{'n': '3'}], 'note': ' x ', 'parent': {'lines': []}})
""",
    "pydantic, annotations as text": """
from __future__ import annotations
from pydantic import BaseModel, TypeAdapter
# %%
class B(BaseModel):
    a: A | None = None
class A(BaseModel):
    bs: list[B] = []
# %%
adapter = TypeAdapter(list[A])
# %%
def task(x: A) -> B: return [a.model_dump() for a in adapter.validate_python(x)]
# %%
task([{'bs': [{}]}])
""",
    "dataclass": """
from dataclasses import dataclass, field
# %%
@dataclass(frozen=True, slots=True)
class P:
    x: int
    tags: list[str] = field(default_factory=list)
# %%
@dataclass
class Q:
    p: 'P'
    n: int = 4
# %%
def task(x): return repr(Q(P(x)))
# %%
task(1)
""",
    "enum": """
from enum import Enum
class Color(Enum):
    RED = 'r'
    GREEN = 'g'
# %%
def task(x): return Color(x).name
# %%
task('r')
""",
    "typed dict, named tuples, new types": """
from typing import TypedDict, NamedTuple, NewType, TypeVar, Literal
from collections import namedtuple
# %%
class T(TypedDict, total=False):
    a: int
class N(NamedTuple):
    t: T
    n: int = 2
# %%
Old = namedtuple('Old', 'a b')
Id = NewType('Id', int)
K = TypeVar('K')
Ids = list[Id]
# %%
Mode = Literal['fast', 'slow']
# %%
def task(x: Mode, y: K | None = None) -> Ids: return N(T(a=Id(x))).t['a'], Old(1, 2).b
# %%
task(1)
""",
    "inheritance in a later cell": """
class Base:
    def hi(self): return 'hi ' + self.who()
# %%
class Child(Base):
    def who(self): return NAME
NAME = 'me'
# %%
def task(): return Child().hi()
# %%
task()
""",
    "class body reads before it assigns": """
limit = 3
class A:
    limit = limit + 1
# %%
def task(): return A.limit
# %%
task()
""",
    "comprehensions and walrus": """
K = 2
# %%
def task(xs): return [y for x in xs if (y := x * K) > 2], {k: K for k in xs}, sum(x for x in xs)
# %%
task([1, 2, 3])
""",
    "match": """
from dataclasses import dataclass
@dataclass
class Pt:
    x: int
ORIGIN = 0
# %%
def task(n):
    match Pt(n):
        case Pt(x=0): return 'zero'
        case Pt(x=v): return v
# %%
task(4)
""",
    "nested functions": """
K = 10
# %%
def task(x):
    n = 0
    def bump():
        nonlocal n
        n += K
        return n
    return bump() + bump()
# %%
task(0)
""",
    "closure": """
def make(k):
    def task(x):
        '''Text
at the margin.'''
        return x * k, task.__name__
    return task
task = make(3)
# %%
task(2)
""",
    "closure that counts": """
def make():
    n = 5
    def task():
        nonlocal n
        n += 1
        return n
    return task
task = make()
# %%
task()
""",
    "global statement": """
def task(x):
    global seen
    seen = x
    return seen
# %%
task(2)
""",
    "unicode names": """
größe = 3
def ñandú(x): return x * größe
# %%
def task(x): return ñandú(x)
# %%
task(2)
""",
    "tabs": """
if True:
	K = 2
	def helper(x):
		return x * K
# %%
def task(x):
	if x:
		return helper(x)
# %%
task(2)
""",
    "local imports": """
def task(x):
    import json as j
    from math import floor
    return j.dumps(floor(x))
# %%
task(1.5)
""",
    "zones, patterns, loggers, paths": """
import re, logging
from pathlib import Path
from datetime import timezone, timedelta
# %%
P = re.compile('a+', re.I)
log = logging.getLogger('x.y')
HERE = Path('a')
CET = timezone(timedelta(hours=1))
# %%
def task(x): return P.match(x).group(), log.name, (HERE / 'b').name, str(CET)
# %%
task('AAb')
""",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_restored_task_does_what_the_live_one_did(notebook: Notebook, shape: str) -> None:
    assert_same_after_restart(notebook, SHAPES[shape])
