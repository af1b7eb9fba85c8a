"""What waits for a thread of the real command: who is served, shed, or gone."""

import json
import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import Client, Server, Tail

Start = Callable[..., Server]


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_client_that_is_gone_is_not_served(
    start: Start, gate: Path, tmp_path: Path, fresh: bool, reset: bool
) -> None:
    """One worker, one thread, and that is busy: the client's request waits in the worker, or (of a
    fresh connection) in the kernel."""
    with Tail(tmp_path / "access") as access:
        server = start(
            "-w", "1", "--access-logfile", str(tmp_path / "access"), "--access-log-format", "json",
            "plain",
        )  # fmt: skip
        with server.connect() as busy:
            gone = None if fresh else server.connect()
            if gone is not None:
                assert gone.get()[0] == 200
            busy.send(get(f"/wait?{gate}"))
            server.wait_for("waiting")
            gone = gone or server.connect()
            gone.send(get("/print"))
            if reset:
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.socket.close()
            waited(1.1)
            gate.write_text("")
            assert busy.response().status == 200
            assert busy.get()[0] == 200
        assert server.stop() == 0
        if not (fresh and reset):  # of which the kernel had not told anybody
            access.wait_for('"target":"/print"')
            (line,) = [json.loads(it) for it in access.lines if "/print" in it]
            assert (line["status"], line["app_seconds"]) == (499, None)
            assert line["aborted"] == "the client was gone before its turn"
            assert 1.0 < line["queue_seconds"] < 20
    assert "to wsgi.errors" not in server.log


def waited(seconds: float) -> None:
    """Time that has to pass, for a request to have waited: there is no event to wait for."""
    ours, theirs = socket.socketpair()
    ours.settimeout(seconds)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("fresh", [False, True])
def test_how_long_a_request_has_waited(start: Start, gate: Path, fresh: bool) -> None:
    server = start("-w", "1", "plain")
    with server.connect() as busy, server.connect() as other:
        if not fresh:
            assert other.get()[0] == 200
        busy.send(get(f"/wait?{gate}"))
        server.wait_for("waiting")
        with server.connect() as late:
            client = late if fresh else other
            client.send(get("/environ?forkserve.queue_seconds"))
            waited(0.4)
            gate.write_text("")
            assert 0.35 < seconds_of(client) < 20
            client.send(get("/environ?forkserve.queue_seconds"))
            assert 0 <= seconds_of(client) < 0.35
    assert server.stop() == 0


def seconds_of(client: Client) -> float:
    return float(client.response().content)  # type: ignore[attr-defined]


def test_a_request_that_waits_too_long_is_shed(start: Start, gate: Path) -> None:
    server = start("-w", "1", "--queue-timeout", "200ms", "plain")
    with server.connect() as busy, server.connect() as kept:
        assert kept.get()[0] == 200
        busy.send(get(f"/wait?{gate}"))
        server.wait_for("waiting")
        kept.send(get("/print"))
        response = kept.response()
        assert (response.status, response.getheader("Retry-After")) == (503, "5")
        with server.connect() as fresh:  # it is accepted when somebody can serve it
            fresh.send(get("/print"))
            waited(0.4)
            gate.write_text("")
            assert fresh.response().status == 503
        assert busy.response().status == 200
    assert server.stop() == 0
    assert "to wsgi.errors" not in server.log


def test_what_a_proxy_says_on_the_way_counts(start: Start) -> None:
    server = start("-w", "1", "plain")
    with server.connect() as client:
        status, body = client.get("/environ?forkserve.queue_seconds", "X-Request-Start: t=1.5\r\n")
        assert (status, bool(re.fullmatch(rb"0\.0\d*", body) or float(body) < 1)) == (200, True)
    assert server.stop() == 0
