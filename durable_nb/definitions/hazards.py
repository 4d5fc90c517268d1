"""Calls that have no place between two checkpoints, by the dotted path they resolve to, and what to write instead.

A replay runs the code between checkpoints again: it would read another clock, draw another number, send the request twice.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


RECORDED_ONCE = frozenset({"aio_memo", "aio_step"})
BLOCKS = "blocks"  # the engine's loop, so it is as wrong in an async regular task
DIFFERS = "differs"

MUTATORS = _names(
    """append extend insert remove pop clear update setdefault popitem add discard sort reverse difference_update
    intersection_update symmetric_difference_update"""
)
CLOCK = _names(
    """datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today datetime.date.today
    time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns time.process_time time.ctime
    pandas.Timestamp.now pandas.Timestamp.utcnow pandas.Timestamp.today"""
)
CLOCK_WITHOUT_ARGUMENTS = frozenset({"time.localtime", "time.gmtime", "time.asctime"})
SEEDABLE = frozenset({"random.Random", "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.SeedSequence"})
CHANCE = ("random.", "numpy.random.", "secrets.", "torch.rand")
UUIDS = frozenset({"uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"})
ENVIRONMENT = frozenset({"os.getenv", "os.environ.get", "os.getcwd", "os.getpid", "platform.node", "socket.gethostname"})
NETWORK = tuple(
    _names(
        """requests. httpx. urllib.request. urllib3. aiohttp. socket. http.client. ftplib. smtplib. imaplib. websockets.
        paramiko. boto3. openai. anthropic. psycopg. psycopg2. pymysql. redis. pymongo. sqlalchemy.create_engine"""
    )
)
FILES = _names(
    """builtins.open io.open os.open os.listdir os.scandir os.walk os.remove os.unlink os.rename os.replace os.makedirs os.mkdir
    os.rmdir os.stat os.path.exists os.path.isfile os.path.isdir os.path.getsize os.path.getmtime glob.glob glob.iglob
    sqlite3.connect numpy.load numpy.save numpy.savez numpy.loadtxt numpy.savetxt numpy.genfromtxt numpy.fromfile
    joblib.load joblib.dump"""
)
FILE_PREFIXES = ("shutil.", "tempfile.", "pandas.read_", "polars.read_", "polars.scan_", "pyarrow.parquet.", "duckdb.")
PATH_METHODS = _names(
    """open read_text read_bytes write_text write_bytes touch mkdir rmdir unlink rename replace iterdir glob rglob exists is_file
    is_dir stat"""
)
ANY_FILE_METHODS = _names(
    "read_text read_bytes write_text write_bytes to_csv to_parquet to_excel to_feather to_pickle write_csv write_parquet"
)
PROCESSES = ("subprocess.", "os.system", "os.popen", "os.spawn", "multiprocessing.Process")
ELSEWHERE = frozenset({"asyncio.to_thread", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell"})
ASYNC_CLIENTS = ("httpx.AsyncClient", "aiohttp.", "websockets.", "redis.asyncio.", "openai.Async", "anthropic.Async")


@dataclass(frozen=True, slots=True)
class Hazard:
    """What a call does that it should not, and what to write instead, as one sentence without its full stop."""

    kind: str
    text: str


def hazard_of(path: str, shown: str, call: ast.Call, context: str) -> Hazard | None:
    """Judge a call by the path that it resolves to ('' where unknown).

    Args:
        shown: the function as the source writes it.
        context: the name of the task's context parameter.
    """
    memo = f"`await {context}.aio_memo(…)`"
    child = f"{memo} or a child task"
    last = path.rpartition(".")[2] or (call.func.attr if isinstance(call.func, ast.Attribute) else "")
    is_bare = not call.args and not call.keywords
    if path == "time.sleep":
        return Hazard(
            BLOCKS, f"{shown}() blocks the engine and every task in it: use `await {context}.aio_sleep_for(timedelta(…))`"
        )
    if path in ("asyncio.sleep", "anyio.sleep", "trio.sleep"):
        is_turn = bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
        text = f"{shown}() begins anew at every replay: use `await {context}.aio_sleep_for(timedelta(…))`"
        return None if is_turn else Hazard(DIFFERS, text)
    if path in CLOCK or (path in CLOCK_WITHOUT_ARGUMENTS and is_bare):
        return Hazard(DIFFERS, f"{shown}() reads the clock, which a replay sees differently: use `await {context}.aio_now()`")
    if path in UUIDS:
        return Hazard(DIFFERS, f"{shown}() gives another value in a replay: use `{context}.uuid4()`")
    if path == "os.urandom" or path.startswith(CHANCE):
        is_seeded = (path in SEEDABLE and not is_bare) or ("()" in path and path.partition("()")[0] in SEEDABLE)
        text = f"{shown}() gives another value in a replay: use `{context}.random()`, or {memo}"
        return None if is_seeded else Hazard(DIFFERS, text)
    if path in ENVIRONMENT:
        return Hazard(DIFFERS, f"{shown}() depends on the process that replays it: pass it as input, or use {memo}")
    if path.startswith(NETWORK):
        kind = DIFFERS if path.startswith(ASYNC_CLIENTS) else BLOCKS
        return Hazard(kind, f"{shown}() uses the network again at every replay: use {child}")
    if path.startswith(PROCESSES):
        return Hazard(BLOCKS, f"{shown}() starts a process again at every replay: use {child}")
    is_path = path.startswith("pathlib.Path()") and last in PATH_METHODS
    if path in FILES or path.startswith(FILE_PREFIXES) or is_path or last in ANY_FILE_METHODS:
        return Hazard(DIFFERS, f"{shown}() reads or writes files again at every replay: use {child}")
    if path in ELSEWHERE or last == "run_in_executor":
        return Hazard(DIFFERS, f"{shown}() is not recorded, so a replay does it again: use {child}")
    if path in ("asyncio.timeout", "asyncio.wait_for", "asyncio.timeout_at"):
        text = f"{shown}() counts from the start at every replay: use `aio_wait_for` with `or_(…, SleepCondition(…))`"
        return Hazard(DIFFERS, text)
    if path == "builtins.input":
        return Hazard(BLOCKS, f"{shown}() cannot ask anybody from a task: use `await {context}.aio_wait_for_event(…)`")
    return None
