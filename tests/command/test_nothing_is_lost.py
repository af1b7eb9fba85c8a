"""Whatever happens to a server, its clients lose nothing: the rows of benchmarks/soak, shortened.

``make soak`` runs them in full, with stricter bounds.
"""

import contextlib
import errno
import os
import select
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks.soak import concurrency, ends, reloads
from benchmarks.soak.rig import ROWS, Run, missing, pause
from tests.conftest import need

assert concurrency and ends and reloads  # they declare the rows


@pytest.mark.parametrize("name", ROWS)
def test_row(name: str) -> None:
    row = ROWS[name]
    if missing(row.needs):
        pytest.skip(f"not there yet: {missing(row.needs)}")
    run = Run(quick=True)
    with run:
        row.function(run)
    failed = [check for check in run.checks if check.outcome == "FAILED"]
    assert not failed, "\n".join([*map(str, failed), *run.tables])


@pytest.mark.skipif(bool(missing("last reset")), reason="not there yet: newcomers turned away")
def test_who_comes_while_it_stops_is_answered_or_refused() -> None:
    """Between the last accept and the close of the listener, which are made slow here, the kernel
    would take connections that it then has to reset."""
    strace = need("strace")
    with Run(quick=True) as run:
        server = run.server()
        with _slow_accepts(strace, server.workers()[0]):
            server.signal("TERM")
            server.wait_for("TERM: stopping")
            newcomers = []
            for number in range(40):
                sock = socket.socket()
                sock.setblocking(False)
                error = sock.connect_ex(("127.0.0.1", server.port))
                if error == 0 or error == errno.EINPROGRESS:
                    newcomers.append((number, sock))
                pause(0.02)
            outcomes = Counter(_outcome(sock, number) for number, sock in newcomers)
            assert server.wait() == 0
    assert set(outcomes) <= {"answered", "refused"}, outcomes
    assert outcomes["refused"], outcomes


@contextlib.contextmanager
def _slow_accepts(strace: str, pid: int) -> Iterator[None]:
    """Each accept of the process takes 0.2 s longer."""
    delay = ["-e", "trace=accept4", "-e", "inject=accept4:delay_exit=200000"]
    process = subprocess.Popen([strace, *delay, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "attached" in process.stderr.readline()
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def _outcome(sock: socket.socket, number: int) -> str:
    """What becomes of one who has begun to connect."""
    with sock:
        sock.settimeout(10)
        select.select([], [sock], [], 10)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            return "refused" if error == errno.ECONNREFUSED else os.strerror(error)
        try:
            sock.sendall(f"GET /fast?{number} HTTP/1.1\r\nHost: soak\r\n\r\n".encode())
            octets = sock.recv(65536)
        except OSError as failed:
            return f"connected, then {failed.strerror}"
    return "answered" if octets.startswith(b"HTTP/1.1 200 ") else "connected, then closed"
