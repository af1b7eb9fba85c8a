"""TERM: who has connected is answered, who comes later is refused, and nobody is reset."""

import os
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import Client, Server
from tests.command.load import Load

Start = Callable[..., Server]
TRIALS = int(os.environ.get("FORKSERVE_TRIALS", "3"))


@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_a_hundred_that_wait_in_the_kernel_are_answered(
    start: Start, gate: Path, family: str
) -> None:
    """While the others go on coming: each answer is whole, or there was no connection."""
    host = "127.0.0.1" if family == "inet" else "::1"
    for _ in range(TRIALS):
        address = f"{host}:0" if family == "inet" else f"[{host}]:0"
        server = start("-b", address, "-w", "1", "plain")
        where = (host, server.port)
        with Client(socket.create_connection(where, timeout=30)) as client:
            client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            server.wait_for("^waiting")
            queued = [Client(socket.create_connection(where, timeout=30)) for _ in range(100)]
            for item in queued:
                item.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
            server.signal("TERM")
            server.wait_for("TERM: stopping")
            with socket.socket(socket.AF_INET6 if family == "inet6" else socket.AF_INET) as late:
                late.settimeout(0.2)
                with pytest.raises(OSError):  # noqa: PT011 - refused, or not heard
                    late.connect(where)
            gate.open("w").close()
            assert client.response().status == 200
            answers = Counter(item.response().status for item in queued)
            assert answers == {200: 100}
            for item in queued:
                item.socket.close()
        assert server.wait() == 0


def test_a_crowd_that_goes_on_connecting(start: Start) -> None:
    total: Counter[object] = Counter()
    for _ in range(TRIALS):
        server = start("-w", "2", "plain")
        with Load(server.port, clients=8, once=True) as load:
            load.wait_for(100)
            assert server.stop() == 0
            total += load.stop()
    assert set(total) <= {200, "refused"}, total
