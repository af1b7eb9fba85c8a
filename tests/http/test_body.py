"""Body decoders: content, how much was taken, and what is refused, however the octets arrive."""

import time

import pytest

from forkserve.http.body import ChunkedDecoder, Decoder, LengthDecoder
from forkserve.http.errors import ProtocolError
from forkserve.http.head import Limits

LIMITS = Limits()
NEXT = b"GET /next HTTP/1.1\r\n"


def feed(decoder: Decoder, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Feed the pieces, showing what was left again. Returns (content, what was left)."""
    content, left = b"", b""
    for piece in pieces:
        left += piece
        into: list[bytes] = []
        taken = decoder.decode(left, 0, into)
        assert all(into)
        content, left = content + b"".join(into), left[taken:]
    return content, left


def pieces_of(data: bytes) -> list[list[bytes]]:
    """Whole, octet by octet, and cut in two at each place."""
    single = [bytes([octet]) for octet in data]
    return [[data], single, *([data[:at], data[at:]] for at in range(1, len(data)))]


def decoded(data: bytes, max_body: int | None = None) -> bytes:
    results = set()
    for pieces in pieces_of(data + NEXT):
        decoder = ChunkedDecoder(LIMITS, max_body)
        content, left = feed(decoder, pieces)
        assert decoder.finished
        assert left == NEXT  # not one octet of the next request is taken
        results.add(content)
    assert len(results) == 1
    return results.pop()


def refusal(data: bytes, max_body: int | None = None, limits: Limits = LIMITS) -> int:
    results = set()
    for pieces in pieces_of(data):
        with pytest.raises(ProtocolError) as caught:
            feed(ChunkedDecoder(limits, max_body), pieces)
        results.add((caught.value.status, caught.value.detail))
    assert len(results) == 1, results
    return results.pop()[0]


def test_a_body_of_a_known_length() -> None:
    for pieces in pieces_of(b"hello" + NEXT):
        decoder = LengthDecoder(5)
        assert not decoder.finished
        assert feed(decoder, pieces) == (b"hello", NEXT)
        assert decoder.finished
    assert LengthDecoder(0).finished


def test_how_much_is_to_come_is_known_if_the_length_is() -> None:
    counted = LengthDecoder(5)
    assert counted.remaining == 5
    assert counted.decode(b"hel", 0, []) == 3
    assert (counted.remaining, counted.finished) == (2, False)
    assert counted.decode(b"lo" + NEXT, 0, []) == 2
    assert (counted.remaining, counted.finished) == (0, True)
    chunked = ChunkedDecoder(LIMITS, None)
    for octets in (b"", b"5\r\nhel", b"lo\r\n0\r\n\r\n"):
        chunked.decode(octets, 0, [])
        assert chunked.remaining is None
    assert chunked.finished


def test_decoding_starts_where_it_is_told_to() -> None:
    for decoder, data, end in (
        (LengthDecoder(2), b"xxhello", 4),
        (ChunkedDecoder(LIMITS, None), b"xx2\r\nhe\r\n0\r\n\r\n", 14),
    ):
        content = [b"before"]
        assert decoder.decode(data, 2, content) == end
        assert content == [b"before", b"he"]


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"0005\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", b"hello"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"5;a\r\nhello\r\n0;b=c\r\n\r\n", b"hello"),
        (b'5 ; a = "b;\\"c" ;d\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"5\r\nhello\r\n0\r\nX: y\r\nVary: *\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n0\r\nX_Y: z\r\n\r\n", b"hello"),
    ],
)
def test_chunked_bodies(data: bytes, content: bytes) -> None:
    assert decoded(data) == content


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"+5\r\n",
        b"-5\r\n",
        b"0x5\r\n",
        b"5_0\r\n",
        b"5g\r\n",
        b"g\r\n",
        b"\xd9\xa5\r\n",
        b"5\n",
        b"5\nhello\r\n",
        b"5\r\r\n",
        b"5;\r\n",
        b"5;a=\r\n",
        b"5;a\rb\r\n",
        b"5;a\nb\r\n",
        b"5;\x00\r\n",
        b'5;a="b\r\n',
        b"5 a\r\n",
        b"11111111111111111\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\n0\r\n",
        b"5\r\nhello0\r\n",
        b"5\r\nhello\r0\r\n",
        b"5\r\nhello\r\r\n",
        b"0\r\nno colon\r\n",
        b"0\r\n folded: x\r\n",
        b"0\r\nX : y\r\n",
        b"0\r\nX: \x00\r\n",
        b"0\r\nX: y\n",
        b"0\r\nContent-Length: 5\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n",
        b"0\r\nHost: evil\r\n",
        b"0\r\nAuthorization: x\r\n",
        b"0\r\nX-Forwarded-For: 1.2.3.4\r\n",
        b"0\r\nGET / HTTP/1.1\r\n",
        b"0;" + b"a" * 1100 + b"\r\n",
    ],
)
def test_chunked_bodies_that_are_refused(data: bytes) -> None:
    assert refusal(data) == 400


def test_the_size_is_limited_when_it_is_announced() -> None:
    assert decoded(b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", 10) == b"helloworld"
    assert refusal(b"5\r\nhello\r\n6\r\n", 10) == 413
    assert refusal(b"ffffffffffffffff\r\n", 10) == 413


def test_the_overhead_is_limited() -> None:
    small = Limits(fields=3, field_size=64, head=100)
    chunk = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
    with pytest.raises(ProtocolError) as caught:
        feed(ChunkedDecoder(LIMITS, None), [chunk * 20])
    assert caught.value.status == 400
    assert refusal(b"0\r\n" + b"A: b\r\n" * 4, limits=small) == 431
    assert refusal(b"0\r\nA: " + b"b" * 70 + b"\r\n", limits=small) == 431
    assert refusal(b"0\r\n" + (b"A: " + b"b" * 50 + b"\r\n") * 2, limits=small) == 431


@pytest.mark.parametrize(
    ("data", "sizes"),
    [
        (b"0\r\n\r\n", []),
        (b"5\r\nhello\r\n0\r\n\r\n", [5]),
        (b"1\r\nh\r\n4;a=b\r\nello\r\n0\r\nX: y\r\n\r\n", [1, 4]),
        (b"2\r\n\r\n\r\n0012\r\n" + b"x" * 18 + b"\r\n1\r\n0\r\n0\r\n\r\n", [2, 18, 1]),
    ],
)
def test_the_sizes_of_the_chunks_are_told(data: bytes, sizes: list[int]) -> None:
    for pieces in pieces_of(data + NEXT):
        decoder = ChunkedDecoder(LIMITS, None)
        content, _ = feed(decoder, pieces)
        assert decoder.sizes == sizes
        assert sum(sizes) == len(content)
        assert (decoder.to_come, decoder.unclosed) == (0, False)


def test_what_is_to_come_of_a_chunk_is_told() -> None:
    told = []
    decoder = ChunkedDecoder(LIMITS, None)
    for piece in (b"5\r\n", b"hel", b"lo", b"\r\n", b"1\r\nx\r\n0\r\n", b"\r\n"):
        decoder.decode(piece, 0, [])
        told.append((decoder.to_come, decoder.unclosed))
    assert told == [(5, False), (2, False), (0, True), (0, False), (0, False), (0, False)]


def test_a_size_that_is_refused_is_not_told() -> None:
    decoder = ChunkedDecoder(LIMITS, 4)
    with pytest.raises(ProtocolError):
        decoder.decode(b"1\r\nx\r\n5\r\nhello\r\n", 0, [])
    assert decoder.sizes == [1]


def test_a_truncated_body_is_not_finished() -> None:
    whole = b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"
    for length in range(len(whole)):
        decoder = ChunkedDecoder(LIMITS, None)
        feed(decoder, [whole[:length]])
        assert not decoder.finished


def test_what_is_left_is_never_more_than_one_line() -> None:
    decoder = ChunkedDecoder(LIMITS, None)
    first, second = b"5\r\nhello\r\n5\r\nwor", b"ld\r\n5;abc"
    assert decoder.decode(first, 0, []) == len(first)
    assert decoder.decode(second, 0, []) == len(b"ld\r\n")


def test_a_million_small_chunks_take_linear_time() -> None:
    piece = b"1\r\nx\r\n" * 10922
    decoder = ChunkedDecoder(LIMITS, None)
    began = time.perf_counter()
    content: list[bytes] = []
    for _ in range(92):
        decoder.decode(piece, 0, content)
    assert len(b"".join(content)) > 1_000_000
    assert time.perf_counter() - began < 20.0
