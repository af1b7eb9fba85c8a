"""Slow and hostile clients, by the thousand: others are served, memory is bounded, nothing stays."""

import re
import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command.harness import WAIT, Server, descriptors
from tests.http.corpus import read

Start = Callable[..., Server]
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
HALF_HEAD = b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: somebody slow\r\nAcc"
HALF_BODY = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200\r\n\r\n" + b"x" * 100
HALF_CHUNKS = (
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n"
    + b"x" * 100
    + b"\r\n64"
)
LARGE = b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n"
ANSWER = 102400
SPARE = 1000  # descriptors that are not for these clients
PER_CONNECTION = 4096
FAST = 0.05  # seconds; it is a tenth of that on an idle machine of two processors
IDLE = 1024  # as the advice of `worker_connections` says
GONE = select.POLLHUP | select.POLLERR | select.POLLRDHUP
ABRUPTLY = struct.pack("ii", 1, 0)


@pytest.fixture(autouse=True)
def room() -> Iterator[int]:
    """So many connections are possible in the test and in each worker: all that may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - SPARE if hard != resource.RLIM_INFINITY else 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """``count`` clients that send the same, and then do nothing."""

    def __init__(self, server: Server, octets: bytes, count: int, *, narrow: bool = False) -> None:
        """``narrow``: their kernel, and the server's for them, take little of an answer."""
        self.clients: dict[int, socket.socket] = {}
        for number in range(count):
            sock = socket.socket()
            if narrow:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            sock.settimeout(WAIT)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(octets)
            self.clients[sock.fileno()] = sock
            if number % 500 == 499:
                server.get()  # it is behind them in the queue: now they are accepted

    def close(self) -> None:
        for sock in self.clients.values():
            sock.close()
        self.clients.clear()

    def wait_until_dismissed(self) -> dict[bytes, int]:
        """Until the server has closed each. Returns how often it said what."""
        poll, said = select.poll(), dict[bytes, int]()
        for fd in self.clients:
            poll.register(fd, GONE)
        while self.clients:
            for fd, _ in poll.poll(WAIT * 1000):
                poll.unregister(fd)
                with self.clients.pop(fd) as sock:
                    try:
                        words = sock.recv(4096)[:12]
                    except ConnectionResetError:
                        words = b"reset"
                said[words] = said.get(words, 0) + 1
        return said


def memory(server: Server) -> int:
    """Octets in all workers, what they share counted once."""
    return 1024 * sum(
        int(found[1])
        for pid in server.workers()
        if (
            found := re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        )
    )


def assert_others_are_served(server: Server) -> None:
    """Fast requests, half of them on connections of their own; the 99th of a hundred is fast."""
    seconds = []
    with server.connect() as client:
        for number in range(300):
            began = time.monotonic()
            status, body = client.get() if number % 2 else server.get()
            seconds.append(time.monotonic() - began)
            assert (status, body) == (200, b"0")
    seconds.sort()
    print(f"on the side: p99 {seconds[296] * 1000:.1f} ms, longest {seconds[-1] * 1000:.1f} ms")
    assert seconds[296] < FAST


def connections(server: Server) -> int:
    """Connections that the server's side of is not closed."""
    table = Path("/proc/net/tcp").read_text()
    # 01: established, 04 and 05: closed for sending, 08: closed by the client.
    return len(re.findall(rf"^ *\d+: \w+:{server.port:04X} \w+:\w+ 0[1458] ", table, re.M))


def in_the_kernel(server: Server) -> int:
    """Octets of answers that are with the kernel, on either side."""
    port, octets = f":{server.port:04X}", 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, there, _, queues, *_ = line.split()
        sending, receiving = (int(number, 16) for number in queues.split(":"))
        octets += sending if here.endswith(port) else receiving if there.endswith(port) else 0
    return octets


class Calm:
    """The workers as they are before the crowd, and as they must be again."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = server.connect()  # stays: one that comes and goes would be seen
        assert self.client.get()[0] == 200
        while connections(server) > 1:
            assert self.client.get()[0] == 200
        self.files = self.open_files()
        self.memory = memory(server)

    def open_files(self) -> list[int]:
        return [len(descriptors(pid)) for pid in self.server.workers()]

    def returns(self) -> None:
        while self.open_files() != self.files:
            assert self.client.get()[0] == 200
        self.client.socket.close()


def begin(start: Start, *warmth: bytes) -> Server:
    server = start(
        "-w", "2", "--head-timeout", "2.5", "--body-timeout", "2.5", "--write-timeout", "2.5",
        "--worker-connections", "20000", "--backlog", "4096", "recorder",
    )  # fmt: skip
    server.wait_for("is ready", count=2)
    for octets in warmth:
        # What a first use imports and caches is not the price of a connection.
        Crowd(server, octets, 32).close()
    return server


@pytest.mark.parametrize(
    "half", [HALF_HEAD, HALF_BODY, HALF_CHUNKS], ids=["head", "body", "chunks"]
)
def test_half_requests(start: Start, room: int, half: bytes) -> None:
    server = begin(start, half, GET)
    count = min(2000, room)
    calm = Calm(server)
    crowd = Crowd(server, half, count)
    assert_others_are_served(server)
    grown = memory(server) - calm.memory
    print(f"{grown / count:.0f} octets a connection")
    assert grown < count * (PER_CONNECTION + len(half))
    assert crowd.wait_until_dismissed() == {b"HTTP/1.1 408": count}
    calm.returns()
    assert_others_are_served(server)


@pytest.mark.parametrize("narrow", [False, True])
def test_clients_that_never_read(start: Start, room: int, narrow: bool) -> None:
    """What the kernel does not take of an answer is in memory, once, and nothing else is."""
    server = begin(start, LARGE, GET)
    count = min(2000, room)
    calm = Calm(server)
    crowd = Crowd(server, LARGE, count, narrow=narrow)
    assert_others_are_served(server)
    grown = memory(server) - calm.memory
    print(f"{grown / count:.0f} octets a connection")
    if narrow:
        assert in_the_kernel(server) < count * ANSWER
        assert grown < count * (ANSWER + PER_CONNECTION)
        said = crowd.wait_until_dismissed()
        assert sum(said.values()) == count
    else:
        held = max(0, count * ANSWER - in_the_kernel(server))
        assert grown < held + count * PER_CONNECTION
        crowd.close()
    calm.returns()
    assert_others_are_served(server)


def test_idle_clients(start: Start, room: int) -> None:
    server = begin(start, GET)
    count = min(10000, room)
    calm = Calm(server)
    crowd = Crowd(server, GET, count)
    assert_others_are_served(server)
    grown = memory(server) - calm.memory
    print(f"{grown / count:.0f} octets a connection")
    assert grown < count * IDLE
    crowd.close()
    calm.returns()


TWO = (
    b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3;x\r\ncde\r\n0\r\nT: u\r\n\r\n"
    b"POST /b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nxyz"
)


def test_clients_that_reset_or_close_their_half_at_every_octet(start: Start) -> None:
    server = begin(start, GET)
    calm = Calm(server)
    for length in range(len(TWO) + 1):
        part = TWO[:length]
        with server.connect() as client:
            client.send(part)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
        with server.connect() as client:
            client.send(part)
            client.socket.shutdown(socket.SHUT_WR)
            answer = client.rest()
        answers = re.findall(rb"HTTP/1\.1 (?!100)([0-9]{3})", answer)
        assert answers == [b"200"] * len(read([part]).requests), part
        assert not answers or answer.endswith((b"\r\n\r\n5", b"\r\n\r\n3", b"100 Continue\r\n\r\n"))
    calm.returns()
    assert_others_are_served(server)
    assert "Traceback" not in server.log
