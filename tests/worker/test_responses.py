"""What applications do, and what of it reaches the client."""

import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from forkserve.http.errors import InvalidResponse
from forkserve.ops.scoreboard import Call
from forkserve.worker.state import State
from tests.worker.peer import GET, HEAD, App, Peer, statuses, streaming, tcp_pair


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
    assert seen[1].endswith(b"Transfer-Encoding: chunked\r\n" +
                            peer.service.own_lines(0)[0] + b"\r\n3\r\none\r\n")  # fmt: skip
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


def broken(first: bytes, headers: Any = ()) -> App:
    def blocks() -> Iterator[bytes]:
        yield first
        raise RuntimeError("late")

    return streaming(blocks(), headers)


@pytest.mark.parametrize(
    ("headers", "sent"), [([], b"3\r\none\r\n"), ([("Content-Length", "4")], b"\r\n\r\none")]
)
def test_an_error_after_the_first_block_is_an_end_before_the_end(headers: Any, sent: bytes) -> None:
    client, server = tcp_pair(1 << 16, 1 << 16)
    peer = Peer(broken(b"one", headers), ends=(client, server))
    peer.send(GET + GET, run=False)
    peer.run_to(State.LINGER)
    octets = peer.read_to_the_end()
    assert octets.endswith(sent) and octets.count(b"HTTP/1.1") == 1
    peer.socket.close()
    peer.run_to(State.CLOSED)
    assert [access.status for access in peer.accesses.seen] == [200]
    assert peer.service.requests == 1


def test_what_was_sent_before_an_error_arrives_also_at_a_slow_client() -> None:
    client, server = tcp_pair(1 << 12, 1 << 12)
    peer = Peer(broken(b"x" * 900_000), ends=(client, server))
    peer.send(GET, run=False)
    peer.run_to(State.FLUSH)
    octets = b""
    while peer.state is State.FLUSH:
        select.select([client, server], [], [])
        octets += peer.read()
        peer.step()
    assert peer.state is State.LINGER
    octets += peer.read_to_the_end()
    assert octets.count(b"x") == 900_000 and not octets.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "headers"),
    [(b"GET / HTTP/1.0\r\n\r\n", []), (GET, [("Content-Length", "3")])],
)
def test_an_error_that_the_framing_does_not_show_is_a_reset(request_: bytes, headers: Any) -> None:
    peer = Peer(broken(b"one", headers), ends=tcp_pair(1 << 16, 1 << 16))
    peer.send(request_, run=False)
    peer.run_to(State.CLOSED)
    assert peer.read_to_the_end().endswith(b"one<reset>")
    assert [access.status for access in peer.accesses.seen] == [200]


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


@pytest.mark.parametrize("size", [5, 65537])
def test_a_lone_block_that_is_too_short_announces_the_close(size: int) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(size + 2))])
        return [b"x" * size]

    peer = Peer(app)
    peer.send(GET)
    head, _, body = peer.read().partition(b"\r\n\r\n")
    assert b"Connection: close" in head.split(b"\r\n")
    assert body == b"x" * size
    assert peer.state is State.LINGER
    assert "2 octets shorter" in peer.log.lines[0]


@pytest.mark.parametrize("name", ["Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer"])
def test_what_is_said_between_neighbours_only_is_the_servers_to_say(name: str) -> None:
    peer = Peer(streaming([b"x"], [(name, "x")]))
    peer.send(GET)
    assert name.encode() not in peer.read()
    assert name in peer.log.lines[0]


def test_hop_by_hop_fields_are_dropped_and_logged_once() -> None:
    peer = Peer(streaming([b"x"], [("Keep-Alive", "x"), ("Connection", "keep-alive")]))
    peer.send(GET + GET + GET)
    assert b"Keep-Alive" not in peer.read()
    assert len(peer.log.lines) == 2


def test_the_call_stands_on_the_scoreboard_while_it_runs() -> None:
    seen = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(peer.cell.read())
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app, timeout=7.0)
    peer.send(GET)
    assert seen == [Call(peer.clock.now, "GET / HTTP/1.1", peer.clock.now + 7.0, "192.0.2.1")]
    assert peer.cell.read() is None


def test_a_stream_that_makes_progress_is_not_stuck() -> None:
    deadlines = []

    def blocks() -> Iterator[bytes]:
        for _ in range(3):
            peer.clock.now += 5.0
            yield b"x"
            call = peer.cell.read()
            assert call is not None
            deadlines.append(call.deadline - peer.clock.now)

    peer = Peer(streaming(blocks()), timeout=7.0)
    peer.send(GET)
    assert deadlines == [7.0, 7.0, 7.0]


def test_a_question_about_the_server_has_no_path() -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append((environ["PATH_INFO"], environ["REQUEST_URI"]))
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app)
    peer.send(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
    assert seen == [("", "*")]


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


def test_nothing_is_sent_for_a_request_that_is_over() -> None:
    kept: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.append((start_response, start_response("200 OK", [])))
        return [b"a", b"b"]

    peer = Peer(app)
    peer.send(GET)
    assert peer.statuses() == [200]
    start_response, write = kept[0]
    write(b"HTTP/1.1 200 Smuggled\r\n\r\n")
    with pytest.raises(InvalidResponse):
        start_response("200 Smuggled", [])
    with pytest.raises(RuntimeError, match="late"):
        start_response("500 Smuggled", [], (RuntimeError, RuntimeError("late"), None))
    assert peer.read() == b""
    peer.send(GET)
    assert peer.statuses() == [200]
    assert peer.state is State.IDLE


# ---- after HEAD


def test_after_head_an_endless_body_is_not_asked_for_its_end() -> None:
    given, closed = [], []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                given.append(1)
                yield b"x"
        finally:
            closed.append(1)

    peer = Peer(app)
    peer.send(HEAD)
    assert peer.read().endswith(b"\r\n\r\n")
    assert (given, closed) == ([1], [1])
    assert peer.state is State.IDLE


@pytest.mark.parametrize("size", [0, 5, 65537])
def test_after_head_there_is_a_head_and_nothing_else(size: int) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * size]

    peer = Peer(app)
    peer.send(HEAD)
    response = peer.read()
    assert response.count(b"\r\n\r\n") == 1
    assert response.endswith(b"\r\n\r\n")
    assert (b"Content-Length: %d\r\n" % size in response) == (size > 0)
    peer.send(GET)
    assert len(peer.body()) == size
    assert peer.log.lines == []


def test_a_block_that_was_written_and_one_that_is_returned_make_one_response() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"one")
        return [b"two"]

    peer = Peer(app)
    peer.send(HEAD)
    response = peer.read()
    assert statuses(response) == [200]
    assert response.endswith(b"\r\n\r\n")
    peer.send(GET)
    assert peer.body() == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


# ---- 103


HINT = ("Link", "</style.css>; rel=preload; as=style")
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


@pytest.mark.parametrize("request_", [GET, HEAD, GET_1_0])
def test_early_hints_leave_at_once_and_not_in_http_1_0(request_: bytes) -> None:
    seen = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        for _ in range(2):
            environ["wsgi.early_hints"]([HINT])
            seen.append(peer.read())
        start_response("200 OK", [HINT])
        environ["wsgi.early_hints"]([HINT])
        seen.append(peer.read())
        return [b"hello"]

    peer = Peer(app)
    peer.send(request_)
    assert seen == [b"" if request_ is GET_1_0 else EARLY] * 3
    assert statuses(peer.read()) == [200]
    assert peer.state is State.IDLE
    assert peer.accesses.seen[0].status == 200


def test_there_are_no_early_hints_after_the_head() -> None:
    kept: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        kept.append(environ["wsgi.early_hints"])
        start_response("200 OK", [("Content-Length", "2")])
        yield b"a"
        kept[-1]([HINT])
        yield b"b"
        kept[-1]([HINT])

    peer = Peer(app)
    peer.send(GET)
    assert peer.body() == b"ab"
    kept[0]([HINT])
    peer.send(GET, run=False)
    peer.connection.readable(peer.clock.now)
    kept[0]([HINT])
    assert peer.body() == b"ab"


@pytest.mark.parametrize("headers", [[("X", "a\r\nSet-Cookie: b")], [("X", None)], ["ab"], 5])
def test_early_hints_that_cannot_be_sent_are_an_error_in_the_application(headers: Any) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.early_hints"](headers)
        raise AssertionError

    peer = Peer(app)
    peer.send(GET)
    assert peer.statuses() == [500]
    assert len(peer.log.lines) == 1


@pytest.mark.parametrize("logged", [True, False])
def test_what_a_request_has_held_is_free_when_it_is_over(logged: bool) -> None:
    """Without the garbage collector, which would have to look for it."""
    import gc
    import weakref

    class Held:
        pass

    held: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["test.held"] = Held()
        held.append(weakref.ref(environ["test.held"]))
        start_response("200 OK", [])
        return [b"hello"]

    peer = Peer(app)
    if not logged:
        peer.service.access_log = None
    gc.disable()
    try:
        peer.send(GET)
        assert len(peer.accesses.seen) == logged
        peer.accesses.seen.clear()
        assert held[0]() is None
    finally:
        gc.enable()


# ---- Server and Date


@pytest.mark.parametrize("server", [True, False])
def test_server_and_date_are_made_once_a_second(server: bool) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"hello"]

    peer = Peer(app, server_header=server)
    peer.send(GET)
    head = peer.read()
    assert (b"\r\nServer: forkserve\r\n" in head) == server
    assert head.count(b"\r\nDate: ") == 1
    lines = peer.service.own_lines(peer.clock.now + 0.9)
    assert peer.service.own_lines(peer.clock.now) is lines
    assert peer.service.own_lines(peer.clock.now + 1.0) is not lines


def test_a_stream_ends_with_its_client_however_that_goes() -> None:
    """By a reset here; and the block after the one that was refused is not asked for."""
    given, closed = [], []

    def blocks() -> Iterator[bytes]:
        try:
            for number in range(1000):
                given.append(number)
                yield b"x" * 1000
                if number == 2:
                    linger = struct.pack("ii", 1, 0)
                    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    peer.socket.close()
        finally:
            closed.append(1)

    peer = Peer(streaming(blocks()), ends=tcp_pair(65536, 65536))
    peer.send(GET, run=False)
    peer.run_to(State.CLOSED)
    assert 4 <= len(given) < 1000
    assert closed == [1]
    assert len(peer.accesses.seen) == 1
    assert peer.log.lines == []


# ---- where there is no body, whatever the application does


def returned(environ: Any, start_response: Any) -> list[bytes]:
    return [b"body"]


def in_blocks(environ: Any, start_response: Any) -> Iterator[bytes]:
    return iter([b"bo", b"dy"])


def written(environ: Any, start_response: Any) -> list[bytes]:
    start_response(b"body")
    return []


def nothing(environ: Any, start_response: Any) -> list[bytes]:
    return []


@pytest.mark.parametrize("answer", [returned, in_blocks, written, nothing])
@pytest.mark.parametrize(
    "headers", [[], [("Content-Length", "4")], [("Transfer-Encoding", "chunked")]]
)
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HEAD, "200 OK"), (HEAD, "404 Not Found"), (HEAD, "204 No Content"),
        (GET, "204 No Content"), (GET, "304 Not Modified"),
        (GET_1_0, "204 No Content"), (GET_1_0, "304 Not Modified"),
    ],
)  # fmt: skip
def test_there_is_no_body_whatever_the_application_does(
    request_: bytes, status: str, headers: Any, answer: Any
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        return answer(environ, start_response(status, headers))

    peer = Peer(app)
    peer.send(request_ + request_)
    octets = peer.read()
    assert statuses(octets) == [int(status[:3])] * 2
    assert octets.count(b"\r\n\r\n") == 2
    assert octets.endswith(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in octets
    if status.startswith("204"):
        assert b"Content-Length" not in octets
    elif headers == [("Content-Length", "4")]:
        assert octets.count(b"Content-Length: 4\r\n") == 2
    else:
        assert b"Content-Length: 0" not in octets  # which GET would not have had
    assert peer.state is State.IDLE
    assert not [line for line in peer.log.lines if "hop-by-hop" not in line]


def test_the_application_is_not_asked_for_a_tunnel() -> None:
    called = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        called.append(environ["REQUEST_METHOD"])
        start_response("200 OK", [])
        return []

    peer = Peer(app)
    peer.send(b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n")
    assert peer.statuses() == [501]
    assert (called, peer.state) == ([], State.LINGER)


@pytest.mark.parametrize("status", ["100 Continue", "101 Switching Protocols", "103 Early Hints"])
def test_an_interim_status_is_no_response(status: str) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response(status, [])
        return []

    peer = Peer(app)
    peer.send(GET)
    assert peer.statuses() == [500]
