"""HUP: whatever is wrong with the new generation, the old one serves; and what a new one changes."""

import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import PLAIN, Server, unix_client

Start = Callable[..., Server]


def write(app: Path, *lines: str) -> str:
    """The configuration file, with these lines; returns its path."""
    path = app / "f.toml"
    path.write_text("\n".join(('app = "shop"', *lines, "")))
    return str(path)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (f'bind = "{"x" * 64}.example:80"', "the host name is malformed"),
        ('bind = "127.0.0.1:http"', "is no address"),
        ('user = "nobody-of-that-name"', "is no user of this machine"),
        (
            'error_logfile = "/nonexistent/log"',
            "cannot open the log /nonexistent/log (`error_logfile` from ",
        ),
        ('chdir = "/nonexistent"', "cannot change to the directory /nonexistent"),
        ('tmp_dir = "/nonexistent"', "the directory /nonexistent (`tmp_dir` from "),
        ("workers = ", "this is not TOML"),
    ],
)
def test_settings_that_cannot_be(start: Start, app: Path, line: str, part: str) -> None:
    # PORT, because an address on the command line would win over that of the file.
    server = start(
        "-c", write(app), cwd=app, bind=None, env={"PORT": "0"}, errors=("reload refused",)
    )
    before = server.workers()
    write(app, line)
    server.signal("HUP")
    server.wait_for(" ERROR .* reload refused, generation 1 goes on serving unchanged")
    server.wait_for(re.escape(part))
    assert "Traceback" not in server.log
    assert (server.workers(), server.get()) == (before, (200, b"hello"))
    write(app)
    server.reload(2)


def test_an_application_directory_that_is_gone(start: Start, tmp_path: Path) -> None:
    """A deploy may remove the directory and make another of the same name."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "shop.py").write_text(PLAIN)
    server = start("shop", cwd=place, errors=("reload refused",))
    before = server.workers()
    shutil.rmtree(place)
    server.signal("HUP")
    line = server.wait_for("reload refused")[0].string
    assert "the working directory is gone" in line
    assert "Traceback" not in server.log
    assert (server.workers(), server.get()) == (before, (200, b"hello"))


def test_a_shorter_timeout_counts_from_its_reload(start: Start, app: Path) -> None:
    """The master had meant to look at the calls again only after the longer one."""
    server = start("-c", write(app, "timeout = 60"), cwd=app, errors=("longer than `timeout`",))
    write(app, "timeout = 0.5")
    server.reload(2)
    began = time.monotonic()
    with server.connect() as client:
        client.send(b"GET /sleep HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response().status == 504
    assert 0.5 <= time.monotonic() - began < 1.5


def test_a_new_backlog(start: Start, app: Path) -> None:
    """As many connections as wait in the kernel while nobody accepts: one more than the backlog."""

    def waiting() -> int:
        worker = server.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        clients = [socket.socket() for _ in range(12)]
        try:
            for client in clients:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", server.port))
            return sum(is_connected(client) for client in clients)
        finally:
            for client in clients:
                client.close()
            os.kill(worker, signal.SIGCONT)

    server = start("-c", write(app, "backlog = 2"), cwd=app)
    assert waiting() == 3
    assert server.get() == (200, b"hello")
    write(app, "backlog = 6")
    server.reload(2)
    server.wait_for("has left")
    assert waiting() == 7


def is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def test_a_socket_file_that_was_removed_is_made_anew(start: Start, app: Path) -> None:
    path = app / "socket"
    server = start("-b", f"unix:{path}", "shop", cwd=app)
    path.unlink()
    server.reload(2)
    with unix_client(path) as client:
        assert client.get("/generation") == (200, b"2")
    assert server.stop() == 0
    assert not path.exists()


def test_a_rollout_that_is_stuck_can_be_repaired(start: Start, app: Path) -> None:
    """The first worker of a generation boots, the others do not."""
    server = start("-w", "2", "shop", cwd=app, errors=("could not boot",))
    server.wait_for("is ready", count=2)
    (app / "shop.py").write_text(f"open({str(app / 'once')!r}, 'x')\n{PLAIN}")
    server.signal("HUP")
    line = server.wait_for("could not boot")[0].string
    assert "the old one goes on, and the next attempt is in" in line
    assert "FileExistsError" in server.log
    assert {server.get() for _ in range(10)} == {(200, b"hello")}
    (app / "shop.py").write_text(PLAIN)
    server.reload(3)
    assert server.get("/generation") == (200, b"3")


def test_idle_connections_of_the_old_generation_go_on_with_the_new_one(start: Start) -> None:
    server = start("plain")
    with server.connect() as late, server.connect() as silent, server.connect() as idle:
        assert [client.get()[0] for client in (late, idle)] == [200, 200]
        server.reload(2)
        server.wait_for("has left")
        for client in (late, silent, idle) * 2:
            client.send(b"GET /generation HTTP/1.1\r\nHost: h\r\n\r\n")
            response = client.response()
            assert response.content == b"2"  # type: ignore[attr-defined]
            assert response.getheader("Connection") is None
