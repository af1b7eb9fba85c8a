"""The servers that are compared: an environment of their own, and the command of each."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".bench"
PYTHON = str(ENVIRONMENT / "bin" / "python")
_APP = "benchmarks.apps:application"
_PEERS = ("gunicorn", "uwsgi", "waitress", "granian")

_BJOERN = """
import bjoern, benchmarks.apps
bjoern.run(benchmarks.apps.application, "127.0.0.1", {port})
"""


@dataclass(frozen=True)
class Server:
    """``command(port, workers)`` is the command line; None if it cannot run so many workers."""

    name: str
    package: str
    command: Callable[[int, int], list[str] | None]


def _tool(name: str) -> str:
    return str(ENVIRONMENT / "bin" / name)


def _at(port: int) -> str:
    return f"127.0.0.1:{port}"


def _forkserve(port: int, workers: int) -> list[str]:
    return [_tool("forkserve"), "-w", str(workers), "-b", _at(port), _APP]


def _gunicorn_sync(port: int, workers: int) -> list[str]:
    return [_tool("gunicorn"), "-w", str(workers), "-b", _at(port), _APP]


def _gunicorn_gthread(port: int, workers: int) -> list[str]:
    return [*_gunicorn_sync(port, workers), "-k", "gthread", "--threads", "4"]


def _uwsgi(port: int, workers: int) -> list[str]:
    return [
        _tool("uwsgi"), "--http-socket", _at(port), "--master", "--processes", str(workers),
        "--module", _APP, "--pythonpath", str(ROOT), "--disable-logging", "--need-app",
        "--post-buffering", "65536",
    ]  # fmt: skip


def _waitress(port: int, workers: int) -> list[str] | None:
    return [_tool("waitress-serve"), "--listen", _at(port), _APP] if workers == 1 else None


def _granian(port: int, workers: int) -> list[str]:
    return [
        _tool("granian"), "--interface", "wsgi", "--workers", str(workers), "--host", "127.0.0.1",
        "--port", str(port), _APP,
    ]  # fmt: skip


def _bjoern(port: int, workers: int) -> list[str] | None:
    return [PYTHON, "-c", _BJOERN.format(port=port)] if workers == 1 else None


SERVERS = (
    Server("forkserve", "forkserve", _forkserve),
    Server("gunicorn sync", "gunicorn", _gunicorn_sync),
    Server("gunicorn gthread", "gunicorn", _gunicorn_gthread),
    Server("uWSGI", "uwsgi", _uwsgi),
    Server("waitress", "waitress", _waitress),
    Server("granian", "granian", _granian),
    Server("bjoern", "bjoern", _bjoern),
)


def of_tree(name: str, python: str, *places: Path) -> Server:
    """The forkserve whose package is in a directory among ``places``."""
    path = ":".join(map(str, (*places, ROOT)))

    def command(port: int, workers: int) -> list[str]:
        # -P: else the working directory, with the forkserve of today, would come first.
        return ["env", f"PYTHONPATH={path}", python, "-P", "-m",
                "forkserve", *_forkserve(port, workers)[1:]]  # fmt: skip

    return Server(name, "forkserve", command)


@contextlib.contextmanager
def earlier(revision: str, *first: Path) -> Iterator[Server]:
    """forkserve as it was at a revision of this repository, checked out beside it for so long.

    ``first``: directories in which it looks for modules before that.
    """
    with tempfile.TemporaryDirectory(prefix="forkserve-bench-") as place:
        archive = subprocess.run(
            ["git", "archive", revision, "forkserve"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        subprocess.run(["tar", "-x", "-C", place], input=archive, check=True)
        yield of_tree(revision, PYTHON, *first, Path(place))


def install() -> dict[str, str]:
    """Install everybody into the environment. Returns the versions by package."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    pip = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--editable", str(ROOT), "flask", *_PEERS], check=True)
    # bjoern needs libev's headers; where they are missing it is left out.
    subprocess.run([*pip, "bjoern"], check=False, stderr=subprocess.DEVNULL)
    listing = subprocess.run(
        [PYTHON, "-m", "pip", "--disable-pip-version-check", "list", "--format=freeze"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    lines = [line.lower().partition("==") for line in listing.splitlines()]
    return {name: version for name, _, version in lines if version}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """A server process, pinned to a processor."""

    def __init__(self, server: Server, cpu: int | None, workers: int = 1) -> None:
        self.server = server
        self.port = free_port()
        command = server.command(self.port, workers)
        if command is None:
            raise LookupError(f"{server.name} does not run {workers} workers")
        pin = [] if cpu is None else ["taskset", "-c", str(cpu)]
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [*pin, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            process_group=0,
        )  # fmt: skip

    def wait(self, seconds: float = 20.0) -> None:
        """Wait until it accepts connections. Raises TimeoutError."""
        while time.perf_counter() - self.began < seconds:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.02)
        raise TimeoutError(f"{self.server.name} does not start")

    def stop(self) -> None:
        """End it, with all that it started: not every master takes its workers along, and one forks
        another while it ends, which only its group tells."""
        below = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """The processes below a process."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        sys.exit(f"benchmarks: {program} is not installed (Debian: apt install {program})")
    return path
