"""What applications do, and what of it reaches the client."""

from collections.abc import Iterator
from typing import Any

import pytest

from forkserve.http.errors import InvalidResponse
from forkserve.ops.scoreboard import Call
from forkserve.worker.state import State
from tests.worker.peer import GET, HEAD, Peer, statuses, streaming


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
        seen.append(peer.row.read())
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app, timeout=7.0)
    peer.send(GET)
    assert seen == [Call(peer.clock.now, "GET / HTTP/1.1", peer.clock.now + 7.0)]
    assert peer.row.read() is None


def test_a_stream_that_makes_progress_is_not_stuck() -> None:
    deadlines = []

    def blocks() -> Iterator[bytes]:
        for _ in range(3):
            peer.clock.now += 5.0
            yield b"x"
            call = peer.row.read()
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
