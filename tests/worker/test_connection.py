"""One connection over a socketpair, with a clock of our own: states, deadlines, octets."""

import io
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from forkserve.ops.access import Access, AccessLog
from forkserve.ops.logs import LogFile
from forkserve.ops.scoreboard import Scoreboard
from forkserve.settings import Settings
from forkserve.worker.connection import Connection
from forkserve.worker.service import Service
from forkserve.worker.state import State
from forkserve.wsgi.environ import listener_environ

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
App = Callable[..., Iterable[bytes]]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Accesses(AccessLog):
    """An access log that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(LogFile("-", 1), "common")
        self.seen: list[Access] = []

    def write(self, access: Access) -> None:
        self.seen.append(access)


class Peer:
    """A client, and the connection that serves it."""

    def __init__(self, app: App, **settings: Any) -> None:
        self.clock = Clock()
        self.log = Lines()
        self.accesses = Accesses()
        logger = logging.Logger("test")
        logger.addHandler(self.log)
        self.row = Scoreboard(1).row(0)
        self.service = Service(
            app, Settings(app="test:app", **settings), self.row, logger, self.accesses, self.clock
        )
        self.socket, server = socket.socketpair()
        self.socket.setblocking(False)
        server.setblocking(False)
        base = listener_environ(
            io.StringIO(), ("127.0.0.1", "8000"), software="test", slot=0, generation=1
        )
        self.connection = Connection(
            self.service, server, base, ("192.0.2.1", "4711"), self.clock.now
        )

    @property
    def state(self) -> State:
        return self.connection.state

    def send(self, data: bytes, *, run: bool = True) -> None:
        self.socket.sendall(data)
        if run:
            self.run()

    def run(self) -> None:
        """What the loop does, until there is nothing more to do without waiting."""
        for _ in range(1000):
            before = (self.state, len(self.connection.buffer), self.connection.served)
            if self.state is State.READY:
                self.connection.turn(self.clock.now)
            elif self.state is State.FLUSH:
                self.connection.writable(self.clock.now)
            elif self.state is not State.CLOSED:
                self.connection.readable(self.clock.now)
            if before == (self.state, len(self.connection.buffer), self.connection.served):
                return

    def wait(self, seconds: float) -> None:
        """Let time pass; the deadline is kept if it is reached."""
        self.clock.now += seconds
        if self.connection.deadline <= self.clock.now and self.state is not State.CLOSED:
            self.connection.expire(self.clock.now)
            self.run()

    def read(self) -> bytes:
        """Everything that was sent so far."""
        octets = b""
        try:
            while data := self.socket.recv(1 << 20):
                octets += data
        except BlockingIOError:
            pass
        except ConnectionResetError:
            octets += b"<reset>"
        return octets

    def body(self) -> bytes:
        return self.read().partition(b"\r\n\r\n")[2]

    def statuses(self) -> list[int]:
        return statuses(self.read())


def statuses(octets: bytes) -> list[int]:
    return [int(part[:3]) for part in octets.split(b"HTTP/1.1 ")[1:]]


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["PATH_INFO"].encode("latin-1"), b" ",
            environ.get("CONTENT_LENGTH", "-").encode(), b" ", body]  # fmt: skip


def whole(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode() + b"=" + body]


# ---- a request, and the next


def test_a_request_is_answered_and_the_connection_is_idle() -> None:
    peer = Peer(hello)
    assert peer.state is State.HEAD
    peer.send(GET)
    response = peer.read()
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert response.endswith(b"Content-Length: 5\r\nServer: forkserve\r\n" +
                             peer.service.date_line(0) + b"\r\nhello")  # fmt: skip
    assert peer.state is State.IDLE
    assert peer.connection.deadline == peer.clock.now + 75.0


@pytest.mark.parametrize("size", [1, 2, 7, 26])
def test_a_head_in_pieces(size: int) -> None:
    peer = Peer(hello)
    for start in range(0, len(GET), size):
        peer.send(GET[start : start + size])
    assert peer.statuses() == [200]
    assert peer.state is State.IDLE


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
    peer.connection.readable(peer.clock.now)
    while peer.state is State.READY:
        served.append(peer.read().partition(b"\r\n\r\n")[2])
        peer.connection.turn(peer.clock.now)
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
    for data in (b"", b"GET / HT", GET, GET[:-2]):
        peer = Peer(hello)
        peer.send(data)
        peer.socket.close()
        peer.run()
        assert peer.state is State.CLOSED
        assert len(peer.accesses.seen) == (1 if data == GET else 0)


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


def test_a_body_may_be_slow_but_not_stop() -> None:
    peer = Peer(whole)
    peer.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n")
    for _ in range(9):
        peer.wait(29.0)
        peer.send(b"x")
        assert peer.state is State.BODY
    peer.wait(30.0)
    assert peer.statuses() == [408]
    assert peer.service.requests == 0


def test_a_client_that_lingers_is_cut_off() -> None:
    peer = Peer(hello)
    peer.send(b"x\r\n")
    assert peer.state is State.LINGER
    peer.send(b"y" * 100000)
    peer.wait(5.0)
    assert peer.state is State.CLOSED


def test_a_slow_reader_is_served_by_the_loop_and_not_by_the_call() -> None:
    block = b"x" * 900_000
    calls = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        calls.append(1)
        return [block]

    peer = Peer(app)
    peer.send(GET)
    assert calls == [1]
    assert peer.state is State.FLUSH
    assert peer.row.running is None
    received = b""
    while peer.state is State.FLUSH:
        peer.wait(20.0)
        received += peer.read()
        peer.run()
    received += peer.read()
    assert received.endswith(b"\r\n\r\n" + block)
    assert peer.state is State.IDLE
    assert peer.accesses.seen[0].octets == len(block)


def test_a_reader_that_stops_is_cut_off_with_one_line_in_the_log() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * 900_000]

    peer = Peer(app)
    peer.send(GET)
    peer.wait(30.0)
    assert peer.state is State.CLOSED
    assert len(peer.accesses.seen) == 1
    assert peer.log.lines == []


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
    peer = Peer(hello)
    peer.connection.retire(peer.clock.now)
    peer.wait(1.0)
    assert peer.state is State.CLOSED


# ---- bodies


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000, 1 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_collected_body_is_a_seekable_file(size: int, chunked: bool) -> None:
    seen: dict[str, Any] = {}
    content = bytes(range(256)) * (size // 256) + b"z" * (size % 256)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        file = environ["wsgi.input"]
        seen["first"] = file.read()
        file.seek(0)
        seen["again"] = file.read()
        seen["end"] = file.read(1)
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app)
    head = b"POST / HTTP/1.1\r\nHost: h\r\n"
    if chunked:
        chunks = [content[start : start + 30000] for start in range(0, size, 30000)]
        coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        data = head + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"
    else:
        data = head + b"Content-Length: %d\r\n\r\n" % size + content
    for start in range(0, len(data), 50000):
        peer.send(data[start : start + 50000])
    assert peer.statuses() == [200]
    assert seen == {"first": content, "again": content, "end": b""}
    assert peer.state is State.IDLE


def test_the_application_is_not_called_before_the_body_is_there() -> None:
    peer = Peer(whole)
    peer.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab")
    assert peer.service.requests == 0
    assert peer.state is State.BODY
    peer.send(b"c" + GET)
    assert peer.service.requests == 2
    assert b"/x=abc" in peer.read()


def test_a_long_body_is_received_by_the_application() -> None:
    states = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        file = environ["wsgi.input"]
        first = file.read(10)
        states.append(peer.connection.buffer)
        peer.send(b"y" * 50, run=False)
        rest = file.read()
        start_response("200 OK", [])
        return [first + b"|" + rest]

    peer = Peer(app, buffer_body=64)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n" + b"x" * 50)
    assert peer.body() == b"x" * 10 + b"|" + b"x" * 40 + b"y" * 50
    assert peer.state is State.IDLE


@pytest.mark.parametrize("buffer_body", [1000, 64 << 10, 100_000])
def test_a_chunked_body_that_turns_out_long_is_given_from_its_beginning(buffer_body: int) -> None:
    part = bytes(range(256)) * 4
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        peer.send(b"3\r\nend\r\n0\r\n\r\n" + GET, run=False)
        seen.append(environ["wsgi.input"].read(100) + environ["wsgi.input"].read())
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app, buffer_body=buffer_body)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent = 0
    while not peer.service.requests:
        peer.send(b"400\r\n%b\r\n" % part, run=False)
        sent += 1
        peer.connection.readable(peer.clock.now)
    assert seen[0] == part * sent + b"end"
    assert sent == buffer_body // 1024 + 1


def test_wsgi_input_is_a_good_file() -> None:
    results: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        file = environ["wsgi.input"]
        results.append(file.read(0))
        results.append(file.readline())
        results.append(file.readline(2))
        results.append(file.read(3))
        buffer = bytearray(4)
        results.append((file.readinto(buffer), bytes(buffer)))
        results.append(file.readline(1))
        results.append(next(file))
        results.append(list(file))
        results.append((file.read(), file.read(5), file.readline(), file.readlines()))
        start_response("200 OK", [])
        return [b""]

    body = b"one\ntwo\nthree\nfour\nfive\nsix\nseven"
    for settings in ({}, {"buffer_body": 0}):
        results.clear()
        peer = Peer(app, **settings)
        peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert results == [
            b"", b"one\n", b"tw", b"o\nt", (4, b"hree"), b"\n", b"four\n",
            [b"five\n", b"six\n", b"seven"], (b"", b"", b"", []),
        ]  # fmt: skip


@pytest.mark.parametrize("chunked", [False, True])
def test_a_truncated_body_is_an_oserror_at_every_read(chunked: bool) -> None:
    errors = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for _ in range(3):
            try:
                environ["wsgi.input"].read()
            except OSError as error:
                errors.append(error)
        start_response("200 OK", [])
        return [b"never mind"]

    peer = Peer(app, buffer_body=0)
    framing = (
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nab" if chunked else b"Content-Length: 5\r\n\r\nab"
    )
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\n" + framing, run=False)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.run()
    assert len(errors) == 3


@pytest.mark.parametrize(
    ("rest", "status"), [(b"x\r\n", 400), (b"ffffffff\r\n", 413), (b"1\r\nxy", 400)]
)
def test_a_body_that_turns_out_wrong_in_the_call(rest: bytes, status: int) -> None:
    peer = Peer(echo, buffer_body=0)
    peer.send(
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n" + rest + GET
    )
    assert peer.statuses() == [status]
    assert peer.state is State.LINGER
    assert peer.log.lines == []


def test_a_full_disk_refuses_one_request(tmp_path: Any) -> None:
    peer = Peer(whole, tmp_dir=str(tmp_path / "missing"))
    data = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000
    peer.send(data)
    assert peer.statuses() == [507]
    assert "`tmp_dir`" in peer.log.lines[0]


@pytest.mark.parametrize("mode", ["reads", "ignores"])
def test_expect_100_continue(mode: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = b"-"
        if mode == "reads":
            peer.send(b"ab", run=False)
            body = environ["wsgi.input"].read(1)
            body += environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body]

    peer = Peer(app)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    response = peer.read()
    if mode == "reads":
        assert statuses(response) == [100, 200]
        assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert response.endswith(b"ab")
        assert peer.state is State.IDLE
    else:
        assert statuses(response) == [200]
        assert b"Connection: close\r\n" in response
        assert peer.state is State.LINGER


def test_an_expectation_is_not_met_before_a_413() -> None:
    peer = Peer(hello, max_body=10)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n")
    assert peer.statuses() == [413]


def test_a_short_unread_body_is_drained_and_the_connection_goes_on() -> None:
    peer = Peer(hello, buffer_body=0)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n" + b"GET /evil " * 2000)
    assert peer.statuses() == [200]
    assert peer.state is State.DRAIN
    peer.send(b"GET /evil " * 4000 + GET)
    assert peer.statuses() == [200]
    assert peer.state is State.IDLE
    assert peer.service.requests == 2


def test_a_drain_does_not_wait_for_long() -> None:
    peer = Peer(hello, buffer_body=0)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n")
    assert peer.state is State.DRAIN
    peer.wait(5.0)
    assert peer.state is State.CLOSED


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n9\r\n"]
)
def test_a_long_unread_body_ends_the_connection(framing: bytes) -> None:
    peer = Peer(hello, buffer_body=0)
    head = b"POST / HTTP/1.1\r\nHost: h\r\n"
    peer.send(head + framing + GET)
    response = peer.read()
    if b"chunked" in framing:
        # The first chunk came with the head: the loop had begun to collect it.
        assert peer.service.requests <= 1
    if response:
        assert b"Connection: close\r\n" in response
        assert peer.state is State.LINGER
    peer.send(GET)
    assert statuses(response).count(200) <= 1


# ---- what applications do


def streaming(blocks: Iterable[bytes], headers: Any = ()) -> App:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", list(headers))
        yield from blocks

    return app


def test_each_block_is_a_chunk_and_leaves_at_once() -> None:
    seen = []

    def blocks() -> Iterator[bytes]:
        yield b""
        seen.append(peer.read())
        yield b"one"
        seen.append(peer.read())
        yield b""
        yield b"two"
        seen.append(peer.read())

    peer = Peer(streaming(blocks()))
    peer.send(GET)
    assert seen[0] == b""
    assert seen[1].endswith(b"Transfer-Encoding: chunked\r\nServer: forkserve\r\n" +
                            peer.service.date_line(0) + b"\r\n3\r\none\r\n")  # fmt: skip
    assert seen[2:] == [b"3\r\ntwo\r\n"]
    assert peer.read() == b"0\r\n\r\n"
    assert peer.state is State.IDLE


def test_an_error_before_the_first_block_is_a_500() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        yield b""
        raise RuntimeError("early")

    peer = Peer(app)
    peer.send(GET + GET)
    assert peer.statuses() == [500, 500]
    assert len(peer.log.lines) == 2
    assert "RuntimeError: early" in peer.log.lines[0]
    assert "GET / HTTP/1.1" in peer.log.lines[0]
    assert "forkserve" not in peer.log.lines[0]


def test_an_error_after_the_first_block_is_a_reset_without_a_last_chunk() -> None:
    def blocks() -> Iterator[bytes]:
        yield b"one"
        raise RuntimeError("late")

    peer = Peer(streaming(blocks()))
    peer.send(GET + GET)
    assert peer.read().endswith(b"3\r\none\r\n")
    assert peer.state is State.CLOSED
    assert [access.status for access in peer.accesses.seen] == [200]
    assert peer.service.requests == 1


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), OSError("disk"), MemoryError()]
)
def test_whatever_the_application_raises_is_a_500(error: BaseException) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        raise error

    peer = Peer(app)
    peer.send(GET)
    assert peer.statuses() == [500]
    assert peer.state is State.IDLE


def test_an_error_in_close_after_the_response_is_only_logged() -> None:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"one"])

        def close(self) -> None:
            raise RuntimeError("in close")

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [])
        return Body()

    peer = Peer(app)  # type: ignore[arg-type]
    peer.send(GET)
    assert peer.read().endswith(b"0\r\n\r\n")
    assert peer.state is State.IDLE
    assert "in close" in peer.log.lines[0]


@pytest.mark.parametrize(
    ("status", "headers", "blocks"),
    [
        ("200", [], [b"x"]),
        ("200 OK", [("X", "a\nb")], [b"x"]),
        ("200 OK", [("X", None)], [b"x"]),
        ("200 OK", [], ["text"]),
        ("200 OK", [], [None]),
        ("200 OK", [], [b"", "text"]),
        ("200 OK", [], [bytearray(b"x")]),
        ("200 OK", [], None),
        ("200 OK", [], 5),
    ],
)
def test_what_cannot_be_sent_is_a_500_and_never_on_the_wire(
    status: Any, headers: Any, blocks: Any
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, headers)
        return blocks

    peer = Peer(app)
    peer.send(GET)
    assert peer.statuses() == [500]
    assert len(peer.log.lines) == 1


@pytest.mark.parametrize(("length", "body"), [("3", b"hel"), ("5", b"hello")])
def test_a_body_longer_than_its_length_is_cut_and_logged(length: str, body: bytes) -> None:
    peer = Peer(streaming([b"he", b"llo"], [("Content-Length", length)]))
    peer.send(GET)
    assert peer.body() == body
    assert peer.state is State.IDLE
    assert len(peer.log.lines) == (length == "3")


def test_a_body_shorter_than_its_length_closes_and_is_logged() -> None:
    peer = Peer(streaming([b"he", b"llo"], [("Content-Length", "7")]))
    peer.send(GET + GET)
    assert peer.body() == b"hello"
    assert peer.state is State.LINGER
    assert "2 octets shorter" in peer.log.lines[0]
    assert peer.service.requests == 1


def test_hop_by_hop_fields_are_dropped_and_logged_once() -> None:
    peer = Peer(streaming([b"x"], [("Keep-Alive", "x"), ("Connection", "keep-alive")]))
    peer.send(GET + GET + GET)
    assert b"Keep-Alive" not in peer.read()
    assert len(peer.log.lines) == 2


def test_the_call_stands_on_the_scoreboard_while_it_runs() -> None:
    seen = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append((peer.row.deadline, peer.row.running))
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app, timeout=7.0)
    peer.send(GET)
    assert seen == [(peer.clock.now + 7.0, (peer.clock.now, "GET / HTTP/1.1"))]
    assert peer.row.deadline == 0.0
    assert peer.row.running is None


def test_a_stream_that_makes_progress_is_not_stuck() -> None:
    deadlines = []

    def blocks() -> Iterator[bytes]:
        for _ in range(3):
            peer.clock.now += 5.0
            yield b"x"
            deadlines.append(peer.row.deadline - peer.clock.now)

    peer = Peer(streaming(blocks()), timeout=7.0)
    peer.send(GET)
    assert deadlines == [7.0, 7.0, 7.0]


def test_a_client_that_goes_away_ends_the_iteration_and_closes_it() -> None:
    closed = []

    def blocks() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                peer.socket.close()
        finally:
            closed.append(1)

    peer = Peer(streaming(blocks()))
    peer.send(GET)
    assert closed == [1]
    assert peer.state is State.CLOSED
    assert peer.log.lines == []
    assert len(peer.accesses.seen) == 1


def test_nothing_is_read_or_written_for_a_request_that_is_over() -> None:
    kept: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.setdefault("input", environ["wsgi.input"])
        kept.setdefault("write", start_response("200 OK", []))
        return [b"a", b"b"]

    peer = Peer(app, buffer_body=0)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
    assert peer.statuses() == [200]
    peer.socket.send(GET)
    with pytest.raises(OSError, match="is over"):
        kept["input"].read()
    with pytest.raises(Exception, match="after the response was over"):
        kept["write"](b"smuggled")
    peer.run()
    assert peer.statuses() == [200]
    assert peer.service.requests == 2
