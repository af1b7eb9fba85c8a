"""The real command, as a process, for tests that talk to it as its users do.

Nothing here sleeps: a test waits for a line in the log, for a process to end, or for an answer.
"""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import IO, Any

APPS = Path(__file__).parent.parent / "apps"
COMMAND = str(Path(sys.executable).parent / "forkserve")
PLAIN = (APPS / "plain.py").read_text()
WAIT = 30.0


class Lines:
    """The lines of a stream. They are read all the time, and can be waited for."""

    def __init__(self, stream: IO[str]) -> None:
        self.lines: list[str] = []
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._arrived:
                self.lines.append(line.rstrip("\n"))
                self._arrived.notify_all()
        with self._arrived:
            self._arrived.notify_all()

    def wait_for(self, pattern: str, *, count: int = 1) -> list[re.Match[str]]:
        """Wait until ``count`` lines match, and return the matches."""

        def matches() -> list[re.Match[str]]:
            return [found for line in self.lines if (found := re.search(pattern, line))]

        with self._arrived:
            done = self._arrived.wait_for(
                lambda: len(matches()) >= count or not self._reader.is_alive(), WAIT
            )
            found = matches()
        assert done and len(found) >= count, f"{len(found)} lines match {pattern!r}:\n{self.log}"
        return found

    @property
    def log(self) -> str:
        return "\n".join(self.lines)


class Tail(Lines):
    """The lines of a file that may not be there yet, and may be replaced by another."""

    def __init__(self, path: Path) -> None:
        path.touch()  # of one that is not there, tail looks for it only once a second
        self.process = subprocess.Popen(
            ["tail", "-n", "+1", "-F", path],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        super().__init__(self.process.stdout)

    def __enter__(self) -> "Tail":
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        self.process.wait(WAIT)
        self._reader.join(WAIT)


class Server(Lines):
    """A running server, and its log."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, **popen: Any) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "--log-level", "debug", *arguments],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={**clean_environ(), **(env or {})},
            cwd=popen.pop("cwd", APPS),
            text=True,
            errors="backslashreplace",
            **popen,
        )
        assert self.process.stderr is not None
        super().__init__(self.process.stderr)

    @property
    def pid(self) -> int:
        return self.process.pid

    def up(self) -> "Server":
        """Wait until it serves."""
        found = self.wait_for(r"serves .* on (\S+)(?: \S+)* with")[0]
        url = found[1]
        if url.startswith("http"):
            self.url = url
            self.port = int(url.rpartition(":")[2])
        self.wait_for(r"worker \d+ gen 1 .*is ready", count=1)
        return self

    def signal(self, name: str) -> None:
        self.process.send_signal(getattr(signal, f"SIG{name}"))

    def reload(self, generation: int) -> None:
        """HUP, and wait until the new generation serves alone."""
        self.signal("HUP")
        self.wait_for(f"reloaded, generation {generation} serves")

    def workers(self) -> list[int]:
        """Pids of the processes whose parent is the master."""
        return children(self.pid)

    def stop(self, name: str = "TERM") -> int:
        """Stop it, and return its exit status."""
        if self.process.poll() is None:
            self.signal(name)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(WAIT)
        self._reader.join(WAIT)
        return status

    def end_heirs(self) -> None:
        """End the masters that upgrades have started, as far as they are there."""
        for pid in map(int, re.findall(r"USR2: process (\d+) boots", self.log)):
            if not wait_for_death(pid, 0):
                os.kill(pid, signal.SIGQUIT)
                assert wait_for_death(pid)

    def connect(self) -> "Client":
        return Client(socket.create_connection(("127.0.0.1", self.port), timeout=WAIT))

    def get(self, path: str = "/") -> tuple[int, bytes]:
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.get(path)


class Client:
    """A raw client."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def response(self, method: str = "GET") -> HTTPResponse:
        """Read one response, whole; ``.content`` is its body."""
        response = HTTPResponse(self.socket, method=method)
        response.begin()
        response.content = response.read()  # type: ignore[attr-defined]
        return response

    def get(self, path: str = "/", headers: str = "") -> tuple[int, bytes]:
        self.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n".encode())
        response = self.response()
        return response.status, response.content  # type: ignore[attr-defined]

    def rest(self) -> bytes:
        """Everything until the server closes. Raises ConnectionResetError."""
        octets = b""
        while more := self.socket.recv(65536):
            octets += more
        return octets


def unix_client(path: Path) -> Client:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(WAIT)
    sock.connect(str(path))
    return Client(sock)


def clean_environ() -> dict[str, str]:
    """Ours, without what would change the server's settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FORKSERVE_")}
    for name in (
        "PORT",
        "WEB_CONCURRENCY",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "RUNTIME_DIRECTORY",
        "XDG_RUNTIME_DIR",
    ):
        kept.pop(name, None)
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    return kept


def children(pid: int) -> list[int]:
    """Living children of a process."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        # One that ends meanwhile can make the kernel leave out others (proc(5)).
        text, before = path.read_text(), None
        while text != before:
            text, before = path.read_text(), text
    except OSError:
        return []
    return [int(word) for word in text.split()]


def wait_for_death(pid: int, seconds: float = WAIT) -> bool:
    """Wait until a process has ended. False if it has not."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)


def run(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> Any:
    """The command, run to its end. ``.returncode``, ``.stdout``, ``.stderr``."""
    return subprocess.run(
        [COMMAND, *arguments],
        env={**clean_environ(), **(env or {})},
        cwd=options.pop("cwd", APPS),
        capture_output=True,
        text=True,
        timeout=WAIT,
        **options,
    )


def peak_memory(pid: int) -> int:
    """The most memory that a process has had so far, in octets."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def page_faults(pid: int) -> int:
    """How often the kernel had to give a process a page of memory (proc(5), minflt)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def pieces(body: bytes) -> Iterator[bytes]:
    """A body of no announced length, for clients that send one in chunks."""
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


def descriptors(pid: int) -> list[str]:
    """What the descriptors of a process point to, sorted."""
    directory = Path(f"/proc/{pid}/fd")
    found = []
    for entry in directory.iterdir():
        try:
            found.append(re.sub(r"\d+", "N", os.readlink(entry)))
        except OSError:
            continue
    return sorted(found)
