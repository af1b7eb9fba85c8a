"""The protocols of the service manager, with an environment and a socket of our own."""

import os
import socket
from pathlib import Path

from forkserve.net.address import FdAddress
from forkserve.net.systemd import Notifier, take_listen_fds, take_watchdog


def test_listen_fds() -> None:
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": "42", "LISTEN_FDNAMES": "a:b", "X": "y"}
    assert take_listen_fds(environ, 42) == [FdAddress(3), FdAddress(4)]
    assert environ == {"X": "y"}


def test_listen_fds_of_another_process() -> None:
    for values in ({"LISTEN_FDS": "2", "LISTEN_PID": "41"}, {"LISTEN_FDS": "2"}, {},
                   {"LISTEN_FDS": "x", "LISTEN_PID": "42"}, {"LISTEN_PID": "42"}):  # fmt: skip
        environ = dict(values)
        assert take_listen_fds(environ, 42) == []
        assert environ == {}


def test_notify(tmp_path: Path) -> None:
    for name in (str(tmp_path / "notify"), f"\0forkserve-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(name)
            environ = {"NOTIFY_SOCKET": name.replace("\0", "@")}
            notifier = Notifier.from_environ(environ)
            assert environ == {}
            notifier.notify("READY=1", "STATUS=serving")
            assert manager.recv(100) == b"READY=1\nSTATUS=serving"


def test_nobody_to_notify() -> None:
    Notifier.from_environ({}).notify("READY=1")
    Notifier("/nonexistent/socket").notify("READY=1")
    Notifier("relative").notify("READY=1")


def test_a_full_socket_holds_nobody_up() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0forkserve-test-deaf-{os.getpid()}")
        notifier = Notifier(f"@forkserve-test-deaf-{os.getpid()}")
        for _ in range(10000):
            notifier.notify("STATUS=serving")
        assert systemd.recv(100) == b"STATUS=serving"


def test_no_descriptor_is_kept_for_the_workers_to_inherit() -> None:
    before = os.listdir("/proc/self/fd")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0forkserve-test-{os.getpid()}")
        notifier = Notifier(f"@forkserve-test-{os.getpid()}")
        notifier.notify("READY=1")
        assert len(os.listdir("/proc/self/fd")) == len(before) + 1


def test_what_is_no_utf_8_is_said_all_the_same(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        Notifier(str(tmp_path / "notify")).notify("STATUS=caf\udce9.toml is wrong")
        assert manager.recv(100) == b"STATUS=caf\\udce9.toml is wrong"


def test_the_watchdog_is_for_the_process_that_it_names() -> None:
    for values, expected in [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, "30000000"),
        ({"WATCHDOG_USEC": "30000000"}, "30000000"),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "41"}, ""),
        ({"WATCHDOG_USEC": "0", "WATCHDOG_PID": "42"}, ""),
        ({"WATCHDOG_USEC": "-1"}, ""),
        ({"WATCHDOG_USEC": "9" * 30}, ""),
        ({"WATCHDOG_PID": "42"}, ""),
        ({}, ""),
    ]:
        environ = {**values, "X": "y"}
        assert take_watchdog(environ, 42) == expected
        assert environ == {"X": "y"}


def test_a_muted_notifier_says_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier(str(tmp_path / "notify"))
        notifier.muted = True
        notifier.notify("STOPPING=1")
        notifier.muted = False
        notifier.notify("READY=1")
        assert manager.recv(100) == b"READY=1"
