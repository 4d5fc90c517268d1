"""What a session pays before its first task: `import durable_nb`, and `%load_ext durable_nb`."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.apart import ROOT
from tests.benchmarks.measure import Measured, Setting, percentile

TIMED = """
import time, {before}
began = time.perf_counter()
{work}
print((time.perf_counter() - began) * 1e3)
"""
NAMES = "from durable_nb import Durable, Context, DurableContext, SleepCondition, UserEventCondition, or_"
SHELL = "IPython.core.interactiveshell, ipykernel.kernelapp; shell = IPython.core.interactiveshell.InteractiveShell.instance()"
LOAD = "shell.run_line_magic('load_ext', 'durable_nb')"


def startup(setting: Setting) -> Measured:
    """Time each in fresh processes, the median of several."""
    times = setting.count(7, least=2)
    figures = {
        "import_ms": _median(setting, "pydantic", "import durable_nb", times),
        "names_ms": _median(setting, "pydantic", NAMES, times),
        "load_ms": _median(setting, SHELL, LOAD, times),
    }
    return Measured(times, figures)


def _median(setting: Setting, before: str, work: str, times: int) -> float:
    return percentile([_milliseconds(setting, before, work) for _ in range(times + 1)][1:], 50)  # the first fills caches


def _milliseconds(setting: Setting, before: str, work: str) -> float:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{TIMED.format(before=before, work=work)}"
    done = subprocess.run([sys.executable, "-c", program], cwd=setting.folder, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])
