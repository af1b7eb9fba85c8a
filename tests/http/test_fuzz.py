"""Mutated messages: a value or a ProtocolError, nothing else, and the same in whatever pieces."""

import re
import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkserve.http.body import ChunkedDecoder
from forkserve.http.errors import ProtocolError
from forkserve.http.framing import CHUNKED, request_framing
from forkserve.http.head import Head, Limits, parse_head
from tests.http.corpus import Reading
from tests.worker.peer import Peer, hello

LIMITS = Limits(request_line=200, fields=10, field_size=200, head=600)

HEADS = [
    b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
    b"POST http://h:80/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    b"\r\nPUT / HTTP/1.0\r\nContent-Length: 007\r\nConnection: keep-alive, x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: chunked\r\n\r\n",
]
BODIES = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b'1;a="b"\r\nx\r\n0a\r\n0123456789\r\n000;c\r\nX: y\r\n\r\n',
]
SPICE = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b";", b"#", b"_", b"0", b"9" * 30, b"\xe9",
     b"\x85", b"Host: x\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"\r\n\r\n",
     b"a" * 250, b"A: b\r\n" * 12, b"HTTP/1.1", b"*", b"http://", b"[", b"]", b"%"]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        piece = draw(st.one_of(SPICE, st.binary(max_size=3)))
        data = data[:at] + piece + data[at + cut :]
    return data


def head_of(data: bytes) -> object:
    """All that is decided from a head: its parts and its framing, or the refusal."""
    try:
        head = parse_head(data, 0, LIMITS)
        if head is None:
            return None
        framing = request_framing(head, 1000)
    except ProtocolError as error:
        return (error.status, error.detail)
    assert isinstance(head, Head)
    assert "\n" not in str(head.fields)
    assert data[: head.end].endswith(b"\r\n\r\n")
    return (
        head.line, head.path, head.query, head.minor, tuple(head.fields.items()), head.end,
        framing.length, framing.persist, framing.expect_continue,
    )  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(mutated(HEADS), st.binary(max_size=40))
def test_heads(data: bytes, behind: bytes) -> None:
    whole = head_of(data)
    found = None
    for length in range(len(data) + 1):
        found = head_of(data[:length])
        if found is not None:
            break
    assert found == whole
    if whole is not None:
        assert head_of(data + behind) == whole


@settings(max_examples=400, deadline=None)
@given(mutated(BODIES), st.lists(st.integers(1, 9), max_size=80))
def test_chunked_bodies(data: bytes, sizes: list[int]) -> None:
    def run(pieces: list[bytes]) -> object:
        decoder = ChunkedDecoder(LIMITS, 1000)
        content: list[bytes] = []
        left, taken = b"", 0
        try:
            for piece in pieces:
                left += piece
                end = decoder.decode(left, 0, content)
                left, taken = left[end:], taken + end
                if decoder.finished:
                    break
        except ProtocolError as error:
            return (error.status, error.detail)
        return (b"".join(content), decoder.finished, taken if decoder.finished else None)

    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    pieces.append(data[start:])
    assert run([data]) == run(pieces)
    assert run([data]) == run([bytes([octet]) for octet in data])


# ---- never two requests where one was framed

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
MESSAGES = [
    b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nA: b\r\n\r\n" % len(SMUGGLED),
    b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n"
    b"%x;a=b\r\n%b\r\n0\r\nA: b\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
]
DISGUISES = st.sampled_from(
    [b" ", b"\t", b"\r", b"\n", b"\r\n ", b"\0", b"\x0b", b"\xa0", b"_", b",", b", chunked", b"+", b"0x",
     b"\r\nContent-Length: 0", b"\r\nContent-Length : 0", b"\r\nTransfer-Encoding: chunked",
     b"\nTransfer-Encoding: chunked", b"\rContent-Length: 0", b"\r\nTransfer-Encoding:\r\n chunked",
     b"\r\nTransfer-Encoding : chunked", b"\r\nTransfer\x85-Encoding: chunked", b"x", b"\r\n\r\n"]
)  # fmt: skip


@st.composite
def disguised(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(MESSAGES))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, 75))  # in the head
        data = data[:at] + draw(DISGUISES) + data[at + draw(st.integers(0, 2)) :]
    return data + SMUGGLED.replace(b"smuggled", b"next") if draw(st.booleans()) else data


def framing_fields(head: bytes) -> tuple[list[bytes], list[bytes]]:
    """Content-Length and Transfer-Encoding as the most lenient reader would find them: any end of
    a line, whatever stands in and around a name, folded lines continued."""
    found: dict[bytes, list[bytes]] = {b"content-length": [], b"transfer-encoding": []}
    for line in re.split(rb"[\r\n\0]+(?![ \t])", head):
        name, colon, value = line.partition(b":")
        plain = re.sub(rb"[\0-\x20\x7f-\xff]", b"", name).lower()
        if colon and plain in found:
            found[plain].append(value.strip(b" \t").lower())
    return found[b"content-length"], found[b"transfer-encoding"]


@settings(max_examples=1000, deadline=None)
@given(disguised())
def test_no_reader_finds_another_framing_in_what_is_accepted(data: bytes) -> None:
    reading = Reading()
    reading.feed(data)
    for octets, _, framing in reading.heads:
        lengths, codings = framing_fields(octets)
        if framing.length == CHUNKED:
            assert (lengths, codings) == ([], [b"chunked"])
        else:
            assert codings == []
            assert [int(length) for length in lengths] in ([], [framing.length])
            assert lengths or framing.length == 0


def strict_chunks(data: bytes) -> tuple[bytes, int] | None:
    """(content, octets) of a chunked body: nothing but the grammar, with nothing left out."""
    content, start = b"", 0
    while line := re.compile(rb"([0-9A-Fa-f]+)((?:[ \t]*;[^\r\n]*)?)\r\n").match(data, start):
        size, start = int(line[1], 16), line.end()
        if size == 0:
            trailers = re.compile(rb"(?:[^\r\n:]+:[^\r\n]*\r\n)*\r\n").match(data, start)
            return (content, trailers.end()) if trailers else None
        content += data[start : start + size]
        start += size + 2
        if data[start - 2 : start] != b"\r\n":
            return None
    return None


@settings(max_examples=1000, deadline=None)
@given(mutated(BODIES))
def test_a_chunked_body_ends_where_the_grammar_says(data: bytes) -> None:
    decoder = ChunkedDecoder(LIMITS, None)
    content: list[bytes] = []
    try:
        end = decoder.decode(data, 0, content)
    except ProtocolError:
        return
    assert 0 <= end <= len(data)
    if decoder.finished:
        assert strict_chunks(data) == (b"".join(content), end)


@settings(max_examples=300, deadline=None)
@given(st.lists(mutated(HEADS + MESSAGES), min_size=1, max_size=3), st.data())
def test_a_connection_of_mutated_messages(messages: list[bytes], data: st.DataObject) -> None:
    """The same requests, whatever the pieces; and none that no piece of the input spells."""
    octets = b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=8)))
    whole, pieces = Reading(), Reading()
    whole.feed(octets)
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        pieces.feed(octets[start:end])
    assert whole.outcome == pieces.outcome
    lines = re.findall(rb"[^\r\n]+(?= HTTP/1\.)", octets)
    for method, target, _ in whole.outcome.requests:
        assert any(line.endswith(f"{method} {target}".encode("latin-1")) for line in lines)


# ---- linear time, counted in what is done, not in seconds


def work(call: Callable[[], object]) -> int:
    """Calls of functions, of Python and of C, while ``call`` runs; the octets that ``parse_head``
    is shown count as one call for each sixteen."""
    count = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1
        if event == "call" and frame.f_code is parse_head.__code__:
            count += (len(frame.f_locals["buffer"]) - frame.f_locals["start"]) // 16

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


def pieces_of(octets: bytes, size: int) -> list[bytes]:
    return [octets[start : start + size] for start in range(0, len(octets), size)]


def converse(pieces: list[bytes]) -> Callable[[], None]:
    peer = Peer(hello, limit_request_fields=10000, limit_request_head=1 << 20)

    def call() -> None:
        for piece in pieces:
            peer.send(piece)

    return call


POST = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
INPUTS: dict[str, Callable[[int], list[bytes]]] = {
    "lines one by one": lambda n: [b"GET / HTTP/1.1\r\n", *[b"A: b\r\n"] * n],
    "long lines one by one": lambda n: [
        b"GET / HTTP/1.1\r\n", *[b"A: " + b"b" * 500 + b"\r\n"] * (n // 8),
    ],
    "a long line, octet by octet": lambda n: [b"GET / HTTP/1.1\r\n", b"A: ", *[b"b"] * n],
    "empty lines": lambda n: [b"\r\n"] * n,
    "CR and LF apart": lambda n: [b"\r", b"\n"] * n,
    "fields that are all joined": lambda n: [b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * n],
    "chunks of one octet, one by one": lambda n: [POST, *[b"1\r\nx\r\n"] * n],
    "chunks of one octet, at once": lambda n: [POST, *pieces_of(b"1\r\nx\r\n" * n, 16384)],
    "chunks, octet by octet": lambda n: [POST, *pieces_of(b"1\r\nx\r\n" * (n // 4), 1)],
    "a chunk, octet by octet": lambda n: [POST, b"ffff\r\n", *[b"x"] * n],
    "requests": lambda n: pieces_of(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * n, 4096),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_twice_the_octets_are_twice_the_work(name: str) -> None:
    small, large = (work(converse(INPUTS[name](size))) for size in (1000, 2000))
    assert large <= 2.6 * small
