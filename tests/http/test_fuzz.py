"""Mutated messages: a value or a ProtocolError, nothing else, and the same in whatever pieces."""

from hypothesis import given, settings
from hypothesis import strategies as st

from forkserve.http.body import ChunkedDecoder
from forkserve.http.errors import ProtocolError
from forkserve.http.framing import request_framing
from forkserve.http.head import Head, Limits, parse_head

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
