"""Bodies read by chunks and as they come, over a socketpair: ``chunked_read``, `stream_path`."""

import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from forkserve.http.framing import CHUNKED as CODED
from forkserve.http.framing import RequestFraming
from forkserve.worker.body import RequestBody
from forkserve.worker.state import State
from tests.worker.peer import GET, Peer, echo, hello, statuses

POST = b"POST /up HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
STREAMED: dict[str, Any] = {"stream_path": ("/up",)}


def coded(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def in_call(call: Callable[[dict[str, Any]], None]) -> Any:
    """An application that runs ``call(environ)``, and answers 200."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        call(environ)
        start_response("200 OK", [])
        return [b"done"]

    return app


def all_chunks(environ: dict[str, Any]) -> list[bytes]:
    return list(iter(environ["forkserve.chunked_read"], b""))


MODES: list[dict[str, Any]] = [
    STREAMED,
    {},
    {"buffer_body": 0},
    {"buffer_body": 3},
    {"buffer_body": 70_000},
]


@pytest.mark.parametrize("settings", MODES)
@pytest.mark.parametrize(
    "chunks",
    [
        (),
        (b"one",),
        (b"1", b"22", b"a" * 255, b"b" * 256, b"c" * 70_000, b"\r\n", b"0"),
        (b"x" * 65_536, b"y" * 65_537, b"z"),
    ],
)
def test_one_call_is_one_chunk(settings: dict[str, Any], chunks: tuple[bytes, ...]) -> None:
    """However it was collected, or not."""
    seen: list[bytes] = []

    def call(environ: dict[str, Any]) -> None:
        seen.extend(all_chunks(environ))
        read, read_nb = environ["forkserve.chunked_read"], environ["forkserve.chunked_read_nb"]
        assert read() == read_nb() == read(-1) == b""
        assert environ["wsgi.input"].read() == b""

    peer = Peer(in_call(call), **settings)
    octets = CHUNKED + coded(*chunks) + b"0;last\r\nX: trailer\r\n\r\n"
    sender = threading.Thread(target=peer.socket.sendall, args=(octets,), daemon=True)
    peer.socket.settimeout(30)
    sender.start()
    peer.run_to(State.IDLE)
    sender.join()
    peer.socket.setblocking(False)
    peer.send(GET)
    assert tuple(seen) == chunks
    assert peer.state is State.IDLE
    assert peer.statuses() == [200, 200]  # the trailers are gone, and GET has found no body


def test_every_split_gives_the_same_chunks() -> None:
    wire = coded(b"one", b"\r\n", b"22") + b"0\r\nX: y\r\n\r\n"
    seen: list[bytes] = []

    def sending(rest: bytes) -> Any:
        def call(environ: dict[str, Any]) -> None:
            read_nb = environ["forkserve.chunked_read_nb"]
            while (chunk := read_nb()) is not None and chunk:
                seen.append(chunk)
            if chunk is None:
                assert read_nb() is None
                peer.send(rest, run=False)
            seen.extend(all_chunks(environ))

        return in_call(call)

    for at in range(1, len(wire)):
        seen.clear()
        peer = Peer(sending(wire[at:]), **STREAMED)
        peer.send(CHUNKED + wire[:at])
        assert seen == [b"one", b"\r\n", b"22"], at
        assert peer.statuses() == [200]
        assert peer.state is State.IDLE


def test_octet_by_octet() -> None:
    wire = coded(b"one", b"x" * 20) + b"0\r\n\r\n"
    seen: list[bytes | None] = []

    def call(environ: dict[str, Any]) -> None:
        for at in range(len(wire)):
            peer.send(wire[at : at + 1], run=False)
            seen.append(environ["forkserve.chunked_read_nb"]())

    peer = Peer(in_call(call), **STREAMED)
    peer.send(CHUNKED)
    assert [chunk for chunk in seen if chunk is not None] == [b"one", b"x" * 20, b""]
    assert seen[7] == b"one"  # 3 CR LF o n e CR LF: not before its end is known to be right


@pytest.mark.parametrize("settings", MODES)
def test_reads_of_both_kinds_share_the_body(settings: dict[str, Any]) -> None:
    """Each goes on where the other has come to."""
    seen: list[bytes] = []

    def call(environ: dict[str, Any]) -> None:
        file, read = environ["wsgi.input"], environ["forkserve.chunked_read"]
        seen.append(file.read(2))
        seen.append(read())
        seen.append(file.read(1))
        seen.append(environ["forkserve.chunked_read_nb"]())
        seen.append(file.readline())
        seen.append(read())
        seen.append(read())
        seen.append(file.read())
        seen.append(read())

    peer = Peer(in_call(call), **settings)
    peer.send(
        CHUNKED + coded(b"hello", b"wor", b"ld", b"li", b"ne\nx", b"22", b"rest") + b"0\r\n\r\n"
    )
    assert seen == [b"he", b"llo", b"w", b"or", b"ldline\n", b"x", b"22", b"rest", b""]
    assert peer.statuses() == [200]


def test_a_collected_body_that_is_rewound_gives_its_chunks_again() -> None:
    def call(environ: dict[str, Any]) -> None:
        assert all_chunks(environ) == [b"one", b"two"]
        environ["wsgi.input"].seek(1)
        assert all_chunks(environ) == [b"ne", b"two"]
        environ["wsgi.input"].seek(10)
        assert all_chunks(environ) == []

    peer = Peer(in_call(call))
    peer.send(CHUNKED + coded(b"one", b"two") + b"0\r\n\r\n")
    assert peer.statuses() == [200]


@pytest.mark.parametrize("settings", MODES)
def test_a_body_with_a_length_comes_in_pieces(settings: dict[str, Any]) -> None:
    seen: list[bytes] = []

    def call(environ: dict[str, Any]) -> None:
        read_nb = environ["forkserve.chunked_read_nb"]
        while (piece := read_nb()) is not None and piece:
            seen.append(piece)
        if piece is None:
            peer.send(b"def" + GET, run=False)
        seen.extend(all_chunks(environ))
        assert read_nb() == b""

    peer = Peer(in_call(call), **settings)
    peer.send(POST + b"Content-Length: 6\r\n\r\nabc")
    if peer.state is State.BODY:
        peer.send(b"def" + GET)
    assert b"".join(seen) == b"abcdef"
    assert all(seen)
    assert peer.statuses() == [200, 200]


def test_a_request_without_a_body_has_no_chunks() -> None:
    peer = Peer(in_call(lambda environ: seen.extend([all_chunks(environ)])))
    seen: list[Any] = []
    peer.send(GET)
    assert seen == [[]]


# ---- what goes wrong


def errors_of(read: Callable[[], object], count: int = 2) -> list[int | None]:
    """Call it, and return the statuses of the errors that it raises each time."""
    found = []
    for _ in range(count):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - most are asserted by their status
            read()
        assert not isinstance(caught.value, TimeoutError), "the test has hung"
        found.append(getattr(caught.value, "status", None))
    return found


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"zz\r\n", 400),
        (b"\r\n", 400),
        (b"5g\r\n", 400),
        (b"5\r\nhelloXX", 400),
        (b"5\nhello\r\n", 400),
        (b"0\r\nHost: evil\r\n\r\n", 400),
        (b"fffffffff\r\n", 413),  # the limit of the body
        (b"b\r\n", 413),  # that of a chunk
    ],
)
def test_what_is_wrong_is_an_error_after_what_is_right(wire: bytes, status: int) -> None:
    """However it arrives."""
    wire = coded(b"fine") + wire
    seen: list[Any] = []

    def sending(rest: bytes) -> Any:
        def call(environ: dict[str, Any]) -> None:
            peer.send(rest, run=False)
            read, read_nb = environ["forkserve.chunked_read"], environ["forkserve.chunked_read_nb"]
            seen.append(read())
            seen.extend(errors_of(read) + errors_of(read_nb))

        return in_call(call)

    for at in range(len(wire)):
        seen.clear()
        peer = Peer(sending(wire[at:]), chunked_input_limit=10, **STREAMED)
        peer.send(CHUNKED + wire[:at])
        assert seen == [b"fine", status, status, status, status], at
        assert peer.state is State.LINGER  # nothing more can be read from this connection
        assert peer.log.lines == []


def test_a_chunk_above_the_limit_can_be_read_as_a_file() -> None:
    def call(environ: dict[str, Any]) -> None:
        assert errors_of(environ["forkserve.chunked_read"]) == [413, 413]
        assert environ["wsgi.input"].read() == b"hello world!"

    for settings in ({}, STREAMED):
        peer = Peer(in_call(call), chunked_input_limit=10, **settings)
        peer.send(CHUNKED + coded(b"hello world", b"!") + b"0\r\n\r\n")
        assert peer.statuses() == [200]
        assert peer.state is State.IDLE


@pytest.mark.parametrize("settings", MODES)
def test_the_limit_is_for_a_chunk_and_not_for_the_body(settings: dict[str, Any]) -> None:
    seen: list[bytes] = []
    chunks = [b"x" * 10] * 100
    peer = Peer(
        in_call(lambda environ: seen.extend(all_chunks(environ))),
        chunked_input_limit=10,
        **settings,
    )
    peer.send(CHUNKED + coded(*chunks) + b"0\r\n\r\n")
    assert seen == chunks
    assert peer.statuses() == [200]


def test_an_error_that_the_application_lets_pass_is_told_to_the_client() -> None:
    peer = Peer(in_call(lambda environ: environ["forkserve.chunked_read"]()), **STREAMED)
    peer.send(CHUNKED + b"zz\r\n")
    assert peer.statuses() == [400]
    assert peer.log.lines == []


@pytest.mark.parametrize(
    "wire", [b"", b"5\r\n", b"5\r\nhel", b"5\r\nhello", b"0\r\n", b"0\r\nX: y\r\n"]
)
@pytest.mark.parametrize("name", ["chunked_read", "chunked_read_nb"])
def test_a_client_that_is_gone_is_an_error_every_time(wire: bytes, name: str) -> None:
    seen: list[Any] = []

    def call(environ: dict[str, Any]) -> None:
        seen.extend(errors_of(environ[f"forkserve.{name}"], 3))

    peer = Peer(in_call(call), **STREAMED)
    peer.send(CHUNKED + wire, run=False)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.run()
    assert seen == [None] * 3


def test_after_a_timeout_it_goes_on() -> None:
    seen: list[Any] = []

    def call(environ: dict[str, Any]) -> None:
        seen.extend(errors_of(lambda: environ["forkserve.chunked_read"](0.001)))
        peer.send(b"lo\r\n0\r\n\r\n", run=False)
        seen.extend(all_chunks(environ))

    peer = Peer(in_call(call), **STREAMED)
    peer.send(CHUNKED + b"5\r\nhel")
    assert seen == [408, 408, b"hello"]
    assert peer.statuses() == [200]
    assert peer.state is State.IDLE


@pytest.mark.parametrize(
    ("arguments", "deadline"),
    [((), 1034.0), ((7,), 1037.0), ((-1,), float("inf"))],
)
def test_how_long_the_call_may_take_meanwhile(arguments: tuple[int, ...], deadline: float) -> None:
    """The client's time is not the call's, for ever included."""
    seen = []

    def client() -> None:
        while peer.cell.read().deadline == 1030.0:  # type: ignore[union-attr]
            pass
        seen.append(peer.cell.read().deadline)  # type: ignore[union-attr]
        peer.socket.sendall(b"2\r\nok\r\n0\r\n\r\n")

    def call(environ: dict[str, Any]) -> None:
        thread.start()
        assert environ["forkserve.chunked_read"](*arguments) == b"ok"
        assert peer.cell.read().deadline == 1030.0  # type: ignore[union-attr]

    peer = Peer(in_call(call), **STREAMED)
    thread = threading.Thread(target=client, daemon=True)
    peer.send(CHUNKED)
    thread.join()
    assert seen == [deadline]
    assert peer.statuses() == [200]


@pytest.mark.parametrize("settings", MODES[:3])
def test_a_late_read_takes_nothing_from_the_next_request(settings: dict[str, Any]) -> None:
    kept = []
    peer = Peer(in_call(lambda environ: kept.append(environ["forkserve.chunked_read"])), **settings)
    peer.send(POST + b"Content-Length: 5\r\n\r\nhello" + GET)
    assert peer.statuses() == [200, 200]
    peer.send(GET, run=False)
    assert errors_of(kept[0]) == [None, None]
    peer.run()
    assert peer.statuses() == [200]


# ---- the functions of the package


def test_they_act_on_the_running_call() -> None:
    seen: list[Any] = []

    def call(environ: dict[str, Any]) -> None:
        seen.append(peer.service.running_chunks().chunked_read())

    peer = Peer(in_call(call))
    with pytest.raises(RuntimeError, match="no call"):
        peer.service.running_chunks()
    peer.send(CHUNKED + coded(b"one") + b"0\r\n\r\n" + GET)
    assert seen == [b"one", b""]
    with pytest.raises(RuntimeError, match="no call"):
        peer.service.running_chunks()


# ---- paths whose bodies are not collected


@pytest.mark.parametrize(
    ("prefix", "target", "streamed"),
    [
        ("/up", b"/up", True),
        ("/up", b"/up/", True),
        ("/up", b"/up/2", True),
        ("/up", b"/up?a=/b", True),
        ("/up", b"/%75p", True),
        ("/up", b"http://h/up", True),
        ("/up", b"/upload", False),
        ("/up", b"/UP", False),
        ("/up", b"/", False),
        ("/up", b"/x/up", False),
        ("/up", b"//up", False),
        ("/up", b"/x?/up", False),
        ("/up/", b"/up", True),
        ("/up/", b"/up/2", True),
        ("/", b"/x", True),
        ("/", b"/", True),
        ("/b\u00fc", b"/b%C3%BC/x", True),
        ("/b\u00fc", b"/b%FC/x", False),
    ],
)  # fmt: skip
def test_which_paths_are_streamed(prefix: str, target: bytes, streamed: bool) -> None:
    peer = Peer(hello, stream_path=("/other", prefix))
    peer.send(b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab" % target)
    assert peer.service.requests == streamed


def test_a_streamed_body_is_always_read_as_it_comes() -> None:
    """Also one that has come whole: what the application sees does not depend on the network."""

    def call(environ: dict[str, Any]) -> None:
        assert "CONTENT_LENGTH" not in environ
        assert environ["HTTP_TRANSFER_ENCODING"] == "chunked"
        assert environ["wsgi.input"].read() == b"one"

    peer = Peer(in_call(call), **STREAMED)
    peer.send(CHUNKED + coded(b"one") + b"0\r\n\r\n")
    assert peer.statuses() == [200]


def test_who_asks_before_a_streamed_body_is_answered_at_the_first_read() -> None:
    seen = []

    def call(environ: dict[str, Any]) -> None:
        seen.append(peer.read())
        seen.append(environ["forkserve.chunked_read_nb"]())
        seen.append(peer.read())
        peer.send(coded(b"one") + b"0\r\n\r\n", run=False)
        seen.extend(all_chunks(environ))
        seen.append(peer.read())

    peer = Peer(in_call(call), **STREAMED)
    peer.send(POST + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
    assert seen == [b"", None, b"HTTP/1.1 100 Continue\r\n\r\n", b"one", b""]
    assert peer.statuses() == [200]
    assert peer.state is State.IDLE


def test_who_asks_before_a_streamed_body_that_is_not_read_gets_the_final_status_only() -> None:
    peer = Peer(hello, **STREAMED)
    peer.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    response = peer.read()
    assert statuses(response) == [200]
    assert b"Connection: close\r\n" in response


def test_a_streamed_body_is_limited_as_others_are() -> None:
    peer = Peer(echo, max_body=4, **STREAMED)
    peer.send(CHUNKED + coded(b"one", b"two") + GET)
    assert peer.statuses() == [413]


def test_an_unread_streamed_body_is_drained() -> None:
    peer = Peer(hello, **STREAMED)
    peer.send(POST + b"Content-Length: 10\r\n\r\nhel")
    assert peer.state is State.DRAIN
    peer.send(b"loworld" + GET)
    assert peer.statuses() == [200, 200]
    assert peer.state is State.IDLE


# ---- the least rate


@pytest.mark.parametrize(
    ("settings", "slow"),
    [({}, True), ({"body_min_rate": 100}, False), ({"body_min_rate": None}, False), ({"body_min_rate": 1000}, True)],
)  # fmt: skip
def test_the_least_rate_is_a_setting(settings: dict[str, Any], slow: bool) -> None:
    peer = Peer(hello, **settings)
    peer.send(POST + b"Content-Length: 1000000\r\n\r\n")
    for _ in range(10):
        if peer.state is State.BODY:
            peer.send(b"x" * 5000)
            peer.wait(20.0)
    assert (peer.state is State.BODY) is not slow
    assert peer.statuses() == ([408] if slow else [])


def test_a_burst_earns_no_more_than_one_pause() -> None:
    """Or a megabyte at once would be leave to drip for half an hour."""
    peer = Peer(hello)
    peer.send(POST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 60_000)
    peer.wait(29.0)
    peer.send(b"x")
    peer.wait(1.1)
    assert peer.statuses() == [408]


def test_a_burst_in_the_call_earns_no_more_than_one_pause() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        assert len(environ["wsgi.input"].read(100_000)) == 100_000
        peer.clock.now += 0.45
        peer.send(b"x", run=False)
        assert environ["wsgi.input"].read(1) == b"x"
        peer.clock.now += 0.06
        environ["wsgi.input"].read(1)  # this wait is a real one
        raise AssertionError("there was nothing to be read")

    peer = Peer(app, buffer_body=0, body_timeout=0.5)
    peer.send(POST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 100_000)
    assert peer.statuses() == [408]


def test_without_a_least_rate_a_body_may_still_not_pause() -> None:
    peer = Peer(hello, body_min_rate=None)
    peer.send(POST + b"Content-Length: 10\r\n\r\nx")
    peer.wait(30.0)
    assert peer.statuses() == [408]


def test_streamed_bodies_come_as_slowly_as_they_come() -> None:
    def call(environ: dict[str, Any]) -> None:
        for _ in range(10):
            peer.clock.now += 29.0
            peer.send(coded(b"x"), run=False)
            assert environ["wsgi.input"].read1() == b"x"
        exchange = peer.connection.exchange
        assert exchange is not None and exchange.body is not None
        assert exchange.body.deadline(peer.clock.now) == peer.clock.now + 30.0
        peer.send(b"0\r\n\r\n", run=False)
        assert environ["wsgi.input"].read1() == b""

    peer = Peer(in_call(call), **STREAMED)
    peer.send(CHUNKED)
    assert peer.statuses() == [200]


# ---- the work that small chunks make


@pytest.mark.parametrize("read", ["chunked_read", "wsgi.input", "collected"])
def test_a_million_small_chunks_take_linear_work(read: str) -> None:
    """Counted, not timed: the calls of our own functions for twice as many chunks are twice as
    many, and no more than a few for each."""

    def work(count: int) -> int:
        calls = 0
        total = 0

        def count_calls(frame: Any, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "call" and frame.f_globals["__name__"].startswith("forkserve.")

        def call(environ: dict[str, Any]) -> None:
            nonlocal total
            if read == "chunked_read":
                total = sum(map(len, all_chunks(environ)))
            else:
                total = len(environ["wsgi.input"].read())

        settings = {} if read == "collected" else STREAMED
        peer = Peer(in_call(call), **settings)
        octets = CHUNKED + b"1\r\nx\r\n" * count + b"0\r\n\r\n"
        sender = threading.Thread(target=peer.socket.sendall, args=(octets,), daemon=True)
        peer.socket.settimeout(60)
        sender.start()
        sys.setprofile(count_calls)
        try:
            peer.run_to(State.IDLE)
        finally:
            sys.setprofile(None)
        sender.join()
        assert total == count
        return calls

    least, most = work(20_000), work(40_000)
    assert most < 2.2 * least
    assert most < 20 * 40_000


def test_a_chunk_that_comes_octet_by_octet_takes_neither_copies_nor_objects_for_each() -> None:
    """The octets copied are counted: n log n at the worst, where a copy for each would be n²."""

    class Octets:
        """A source that has one octet at a time."""

        def __init__(self, content: bytes) -> None:
            self.buffer = b""
            self.left = iter(content)

        def receive(self, deadline: float) -> bytes:
            return bytes((next(self.left),))

        receive_now = receive

        def transmit(self, octets: bytes) -> None: ...

    service = Peer(hello).service
    size = 1 << 16
    source = Octets(b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n")
    body = RequestBody(RequestFraming(CODED, True), service, source, 0.0, streamed=True)
    body.open()
    most = 0
    while (chunk := body.next_chunk()) is None:
        body.receive_chunk(1)
        most = max(most, len(body._pieces))
    assert chunk == b"x" * size
    # And each is at least twice as long as the next, so an octet is copied 16 times.
    assert most <= 17


# ---- the room for input in memory


def test_the_input_that_is_kept_is_counted_and_given_back() -> None:
    peer = Peer(hello)
    room = peer.service.input_room
    assert room == 16 << 20
    peer.send(b"GET / HTTP/1.1\r\nA: " + b"a" * 981)
    assert peer.service.input_room == room - 1000
    peer.send(b"\r\nHost: h\r\n\r\n")
    assert peer.service.input_room == room
    head = POST + b"Content-Length: 2000\r\n\r\n"
    peer.send(head + b"x" * 1000)
    assert peer.service.input_room == room - 1000 - len(head)
    peer.send(b"x" * 1000)
    assert peer.service.input_room == room
    peer.send(CHUNKED + coded(*[b"xx"] * 100))
    assert peer.service.input_room == room - 200 - 100  # the content, and the sizes
    peer.close()
    assert peer.service.input_room == room


@pytest.mark.parametrize("end", ["refused", "malformed", "gone"])
def test_the_room_is_given_back_however_it_ends(end: str) -> None:
    peer = Peer(hello)
    peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel")
    assert peer.service.input_room < 16 << 20
    if end == "refused":
        peer.wait(30.0)
    elif end == "malformed":
        peer.send(b"loXX")
    else:
        peer.close()
    assert peer.service.input_room == 16 << 20


def test_on_disk_is_not_in_memory() -> None:
    peer = Peer(hello)
    peer.send(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 70_000)
    peer.run()
    assert peer.state is State.BODY
    assert peer.service.file_room == 9
    assert peer.service.input_room == 16 << 20


def test_without_room_a_short_body_goes_to_disk() -> None:
    seen: list[Any] = []
    peer = Peer(in_call(lambda environ: seen.append(environ["wsgi.input"].read())))
    peer.service.input_room = 5
    peer.send(POST + b"Content-Length: 10\r\n\r\nhel")
    assert peer.service.file_room == 10
    peer.send(b"loh")
    assert (peer.state, peer.service.file_room) == (State.BODY, 9)
    assert peer.service.input_room == 5
    peer.send(b"elol")
    assert seen == [b"hellohelol"]
    assert peer.service.file_room == 10


def test_without_room_the_sizes_of_tiny_chunks_end_with_a_503() -> None:
    peer = Peer(hello)
    peer.service.input_room = 1000
    peer.send(CHUNKED + coded(*[b"x"] * 2000))
    assert (peer.state, peer.service.file_room) == (State.BODY, 9)  # the content is on the disk
    for _ in range(8):
        peer.send(coded(*[b"x"] * 2000))
    assert peer.statuses() == [503]
    assert (peer.service.input_room, peer.service.file_room) == (1000, 10)
    assert peer.service.requests == 0


def test_without_room_on_the_disk_either_the_application_receives_it() -> None:
    seen: list[Any] = []

    def call(environ: dict[str, Any]) -> None:
        peer.send(b"world", run=False)
        seen.append(environ["wsgi.input"].read())

    peer = Peer(in_call(call), file_room=0)
    peer.service.input_room = 3
    peer.send(POST + b"Content-Length: 10\r\n\r\nhello")
    assert seen == [b"helloworld"]
    assert peer.service.input_room == 3
    assert peer.statuses() == [200]


def test_without_room_a_head_in_pieces_is_refused_and_a_whole_one_served() -> None:
    peer = Peer(hello)
    peer.service.input_room = 20
    peer.send(GET)
    assert peer.statuses() == [200]
    peer.send(GET[:20])
    assert peer.state is State.HEAD
    peer.send(GET[20:])
    assert peer.statuses() == [200]
    peer.send(b"GET / HTTP/1.1\r\nHost: a.long.name\r\n")
    assert peer.statuses() == [503]
    assert peer.state is State.LINGER
    assert peer.service.input_room == 20


def test_without_room_nothing_is_read_ahead() -> None:
    peer = Peer(hello)
    peer.service.input_room = 2 * len(GET)
    peer.send(GET * 3)
    assert peer.statuses() == [200, 200, 200]
    peer.send(GET * 4)
    assert peer.statuses() == [200]
    assert peer.state is State.LINGER
    assert peer.service.input_room == 2 * len(GET)


def test_a_client_that_does_not_read_keeps_no_more_than_there_is_room_for() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * 1_000_000]

    for room, kept in ((1 << 20, len(GET)), (1, 0)):
        peer = Peer(app)
        peer.service.input_room = room
        peer.send(GET + GET, run=False)
        peer.step()
        assert peer.state is State.FLUSH
        assert peer.service.input_room == room - kept
        response = b""
        while peer.state is State.FLUSH:
            response += peer.read()
            peer.step()
        assert peer.service.input_room == room - kept
        assert (peer.state is State.READY) is bool(kept)
