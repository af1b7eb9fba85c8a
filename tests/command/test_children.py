"""Processes that the application starts hold nothing of the server's."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command.harness import PLAIN, WAIT, Server, run, wait_for_death

Start = Callable[..., Server]


@pytest.mark.parametrize("route", ["fork", "multiprocessing"])
def test_connections_end_although_a_child_lives(start: Start, route: str) -> None:
    server = start("--keep-alive", "0.2", "plain")
    with server.connect() as other, server.connect() as client:
        assert other.get() == (200, b"hello")
        status, child = client.get(f"/{route}")
        assert status == 200
        with ended(int(child)):
            assert [client.rest(), other.rest()] == [b"", b""]
            assert server.get() == (200, b"hello")


def test_the_port_is_free_although_a_child_lives_and_a_signal_ends_it(start: Start) -> None:
    server = start("plain")
    child = int(server.get("/fork")[1])
    with ended(child):
        server.signal("TERM")
        assert server.process.wait(WAIT) == 0
        again = start("-b", f"127.0.0.1:{server.port}", "plain")
        assert again.get() == (200, b"hello")
        assert not wait_for_death(child, 0)
        os.kill(child, signal.SIGTERM)
        assert wait_for_death(child)


def test_what_python_stops_at_its_end_is_stopped(start: Start) -> None:
    """multiprocessing ends its daemons with SIGTERM, and waits for them."""
    server = start("--graceful-timeout", "5", "plain")
    child = int(server.get("/multiprocessing")[1])
    with ended(child):
        assert server.stop() == 0
        assert wait_for_death(child)
    assert "did not leave" not in server.log


def test_a_child_that_dies_is_no_worker_that_dies(start: Start) -> None:
    server = start("plain")
    before = server.workers()
    child = int(server.get("/fork")[1])
    os.kill(child, signal.SIGKILL)
    assert wait_for_death(child)
    assert (server.workers(), server.get()) == (before, (200, b"hello"))


@contextlib.contextmanager
def ended(pid: int) -> Iterator[None]:
    """The process does not outlive the block."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_child_that_comes_back_from_the_call_is_no_worker(start: Start) -> None:
    """It neither answers nor ends the deadline of its parent's call."""
    server = start(
        "-t", "0.3", "--graceful-timeout", "2", "plain", errors=("longer than `timeout`",)
    )
    with server.connect() as client:
        client.send(b"GET /child_that_returns HTTP/1.1\r\nHost: h\r\n\r\n")
        server.wait_for("the call of 'GET /child_that_returns HTTP/1.1' has made no progress")
    server.wait_for("is ready", count=2)
    assert "SystemExit" not in server.log
    assert server.get() == (200, b"hello")


def test_threads_of_the_application_end_their_work(start: Start) -> None:
    server = start("plain")
    assert server.get("/thread") == (200, b"started")
    assert server.stop() == 0
    server.wait_for("the thread is done")


def test_what_an_application_has_put_in_place_of_stdout_is_no_crash(start: Start) -> None:
    server = start("plain")
    assert server.get("/no_stdout") == (200, b"gone")
    assert server.stop() == 0
    assert "died" not in server.log


def test_an_exception_that_nobody_can_show_is_a_500(start: Start) -> None:
    server = start("plain", errors=("SyntaxError",))
    pids = server.workers()
    assert server.get("/unshowable")[0] == 500
    assert server.workers() == pids
    server.wait_for(r"SyntaxError \(which cannot be shown\)")


@pytest.mark.parametrize("end", ["sys.exit(0)", "pass"])
def test_a_child_that_the_import_forks_says_nothing_of_the_application(
    start: Start, tmp_path: Path, end: str
) -> None:
    """What it came back to was the server's, and told that the application did not load."""
    (tmp_path / "shop.py").write_text(
        f"import os, sys\npid = os.fork()\nif pid == 0:\n    {end}\nelse:\n    os.waitpid(pid, 0)\n{PLAIN}"
    )
    checked = run("--check-config", "--user", "root", "shop", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.count("loads") == 1
    for option in ("--reload", "--preload"):
        server = start(option, "shop", cwd=tmp_path)  # and no line at ERROR
        assert server.get() == (200, b"hello")
