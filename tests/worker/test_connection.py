"""One connection, from its first octet to its last: states, deadlines, refusals, the close."""

import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from forkserve.settings.kinds import Span
from forkserve.worker.connection import Connection
from forkserve.worker.state import State
from tests.worker.peer import GET, Peer, hello, tcp_pair, whole

# ---- a request, and the next


def test_a_request_is_answered_and_the_connection_is_idle() -> None:
    peer = Peer(hello)
    assert peer.state is State.HEAD
    peer.send(GET)
    response = peer.read()
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert response.endswith(b"Content-Length: 5\r\n" +
                             peer.service.own_lines(0)[0] + b"\r\nhello")  # fmt: skip
    assert peer.state is State.IDLE
    assert peer.connection.deadline == peer.clock.now + 75.0


@pytest.mark.parametrize("size", [1, 2, 7, 26])
def test_a_head_in_pieces(size: int) -> None:
    peer = Peer(hello)
    for start in range(0, len(GET), size):
        peer.send(GET[start : start + size])
    assert peer.statuses() == [200]
    assert peer.state is State.IDLE


@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\n", b"\r\n \r\n\r\n"])
def test_a_wrong_head_in_many_lines_is_refused_at_its_end_and_not_at_its_deadline(
    end: bytes,
) -> None:
    peer = Peer(hello)
    for line in (
        b"GET / HTTP/1.1\r\n",
        b"Host: h\r\n",
        *[b"A: " + b"b" * 100 + b"\r\n"] * 40,
        b"C: d",
    ):
        peer.send(line)
    assert peer.state is State.HEAD
    for octet in end:
        peer.send(bytes([octet]))
    assert peer.statuses() == [400]


def test_pipelined_requests_are_answered_in_order_and_one_at_a_turn() -> None:
    peer = Peer(whole)
    requests = [
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxy",
        b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\n\r\n",
        b"GET /d HTTP/1.1\r\nHost: h\r\n\r\n",
    ]
    peer.send(b"".join(requests), run=False)
    served = []
    peer.step()
    while peer.state is State.READY:
        served.append(peer.body())
        peer.step()
    served.append(peer.body())
    assert served == [b"/a=", b"/b=xy", b"/c=z", b"/d="]
    assert peer.state is State.IDLE


def test_nothing_is_parsed_after_an_error() -> None:
    peer = Peer(hello)
    peer.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n" + GET)
    assert peer.statuses() == [400]
    assert peer.state is State.LINGER
    assert peer.service.requests == 0
    peer.send(GET)
    assert peer.statuses() == []
    assert peer.service.requests == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 9000, 431),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741825\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n40000001\r\n", 413),
    ],
)
def test_refusals_are_framed_announce_the_close_and_are_logged(
    request_: bytes, status: int
) -> None:
    peer = Peer(hello)
    peer.send(request_)
    head, _, body = peer.read().partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert int(lines[0].split()[1]) == status
    assert b"Connection: close" in lines
    assert b"Content-Length: %d" % len(body) in lines
    assert any(line.startswith(b"Date: ") for line in lines)
    assert peer.state is State.LINGER
    assert [access.status for access in peer.accesses.seen] == [status]
    assert peer.service.requests == 0
    assert peer.log.lines == []


def test_a_refused_head_request_gets_no_body() -> None:
    peer = Peer(hello)
    peer.send(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert peer.read().endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("line", "state"),
    [
        (b"", State.IDLE),
        (b"Connection: close\r\n", State.LINGER),
        (b"Connection: x\r\nConnection: close\r\n", State.LINGER),
    ],
)
def test_the_client_can_ask_for_the_close(line: bytes, state: State) -> None:
    peer = Peer(hello)
    peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n")
    assert (b"Connection: close" in peer.read()) == (state is State.LINGER)
    assert peer.state is state


def test_a_client_that_closes_is_closed() -> None:
    for octets in (b"", b"GET / HT", GET, GET[:-2]):
        peer = Peer(hello)
        peer.send(octets)
        peer.close()
        assert peer.state is State.CLOSED
        assert len(peer.accesses.seen) == (1 if octets == GET else 0)


def test_a_client_that_has_only_closed_for_sending_gets_its_answers() -> None:
    peer = Peer(hello)
    peer.send(GET + GET, run=False)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.run()
    assert peer.statuses() == [200, 200]
    assert peer.state is State.CLOSED


# ---- deadlines


def test_a_silent_client_is_closed_without_a_word() -> None:
    peer = Peer(hello)
    peer.wait(9.9)
    assert peer.state is State.HEAD
    peer.wait(0.1)
    assert peer.state is State.CLOSED
    assert peer.read() == b""


def test_a_head_has_one_deadline_however_slowly_it_comes() -> None:
    peer = Peer(hello)
    peer.wait(5.0)
    peer.send(GET[:1])
    for octet in GET[1:10]:
        peer.wait(1.0)
        peer.send(bytes([octet]))
    assert peer.state is State.HEAD
    peer.wait(1.0)
    assert peer.statuses() == [408]
    assert peer.state is State.LINGER


def test_an_idle_connection_is_closed_at_keep_alive() -> None:
    peer = Peer(hello, keep_alive=5.0)
    peer.send(GET)
    peer.read()
    peer.wait(4.9)
    assert peer.state is State.IDLE
    peer.wait(0.2)
    assert peer.state is State.CLOSED
    assert peer.read() == b""


def test_the_deadline_of_the_head_counts_from_its_first_octet() -> None:
    peer = Peer(hello)
    peer.send(GET)
    peer.wait(60.0)
    peer.send(GET[:5])
    assert peer.connection.deadline == peer.clock.now + 10.0


@pytest.mark.parametrize("empty", [(b"\r\n",), (b"\r\n\r\n",), (b"\r", b"\n")])
@pytest.mark.parametrize("served", [0, 1])
def test_empty_lines_are_no_request_and_put_no_deadline_off(
    empty: tuple[bytes, ...], served: int
) -> None:
    peer = Peer(hello)
    if served:
        peer.send(GET)
        peer.read()
    state, deadline = peer.state, peer.connection.deadline
    for _ in range(3):
        for octets in empty:
            peer.wait(1.0)
            peer.send(octets)
            assert (peer.state, peer.connection.deadline) == (state, deadline)
            assert len(peer.connection.buffer) <= 1
    peer.wait(deadline - peer.clock.now - 1.0)
    peer.send(b"".join(empty) + GET)
    assert peer.statuses() == [200]
    peer.send(empty[0])
    peer.wait(75.0)
    assert peer.state is State.CLOSED
    assert peer.read() == b""


def test_a_request_behind_half_an_empty_line() -> None:
    peer = Peer(hello)
    for octets in (b"\r", b"\n" + GET, b"\r", b"\n" + GET[:20], GET[20:]):
        peer.send(octets)
    assert peer.statuses() == [200, 200]
    assert peer.state is State.IDLE


# ---- the end of a connection


def test_who_lingers_has_5_seconds_since_its_last_octets_and_30_in_all() -> None:
    peer = Peer(hello)
    peer.send(b"x\r\n")
    assert peer.statuses() == [400]
    for _ in range(7):
        peer.wait(4.0)
        peer.send(b"y" * 1000)
        assert peer.state is State.LINGER
    peer.wait(1.9)
    assert peer.state is State.LINGER
    peer.wait(0.1)
    assert peer.state is State.CLOSED
    peer = Peer(hello)
    peer.send(b"x\r\n")
    peer.wait(5.0)
    assert peer.state is State.CLOSED


def test_who_lingers_and_reads_slowly_still_gets_all_of_the_response() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Connection", "close")])
        return [b"x" * 100_000]

    peer = Peer(app, ends=tcp_pair(4096, 1 << 20))
    peer.send(GET, run=False)
    peer.run_to(State.LINGER)
    peer.wait(5.0)
    assert peer.state is State.CLOSED
    assert peer.read_to_the_end().endswith(b"\r\n\r\n" + b"x" * 100_000)


def test_a_retiring_worker_gives_an_idle_client_a_last_chance() -> None:
    peer = Peer(hello)
    peer.send(GET)
    peer.read()
    peer.service.persist = False
    peer.connection.retire(peer.clock.now)
    peer.wait(0.5)
    peer.send(GET)
    assert b"Connection: close\r\n" in peer.read()
    assert peer.state is State.LINGER
    peer.wait(1.0)
    assert peer.state is State.CLOSED
    peer = Peer(hello)
    peer.connection.retire(peer.clock.now)
    peer.wait(1.0)
    assert peer.state is State.CLOSED


@pytest.mark.parametrize("siblings", [True, False])
def test_a_retiring_worker_announces_the_close_if_nobody_is_there_to_go_on(siblings: bool) -> None:
    peer = Peer(hello)
    peer.service.persist, peer.service.gives = False, True
    peer.service.has_siblings = lambda: siblings
    peer.send(GET)
    assert (b"Connection: close\r\n" in peer.read()) is not siblings


def test_a_retiring_worker_does_not_wait_for_who_lingers() -> None:
    peer = Peer(hello)
    peer.send(b"x\r\n")
    peer.service.persist = False
    peer.connection.retire(peer.clock.now)
    peer.wait(0.9)
    assert peer.state is State.LINGER
    peer.send(b"y")
    peer.wait(0.9)
    assert peer.state is State.LINGER
    peer.wait(0.1)
    assert peer.state is State.CLOSED


def test_a_retiring_worker_finishes_a_response_that_did_not_announce_the_close() -> None:
    peer = Peer(big)
    peer.send(GET)
    assert peer.state is State.FLUSH
    deadline = peer.connection.deadline
    peer.service.persist = False
    peer.connection.retire(peer.clock.now)
    assert peer.connection.deadline == deadline
    response = b""
    while peer.state is State.FLUSH:
        response += peer.read()
        peer.run()
    response += peer.read()
    assert b"Connection: close" not in response
    assert response.endswith(b"\r\n\r\n" + BIG)
    assert peer.state is State.IDLE
    peer.wait(0.9)
    assert peer.state is State.IDLE
    peer.wait(0.1)
    assert peer.state is State.CLOSED


# ---- readers

BIG = bytes(range(250)) * 3600


def big(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [BIG]


def test_a_slow_reader_is_served_by_the_loop_and_not_by_the_call() -> None:
    peer = Peer(big)
    peer.send(GET)
    assert peer.service.requests == 1
    assert peer.state is State.FLUSH
    assert peer.cell.read() is None
    received = b""
    while peer.state is State.FLUSH:
        peer.wait(20.0)
        received += peer.read()
        peer.run()
    received += peer.read()
    assert received.endswith(b"\r\n\r\n" + BIG)
    assert peer.state is State.IDLE
    assert peer.accesses.seen[0].octets == len(BIG)


def test_a_reader_that_stops_is_cut_off_without_a_line_in_the_log() -> None:
    peer = Peer(big)
    peer.send(GET)
    peer.wait(30.0)
    assert peer.state is State.CLOSED
    assert len(peer.accesses.seen) == 1
    assert peer.log.lines == []


def take(client: socket.socket, connection: Connection, octets: int) -> int:
    """Read until the kernel of the server knows that ``octets`` more were taken. How many it is."""
    queued = connection.queued()
    while (taken := queued - connection.queued()) < octets:
        select.select([client], [], [])
        client.recv(4096)
    return taken


def slow_reader() -> tuple[Peer, socket.socket, Connection]:
    """One for whom the kernel has no room, and will have none soon."""
    client, server = tcp_pair(8192, 1 << 18)
    peer = Peer(big, ends=(client, server))
    peer.send(GET, run=False)
    peer.run_to(State.FLUSH)
    return peer, client, peer.connection


def test_who_reads_too_little_to_make_room_is_not_taken_for_one_that_stopped() -> None:
    peer, client, connection = slow_reader()
    writable = select.poll()
    writable.register(connection.socket, select.POLLOUT)
    for _ in range(3):
        take(client, connection, 500 * 30)
        assert writable.poll(0) == []
        peer.clock.now = connection.deadline
        connection.expire(peer.clock.now)
        assert peer.state is State.FLUSH
        assert connection.deadline == peer.clock.now + 30.0


def test_who_reads_less_than_500_octets_a_second_is_cut_off() -> None:
    peer, client, connection = slow_reader()
    taken = 0
    while peer.state is State.FLUSH:
        more = take(client, connection, 1)
        taken += more
        peer.wait(more / 250)
    assert 500 * 30 <= taken <= 500 * 30 + 2 * more  # which the first 30 seconds have waited for
    assert peer.log.lines == []
    assert len(peer.accesses.seen) == 1


def test_a_fast_start_makes_no_drip_last_longer() -> None:
    peer, client, connection = slow_reader()
    for _ in range(10):
        take(client, connection, 15_000)
        peer.clock.now += 0.1
        connection.expire(peer.clock.now)
    assert connection.deadline == peer.clock.now + 30.0
    peer.wait(30.0)
    assert peer.state is State.CLOSED


def test_who_has_taken_all_waits_for_us_and_is_not_slow() -> None:
    """As after a long call of somebody else's."""
    peer = Peer(big)
    peer.send(GET)
    assert peer.state is State.FLUSH
    peer.read()
    peer.clock.now += 600.0
    peer.step()
    assert peer.connection.deadline == peer.clock.now + 30.0
    peer.clock.now += 600.0
    peer.step()
    assert peer.connection.deadline < peer.clock.now


def test_a_stream_to_who_reads_too_slowly_is_given_up_in_the_call() -> None:
    client, server = tcp_pair(8192, 1 << 18)
    closed = []

    def clock() -> float:
        # A round of the call's waiting takes a minute, in which the client takes a little.
        if connection.unsent is not None and peer.cell.read() is not None:
            take(client, connection, 1)
            peer.clock.now += 60.0
        return peer.clock.now

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield BIG
        finally:
            closed.append(1)

    peer = Peer(app, ends=(client, server))
    connection = peer.connection
    peer.service.clock = clock
    peer.send(GET, run=False)
    peer.run_to(State.CLOSED)
    assert closed == [1]
    assert peer.log.lines == []


def test_who_stops_reading_is_cut_off_with_a_reset() -> None:
    peer = Peer(big, ends=tcp_pair(8192, 1 << 18))
    peer.send(GET, run=False)
    peer.run_to(State.FLUSH)
    peer.wait(30.0)
    assert peer.state is State.CLOSED
    assert peer.read_to_the_end().endswith(b"<reset>")


def test_a_stream_is_not_given_up_while_its_client_reads_though_too_little_to_make_room() -> None:
    client, server = tcp_pair(8192, 1 << 18)
    rounds: list[int] = []

    def clock() -> float:
        # A wait asks for the time before and after it asks the kernel for room.
        if connection.unsent is not None and peer.cell.read() is not None and len(rounds) < 4:
            rounds.append(connection.queued())
            while connection.queued() == rounds[-1]:
                select.select([client], [], [])
                client.recv(4096)
        return peer.clock.now

    peer = Peer(big, ends=(client, server), write_timeout=0.1, buffer_response=1 << 16)
    connection = peer.connection
    peer.service.clock = clock
    peer.send(GET, run=False)
    peer.run_to(State.CLOSED)
    assert len(rounds) == 4  # and then it has stopped


def test_a_stream_to_who_does_not_read_is_given_up_in_the_call() -> None:
    closed = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield BIG
        finally:
            closed.append(1)

    peer = Peer(app, write_timeout=0.1)
    peer.send(GET)
    assert closed == [1]
    assert peer.state is State.CLOSED
    assert len(peer.accesses.seen) == 1
    assert peer.log.lines == []


@pytest.mark.parametrize("settings", [{"max_rss": 1 << 30}, {"workers": Span(1, 2)}])
def test_the_master_is_told_of_requests_once_a_second_if_it_asks(settings: dict[str, Any]) -> None:
    told = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        told.append("call")
        return []

    peer = Peer(app, **settings)
    peer.service.announce = lambda message, text: told.append(message.name.lower())
    for seconds in (0.0, 0.5, 0.4, 0.2, 5.0):
        peer.wait(seconds)
        peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert told == ["busy", "call", "call", "call", "busy", "call", "busy", "call"]


def test_a_master_that_does_not_ask_is_told_nothing() -> None:
    assert Peer(lambda environ, start_response: []).service.tell_at == float("inf")
