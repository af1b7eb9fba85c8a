"""The response encoder: octets for what an application says, and refusals of what it may not."""

import pytest

from forkserve.http.errors import InvalidResponse
from forkserve.http.response import ResponseEncoder, early_hints, own_lines

DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
OWN = own_lines(DATE, server=True)
Headers = list[tuple[str, str]]


def encode(
    headers: Headers,
    blocks: list[bytes],
    *,
    method: str = "GET",
    minor: int = 1,
    persist: bool = True,
    status: str = "200 OK",
) -> tuple[list[bytes], bytes, ResponseEncoder]:
    """(lines of the head without Server and Date, octets of the body, the encoder)."""
    encoder = ResponseEncoder(method, minor, persist)
    encoder.start(status, headers)
    octets = encoder.head(OWN) + b"".join(encoder.block(block) for block in blocks)
    octets += encoder.end()
    head, _, body = octets.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    own = [b"Server: forkserve", DATE.strip()]
    assert all(lines.count(line) == 1 for line in own)
    return [line for line in lines if line not in own], body, encoder


def test_blocks_become_chunks() -> None:
    lines, body, encoder = encode([("X", "y")], [b"hello", b"a" * 16])
    assert lines == [b"HTTP/1.1 200 OK", b"X: y", b"Transfer-Encoding: chunked"]
    assert body == b"5\r\nhello\r\n10\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n"
    assert encoder.persist
    assert encoder.body_octets == 21


def test_a_content_length_of_the_application() -> None:
    lines, body, encoder = encode([("content-length", "10")], [b"hello", b"world"])
    assert lines == [b"HTTP/1.1 200 OK", b"Content-Length: 10"]
    assert body == b"helloworld"
    assert encoder.persist
    assert (encoder.missing, encoder.excess) == (0, 0)


def test_a_body_that_is_too_long_is_cut() -> None:
    _, body, encoder = encode([("Content-Length", "7")], [b"hello", b"world", b"!"])
    assert body == b"hellowo"
    assert encoder.excess == 4
    assert encoder.persist


def test_a_body_that_is_too_short_ends_the_connection() -> None:
    _, body, encoder = encode([("Content-Length", "7")], [b"hello"])
    assert (body, encoder.missing, encoder.persist) == (b"hello", 2, False)


def test_http_1_0() -> None:
    lines, body, encoder = encode([], [b"hello"], minor=0)
    assert lines == [b"HTTP/1.1 200 OK", b"Connection: close"]
    assert (body, encoder.persist) == (b"hello", False)
    lines, body, encoder = encode([("Content-Length", "5")], [b"hello"], minor=0)
    assert lines == [b"HTTP/1.1 200 OK", b"Content-Length: 5", b"Connection: keep-alive"]
    assert encoder.persist


def test_a_close_is_announced() -> None:
    lines, _, _ = encode([("Content-Length", "0")], [], persist=False)
    assert lines[-1] == b"Connection: close"
    lines, _, encoder = encode([("Connection", "x, Close"), ("Content-Length", "0")], [])
    assert lines == [b"HTTP/1.1 200 OK", b"Content-Length: 0", b"Connection: close"]
    assert not encoder.persist


@pytest.mark.parametrize("length", [[], [("Content-Length", "5")]])
def test_no_body_after_head(length: Headers) -> None:
    lines, body, encoder = encode(length, [b"hello"], method="HEAD")
    assert lines == [b"HTTP/1.1 200 OK"] + [b"Content-Length: 5"] * len(length)
    assert body == b""
    assert (encoder.persist, encoder.body_octets) == (True, 0)


def test_no_body_and_no_length_with_204() -> None:
    lines, body, _ = encode([("Content-Length", "5")], [b"hello"], status="204 No Content")
    assert (lines, body) == ([b"HTTP/1.1 204 No Content"], b"")


def test_no_body_with_304_and_the_length_that_the_application_knows() -> None:
    lines, body, _ = encode([("Content-Length", "5")], [b"hello"], status="304 Not Modified")
    assert (lines, body) == ([b"HTTP/1.1 304 Not Modified", b"Content-Length: 5"], b"")


def test_an_empty_205() -> None:
    lines, body, _ = encode([("Content-Length", "5")], [b"hello"], status="205 Reset Content")
    assert (lines, body) == ([b"HTTP/1.1 205 Reset Content", b"Content-Length: 0"], b"")


@pytest.mark.parametrize(
    ("method", "status", "block", "line"),
    [
        ("GET", "200 OK", b"hello", b"Content-Length: 5"),
        ("GET", "200 OK", b"", b"Content-Length: 0"),
        ("HEAD", "200 OK", b"hello", b"Content-Length: 5"),
        ("HEAD", "200 OK", b"", None),
        ("GET", "304 Not Modified", b"", None),
        ("GET", "204 No Content", b"", None),
    ],
)
def test_a_lone_block_has_a_known_length(
    method: str, status: str, block: bytes, line: bytes | None
) -> None:
    encoder = ResponseEncoder(method, 1, True)
    encoder.start(status, [])
    octets = encoder.only(OWN, block)
    head, _, body = octets.partition(b"\r\n\r\n")
    assert [item for item in head.split(b"\r\n") if item.startswith(b"Content-L")] == (
        [] if line is None else [line]
    )
    assert body == (b"" if method == "HEAD" or status[:3] in ("204", "304") else block)
    assert b"Transfer-Encoding" not in head


def test_a_lone_block_of_another_length_than_announced() -> None:
    for length, sent in ((3, b"hel"), (7, b"hello")):
        encoder = ResponseEncoder("GET", 1, True)
        encoder.start("200 OK", [("Content-Length", str(length))])
        assert encoder.only(OWN, b"hello").endswith(b"\r\n\r\n" + sent)
        assert (encoder.missing, encoder.excess) == (max(0, length - 5), max(0, 5 - length))
        assert encoder.persist == (length <= 5)


@pytest.mark.parametrize(
    ("method", "status", "length", "persist"),
    [
        ("GET", "200 OK", 6, False),
        ("GET", "200 OK", 5, True),
        ("GET", "200 OK", 4, True),
        ("HEAD", "200 OK", 6, True),
        ("GET", "304 Not Modified", 6, True),
    ],
)
def test_a_lone_block_that_is_too_short_announces_the_close(
    method: str, status: str, length: int, persist: bool
) -> None:
    encoder = ResponseEncoder(method, 1, True)
    encoder.start(status, [("Content-Length", str(length))])
    head = encoder.only(OWN, b"hello").partition(b"\r\n\r\n")[0]
    assert (b"Connection: close" not in head.split(b"\r\n")) == encoder.persist == persist
    assert b"Content-Length: %d" % length in head


@pytest.mark.parametrize(
    ("method", "status", "length", "blocks", "sated"),
    [
        ("GET", "200 OK", None, [b"hello"], False),
        ("GET", "200 OK", "5", [b"hello"], False),
        ("GET", "200 OK", "5", [b"hello", b"!"], True),
        ("HEAD", "200 OK", None, [b"a"], True),
        ("GET", "204 No Content", None, [b"a"], True),
        ("GET", "304 Not Modified", "5", [b"a"], True),
    ],
)
def test_what_can_take_no_more_of_a_body_is_sated(
    method: str, status: str, length: str | None, blocks: list[bytes], sated: bool
) -> None:
    headers = [] if length is None else [("Content-Length", length)]
    _, _, encoder = encode(headers, blocks, method=method, status=status)
    assert encoder.sated == sated


@pytest.mark.parametrize("server", [True, False])
@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ([], ["Server", "Date"]),
        ([("DATE", "then")], ["Server"]),
        ([("server", "mine")], ["Date"]),
        ([("server", "mine"), ("Date", "then")], []),
        ([("server", "mine"), ("Server", "and mine"), ("Date", "then")], []),
    ],
)
def test_date_and_server_unless_the_application_sends_them(
    headers: Headers, own: list[str], server: bool
) -> None:
    encoder = ResponseEncoder("GET", 1, True)
    encoder.start("200 OK", [*headers, ("Content-Length", "0")])
    expected = "HTTP/1.1 200 OK\r\n"
    expected += "".join(f"{name}: {value}\r\n" for name, value in headers)
    expected += "Content-Length: 0\r\n"
    if "Server" in own and server:
        expected += "Server: forkserve\r\n"
    if "Date" in own:
        expected += DATE.decode()
    assert encoder.head(own_lines(DATE, server=server)).decode() == expected + "\r\n"


# ---- a body that somebody else sends


@pytest.mark.parametrize(
    ("method", "status", "length", "known", "sent", "missing", "excess"),
    [
        ("GET", "200 OK", None, 10, 10, 0, 0),
        ("GET", "200 OK", "10", 10, 10, 0, 0),
        ("GET", "200 OK", "7", 10, 7, 0, 3),
        ("GET", "200 OK", "12", 10, 10, 2, 0),
        ("GET", "200 OK", "0", 10, 0, 0, 10),
        ("HEAD", "200 OK", None, 10, 0, 0, 0),
        ("GET", "204 No Content", None, 10, 0, 0, 0),
        ("GET", "304 Not Modified", "7", 10, 0, 0, 0),
    ],
)
def test_a_part_that_is_sent_by_somebody_else(
    method: str, status: str, length: str | None, known: int, sent: int, missing: int, excess: int
) -> None:
    encoder = ResponseEncoder(method, 1, True)
    encoder.start(status, [] if length is None else [("Content-Length", length)])
    head = encoder.head(OWN, known)
    assert encoder.part(known) == encoder.body_octets == sent
    assert (encoder.missing, encoder.excess) == (missing, excess)
    assert encoder.end() == b""
    assert (b"Connection: close\r\n" in head) == (not encoder.persist) == (missing > 0)
    assert (b"Content-Length: %d\r\n" % int(length or known) in head) == ("204" not in status)
    assert b"chunked" not in head


# ---- 103


def test_early_hints() -> None:
    fields = [("Link", "</a.css>; rel=preload"), ("Link", "</\xe9>"), ["X", ""]]
    assert early_hints(fields) == (  # type: ignore[arg-type]
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </\xe9>\r\nX: \r\n\r\n"
    )


@pytest.mark.parametrize(
    "name",
    ["Content-Length", "TRANSFER-ENCODING", "Connection", "Keep-Alive", "Upgrade", "Trailer"],
)
def test_early_hints_say_nothing_of_framing_and_connection(name: str) -> None:
    assert early_hints([(name, "5")]) == early_hints([]) == b""
    assert name.encode() not in early_hints([("X", "y"), (name, "5")])


@pytest.mark.parametrize(
    "header", [("X", "a\r\nY: b"), ("X", "\u20ac"), ("X", None), (b"X", "a"), ("", "a"), "ab", None]
)
def test_early_hints_are_checked_like_any_header(header: tuple[str, str]) -> None:
    with pytest.raises(InvalidResponse):
        early_hints([("A", "b"), header])


def test_fields_that_are_the_servers_to_send_are_dropped() -> None:
    lines, _, encoder = encode(
        [("Transfer-Encoding", "gzip"), ("Keep-Alive", "x"), ("Connection", "keep-alive"),
         ("Upgrade", "h2c"), ("Proxy-Authenticate", "Basic"), ("proxy-authorization", "x"),
         ("X", "y")], [b"a"],
    )  # fmt: skip
    assert lines == [b"HTTP/1.1 200 OK", b"X: y", b"Transfer-Encoding: chunked"]
    assert encoder.dropped == [
        "Transfer-Encoding", "Keep-Alive", "Connection", "Upgrade", "Proxy-Authenticate",
        "proxy-authorization",
    ]  # fmt: skip


def test_a_second_start_replaces_the_first() -> None:
    encoder = ResponseEncoder("GET", 1, True)
    encoder.start("200 OK", [("Content-Length", "5"), ("X", "y"), ("Date", "then")])
    encoder.start("500 Oops", [("Z", "z")])
    octets = encoder.head(OWN)
    assert octets.startswith(b"HTTP/1.1 500 Oops\r\nZ: z\r\nTransfer-Encoding: chunked\r\n")
    assert DATE in octets


@pytest.mark.parametrize(
    "headers",
    [
        [("X", "a"), ("X", "b")],
        [("X", "")],
        [("X", "\xe9\xff\t ~")],
        [("x!#$%&'*+-.^_`|~", "y")],
        [["X", "a list"]],
        [("Content-Length", "5"), ("Content-Length", "5")],
    ],
)
def test_headers_that_pass(headers: Headers) -> None:
    encode(headers, [b"hello"])


@pytest.mark.parametrize(
    "status",
    [None, 200, b"200 OK", "", "200", "200OK", "20 OK", "2000 OK", " 200 OK", "abc OK", "100 Continue",
     "101 Switching", "000 X", "200 O\rK", "200 O\nK", "200 OK\r\nX: y", "200 \x00", "200 \u20ac",
     "\u0662\u0660\u0660 OK"],
)  # fmt: skip
def test_statuses_that_are_refused(status: str) -> None:
    with pytest.raises(InvalidResponse):
        ResponseEncoder("GET", 1, True).start(status, [])


@pytest.mark.parametrize(
    "header",
    [
        ("X", "a\rb"), ("X", "a\nb"), ("X", "a\r\nY: b"), ("X", "\x00"), ("X", "\x1b[31m"),
        ("X", "\x7f"), ("X", "\u20ac"), ("X", None), ("X", 5), ("X", b"a"), (b"X", "a"), (None, "a"),
        ("", "a"), ("X Y", "a"), ("X:", "a"), ("X\r\nY", "a"), ("X\xe9", "a"), ("X\u20ac", "a"),
        ("X",), ("X", "a", "b"), "ab", "X: a", None, 5, ("X", ["a"]), ("X", "a" * 300 + "\n"),
        ("Content-Length", "-1"), ("Content-Length", "+1"), ("Content-Length", "1 "),
        ("Content-Length", ""), ("Content-Length", "1_0"), ("Content-Length", "\u0665"),
        ("Content-Length", "9" * 30),
    ],
)  # fmt: skip
def test_headers_that_are_refused(header: tuple[str, str]) -> None:
    for headers in ([header], [("A", "b"), header], [header, ("A", "b")]):
        encoder = ResponseEncoder("GET", 1, True)
        with pytest.raises(InvalidResponse):
            encoder.start("200 OK", headers)
        assert encoder.code == 0
        encoder.start("500 Sorry", [])
        assert encoder.head(OWN).startswith(b"HTTP/1.1 500 Sorry\r\n")


def test_what_was_checked_is_what_is_sent() -> None:
    """Of a subclass of str the text counts, and not what it shows itself as."""

    class Word(str):
        def __str__(self) -> str:
            return "a\r\nb"

        def __format__(self, spec: str) -> str:
            return "a\r\nb"

    field = (Word("X"), Word("y"))
    lines, _, _ = encode([field], [b"x"], status=Word("200 OK"))
    assert lines == [b"HTTP/1.1 200 OK", b"X: y", b"Transfer-Encoding: chunked"]
    assert early_hints([field]) == b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"


def test_differing_lengths_are_refused() -> None:
    with pytest.raises(InvalidResponse):
        encode([("Content-Length", "5"), ("content-length", "6")], [])


def test_cookies_are_not_remembered() -> None:
    from forkserve.http import response

    encode([("Set-Cookie", "s3cret"), ("ETag", "s3cret"), ("X", "y")], [])
    assert not any("s3cret" in value for _, value in response._known)
    for number in range(3000):
        encode([("X", str(number))], [])
    assert len(response._known) <= 1024
