"""What a request has waited, and for whom it is served after that; its id; and what the access log
is told of both."""

import re
import socket
import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from forkserve.ops.tally import ABORTED
from forkserve.worker.handoff import Parcel
from forkserve.worker.queueing import is_gone, waited_in_kernel
from forkserve.worker.state import State
from tests.worker.peer import GET, Peer, hello, streaming, tcp_pair

LOCAL = ("127.0.0.1", "4711")


class Site:
    """An application that counts, and keeps its last environ."""

    def __init__(self) -> None:
        self.calls = 0
        self.environ: dict[str, Any] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.calls += 1
        self.environ = dict(environ)
        return hello(environ, start_response)


def waiting(peer: Peer, octets: bytes = GET) -> None:
    """A request comes, and there is no thread."""
    peer.service.lead.set_calls(False)
    peer.send(octets, run=False)
    peer.step()
    assert peer.state is State.READY


def turn(peer: Peer) -> None:
    """There is one."""
    peer.service.lead.set_calls(True)
    peer.run()


def parcel(peer: Peer, left: float, octets: bytes) -> Parcel:
    """Of a connection whose deadline comes in ``left`` seconds."""
    return Parcel(LOCAL, "x", 1, peer.clock.now + left, octets)


def ago(seconds: float) -> float:
    """As a proxy would write it."""
    return datetime.now(UTC).timestamp() - seconds


def get(*fields: str) -> bytes:
    return GET[:-2] + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"


# ---- queue time


def test_a_request_that_is_served_at_once_has_not_waited() -> None:
    site = Site()
    peer = Peer(site)
    peer.send(GET)
    assert site.environ["forkserve.queue_seconds"] == 0.0
    (access,) = peer.accesses.seen
    assert (access.queued, access.called, access.writing, access.aborted) == (0.0, 0.0, 0.0, "")


@pytest.mark.parametrize(
    "octets", [GET, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"]
)
def test_the_wait_for_a_thread(octets: bytes) -> None:
    site = Site()
    peer = Peer(site)
    waiting(peer, octets)
    peer.clock.now += 2.5
    turn(peer)
    assert peer.statuses() == [200]
    assert site.environ["forkserve.queue_seconds"] == 2.5
    assert (peer.accesses.seen[0].queued, peer.accesses.seen[0].seconds) == (2.5, 2.5)
    peer.send(octets)
    assert site.environ["forkserve.queue_seconds"] == 0.0  # the next one has not


def test_a_slow_body_is_no_queue() -> None:
    site = Site()
    peer = Peer(site, queue_timeout=1.0)
    peer.send(GET + b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na")
    peer.clock.now += 5.0
    peer.send(b"bc")
    assert peer.statuses() == [200, 200]
    assert site.environ["forkserve.queue_seconds"] == 0.0


def test_a_slow_head_behind_another_request_is_no_queue() -> None:
    site = Site()
    peer = Peer(site, queue_timeout=1.0)
    peer.send(GET + GET[:9])
    peer.clock.now += 5.0
    peer.send(GET[9:])
    assert peer.statuses() == [200, 200]
    assert site.environ["forkserve.queue_seconds"] == 0.0


@pytest.mark.parametrize("serve", [True, False])
def test_the_wait_goes_along_in_a_parcel(serve: bool) -> None:
    site = Site()
    peer = Peer(site)
    peer.connection.resume(parcel(peer, 57.0, GET), peer.clock.now, serve=serve)
    peer.run()
    assert site.environ["forkserve.queue_seconds"] == 3.0
    assert peer.accesses.seen[0].seconds == 3.0
    peer.send(GET)
    assert site.environ["forkserve.queue_seconds"] == 0.0
    assert peer.accesses.seen[1].seconds == 0.0


def test_it_goes_on_waiting_for_no_longer_than_it_might() -> None:
    peer = Peer(hello)
    peer.service.lead.set_calls(False)
    peer.connection.resume(parcel(peer, 57.0, GET), peer.clock.now)
    assert peer.state is State.READY
    assert peer.connection.deadline == peer.clock.now + 57.0
    assert peer.connection.arrived == peer.clock.now - 3.0


def test_a_head_that_is_handed_off_has_not_waited() -> None:
    site = Site()
    peer = Peer(site)
    peer.connection.resume(parcel(peer, 7.0, GET[:9]), peer.clock.now)
    peer.clock.now += 5.0
    peer.send(GET[9:])
    assert site.environ["forkserve.queue_seconds"] == 0.0
    assert peer.accesses.seen[0].seconds == 5.0


@pytest.mark.parametrize("at_once", [True, False])
def test_a_request_that_was_on_its_way_for_too_long_is_told(at_once: bool) -> None:
    """The queue has no clock, but its parcels have a deadline."""
    site = Site()
    peer = Peer(site, queue_timeout=1.0)
    peer.connection.resume(parcel(peer, -20.0, GET), peer.clock.now, serve=at_once)
    peer.run()
    assert (peer.statuses(), site.calls) == ([503], 0)
    assert peer.accesses.seen[0].queued == 21.0


@pytest.mark.parametrize("octets", [b"", GET[:9]])
def test_what_came_while_it_was_on_its_way_is_not_late(octets: bytes) -> None:
    peer = Peer(hello)
    peer.send(GET[len(octets) :], run=False)
    peer.connection.resume(parcel(peer, -20.0, octets), peer.clock.now, serve=False)
    assert peer.connection.deadline > peer.clock.now
    peer.run()
    assert peer.statuses() == [200]


def test_a_request_lasts_from_its_first_octet_whatever_it_waits_for() -> None:
    """Its head comes slowly, then no thread is free; and the one behind it begins when it ends."""
    site = Site()
    peer = Peer(site)
    peer.send(GET[:9])
    peer.clock.now += 5.0
    waiting(peer, GET[9:] + GET)
    peer.clock.now += 2.0
    turn(peer)
    first, second = peer.accesses.seen
    assert (first.queued, first.seconds) == (2.0, 7.0)
    assert (second.queued, second.seconds) == (0.0, 0.0)


def test_what_the_proxy_says() -> None:
    site = Site()
    peer = Peer(site, remote=LOCAL)
    peer.send(get(f"X-Request-Start: t={ago(3.0):.3f}"))
    assert 2.99 < site.environ["forkserve.queue_seconds"] < 20.0
    assert peer.accesses.seen[0].queued == site.environ["forkserve.queue_seconds"]


def test_a_slow_upload_through_a_proxy_is_no_queue() -> None:
    """Heroku's router and the load balancers of AWS stamp a request before its body has come."""
    site = Site()
    stamp = f"X-Request-Start: t={ago(102.0):.3f}\r\n".encode()
    peer = Peer(site, remote=LOCAL, queue_timeout=60.0)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n" + stamp + b"\r\na")
    for octet in b"bc":
        peer.service.woke = peer.clock.now = peer.clock.now + 25.0
        peer.send(bytes([octet]))
    assert peer.statuses() == [200]
    assert site.environ["forkserve.queue_seconds"] == pytest.approx(52.0, abs=8.0)


@pytest.mark.parametrize(
    ("remote", "seconds"), [(("192.0.2.1", "1"), 3.0), (LOCAL, -3.0), (LOCAL, 4000.0)]
)
def test_what_nobody_believes(remote: tuple[str, str], seconds: float) -> None:
    """A stranger, and clocks that are wrong."""
    site = Site()
    peer = Peer(site, remote=remote)
    peer.send(get(f"X-Request-Start: t={ago(seconds):.3f}"))
    assert site.environ["forkserve.queue_seconds"] == 0.0


def test_the_kernel_knows_how_long_a_client_waits_that_nobody_heard() -> None:
    """The loop did not look for two seconds; the client has sent its request just now."""
    site = Site()
    peer = Peer(site, ends=tcp_pair(65536, 65536))
    peer.service.lag = 2.0
    peer.send(GET, run=False)
    peer.run_to(State.IDLE)
    assert 0.0 <= site.environ["forkserve.queue_seconds"] < 1.0
    peer.service.lag = 0.0
    client, server = tcp_pair(65536, 65536)
    assert waited_in_kernel(server) < 1.0
    ours, theirs = socket.socketpair()
    assert waited_in_kernel(ours) == 0.0
    for sock in (client, server, ours, theirs):
        sock.close()
    peer.close()


def test_who_queues_up_behind_calls_has_waited_in_the_kernel_too() -> None:
    peer = Peer(Site(), ends=tcp_pair(65536, 65536))
    peer.service.lag, peer.service.lead.inline_from = 2.0, float("inf")
    peer.send(GET, run=False)
    while waited_in_kernel(peer.connection.socket) < 0.03:
        pass
    peer.run_to(State.READY)
    assert 0.03 <= peer.clock.now - peer.connection.arrived <= 2.0
    peer.close()


# ---- shedding


def test_a_request_that_waited_too_long_is_not_for_the_application() -> None:
    site = Site()
    peer = Peer(site, queue_timeout=2.0)
    waiting(peer)
    peer.clock.now += 2.1
    turn(peer)
    answer = peer.read()
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: 5\r\n" in answer
    assert site.calls == 0
    (access,) = peer.accesses.seen
    assert (access.status, access.called) == (503, None)
    assert access.queued == pytest.approx(2.1)


def test_the_same_at_the_deadline() -> None:
    peer = Peer(hello, queue_timeout=2.0)
    waiting(peer)
    peer.wait(2.0)
    assert b" 503 " in peer.read()
    assert peer.accesses.seen[0].queued == 2.0


@pytest.mark.parametrize(
    "octets", [GET, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"]
)
def test_the_access_log_knows_whose_request_has_waited_in_vain(octets: bytes) -> None:
    peer = Peer(hello, remote=LOCAL)
    fields = b"Host: h\r\nX-Forwarded-For: 203.0.113.9\r\nX-Request-Id: a1\r\nReferer: x\r\n"
    waiting(peer, octets.replace(b"Host: h\r\n", fields))
    peer.wait(60.0)
    assert peer.statuses() == [503]
    (access,) = peer.accesses.seen
    assert (access.remote, access.request_id) == ("203.0.113.9", "a1")
    assert (access.line, access.environ["HTTP_REFERER"]) == (
        octets[:-1].split(b"\r")[0].decode(),
        "x",
    )


def test_so_it_is_by_the_clock_of_a_proxy_and_the_log_says_so_once() -> None:
    site = Site()
    for _ in range(2):
        peer = Peer(site, remote=LOCAL, queue_timeout=2.0)
        peer.send(get(f"X-Request-Start: t={ago(100.0):.3f}"))
        assert peer.statuses() == [503]
        (line,) = peer.log.lines
        assert re.match(
            r"a request of 127\.0\.0\.1 has waited for 10\d\.\d s by a proxy's clock", line
        )
    assert site.calls == 0


def gone_by_close(client: socket.socket) -> None:
    client.close()


def gone_by_reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("go", [gone_by_close, gone_by_reset])
@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("octets", [GET, GET + GET])
def test_nobody_is_served_who_is_gone(kind: str, go: Any, octets: bytes) -> None:
    site = Site()
    ends = socket.socketpair() if kind == "unix" else tcp_pair(65536, 65536)
    peer = Peer(site, ends=ends)
    peer.service.lead.set_calls(False)
    peer.send(octets, run=False)
    peer.run_to(State.READY)
    go(peer.socket)
    peer.clock.now += 1.2
    turn(peer)
    assert site.calls == 0
    assert peer.state is State.CLOSED
    (access,) = peer.accesses.seen
    assert (access.status, access.aborted) == (499, "the client was gone before its turn")
    assert access.queued == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("kind", "seconds", "calls"), [("unix", 5.0, 1), ("tcp", 0.9, 1), ("tcp", 1.1, 0)]
)
def test_a_client_that_has_only_closed_for_sending(kind: str, seconds: float, calls: int) -> None:
    """Over TCP nobody can know, so after a while it is taken for gone."""
    site = Site()
    peer = Peer(site, ends=socket.socketpair() if kind == "unix" else tcp_pair(65536, 65536))
    peer.service.lead.set_calls(False)
    peer.send(GET, run=False)
    peer.run_to(State.READY)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.clock.now += seconds
    turn(peer)
    assert site.calls == calls


def test_who_is_there_is_not_gone() -> None:
    client, server = tcp_pair(65536, 65536)
    assert not is_gone(server, 100.0)
    client.send(b"more")
    assert not is_gone(server, 100.0)
    client.close()
    server.close()


# ---- times and reasons


def test_the_time_in_the_application_and_in_writing() -> None:
    peer: Peer

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        peer.clock.now += 2.0
        return [b"x" * 3_000_000]

    peer = Peer(app, buffer_response=1 << 30)
    peer.send(GET)
    assert peer.state is State.FLUSH
    peer.clock.now += 3.0
    received = b""
    while peer.state is State.FLUSH:
        received += peer.read()
        peer.step()
    (access,) = peer.accesses.seen
    assert (access.queued, access.called, access.writing) == (0.0, 2.0, 3.0)
    assert access.seconds == 5.0


def failing_in_the_middle(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [])
    yield b"one"
    raise RuntimeError("on purpose")


def too_short(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "10")])
    return [b"x"]


@pytest.mark.parametrize(
    ("app", "why"),
    [(hello, ""), (failing_in_the_middle, "the application failed"),
     (too_short, "the body is shorter than its Content-Length")],
)  # fmt: skip
def test_why_a_response_is_not_complete(app: Any, why: str) -> None:
    peer = Peer(app)
    peer.send(GET)
    assert [access.aborted for access in peer.accesses.seen] == [why]
    assert peer.service.tally.counts[ABORTED] == (1 if why else 0)


def test_a_client_that_does_not_read_or_goes() -> None:
    for leave in (False, True):
        peer = Peer(streaming([b"x" * 3_000_000]), buffer_response=1 << 30, write_timeout=5.0)
        peer.send(GET)
        assert peer.state is State.FLUSH
        if leave:
            peer.close()
        else:
            peer.wait(5.0)
        (access,) = peer.accesses.seen
        assert ("Broken pipe" in access.aborted) == leave
        assert (access.aborted == "the client did not take the response in time") != leave
        assert peer.service.tally.counts[ABORTED] == 1


def test_the_line_of_a_request_that_is_shed_can_have_its_id_and_its_wait() -> None:
    peer = Peer(Site(), queue_timeout=1.0)
    waiting(peer)
    peer.clock.now += 2.0
    turn(peer)
    (access,) = peer.accesses.seen
    assert access.status == 503
    assert access.environ["forkserve.request_id"] == access.request_id != ""
    assert access.environ["forkserve.queue_seconds"] == access.queued == 2.0


# ---- ids

MADE = r"[0-9a-f]{16}-[0-9a-f]+"


def test_each_request_has_an_id() -> None:
    site = Site()
    peer = Peer(site)
    seen = set()
    for _ in range(3):
        peer.send(GET)
        made = site.environ["forkserve.request_id"]
        assert re.fullmatch(MADE, made)
        assert site.environ["HTTP_X_REQUEST_ID"] == made
        assert peer.accesses.seen[-1].request_id == made
        seen.add(made)
    assert len(seen) == 3
    assert b"X-Request-Id" not in peer.read()


@pytest.mark.parametrize(
    ("sent", "remote", "request_id", "kept"),
    [
        ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", LOCAL, "trust", True),
        ("Root=1-67891233-abcdef012345678912345678", LOCAL, "trust", True),
        ("abc", ("192.0.2.1", "1"), "trust", False),
        ("abc", LOCAL, "make", False),
        ("a b", LOCAL, "trust", False), ('"', LOCAL, "trust", False), ("", LOCAL, "trust", False),
        ("a,b", LOCAL, "trust", False), ("\xe9", LOCAL, "trust", False),
        ("a" * 200, LOCAL, "trust", True), ("a" * 201, LOCAL, "trust", False),
    ],
)  # fmt: skip
def test_an_id_that_a_proxy_sends(
    sent: str, remote: tuple[str, str], request_id: str, kept: bool
) -> None:
    site = Site()
    peer = Peer(site, remote=remote, request_id=request_id, request_id_header=True)
    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: %b\r\n\r\n" % sent.encode("latin-1"))
    used = site.environ["forkserve.request_id"]
    assert (used == sent) == kept
    assert kept or re.fullmatch(MADE, used)
    assert site.environ["HTTP_X_REQUEST_ID"] == used
    assert f"\r\nX-Request-Id: {used}\r\n".encode() in peer.read()


def test_no_ids() -> None:
    site = Site()
    peer = Peer(site, request_id="off", request_id_header=True)
    peer.send(get("X-Request-Id: theirs"))
    assert "forkserve.request_id" not in site.environ
    assert site.environ["HTTP_X_REQUEST_ID"] == "theirs"
    assert peer.accesses.seen[0].request_id == ""
    assert b"X-Request-Id" not in peer.read()


def test_the_application_sends_its_own() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("x-request-id", "mine")])
        return [b""]

    peer = Peer(app, request_id_header=True)
    peer.send(GET)
    answer = peer.read()
    assert answer.lower().count(b"x-request-id") == 1
    assert b"x-request-id: mine\r\n" in answer


def test_a_request_that_is_refused_has_one_too() -> None:
    peer = Peer(hello, request_id_header=True)
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    (access,) = peer.accesses.seen
    assert (access.status, access.queued) == (400, None)
    assert f"X-Request-Id: {access.request_id}\r\n".encode() in peer.read()


@pytest.mark.parametrize("remote", [LOCAL, ("192.0.2.1", "1")])
def test_the_access_line_of_a_refused_request_has_no_other_id(remote: tuple[str, str]) -> None:
    peer = Peer(hello, remote=remote)
    peer.send(
        b"POST / HTTP/1.1\r\nHost: h\r\nX-Request-Id: abc\r\nContent-Length: 99999999999999\r\n\r\n"
    )
    (access,) = peer.accesses.seen
    assert access.status == 413
    assert (access.request_id == "abc") == (remote == LOCAL)
    assert access.environ["HTTP_X_REQUEST_ID"] == access.request_id
    assert access.environ["forkserve.request_id"] == access.request_id


def test_the_error_log_names_it() -> None:
    def fails(environ: dict[str, Any], start_response: Any) -> Any:
        raise RuntimeError("on purpose")

    peer = Peer(fails)
    peer.send(GET)
    assert peer.log.records[0].request_id == peer.accesses.seen[0].request_id != ""
