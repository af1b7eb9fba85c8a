"""``python -m benchmarks.crew_stress``: requests of mixed length over every change of the lead.

A server of two workers in Python's development mode, in which threads switch every 10 us; a client
whose every request has a number of its own, which each answer must show. Requests sleep, spin,
stream, upload (by length, or chunked in pieces), come several at once, or with the client's end
behind them, and a few are stuck; meanwhile the server is reloaded, grows and shrinks, and replaces
workers that have served enough, again and again. What must come out: each answer right, each
request seen by the application once, no connection closed but those of the stuck, which read a 504,
and no WARNING in the log but of these.
"""

import argparse
import atexit
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

_APPLICATION = "benchmarks.crew_stress:application"
_COUNTS = "CREW_STRESS_COUNTS"  # the directory in which each worker leaves how often it was called
_HEAD_END = b"\r\n\r\n"
_WRONG = ".* (?:WARNING|ERROR|CRITICAL) .*|.*Traceback.*|.*Error.*"
_STUCK = r".* ERROR .* the call of '\w+ /\d+/stuck HTTP/1\.1' has made no progress .*"
_TIMEOUT = 3.0
_PATIENCE = 30.0  # seconds without an answer

# ---- the application

calls: list[None] = []

if _COUNTS in os.environ:
    sys.setswitchinterval(1e-5)
    atexit.register(lambda: Path(os.environ[_COUNTS], str(os.getpid())).write_text(str(len(calls))))


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """/number/what, where what is the milliseconds to sleep, "spin", "stream" or "stuck"."""
    calls.append(None)
    _, number, what = environ["PATH_INFO"].split("/")
    body = environ["wsgi.input"].read()
    answer = f"{number} {len(body)} {zlib.crc32(body)}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    if what == "stream":
        return _stream(answer)
    if what == "spin":
        end = time.monotonic() + 0.003
        while time.monotonic() < end:
            pass
    elif what == "stuck":
        time.sleep(_TIMEOUT + 1)
    elif what != "0":
        time.sleep(int(what) / 1000)
    return [answer]


def _stream(answer: bytes) -> Iterator[bytes]:
    for octet in answer:
        yield bytes((octet,))
        if octet == 32:
            time.sleep(0.001)


# ---- the client


_GIVEN_UP = b"504 Gateway Timeout\n\nthe application did not answer in time\n"


def is_stuck(number: int) -> bool:
    """Whether the request with this number is one that never ends."""
    return number % 20_000 == 999


class Client:
    """A connection, on which the next requests go out when all before are answered."""

    def __init__(self, port: int, numbers: Iterator[int], chance: random.Random) -> None:
        self._port = port
        self._numbers = numbers
        self._chance = chance
        self._received = b""
        self._expected: deque[bytes] = deque()
        self._pieces: deque[bytes] = deque()
        self._ends = False
        self.socket = self._connect()
        self.since = time.monotonic()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def begin(self) -> bool:
        """Make the next requests. False: there are none."""
        chance = self._chance
        count = chance.randint(2, 5) if chance.random() < 0.1 else 1
        self._ends = count == 1 and chance.random() < 0.05
        octets = bytearray()
        for _, number in zip(range(count), self._numbers, strict=False):
            octets += self._request(number)
            if is_stuck(number):
                self._ends = False
                break  # the last on its connection
        # Who has half-closed and waits for a second is taken for gone (worker/queueing.py), and
        # what cannot be handed off, as some bodies, may wait for a stuck call.
        self._ends = self._ends and octets.startswith(b"GET")
        if not octets:
            return False
        cuts = sorted(chance.randrange(len(octets)) for _ in range(chance.choice((0, 0, 0, 1, 3))))
        self._pieces += [
            bytes(octets[start:end])
            for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True)
        ]
        self.since = time.monotonic()
        return True

    def _request(self, number: int) -> bytes:
        chance = self._chance
        what = chance.choices(("0", "1", "3", "spin", "stream"), (60, 10, 10, 10, 10))[0]
        if is_stuck(number):
            what = "stuck"
        body, fields = b"", b""
        if chance.random() < 0.15:
            body = chance.randbytes(chance.choice((10, 1000, 20000, 200000)))
            fields = b"Content-Length: %d\r\n" % len(body)
        answer = b"%d %d %d\n" % (number, len(body), zlib.crc32(body))
        self._expected.append(_GIVEN_UP if is_stuck(number) else answer)
        if body and chance.random() < 0.5:
            fields = b"Transfer-Encoding: chunked\r\n"
            size = chance.choice((7, len(body))) if len(body) < 2000 else 9000
            parts = (body[start : start + size] for start in range(0, len(body), size))
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        method = b"POST" if fields else b"GET"
        line = b"%b /%d/%b HTTP/1.1\r\nHost: h\r\n" % (method, number, what.encode())
        return line + fields + b"\r\n" + body

    @property
    def events(self) -> int:
        """What to wait for."""
        return select.EPOLLIN | (select.EPOLLOUT if self._pieces else 0)

    def writable(self) -> None:
        """Send a piece."""
        piece = self._pieces.popleft()
        sent = self.socket.send(piece, socket.MSG_DONTWAIT)
        if sent < len(piece):
            self._pieces.appendleft(piece[sent:])
        elif not self._pieces and self._ends:
            self.socket.shutdown(socket.SHUT_WR)

    def readable(self) -> int:
        """Receive. Returns how many answers are complete now. Raises AssertionError."""
        octets = self.socket.recv(65536)
        assert octets or (self._ends and not self._expected), f"closed, and {self._expected} due"
        self._received += octets
        count = 0
        while self._take_answer():
            count += 1
        return count

    def _take_answer(self) -> bool:
        head, end, rest = self._received.partition(_HEAD_END)
        if not end:
            return False
        stuck = self._expected[0] == _GIVEN_UP
        assert head.startswith(b"HTTP/1.1 504 " if stuck else b"HTTP/1.1 200 "), head
        self._ends = self._ends or stuck
        if b"\r\nTransfer-Encoding: chunked" in head:
            octets, end, rest = rest.partition(b"0\r\n\r\n")
            if not end or not octets.endswith(b"\r\n"):
                return False
            body = b"".join(octets.split(b"\r\n")[1::2])
        else:
            found = re.search(rb"\r\nContent-Length: (\d+)", head)
            assert found, head
            length = int(found[1])
            if len(rest) < length:
                return False
            body, rest = rest[:length], rest[length:]
        assert body == self._expected[0], (body, self._expected)
        self._expected.popleft()
        self._received = rest
        return True

    @property
    def over(self) -> bool:
        """All is answered, and what was to be sent is sent."""
        return not (self._expected or self._pieces)

    def renew(self) -> bool:
        """After its end, the client's or the server's, take another connection. True: it did."""
        if self._ends:
            assert self.socket.recv(1) == b""
            self.socket.close()
            self.socket = self._connect()
        return self._ends


def ask(port: int, requests: int, connections: int, seed: int, at: dict[int, Any]) -> None:
    """Have so many requests answered. ``at``: what is to be done after so many. Raises
    AssertionError for the first one that is not answered as it should be."""
    chance = random.Random(seed)
    numbers = iter(range(requests))
    poll = select.epoll()
    clients: dict[int, Client] = {}
    for _ in range(connections):
        client = Client(port, numbers, chance)
        client.begin()
        clients[client.socket.fileno()] = client
        poll.register(client.socket, client.events)
    answered = 0
    while answered < requests:
        for fd, events in poll.poll(1.0):
            client = clients[fd]
            if events & select.EPOLLOUT:
                client.writable()
            if events & ~select.EPOLLOUT:
                for _ in range(client.readable()):
                    answered += 1
                    at.pop(answered, _nothing)()
            if client.over:
                del clients[fd]
                poll.unregister(fd)
                client.renew()
                fd = client.socket.fileno()
                if not client.begin():
                    client.socket.close()
                    continue
                clients[fd] = client
                poll.register(fd, client.events)
            else:
                poll.modify(fd, client.events)
        late = time.monotonic() - _PATIENCE
        assert all(client.since > late for client in clients.values()), "no answer"
    assert not clients, "answered too often"


def _nothing() -> None:
    """Nothing is to be done."""


# ---- the server


def run(threads: int, requests: int, connections: int, seed: int, reloads: int) -> list[str]:
    """What went wrong."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as counts:
        log = Path(counts, "log")
        with log.open("wb") as stderr:
            server = subprocess.Popen(
                [
                    sys.executable, "-X", "dev", "-m", "forkserve", "--workers", "2",
                    "--threads", str(threads), "--bind", f"127.0.0.1:{port}",
                    "--timeout", str(_TIMEOUT), "--max-requests", str(max(400, requests // 20)),
                    "--max-requests-jitter", "100",
                    "--user", str(os.geteuid()), _APPLICATION,  # or it warns of root
                ],
                cwd=Path(__file__).parents[1],
                env={**os.environ, _COUNTS: counts},
                stderr=stderr,
            )  # fmt: skip
        faults = []
        try:
            _wait_for(log, "serves ")
            events = [signal.SIGTTIN, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP]
            events *= reloads // 2
            at = {
                requests * number // (len(events) + 1): partial(server.send_signal, event)
                for number, event in enumerate(events, 1)
            }
            ask(port, requests, connections, seed, at)
        except (AssertionError, OSError) as error:
            faults.append(f"{type(error).__name__}: {error}")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
        seen = sum(int(path.read_text()) for path in Path(counts).iterdir() if path != log)
        if not faults and seen != requests:
            faults.append(f"the application saw {seen} requests, and {requests} were answered")
        wrong = re.findall(_WRONG, log.read_text())
        told = sum(bool(re.fullmatch(_STUCK, line)) for line in wrong)
        if not faults and told != sum(map(is_stuck, range(requests))):
            faults.append(f"the log tells of {told} stuck calls")
        faults += [line for line in wrong if not re.fullmatch(_STUCK, line)]
    return faults


def _wait_for(log: Path, text: str) -> None:
    limit = time.monotonic() + _PATIENCE
    while text not in log.read_text():
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.01)


def main() -> None:
    """Run with one thread and with four, and print what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crew_stress", description=__doc__)
    parser.add_argument("--requests", type=int, default=500_000, help="in all")
    parser.add_argument("--connections", type=int, default=24)
    parser.add_argument("--reloads", type=int, default=20, help="in each run, in pairs")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    failed = False
    for threads in (1, 4):
        began = time.monotonic()
        requests = options.requests // 2
        faults = run(threads, requests, options.connections, seed, options.reloads)
        seconds = time.monotonic() - began
        print(
            f"threads {threads}: {requests} requests in {seconds:.0f} s, {options.reloads} "
            f"reloads, {len(faults)} faults (seed {seed})",
            *faults[:50], sep="\n", flush=True,
        )  # fmt: skip
        failed = failed or bool(faults)
    sys.exit(failed)


if __name__ == "__main__":
    main()
