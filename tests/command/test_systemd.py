"""What systemd sees of the service: a notify socket of our own, that listens as systemd does."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command.harness import (
    COMMAND,
    PLAIN,
    WAIT,
    Server,
    children,
    clean_environ,
    wait_for_death,
)
from tests.command.load import Load

SCM_CREDENTIALS = 2

# What systemd does between fork and exec.
BEGIN = """
import os, sys
fd, watchdog = int(sys.argv[1]), sys.argv[2]
if fd >= 0:
    os.dup2(fd, 3)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="x")
if watchdog:
    os.environ.update(WATCHDOG_USEC=watchdog, WATCHDOG_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""


class Service(Server):
    """A server that is started like a service, and what it says.

    As with NotifyAccess=main, a word from another process than the main one is a mistake.
    """

    def __init__(
        self, directory: Path, *arguments: str, fd: int = -1, watchdog: str = "", begin: str = BEGIN
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(str(directory / "notify"))
        self.socket.settimeout(WAIT)
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", begin, str(fd), watchdog, COMMAND, "--log-level", "debug",
             *(() if fd >= 0 else ("-b", "127.0.0.1:0")), *arguments],
            env={**clean_environ(), "NOTIFY_SOCKET": str(directory / "notify")},
            cwd=directory, pass_fds=[fd] if fd >= 0 else [], stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        super(Server, self).__init__(self.process.stderr)
        self.main = self.process.pid

    def hear(self, pattern: str) -> str:
        """Wait until something is said, and return it. All in between is in ``said``."""
        while True:
            octets, ancillary, _, _ = self.socket.recvmsg(4096, 100)
            sender = next(
                struct.unpack("iII", value)[0]
                for level, kind, value in ancillary
                if (level, kind) == (socket.SOL_SOCKET, SCM_CREDENTIALS)
            )
            text = octets.decode()
            assert sender == self.main, f"reception is only permitted for the main process: {text}"
            if found := re.search(r"^MAINPID=(\d+)", text, re.M):
                self.main = int(found[1])
            self.said.append(text)
            if re.search(pattern, text, re.M):
                return text


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    (tmp_path / "shop.py").write_text(PLAIN)
    services: list[Service] = []

    def starter(*arguments: str, **options: object) -> Service:
        services.append(Service(tmp_path, *arguments, **options))  # type: ignore[arg-type]
        return services[-1]

    yield starter
    for one in services:
        workers = children(one.main)
        if not wait_for_death(one.main, 0):
            os.kill(one.main, signal.SIGQUIT)
        assert wait_for_death(one.main)
        one.wait()
        one.socket.close()
        assert all(wait_for_death(pid, 5.0) for pid in workers)


Begin = Callable[..., Service]


def test_ready_and_stopping(service: Begin, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(f"import time\ntime.sleep(0.3)\n{PLAIN}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        one = service("shop", fd=listener.fileno(), watchdog="10000000")
        one.port = listener.getsockname()[1]
        # A client that connects before the server runs is served: the socket was there.
        assert one.get("/hello") == (200, b"hello")
        for name in ("LISTEN_FDS", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
            assert one.get(f"/environ?{name}") == (200, b"None")
        one.hear("^READY=1")
        assert time.monotonic() - began > 0.3
        assert one.said[0] == "EXTEND_TIMEOUT_USEC=15000000"  # before the boot
        one.signal("TERM")
        one.hear("^STOPPING=1")
        assert one.wait() == 0
        # The socket is the service manager's, and lives on.
        socket.create_connection(listener.getsockname()).close()


def monotonic_usec(text: str) -> int:
    found = re.search(r"^MONOTONIC_USEC=(\d+)$", text, re.M)
    assert found
    return int(found[1])


def test_reloads(service: Begin, tmp_path: Path) -> None:
    one = service("shop")
    one.hear("^READY=1")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    one.signal("HUP")
    assert before <= monotonic_usec(one.hear("^RELOADING=1\n"))
    assert one.hear("^READY=1") == "READY=1\nSTATUS=serving, generation 2"
    (tmp_path / "shop.py").write_text("import nonsense")
    one.signal("HUP")
    one.hear("^RELOADING=1\n")
    assert "STATUS=reload refused: Its first worker" in one.hear("^READY=1\n")


def test_an_upgrade(service: Begin, tmp_path: Path) -> None:
    """The old one says who is the main process now, and the new one speaks afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = service("shop", fd=listener.fileno(), watchdog="400000")
        one.port = listener.getsockname()[1]
        one.hear("^READY=1")
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        (tmp_path / "shop.py").write_text(f"open({str(gate)!r}).close()\n{PLAIN}")
        one.signal("USR2")
        one.wait_for("USR2: process .* boots")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        one.signal("HUP")
        assert before <= monotonic_usec(one.hear("^RELOADING=1\n"))
        assert "STATUS=HUP: refused" in one.hear("^READY=1\n")
        gate.open("w").close()
        old = one.main
        one.hear("^MAINPID=")
        assert one.main in children(old) or one.main != old
        one.hear("^STATUS=serving, upgraded\nWATCHDOG=1$")
        for _ in range(3):
            one.hear("^WATCHDOG=1$")
        assert wait_for_death(old)
        assert "STOPPING=1" not in "\n".join(one.said)
        assert one.get() == (200, b"hello")
        (tmp_path / "shop.py").write_text(PLAIN)
        one.wait_for("the upgrade is done")
        os.kill(one.main, signal.SIGUSR2)  # and once more
        one.hear("^MAINPID=")
        one.hear("^STATUS=serving, upgraded")
        os.kill(one.main, signal.SIGHUP)
        one.hear("^RELOADING=1")
        one.hear("^READY=1")
        os.kill(one.main, signal.SIGTERM)
        one.hear("^STOPPING=1")


def test_the_watchdog(service: Begin, tmp_path: Path) -> None:
    one = service("shop", watchdog="400000")
    one.hear("^READY=1")
    one.hear("^WATCHDOG=1$")
    began = time.monotonic()
    for _ in range(5):
        one.hear("^WATCHDOG=1$")
    assert 0.9 < time.monotonic() - began < 2.0
    (tmp_path / "shop.py").write_text("import nonsense")
    for pid in one.workers():
        os.kill(pid, signal.SIGKILL)
    one.wait_for("could not boot", count=2)
    one.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):  # noqa: PT012 - what was said before is heard first
        while True:
            one.hear("^WATCHDOG=1$")
    one.socket.settimeout(WAIT)
    (tmp_path / "shop.py").write_text(PLAIN)
    one.hear("^WATCHDOG=1$")


def test_a_watchdog_for_another_process(service: Begin) -> None:
    begin = BEGIN.replace("WATCHDOG_PID=str(os.getpid())", "WATCHDOG_PID='1'")
    one = service("shop", watchdog="100000", begin=begin)
    one.hear("^READY=1")
    one.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        one.hear("WATCHDOG")


def test_restarts_under_load_refuse_nobody(tmp_path: Path) -> None:
    """The socket is the service manager's: it outlives each service."""
    (tmp_path / "shop.py").write_text(PLAIN)
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        with Load(listener.getsockname()[1], once=True) as load:
            for number in range(3):
                place = tmp_path / str(number)
                place.mkdir()
                (place / "shop.py").write_text(PLAIN)
                one = Service(place, "-w", "2", "shop", fd=listener.fileno())
                one.hear("^READY=1")
                load.wait_for(100)
                if number == 2:
                    outcomes = load.stop()
                assert one.stop() == 0
                one.socket.close()
        assert set(outcomes) == {200}, outcomes
