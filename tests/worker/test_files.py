"""wsgi.file_wrapper: a file is left to the loop, which sends it and closes it."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forkserve.ops.scoreboard import Call
from forkserve.worker.lead import Lost
from forkserve.worker.state import State
from tests.worker.peer import GET, HEAD, Peer, statuses, tcp_pair

CONTENT = bytes(range(256)) * 40
LARGE = 3 << 20


class Site:
    """An application that answers each request with ``path``, as its attributes say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = "200 OK"
        self.headers: list[tuple[str, str]] = []
        self.position = 0
        self.closings = 0
        self.on_close: Callable[[], object] = lambda: None
        self.file: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        start_response(self.status, self.headers)
        self.file = open(self.path, "rb")  # noqa: SIM115 - the server closes it
        self.file.seek(self.position)
        close = self.file.close

        def closing() -> None:
            self.closings += 1
            close()
            self.on_close()

        self.file.close = closing
        return environ["wsgi.file_wrapper"](self.file)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    before = sorted(os.listdir("/proc/self/fd"))
    site = Site(path)
    yield site
    assert site.closings == 0 or site.file.closed
    opened = [os.readlink(f"/proc/self/fd/{fd}") for fd in open_descriptors() - set(before)]
    assert str(path) not in opened


def open_descriptors() -> set[str]:
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}


def enlarge(site: Site) -> bytes:
    content = bytes(range(251)) * (LARGE // 251)
    site.path.write_bytes(content)
    return content


def head_and_body(octets: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = octets.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


def test_a_file_has_a_length_and_the_connection_goes_on(site: Site) -> None:
    peer = Peer(site)
    for number in range(1, 4):
        peer.send(GET)
        lines, body = head_and_body(peer.read())
        assert b"Content-Length: %d" % len(CONTENT) in lines
        assert body == CONTENT
        assert (peer.state, site.closings) == (State.IDLE, number)
        assert peer.accesses.seen[-1].octets == len(CONTENT)
    assert peer.service.file_room == 10
    assert peer.log.lines == []


def test_files_in_answer_to_requests_that_were_sent_ahead(site: Site) -> None:
    peer = Peer(site)
    peer.send(GET + HEAD + GET)
    octets = peer.read()
    assert statuses(octets) == [200, 200, 200]
    assert octets.count(CONTENT) == 2
    assert site.closings == 3


def test_a_file_is_sent_from_where_it_stands(site: Site) -> None:
    site.position = 1000
    peer = Peer(site)
    peer.send(GET)
    lines, body = head_and_body(peer.read())
    assert b"Content-Length: %d" % (len(CONTENT) - 1000) in lines
    assert body == CONTENT[1000:]


def test_a_file_is_cut_to_its_content_length(site: Site) -> None:
    site.position, site.headers = 10, [("Content-Length", "100")]
    peer = Peer(site)
    peer.send(GET)
    assert peer.body() == CONTENT[10:110]
    assert (peer.state, site.closings) == (State.IDLE, 1)
    assert f"{len(CONTENT) - 110} octets longer" in peer.log.lines[0]
    assert peer.accesses.seen[0].octets == 100


def test_a_file_shorter_than_its_content_length_closes(site: Site) -> None:
    site.headers = [("Content-Length", str(len(CONTENT) + 2))]
    peer = Peer(site)
    peer.send(GET + GET)
    lines, body = head_and_body(peer.read())
    assert b"Connection: close" in lines
    assert body == CONTENT
    assert (peer.state, site.closings) == (State.LINGER, 1)
    assert "2 octets shorter" in peer.log.lines[0]


@pytest.mark.parametrize(
    ("request_", "status", "length"),
    [(HEAD, "200 OK", True), (GET, "204 No Content", False), (GET, "304 Not Modified", True)],
)
def test_where_no_body_may_be_the_file_is_only_closed(
    site: Site, request_: bytes, status: str, length: bool
) -> None:
    site.status = status
    peer = Peer(site)
    peer.send(request_)
    lines, body = head_and_body(peer.read())
    assert body == b""
    assert (b"Content-Length: %d" % len(CONTENT) in lines) == length
    assert (peer.state, site.closings) == (State.IDLE, 1)
    assert peer.accesses.seen[0].octets == 0
    assert peer.log.lines == []


def test_http_1_0_gets_a_length_too(site: Site) -> None:
    peer = Peer(site)
    peer.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert peer.body() == CONTENT
    assert peer.state is State.IDLE


def test_an_empty_file_is_an_empty_body(site: Site) -> None:
    site.path.write_bytes(b"")
    peer = Peer(site)
    peer.send(GET)
    lines, body = head_and_body(peer.read())
    assert (body, site.closings) == (b"", 1)
    assert b"Content-Length: 0" in lines


# ---- slow readers


def test_a_large_file_holds_no_call_and_is_closed_after_its_last_octet(site: Site) -> None:
    content = enlarge(site)
    peer = Peer(site, ends=tcp_pair(65536, 1 << 18))
    peer.send(GET, run=False)
    peer.run_to(State.FLUSH)
    assert peer.cell.read() is None
    received = b""
    while peer.state is State.FLUSH:
        assert site.closings == 0
        assert len(peer.connection.unsent or b"") < 1000  # of the head at the most
        received += peer.read()
        peer.step()
    assert site.closings == 1
    peer.connection.socket.shutdown(socket.SHUT_WR)
    received += peer.read_to_the_end()
    assert received.partition(b"\r\n\r\n")[2] == content


def test_what_the_kernel_can_send_is_never_in_memory(site: Site) -> None:
    content = enlarge(site)
    peer = Peer(site)
    peer.send(GET)
    received = b""
    while peer.state is State.FLUSH:
        for _ in range(10):  # until the kernel takes no more
            peer.step()
            assert not peer.connection.unsent
        received += peer.read()
    assert received.partition(b"\r\n\r\n")[2] == content


def test_no_more_than_a_part_is_sent_before_others_have_their_turn(site: Site) -> None:
    left = len(enlarge(site))
    peer = Peer(site, ends=tcp_pair(1 << 22, 1 << 23))
    peer.send(GET, run=False)
    peer.run_to(State.FLUSH)
    while peer.state is State.FLUSH:
        assert peer.connection.region is not None
        assert left - peer.connection.region.length <= 1 << 18
        left = peer.connection.region.length
        peer.read()
        peer.step()
    assert left <= 1 << 18


def test_who_stops_reading_a_file_is_cut_off(site: Site) -> None:
    enlarge(site)
    peer = Peer(site)
    peer.send(GET)
    assert peer.state is State.FLUSH
    peer.wait(30.0)
    assert (peer.state, site.closings) == (State.CLOSED, 1)
    assert len(peer.accesses.seen) == 1
    assert 0 < peer.accesses.seen[0].octets < LARGE // 2
    assert peer.service.file_room == 10
    assert peer.log.lines == []


def test_who_goes_away_in_the_middle_of_a_file(site: Site) -> None:
    enlarge(site)
    peer = Peer(site)
    peer.send(GET)
    peer.close()
    assert (peer.state, site.closings) == (State.CLOSED, 1)
    assert len(peer.accesses.seen) == 1
    assert peer.log.lines == []


def test_a_file_that_becomes_shorter_is_a_reset(site: Site) -> None:
    enlarge(site)
    peer = Peer(site, ends=tcp_pair(65536, 1 << 18))
    peer.send(GET, run=False)
    peer.run_to(State.FLUSH)
    with open(site.path, "r+b") as file:
        file.truncate(1000)
    while peer.state is State.FLUSH:
        peer.read()
        peer.step()
    assert (peer.state, site.closings) == (State.CLOSED, 1)
    assert "file has become shorter" in peer.log.lines[0]
    assert len(peer.log.lines) == len(peer.accesses.seen) == 1
    assert peer.accesses.seen[0].octets < LARGE
    assert peer.read_to_the_end().endswith(b"<reset>")


def test_a_file_that_grows_is_sent_as_it_was(site: Site) -> None:
    content = enlarge(site)
    peer = Peer(site)
    peer.send(GET)
    with open(site.path, "ab") as file:
        file.write(b"more")
    received = b""
    while peer.state is State.FLUSH:
        received += peer.read()
        peer.run()
    assert (received + peer.read()).partition(b"\r\n\r\n")[2] == content
    assert peer.state is State.IDLE


def test_a_file_that_somebody_else_closes_is_still_sent(site: Site) -> None:
    """Its number may belong to another file by then."""
    content = enlarge(site)
    peer = Peer(site)
    peer.send(GET)
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), site.file.fileno())
        received = b""
        while peer.state is State.FLUSH:
            received += peer.read()
            peer.run()
    assert (received + peer.read()).partition(b"\r\n\r\n")[2] == content
    assert site.closings == 1


# ---- its close


def test_an_error_in_the_close_of_a_file_is_only_logged(site: Site) -> None:
    def fail() -> None:
        raise SystemExit("in close")

    site.on_close = fail
    peer = Peer(site)
    peer.send(GET)
    assert peer.body() == CONTENT
    assert (peer.state, site.closings) == (State.IDLE, 1)
    assert "in close" in peer.log.lines[0]
    assert peer.log.records[0].request_id == peer.accesses.seen[0].request_id != ""


def test_the_close_of_a_file_stands_on_the_scoreboard(site: Site) -> None:
    seen: list[Any] = []
    site.on_close = lambda: seen.append(peer.cell.read())
    peer = Peer(site)
    peer.send(GET)
    assert seen == [Call(peer.clock.now, "GET / HTTP/1.1", peer.clock.now + 30.0)]
    assert peer.cell.read() is None


def test_a_close_that_lost_the_lead_is_not_over_before_its_thread_is_back(site: Site) -> None:
    """Or the loop could end, and take the thread, which may be the main one, for one that is stuck
    in a call."""
    peer = Peer(site)

    def outlast() -> None:
        peer.service.lead.take()

    site.on_close = outlast
    with pytest.raises(Lost) as lost:
        peer.send(GET)
    closing = lost.value.call
    assert closing is not None and closing.state is State.RUNNING
    assert peer.cell.read() is None
    closing.returned()
    assert closing.state is State.CLOSED


# ---- where the kernel cannot send it


class Encrypting(socket.socket):
    """What is sent through it is not what reaches the client's socket."""

    def send(self, octets: Any, flags: int = 0) -> int:
        assert not flags  # as ssl.SSLSocket
        return super().send(octets)


def through_encryption() -> tuple[socket.socket, socket.socket]:
    client, server = socket.socketpair()
    return client, Encrypting(fileno=server.detach())


def without_sendfile() -> tuple[socket.socket, socket.socket]:
    """sendfile(2): EINVAL for what is open with O_APPEND."""
    client, server = socket.socketpair()
    fcntl.fcntl(server, fcntl.F_SETFL, os.O_APPEND)
    with open(os.devnull, "rb") as file, pytest.raises(OSError, match="Invalid"):
        os.sendfile(server.fileno(), file.fileno(), 0, 1)
    return client, server


@pytest.mark.parametrize("ends", [through_encryption, without_sendfile])
def test_what_the_kernel_cannot_send_is_read_and_sent(site: Site, ends: Any) -> None:
    content = enlarge(site)
    peer = Peer(site, ends=ends())
    for number in (1, 2):
        peer.send(GET)
        received = b""
        while peer.state is State.FLUSH:
            assert len(peer.connection.unsent or b"") <= 65536 + 1000
            received += peer.read()
            peer.step()
        assert (received + peer.read()).partition(b"\r\n\r\n")[2] == content
        assert (peer.state, site.closings) == (State.IDLE, number)


@pytest.mark.parametrize("ends", [through_encryption, without_sendfile])
def test_what_is_read_and_sent_becomes_shorter_too(site: Site, ends: Any) -> None:
    enlarge(site)
    peer = Peer(site, ends=ends())
    peer.send(GET)
    with open(site.path, "r+b") as file:
        file.truncate(1000)
    while peer.state is State.FLUSH:
        peer.read()
        peer.step()
    assert (peer.state, site.closings) == (State.CLOSED, 1)
    assert "file has become shorter" in peer.log.lines[0]


def test_without_room_for_a_descriptor_a_file_is_iterated(site: Site) -> None:
    peer = Peer(site, file_room=1)
    peer.send(GET)
    lines, body = head_and_body(peer.read())
    assert b"Transfer-Encoding: chunked" in lines
    assert body == b"%x\r\n%b\r\n0\r\n\r\n" % (len(CONTENT), CONTENT)
    assert (peer.state, site.closings) == (State.IDLE, 1)
    assert peer.service.file_room == 1
