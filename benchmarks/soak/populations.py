"""What the clients do: each population's requests, and the answers that are right.

A request is a list of pieces, each with the pause before it, and the body of its answer.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Piece = tuple[float, bytes]


@dataclass(frozen=True, slots=True)
class Request:
    """``pieces`` as they are sent; ``body`` is what must come back, octet by octet."""

    pieces: list[Piece]
    body: bytes


@dataclass(frozen=True, slots=True)
class Population:
    """Clients of one kind. ``pause``: seconds between an answer and the next request, from, to.

    ``once``: each request asks for its connection to be closed, and the next has another.
    """

    make: Callable[[int, Random], Request]
    pause: tuple[float, float]
    once: bool = False


def _get(target: str, body: bytes, fields: str = "") -> Request:
    head = f"GET {target} HTTP/1.1\r\nHost: soak\r\n{fields}\r\n"
    return Request([(0.0, head.encode())], body)


def fast(number: int, random: Random) -> Request:
    return _get(f"/fast?{number}", b"fast %d" % number)


def once(number: int, random: Random) -> Request:
    return _get(f"/slow?{number}&0.005", b"slow %d" % number, "Connection: close\r\n")


def slow(number: int, random: Random) -> Request:
    return _get(f"/slow?{number}&{random.uniform(0.2, 0.5):.3f}", b"slow %d" % number)


def half_second(number: int, random: Random) -> Request:
    return _get(f"/slow?{number}&0.5", b"slow %d" % number)


def timed(number: int, random: Random) -> Request:
    return _get(f"/timed?{number}&0.002", b"timed %d" % number)


def stream(number: int, random: Random) -> Request:
    blocks = random.randrange(5, 20)
    line = b"%016x %06d;"
    body = b"".join(line % (number, index) * 40 for index in range(blocks))
    return _get(f"/stream?{number}&{blocks},0.1", body)


def _body(random: Random) -> list[Piece]:
    """Two seconds, more or less, in small pieces."""
    return [
        (random.uniform(0.02, 0.1), random.randbytes(random.randrange(1, 2000)))
        for _ in range(random.randrange(10, 50))
    ]


def _upload(number: int, field: str, pieces: list[Piece], content: bytes) -> Request:
    head = f"POST /upload?{number} HTTP/1.1\r\nHost: soak\r\n{field}\r\n\r\n".encode()
    answer = b"%d: %d %08x" % (number, len(content), zlib.crc32(content))
    return Request([(0.0, head), *pieces], answer)


def upload(number: int, random: Random) -> Request:
    pieces = _body(random)
    content = b"".join(octets for _, octets in pieces)
    return _upload(number, f"Content-Length: {len(content)}", pieces, content)


def chunked(number: int, random: Random) -> Request:
    pieces = _body(random)
    content = b"".join(octets for _, octets in pieces)
    chunks = [(pause, b"%x\r\n%s\r\n" % (len(octets), octets)) for pause, octets in pieces]
    chunks.append((0.05, b"0\r\n\r\n"))
    return _upload(number, "Transfer-Encoding: chunked", chunks, content)


KINDS = {
    "flat out": Population(fast, (0.0, 0.0)),
    "busy": Population(fast, (0.0, 0.004)),
    "once": Population(once, (0.0, 0.0), once=True),
    "slow": Population(slow, (0.0, 0.1)),
    "half second": Population(half_second, (0.0, 0.0)),
    "sharing": Population(timed, (0.0, 0.0)),
    "uploading": Population(upload, (0.0, 0.1)),
    "chunked": Population(chunked, (0.0, 0.1)),
    "streaming": Population(stream, (0.0, 0.1)),
    "idle": Population(fast, (1.0, 3.0)),
}
