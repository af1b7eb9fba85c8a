"""Bodies of requests: collected, received, refused, thrown away."""

import errno
import os
import resource
import select
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forkserve.worker.state import State
from tests.worker.peer import GET, Peer, echo, hello, statuses, tcp_pair, whole


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
        octets = head + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"
    else:
        octets = head + b"Content-Length: %d\r\n\r\n" % size + content
    for start in range(0, len(octets), 50000):
        peer.send(octets[start : start + 50000])
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


POST = b"POST /x HTTP/1.1\r\nHost: h\r\n"
EXPECT = POST + b"Expect: 100-continue\r\n"


@pytest.mark.parametrize(
    ("head", "body", "settings", "as_it_came"),
    [
        (POST + b"Content-Length: 6\r\n\r\n", b"abcdef", {}, True),
        (POST + b"Content-Length: 6\r\n\r\n", b"abcdef" + GET[:9], {}, True),
        (POST + b"Content-Length: 6\r\n\r\n", b"", {"stream_path": ("/x",)}, True),
        (POST + b"Content-Length: 6\r\n\r\n", b"abc", {"buffer_body": 3}, True),
        (EXPECT + b"Content-Length: 9\r\n\r\n", b"", {"buffer_body": 3}, True),
        # It has been asked to go on, is long, or came in chunks, as which it can be read.
        (EXPECT + b"Content-Length: 6\r\n\r\n", b"abcdef", {}, False),
        (POST + b"Content-Length: 17000\r\n\r\n", bytes(17000), {}, False),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", {}, False),
    ],
)
@pytest.mark.parametrize("cut", [0, 1])
def test_a_request_that_waits_for_a_thread_is_again_as_it_came(
    head: bytes, body: bytes, settings: Any, as_it_came: bool, cut: int
) -> None:
    """So that another worker can have it."""
    peer = Peer(whole, **settings)
    peer.service.lead.set_calls(False)
    middle = len(head) - 5 * cut
    for piece in ((head + body)[:middle], (head + body)[middle:]):
        peer.send(piece, run=False)
        for _ in range(2):
            if peer.state is not State.READY:
                peer.step()
    assert peer.state is State.READY
    assert peer.connection.portable == as_it_came
    if as_it_came:
        assert peer.connection.buffer == head + body
    began = peer.clock.now
    peer.clock.now += 2.0
    peer.service.lead.set_calls(True)
    assert peer.connection.deadline == began + peer.service.queue_timeout
    if not head.startswith(EXPECT) and not settings:
        peer.run()
        assert peer.statuses() == [200]
        assert peer.accesses.seen[0].seconds == 2.0
    assert peer.service.input_room <= 16 << 20


def test_what_is_longer_than_the_buffer_is_received_by_the_application() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        file = environ["wsgi.input"]
        first = file.read(10)
        peer.send(b"y" * 36, run=False)
        rest = file.read()
        start_response("200 OK", [])
        return [first + b"|" + rest]

    peer = Peer(app, buffer_body=64)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n" + b"x" * 63)
    assert peer.state is State.BODY
    peer.send(b"x")
    assert peer.body() == b"x" * 10 + b"|" + b"x" * 54 + b"y" * 36
    assert peer.state is State.IDLE


def test_a_chunked_body_is_collected_to_its_end() -> None:
    """Many frameworks read nothing of a body that has no CONTENT_LENGTH."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        length = int(environ["CONTENT_LENGTH"])
        return [b"%d %d" % (length, environ["wsgi.input"].read(length).count(b"x"))]

    peer = Peer(app, buffer_body=1000)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(200):
        peer.send(b"400\r\n%b\r\n" % (b"x" * 1024))
    assert (peer.state, peer.service.requests) == (State.BODY, 0)
    peer.send(b"0\r\n\r\n")
    assert peer.body() == b"204800 204800"


def test_a_chunked_body_without_room_for_a_file_is_given_from_its_beginning() -> None:
    part = bytes(range(256)) * 4
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        peer.send(b"3\r\nend\r\n0\r\n\r\n" + GET, run=False)
        seen.append(environ["wsgi.input"].read(100) + environ["wsgi.input"].read())
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app)
    peer.service.file_room = 0
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(65):
        assert not peer.service.requests
        peer.send(b"400\r\n%b\r\n" % part, run=False)
        peer.step()
    assert seen[0] == part * 65 + b"end"


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


# ---- the pace


def test_a_body_may_pause_but_not_stop() -> None:
    peer = Peer(whole)
    peer.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(9):
        peer.wait(29.0)
        peer.send(b"x" * 20_000)
        assert peer.state is State.BODY
    peer.wait(29.9)
    assert peer.state is State.BODY
    peer.wait(0.1)
    assert peer.statuses() == [408]
    assert peer.service.requests == 0


@pytest.mark.parametrize(("octets", "minutes"), [(1, 1), (10_000, 3)])
def test_a_body_that_drips_is_as_good_as_stopped(octets: int, minutes: int) -> None:
    peer = Peer(whole)
    peer.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
    while peer.state is State.BODY and peer.clock.now < 1000.0 + 60 * minutes:
        peer.wait(29.0)
        if peer.state is State.BODY:
            peer.send(b"x" * octets)
    assert peer.statuses() == [408]


def test_a_long_upload_that_is_not_slow_may_take_its_time() -> None:
    peer = Peer(hello, buffer_body=1 << 30)
    peer.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n")
    for _ in range(100):
        peer.wait(29.0)
        peer.send(b"x" * 20_000)
    assert peer.clock.now > 1000.0 + 2800
    assert peer.statuses() == [200]
    assert peer.state is State.IDLE


def test_a_body_that_drips_in_the_call_is_a_408_too() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        peer.clock.now += 29.0
        peer.send(b"x", run=False)
        assert environ["wsgi.input"].read(1) == b"x"
        peer.clock.now += 1.1
        environ["wsgi.input"].read(1)
        raise AssertionError("there was nothing to be read")

    peer = Peer(app, buffer_body=0)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
    assert peer.statuses() == [408]
    assert peer.state is State.LINGER
    assert peer.log.lines == []


# ---- on the disk


@contextmanager
def disk_of(octets: int) -> Iterator[None]:
    """While it lasts, no file grows longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def long_post(length: int) -> bytes:
    return b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length


@pytest.mark.parametrize("size", [70_000, 150_000])
def test_a_full_disk_refuses_one_request(size: int) -> None:
    peer = Peer(whole, file_room=1)
    with disk_of(66_000):
        peer.send(long_post(size) + b"x" * size)
    assert peer.statuses() == [507]
    assert peer.state is State.LINGER
    (line,) = peer.log.lines
    assert "`tmp_dir`" in line
    assert "POST /x HTTP/1.1" in line
    assert peer.service.requests == 0
    assert peer.service.file_room == 1


def test_a_missing_directory_refuses_one_request(tmp_path: Path) -> None:
    peer = Peer(whole, file_room=1, tmp_dir=str(tmp_path / "missing"))
    peer.send(long_post(100_000) + b"x" * 100_000)
    assert peer.statuses() == [507]
    assert f"collected in {tmp_path}/missing (`tmp_dir`): No such file" in peer.log.lines[0]
    assert peer.service.file_room == 1


def test_a_full_disk_is_no_reason_to_fill_the_log(tmp_path: Path) -> None:
    peer = Peer(whole, tmp_dir=str(tmp_path))
    full = OSError(errno.ENOSPC, "No space left on device")
    for line in ("POST /1 HTTP/1.1", "POST /2 HTTP/1.1"):
        peer.service.body_not_stored(full, line)
    (first,) = peer.log.lines
    assert f"{tmp_path} (`tmp_dir`): No space left on device. The request 'POST /1" in first
    peer.clock.now += 10.0
    peer.service.body_not_stored(full, "POST /3 HTTP/1.1")
    _, second = peer.log.lines
    assert "'POST /3 HTTP/1.1' is answered with 507, and so was 1 before it" in second


def test_without_descriptors_not_even_a_module_can_be_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tempfile", None)
    peer = Peer(whole)
    peer.service.body_not_stored(OSError(errno.EMFILE, "Too many open files"), "POST / HTTP/1.1")
    (line,) = peer.log.lines
    assert "in the system's directory (`tmp_dir`): Too many open files. The request" in line
    assert line.endswith("507. Raise the limit of descriptors (ulimit -n, LimitNOFILE=)")


def test_the_directory_of_the_system_is_named_too() -> None:
    peer = Peer(whole)
    with disk_of(66_000):
        peer.send(long_post(70_000) + b"x" * 70_000)
    assert f"in {tempfile.gettempdir()} (`tmp_dir`)" in peer.log.lines[0]


def test_a_body_on_disk_has_no_name(tmp_path: Path) -> None:
    """It is in `tmp_dir`, where nobody finds it, and where no crash leaves it."""
    peer = Peer(whole, tmp_dir=str(tmp_path))
    peer.send(long_post(100_000) + b"x" * 70_000)
    assert peer.state is State.BODY
    files = [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]
    assert [file for file in files if file.startswith(f"{tmp_path}/")]
    assert list(tmp_path.iterdir()) == []
    peer.close()


def test_without_room_for_another_file_a_body_is_handed_on_at_64k() -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        peer.send(b"z" * 30_000, run=False)
        seen.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app, file_room=0)
    peer.send(long_post(95_537) + b"x" * 65_536)
    assert peer.state is State.BODY
    peer.send(b"y")
    assert seen == [b"x" * 65_536 + b"y" + b"z" * 30_000]
    assert peer.statuses() == [200]
    assert peer.state is State.IDLE
    assert peer.service.file_room == 0


@pytest.mark.parametrize(
    ("end", "status"),
    [("answered", 200), ("refused", 408), ("gone", None), ("failed", 200), ("unread", 200)],
)
def test_the_room_for_a_file_is_given_back(end: str, status: int | None) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        assert peer.service.file_room == 0
        start_response("200 OK", [])
        yield b"x"
        if end == "failed":
            raise RuntimeError

    peer = Peer(app, file_room=1, buffer_body=100_000)
    peer.send(long_post(150_000 if end == "unread" else 100_000) + b"x" * 70_000)
    assert peer.state is State.BODY
    assert peer.service.file_room == 0
    if end == "refused":
        peer.wait(30.0)
    elif end == "gone":
        peer.close()
    else:
        peer.send(b"x" * 30_000)
    if end == "unread":
        assert peer.state is State.DRAIN
        peer.send(b"x" * 50_000)
    assert peer.service.file_room == 1
    assert [access.status for access in peer.accesses.seen] == ([status] if status else [])


# ---- Expect: 100-continue

ASKS = b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 2\r\n\r\n", b"ab"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nab\r\n0\r\n\r\n"),
    ],
)
def test_who_asks_before_a_short_body_is_answered_by_the_loop(framing: bytes, body: bytes) -> None:
    peer = Peer(whole, buffer_body=2)
    peer.send(ASKS + framing)
    assert peer.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert peer.state is State.BODY  # who is silent now holds no worker
    peer.send(body)
    response = peer.read()
    assert statuses(response) == [200]
    assert b"/x=ab" in response
    assert peer.state is State.IDLE


def test_who_asks_and_then_is_silent_gets_a_408() -> None:
    peer = Peer(whole)
    peer.send(ASKS + b"Content-Length: 2\r\n\r\n")
    peer.wait(30.0)
    assert peer.statuses() == [100, 408]
    assert peer.service.requests == 0


@pytest.mark.parametrize(
    ("buffer_body", "framing", "octets", "rest"),
    [
        (2, b"Content-Length: 3\r\n\r\n", b"abc", b"bc"),
        (0, b"Content-Length: 3\r\n\r\n", b"abc", b"bc"),
        (0, b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"bc"),
    ],
)
def test_who_asks_before_a_body_that_is_not_collected_whole_is_answered_at_the_first_read(
    buffer_body: int, framing: bytes, octets: bytes, rest: bytes
) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(peer.read())
        peer.send(octets, run=False)
        seen.append(environ["wsgi.input"].read(1))
        seen.append(peer.read())
        seen.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app, buffer_body=buffer_body)
    peer.send(ASKS + framing)
    assert seen == [b"", b"a", b"HTTP/1.1 100 Continue\r\n\r\n", rest]
    response = peer.read()
    assert statuses(response) == [200]
    assert b"Connection: close" not in response
    assert peer.state is State.IDLE


def test_the_time_for_a_body_counts_from_its_100() -> None:
    def client() -> None:
        select.select([peer.socket], [], [])
        peer.socket.sendall(b"abc")

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        peer.clock.now += 60.0
        thread.start()
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body]

    peer = Peer(app, buffer_body=2)
    thread = threading.Thread(target=client, daemon=True)
    peer.send(ASKS + b"Content-Length: 3\r\n\r\n")
    thread.join()
    response = peer.read()
    assert statuses(response) == [100, 200]
    assert response.endswith(b"abc")


@pytest.mark.parametrize("blocks", [[b"no"], [b"n", b"o"], []])
def test_who_asks_and_is_refused_gets_the_final_status_only(blocks: list[bytes]) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if not blocks:
            raise RuntimeError
        start_response("403 Forbidden", [])
        return blocks

    peer = Peer(app, buffer_body=2)
    peer.send(ASKS + b"Content-Length: 3\r\n\r\n")
    response = peer.read()
    assert statuses(response) == [403 if blocks else 500]
    assert b"Connection: close\r\n" in response
    assert peer.state is State.LINGER


def test_there_is_no_100_in_the_middle_of_a_response() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "11")])
        yield b"before,"
        peer.send(b"abc", run=False)
        yield b"|" + environ["wsgi.input"].read()

    peer = Peer(app, buffer_body=2)
    peer.send(ASKS + b"Content-Length: 3\r\n\r\n")
    head, _, body = peer.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" in head.split(b"\r\n")
    assert body == b"before,|abc"


def test_an_expectation_is_not_met_before_a_413() -> None:
    peer = Peer(hello, max_body=10)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n")
    assert peer.statuses() == [413]


# ---- what the application leaves


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
    "framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n99\r\n"]
)
def test_a_long_unread_body_ends_the_connection(framing: bytes) -> None:
    """Also one of which nobody knows how long it is."""
    peer = Peer(hello, buffer_body=0)
    peer.send(b"POST / HTTP/1.1\r\nHost: h\r\n" + framing + GET)
    response = peer.read()
    assert statuses(response) == [200]
    assert b"Connection: close\r\n" in response
    assert peer.state is State.LINGER
    peer.send(GET)
    assert peer.read() == b""
    assert peer.service.requests == 1


def test_a_late_read_takes_nothing_from_the_next_request() -> None:
    kept = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app, buffer_body=0)
    peer.send(long_post(5))
    assert peer.state is State.DRAIN
    peer.send(b"hello" + GET, run=False)
    with pytest.raises(OSError, match="after the call"):
        kept[0].read()
    peer.run()
    assert peer.statuses() == [200, 200]
    assert peer.state is State.IDLE
    peer.send(GET, run=False)
    with pytest.raises(OSError, match="after the call"):
        kept[0].read()
    peer.run()
    assert peer.statuses() == [200]


@pytest.mark.parametrize(("size", "hold"), [(5, "getbuffer"), (100_000, "detach")])
def test_an_application_may_keep_what_is_under_its_input(size: int, hold: str) -> None:
    kept = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.append(getattr(environ["wsgi.input"], hold)())
        start_response("200 OK", [])
        return [b""]

    peer = Peer(app)
    peer.send(long_post(size) + b"x" * size)
    peer.run_to(State.IDLE)
    assert peer.statuses() == [200]
    assert peer.service.file_room == 10


@pytest.mark.parametrize(("started", "status"), [(False, 499), (True, 499), ("sent", 200)])
def test_a_client_that_is_gone_before_the_end_of_its_body(started: Any, status: int) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if started:
            write = start_response("200 OK", [])
        if started == "sent":
            write(b"x")
        return [environ["wsgi.input"].read()]

    peer = Peer(app, buffer_body=0)
    peer.send(long_post(5) + b"ab", run=False)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.run()
    assert peer.state is State.CLOSED
    assert [access.status for access in peer.accesses.seen] == [status]
    assert peer.log.lines == []


def test_a_complete_response_is_not_taken_back_because_the_body_is_not() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        try:
            yield from (b"o", b"k", b"!")
        finally:
            environ["wsgi.input"].read()

    peer = Peer(app, ends=tcp_pair(65536, 65536), buffer_body=0)
    peer.send(long_post(5) + b"ab", run=False)
    peer.socket.shutdown(socket.SHUT_WR)
    peer.run_to(State.CLOSED)
    assert peer.read_to_the_end().endswith(b"\r\n\r\nok")
    assert [access.status for access in peer.accesses.seen] == [200]
