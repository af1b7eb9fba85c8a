"""Request heads: what is accepted, what is refused, and that neither depends on how it arrives."""

import time

import pytest

from forkserve.http.errors import ProtocolError
from forkserve.http.head import Head, Limits, parse_head

LIMITS = Limits()
SMALL = Limits(request_line=64, fields=4, field_size=48, head=160)
TRAILING = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"


def outcome(buffer: bytes, limits: Limits) -> tuple[int, str] | Head | None:
    try:
        return parse_head(buffer, 0, limits)
    except ProtocolError as error:
        return (error.status, error.detail)


def in_pieces(data: bytes, limits: Limits) -> tuple[int, str] | Head | None:
    """Feed octet by octet, and stop at the first result."""
    for length in range(1, len(data) + 1):
        result = outcome(data[:length], limits)
        if result is not None:
            return result
    return None


def as_tuple(result: object) -> object:
    if isinstance(result, Head):
        return tuple(getattr(result, name) for name in Head.__slots__)
    return result


def every_way(data: bytes, limits: Limits = LIMITS) -> tuple[int, str] | Head:
    """The outcome of ``data``, fed whole, octet by octet, in two parts, and with more behind it."""
    whole = outcome(data, limits)
    assert whole is not None, "incomplete"
    assert as_tuple(in_pieces(data, limits)) == as_tuple(whole)
    assert as_tuple(outcome(data + TRAILING, limits)) == as_tuple(whole)
    for offset in range(1, len(data)):
        first = outcome(data[:offset], limits)
        assert first is None or as_tuple(first) == as_tuple(whole)
    shifted = b"x" * 7 + data
    try:
        moved = parse_head(shifted, 7, limits)
    except ProtocolError as error:
        assert (error.status, error.detail) == whole
    else:
        assert isinstance(whole, Head)
        assert moved is not None
        assert moved.end == whole.end + 7
    return whole


def accepted(data: bytes, limits: Limits = LIMITS) -> Head:
    result = every_way(data, limits)
    assert isinstance(result, Head), result
    assert data[: result.end].endswith(b"\r\n\r\n")
    return result


def refused(data: bytes, limits: Limits = LIMITS) -> int:
    result = every_way(data, limits)
    assert not isinstance(result, Head), "accepted"
    return result[0]


def test_a_plain_request() -> None:
    head = accepted(b"GET /a/b?c=d&e HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n")
    assert (head.method, head.target, head.path, head.query) == (
        "GET",
        "/a/b?c=d&e",
        "/a/b",
        "c=d&e",
    )
    assert head.line == "GET /a/b?c=d&e HTTP/1.1"
    assert head.minor == 1
    assert head.fields == {"HTTP_HOST": "h", "HTTP_ACCEPT": "*/*"}


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"/x?y?z", "/x", "y?z"),
        (b"//a//b", "//a//b", ""),
        (b"/..%2f%00", "/..%2f%00", ""),
        (b"/a%zz", "/a%zz", ""),
        (b"/?ids[]=1&range=a|b{c}^`\\", "/", "ids[]=1&range=a|b{c}^`\\"),
        (b"/" + b"a" * 5000, "/" + "a" * 5000, ""),
        (b"http://h/p?q", "/p", "q"),
        (b"HTTP://h", "/", ""),
        (b"http://h?q", "/", "q"),
    ],
)
def test_targets(target: bytes, path: str, query: str) -> None:
    head = outcome(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n", LIMITS)
    assert isinstance(head, Head)
    assert (head.target.encode(), head.path, head.query) == (target, path, query)
    assert head.fields["HTTP_HOST"] == "h"


def test_the_host_of_an_absolute_target_replaces_the_field() -> None:
    head = accepted(b"GET http://one:81/ HTTP/1.1\r\nHost: two\r\n\r\n")
    assert head.fields["HTTP_HOST"] == "one:81"


def test_options_asterisk() -> None:
    assert accepted(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").path == "*"
    assert accepted(b"OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n").path == "*"
    assert accepted(b"OPTIONS http://h/ HTTP/1.1\r\nHost: h\r\n\r\n").path == "/"


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.2", b"HTTP/1.9"])
def test_a_later_minor_version_is_served_as_1_1(version: bytes) -> None:
    assert accepted(b"GET / " + version + b"\r\nHost: h\r\n\r\n").minor == 1


def test_http_1_0_needs_no_host() -> None:
    head = accepted(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.minor, head.fields) == (0, {})


def test_empty_lines_before_the_request_line_are_ignored() -> None:
    head = accepted(b"\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n")
    assert head.method == "GET"
    assert refused(b"\r\n" * 40 + b"GET / HTTP/1.0\r\n\r\n", SMALL) == 400
    assert outcome(b"\r\n" * 32, SMALL) is None
    assert refused(b"\r\n" * 33, SMALL) == 400  # without waiting for a request line


@pytest.mark.parametrize(
    "method", [b"GET", b"get", b"M-SEARCH", b"!#$%&'*+-.^_`|~", b"PROPFIND", b"X"]
)
def test_any_token_is_a_method(method: bytes) -> None:
    assert accepted(method + b" / HTTP/1.0\r\n\r\n").method == method.decode()


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b"A:", {"HTTP_A": ""}),
        (b"A: \t ", {"HTTP_A": ""}),
        (b"A:b", {"HTTP_A": "b"}),
        (b"A: \t b \t c \t", {"HTTP_A": "b \t c"}),
        (b"A: b: c", {"HTTP_A": "b: c"}),
        (b"X.Y|Z: 1", {"HTTP_X.Y|Z": "1"}),
        (b"a-b-C: 1", {"HTTP_A_B_C": "1"}),
        (b"A: \xe9\xff\x80", {"HTTP_A": "\xe9\xff\x80"}),
        (b"Content-Type: t/x", {"CONTENT_TYPE": "t/x"}),
        (b"content-LENGTH: 007", {"CONTENT_LENGTH": "007"}),
        (b"A: 1\r\na: 2\r\nA:3", {"HTTP_A": "1,2,3"}),
        (b"Cookie: a=1\r\nCookie: b=2", {"HTTP_COOKIE": "a=1; b=2"}),
        (b"X_Y: 1\r\nX-Y: 2", {"HTTP_X_Y": "2"}),
        (b"X-Y: 1\r\nX_Y: 2", {"HTTP_X_Y": "1"}),
        (b"Content_Length: 1", {}),
        (b"Transfer_Encoding: chunked", {}),
        (b"Proxy: http://evil/", {}),
        (b"pROXY: http://evil/", {}),
        (b"Proxy-Connection: x", {"HTTP_PROXY_CONNECTION": "x"}),
    ],
)
def test_fields(line: bytes, fields: dict[str, str]) -> None:
    assert accepted(b"GET / HTTP/1.0\r\n" + line + b"\r\n\r\n").fields == fields


@pytest.mark.parametrize(
    "value",
    [b"", b"h", b"h:", b"h:80", b"h:00080", b"0.0.0.0=5000", b"a_b.c", b"%41", b"[::1]",
     b"[2001:db8::1]:8080", b"h.", b"-", b"a,b"],
)  # fmt: skip
def test_valid_hosts(value: bytes) -> None:
    head = accepted(b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n")
    assert head.fields["HTTP_HOST"] == value.decode()


@pytest.mark.parametrize(
    "value",
    [b"h h", b"h\th", b"h/p", b"h?q", b"h#f", b"u@h", b"h:x", b"h:-1", b"h:+80", b"h:80:80",
     b"h:65536", b"h:1_0", b"[::1", b"::1", b"[:::]", b"[g::]", b"[]", b"[::1]x", b"h\\", b'"h"',
     b"<h>", b"h%4", b"h%", b"\xe9", b"h^", b"[1.2.3.4]", b":80", b":"],
)  # fmt: skip
def test_malformed_hosts(value: bytes) -> None:
    assert refused(b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n") == 400
    assert refused(b"GET / HTTP/1.0\r\nHost: " + value + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhOST: b\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET http://h/ HTTP/1.1\r\n\r\n",
        b"GET http://h/ HTTP/1.1\r\nHost: a b\r\n\r\n",
    ],
)
def test_host_is_owed_once(head: bytes) -> None:
    assert refused(head) == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET", 400),
        (b"GET /", 400),
        (b"GET / ", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET\t/\tHTTP/1.1", 400),
        (b"GET / a HTTP/1.1", 400),
        (b"G(T / HTTP/1.1", 400),
        (b"GET: / HTTP/1.1", 400),
        (b"G\x00T / HTTP/1.1", 400),
        (b"G\xc9T / HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00 / HTTP/1.1", 400),
        (b"HTTP/1.1 GET /", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1", 400),
        (b"GET / HTTP/11", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/01.1", 400),
        (b"GET / HTTP/.1", 400),
        (b"GET / HTTP/1.\xb2", 400),
        (b"GET / HTTPS/1.1", 400),
        (b"GET / HTTP/0.9", 505),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/9.9", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET * HTTP/1.1", 400),
        (b"GET a/b HTTP/1.1", 400),
        (b"GET h:80 HTTP/1.1", 400),
        (b"GET ?q HTTP/1.1", 400),
        (b"GET /a#b HTTP/1.1", 400),
        (b"GET /?a#b HTTP/1.1", 400),
        (b'GET /"a" HTTP/1.1', 400),
        (b"GET /<a> HTTP/1.1", 400),
        (b"GET /\xc3\xa9 HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\x0b HTTP/1.1", 400),
        (b"GET /\r HTTP/1.1", 400),
        (b"GET ftp://h/ HTTP/1.1", 400),
        (b"GET https://h/ HTTP/1.1", 421),
        (b"GET http:///p HTTP/1.1", 400),
        (b"GET http://:80/p HTTP/1.1", 400),
        (b"GET http://u@h/ HTTP/1.1", 400),
        (b"GET http://u:p@h/ HTTP/1.1", 400),
        (b"GET http://h:99999/ HTTP/1.1", 400),
        (b"GET http://[::1/ HTTP/1.1", 400),
        (b"GET http:/h/ HTTP/1.1", 400),
        (b"CONNECT h:443 HTTP/1.1", 501),
        (b"CONNECT / HTTP/1.1", 501),
    ],
)
def test_request_lines_that_are_refused(line: bytes, status: int) -> None:
    assert refused(line + b"\r\nHost: h\r\n\r\n") == status


@pytest.mark.parametrize(
    ("target", "status"),
    [("https://h:81/p?q", 0), ("HTTPS://h", 0), ("http://h/", 421), ("ftp://h/", 400), ("/", 0),
     ("https:///p", 400), ("https://u@h/", 400)],
)  # fmt: skip
def test_behind_tls_an_absolute_target_is_of_https(target: str, status: int) -> None:
    octets = f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    if status:
        with pytest.raises(ProtocolError) as caught:
            parse_head(octets, 0, Limits(scheme="https"))
        assert caught.value.status == status
    else:
        head = parse_head(octets, 0, Limits(scheme="https"))
        assert head is not None and head.end == len(octets)


@pytest.mark.parametrize(
    "line",
    [
        b"no colon",
        b"",
        b": no name",
        b" : no name",
        b"A : blank before the colon",
        b"A\t: tab before the colon",
        b" A: blank in front",
        b"A B: blank inside",
        b"A: folded\r\n line",
        b"A: folded\r\n\tline",
        b"A:\r\n B",
        b"A(): delimiters",
        b'"A": quoted',
        b"A\xe9: not ASCII",
        b"A\x00: NUL",
        b"A: \x00",
        b"A: a\x01b",
        b"A:\x0bchunked",
        b"A: \x0c",
        b"A: \x1b[31m",
        b"A: \x7f",
        b"A: a\rb",
        b"A: a\r",
        b"A: \ra",
        b"A\r: b",
        b"\rA: b",
        b"A: b\nC: d",
        b"A: b\n",
        b"\nA: b",
        b"Content-Length:",
        b"Content-Length: a",
        b"Content-Length: -1",
        b"Content-Length: +1",
        b"Content-Length: 1_0",
        b"Content-Length: 0x1",
        b"Content-Length: 1 0",
        b"Content-Length: 1,1",
        b"Content-Length: 5, 5",
        b"Content-Length: 1.0",
        b"Content-Length: \xb2",
        b"Content-Length: \xd9\xa5",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Type: a/b\r\nContent-Type: a/b",
    ],
)
def test_field_lines_that_are_refused(line: bytes) -> None:
    if line:
        assert refused(b"GET / HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n\r\n") == 400
        assert refused(b"GET / HTTP/1.1\r\n" + line + b"\r\nHost: h\r\n\r\n") == 400


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\nHost: h\n\n",
        b"GET / HTTP/1.1\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\n",
        b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_a_bare_lf_is_refused_at_once(head: bytes) -> None:
    """Not after the deadline of the head: it may never get the blank line that it ends with."""
    first_lf = next(
        index
        for index, octet in enumerate(head)
        if octet == 10 and head[index - 1 : index] != b"\r"
    )
    assert outcome(head[: first_lf + 1], LIMITS) == (400, every_way(head)[1])  # type: ignore[index]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * 60 + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.0\r\nA: " + b"b" * 46 + b"\r\n", 431),
        (b"GET / HTTP/1.0\r\nA: b\r\nB: " + b"b" * 46 + b"\r\n", 431),
        (b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 5 + b"\r\n", 431),
        (b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 4 + b"A\n: b\r\n", 431),
        (b"GET / HTTP/1.0\r\n" + (b"A: " + b"b" * 44 + b"\r\n") * 4 + b"\r\n", 431),
    ],
)
def test_limits_hold_while_octets_arrive(head: bytes, status: int) -> None:
    assert refused(head, SMALL) == status
    # As soon as the limit is passed, and without the rest:
    unfinished = head.rstrip(b"\r\n")
    assert outcome(unfinished + b"z" * 48, SMALL) is not None


def test_what_is_exactly_at_the_limits_passes() -> None:
    target = b"/" + b"a" * (64 - len(b"GET / HTTP/1.0"))
    assert accepted(b"GET " + target + b" HTTP/1.0\r\n\r\n", SMALL)
    assert accepted(b"GET / HTTP/1.0\r\nA: " + b"b" * 45 + b"\r\n\r\n", SMALL)
    assert accepted(b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 4 + b"\r\n", SMALL)


def test_the_default_limits() -> None:
    line = b"GET /" + b"a" * (8190 - len(b"GET / HTTP/1.0")) + b" HTTP/1.0\r\n"
    field = b"A: " + b"b" * (8190 - 3) + b"\r\n"
    assert isinstance(outcome(line + field + b"\r\n", LIMITS), Head)
    assert outcome(line.replace(b"/a", b"/aa") + b"\r\n", LIMITS) == (
        414, "the request line is longer than the limit",
    )  # fmt: skip
    assert outcome(b"GET / HTTP/1.0\r\n" + field.replace(b"b", b"bb", 1), LIMITS) == (
        431, "a field line is longer than the limit",
    )  # fmt: skip
    assert isinstance(outcome(b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 100 + b"\r\n", LIMITS), Head)
    assert outcome(b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 101 + b"\r\n", LIMITS) == (
        431, "there are more fields than the limit",
    )  # fmt: skip
    assert outcome(line + field * 8 + b"\r\n", LIMITS) == (431, "the head is longer than the limit")


def test_an_incomplete_head_is_no_result() -> None:
    whole = b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n"
    for length in range(len(whole)):
        assert parse_head(whole[:length], 0, LIMITS) is None


@pytest.mark.parametrize(
    "filler", [b"A: b\r\n", b"a:" + b" " * 60 + b"\r\n", b"\r\n", b"x", b"Cookie: a=\\\\\\\r\n"]
)
def test_the_time_is_linear(filler: bytes) -> None:
    """Heads at every limit, and a flood that never becomes one: a few milliseconds each."""
    wide = Limits(1 << 20, 10**6, 1 << 20, 1 << 20)
    head = b"GET / HTTP/1.0\r\n" + filler * ((1 << 20) // len(filler))
    began = time.perf_counter()
    outcome(head, wide)
    assert time.perf_counter() - began < 5.0


def test_lines_of_one_request_do_not_reach_another() -> None:
    """The table of known lines is shared by all connections: it may not leak, or go stale."""
    for value in (b"one", b"two", b"one"):
        head = accepted(b"GET / HTTP/1.1\r\nHost: " + value + b"\r\nAccept: " + value + b"\r\n\r\n")
        assert head.fields == {"HTTP_HOST": value.decode(), "HTTP_ACCEPT": value.decode()}
    for number in range(3000):
        head = outcome(b"GET / HTTP/1.1\r\nHost: h%d\r\n\r\n" % number, LIMITS)  # type: ignore[assignment]
        assert head.fields["HTTP_HOST"] == f"h{number}"


def test_secrets_are_not_remembered() -> None:
    from forkserve.http import head as module

    accepted(b"GET / HTTP/1.1\r\nHost: h\r\nCookie: s3cret\r\nAuthorization: s3cret\r\n\r\n")
    assert not any("s3cret" in line for line in module._known)
    assert len(module._known) <= 1024


def test_long_names_of_fields_are_not_remembered() -> None:
    """A thousand of them, of the length that a field may have, would be megabytes a worker."""
    from forkserve.http import head as module

    module._variable.cache_clear()
    for length in (1, 64, 65, 8000):
        name = b"x" * length
        head = outcome(b"GET / HTTP/1.0\r\n" + name + b": y\r\n\r\n", LIMITS)
        assert isinstance(head, Head)
        assert head.fields == {f"HTTP_{'X' * length}": "y"}
    assert module._variable.cache_info().currsize == 2
    assert refused(b"GET / HTTP/1.0\r\n" + b"x" * 70 + b"(: y\r\n\r\n") == 400
    assert accepted(b"GET / HTTP/1.0\r\n" + b"x" * 70 + b"_: y\r\n\r\n").fields == {}
