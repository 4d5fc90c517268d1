"""Shapes of classes and types that notebooks define: whatever they are, a restored task does what the live one did."""

from __future__ import annotations

import pytest

from tests.unit.test_definitions import Notebook, assert_same_after_restart, notebook

__all__ = ["notebook"]  # the fixture

# Each shape: cells, the last of which calls `task`.
SHAPES = {
    "generic and made models": """
from pydantic import BaseModel, RootModel, create_model, PrivateAttr, computed_field, model_validator, ConfigDict
from typing import *
# %%
T=TypeVar('T')
class Box(BaseModel, Generic[T]):
    model_config = ConfigDict(frozen=True)
    x: T
    _p: int = PrivateAttr(default=3)
    kind: ClassVar[str] = 'k'
    @computed_field
    @property
    def y(self) -> int: return 1
    @model_validator(mode='after')
    def v(self): return self
# %%
IntBox = Box[int]
class L(RootModel[list[int]]): pass
class L2(RootModel):
    root: list[int]
M = create_model('M', x=(int, 1))
Odd=create_model('Renamed', x=(int,1))
# %%
def task(): return IntBox(x='3').model_dump(), L([1]).root, L2([2]).root, M().x, Odd().x, Box[str](x='a').x
# %%
task()
""",
    "exceptions": """
class E(Exception): pass
class F(E):
    '''Doc.'''
# %%
def task():
    try: raise F('x')
    except E as e: return str(e)
# %%
task()
""",
    "context manager": """
from contextlib import contextmanager
@contextmanager
def c(x):
    yield x
# %%
def task():
    with c(1) as y: return y
# %%
task()
""",
    "validators in aliases": """
from pydantic import validate_call, AfterValidator, BaseModel
from typing import *
@validate_call
def v(x: int): return x
def check(s): return s+'!'
Name=Annotated[str, AfterValidator(check)]
class A(BaseModel):
    n: Name
    @staticmethod
    def s(): return 1
class B(BaseModel):
    a: A
U = Union[A, B]
O = Optional[A]
# %%
def task(u: U = None, o: O = None): return v('3'), B(a=A(n='x')).a.n, A.s()
# %%
task()
""",
    "flags and text enums": """
from enum import *
Color=Enum('Color','RED GREEN')
class Fl(Flag):
    A=auto()
    B=auto()
    AB=A|B
class S(StrEnum):
    X='x'
    Y='y'
    @property
    def up(self): return self.value.upper()
    @classmethod
    def d(cls): return cls.X
# %%
def task(): return Color.RED.value, Fl.AB.value, S.d().up
# %%
task()
""",
    "abstract classes and protocols": """
from abc import *
from typing import Protocol, runtime_checkable
class Sh(ABC):
    @abstractmethod
    def a(self): ...
class Sq(Sh):
    def a(self): return super().__class__.__name__
@runtime_checkable
class Pr(Protocol):
    def a(self): ...
# %%
def task(): return Sq().a(), isinstance(Sq(), Pr)
# %%
task()
""",
    "metaclass, nested class, private name": """
class Meta(type):
    def __new__(m,n,b,d,**k): return super().__new__(m,n,b,d)
class K(metaclass=Meta, x=1):
    class Inner:
        z: int = 3
    if True:
        q = 1
    def __init__(self): self.__s = 1
    def g(self): return self.__s
# %%
def task(): return K().g(), K.Inner.z, K.q
# %%
task()
""",
    "dataclass with a field named as its type": """
from dataclasses import *
from datetime import date
@dataclass
class D:
    date: date
    _: KW_ONLY
    v: InitVar[int] = 1
    w: int = field(default=2)
    def __post_init__(self, v): self.w += v
# %%
def task(): return D(date(2020,1,1)).w
# %%
task()
""",
    "annotations as text, evaluated": """
from __future__ import annotations
from typing import *
from dataclasses import dataclass
# %%
class TD(TypedDict):
    a: Later
class NT(NamedTuple):
    a: TD
@dataclass
class DD:
    x: NT | None = None
Later=int
# %%
def task(x: DD = None) -> TD:
    return [str(get_type_hints(k)) for k in (TD,)], len(get_type_hints(DD)), len(get_type_hints(task))
# %%
task()
""",
    "pydantic dataclasses": """
from pydantic.dataclasses import dataclass
@dataclass
class X:
    a: int = 1
    b: 'Y | None' = None
@dataclass
class Y:
    x: X
# %%
def task(): return Y(x=X('3')).x.a
# %%
task()
""",
    "texts of many lines": """
TEXT='''a
  b'''
class C:
    '''
    doc
    '''
    sql = '''
select
  1'''
    def m(self):
        return '''
x'''
# %%
def task(): return C.sql, C().m(), C.__doc__, TEXT
# %%
task()
""",
    "class decorator with arguments": """
def reg(**k):
    def d(c):
        c.k=k
        return c
    return d
@reg(a=1)
class Z:
    n=1
# %%
def task(): return Z.k, Z.n
# %%
task()
""",
    "numpy types": """
import numpy as np
import numpy.linalg as la
from numpy.random import default_rng
from numpy.typing import NDArray, ArrayLike
dtype=np.float64
F = NDArray[np.float64]
# %%
def task(x: NDArray = None, y: ArrayLike=None, z: F=None):
    return float(la.norm(np.ones(4, dtype))), np.random.default_rng(1) is not None, default_rng
# %%
task()
""",
    "submodules of the standard library": """
import asyncio, collections.abc as cabc
from collections.abc import Callable, Awaitable
from asyncio import sleep, gather, TaskGroup
import concurrent.futures
import os.path as osp
import importlib.metadata
# %%
def task(f: Callable[[int], Awaitable[int]]=None):
    pool = concurrent.futures.ThreadPoolExecutor
    return sleep, gather, TaskGroup, pool, osp.join('a'), importlib.metadata.version, cabc.Mapping
# %%
task()
""",
    "import within try": """
try:
    import tomllib as toml
except ImportError:
    toml=None
HAS = toml is not None
# %%
def task(): return HAS, toml.loads('a=1')
# %%
task()
""",
    "class that names itself": """
class Tree:
    def __init__(self, kids: 'list[Tree]' = ()): self.kids=kids
    def n(self): return 1+sum(Tree.n(k) for k in self.kids)
    @classmethod
    def make(cls) -> 'Tree': return Tree([Tree()])
# %%
def task(): return Tree.make().n()
# %%
task()
""",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_restored_task_does_what_the_live_one_did(notebook: Notebook, shape: str) -> None:
    assert_same_after_restart(notebook, SHAPES[shape])
