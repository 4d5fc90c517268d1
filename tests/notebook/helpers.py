"""What the notebook's tests share: a shell in this process, a real kernel in another, and conditions instead of sleeps."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from traitlets.config import Config

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PATIENCE = 20.0


def wait_until(condition: Callable[[], T], *, what: str, timeout: float = PATIENCE) -> T:
    """Give the condition's first true value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        time.sleep(0.01)
    return value


@dataclass
class Output:
    """What a cell gave."""

    text: str
    result: Any = None
    error: BaseException | None = None


class Shell:
    """A fresh IPython shell in this process, whose cells' output is kept."""

    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        self.ip: InteractiveShell = InteractiveShell(config=config)  # type: ignore[no-untyped-call]

    @property
    def names(self) -> dict[str, Any]:
        """The notebook's namespace."""
        names: dict[str, Any] = self.ip.user_ns
        return names

    def try_cell(self, code: str) -> Output:
        """Run a cell; give its output and error."""
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            done = self.ip.run_cell(code, store_history=True)  # type: ignore[no-untyped-call]
        return Output(text.getvalue(), done.result, done.error_before_exec or done.error_in_exec)

    def cell(self, code: str) -> Output:
        """Run a cell that must not fail."""
        output = self.try_cell(code)
        assert output.error is None, output.text
        return output

    def usage_error(self, code: str) -> str:
        """Run a cell that the person has to mend; give the sentence."""
        output = self.try_cell(code)
        assert isinstance(output.error, UsageError), output.text
        assert output.text.startswith("UsageError: "), "no traceback, only the sentence"
        return str(output.error)

    def load(self) -> str:
        """Load the extension; give what it says."""
        return self.cell("%load_ext durable_nb").text

    def close(self) -> None:
        """Unload the extension and give back what the shell took."""
        self.cell("%unload_ext durable_nb")
        self.ip.restore_sys_module_state()  # type: ignore[no-untyped-call]
        atexit.unregister(self.ip.atexit_operations)  # hundreds of them, each with a full collection, take minutes at the exit


@dataclass
class Reply:
    """What a kernel answered to a cell."""

    status: str
    texts: list[str] = field(default_factory=list)
    results: list[dict[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What the cell printed."""
        return "".join(self.texts)

    def take(self, message: dict[str, Any]) -> None:
        """Keep a message of the kernel."""
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                self.texts.append(content["text"])
            case "error":
                self.errors.append(f"{content['ename']}: {content['evalue']}")
            case "execute_result" | "display_data":
                self.results.append(content["data"])


class Kernel:
    """A real kernel in a process of its own, that can be interrupted, killed and started again."""

    def __init__(self, folder: Path, *, name: str = "python3", environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._name = name
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._environment.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        self.start()

    def start(self) -> None:
        """Start the kernel's process."""
        specs = KernelSpecManager(kernel_dirs=[str(self._folder / "kernels")])
        self._manager = KernelManager(kernel_name=self._name, kernel_spec_manager=specs)
        self._manager.start_kernel(env=self._environment, cwd=str(self._folder))
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE)

    def send(self, code: str, *, cell_id: str | None = None) -> str:
        """Send a cell without waiting for its end; give the message's id."""
        if cell_id is None:
            return str(self._client.execute(code))
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = self._client.session.msg("execute_request", content, metadata={"cellId": cell_id})
        self._client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def reply_to(self, message_id: str, *, until: str = "") -> Reply:
        """Wait for the end of a cell that was sent, or until it has printed a text."""
        reply = Reply("")
        while True:
            message = self._client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            reply.take(message)
            if until and until in reply.text:
                return reply
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        while True:
            answer = self._client.get_shell_msg(timeout=PATIENCE)
            if answer["parent_header"].get("msg_id") == message_id:
                reply.status = answer["content"]["status"]
                return reply

    def try_cell(self, code: str, *, cell_id: str | None = None) -> Reply:
        """Run a cell."""
        return self.reply_to(self.send(code, cell_id=cell_id))

    def cell(self, code: str, *, cell_id: str | None = None) -> Reply:
        """Run a cell that must not fail."""
        reply = self.try_cell(code, cell_id=cell_id)
        assert reply.status == "ok", (reply.errors, reply.text)
        return reply

    def complete(self, code: str) -> list[str]:
        """Give what Tab offers at the end of a text."""
        reply = self._client.complete(code, reply=True, timeout=PATIENCE)
        return list(reply["content"]["matches"])

    def interrupt(self) -> None:
        """Interrupt, as Jupyter's stop button does."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """Restart in good order, as Jupyter's button does."""
        self._client.stop_channels()
        self._manager.restart_kernel(now=False)
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE)

    def kill(self) -> None:
        """Kill the process at once, as a lost machine would."""
        os.kill(self._manager.provisioner.pid, signal.SIGKILL)  # type: ignore[union-attr]
        self.shut_down(now=True)

    def shut_down(self, *, now: bool = False) -> None:
        """Have the kernel end in good order."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=now)
        self._manager.cleanup_resources()


def install_kernelspec(folder: Path) -> None:
    """Put the kernelspec that the wheel ships where `Kernel` finds it."""
    source = ROOT / "durable_nb" / "notebook" / "kernelspec"
    target = folder / "kernels" / "durable-python3"
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
