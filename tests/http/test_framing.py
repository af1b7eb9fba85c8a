"""Framing: how long a body is, and whether the connection goes on (RFC 9112 sections 6.3, 9.3)."""

import pytest

from forkserve.http.errors import ProtocolError
from forkserve.http.framing import (
    CHUNKED,
    BodyFraming,
    connection_options,
    request_framing,
    response_framing,
)
from forkserve.http.head import Limits, parse_head


def framing(*lines: str, version: str = "1.1", max_body: int | None = 1000) -> object:
    """(length, persist, expect_continue), or the status of the refusal."""
    text = "\r\n".join((f"POST / HTTP/{version}", "Host: h", *lines)) + "\r\n\r\n"
    head = parse_head(text.encode("latin-1"), 0, Limits())
    assert head is not None
    try:
        result = request_framing(head, max_body)
    except ProtocolError as error:
        return error.status
    return (result.length, result.persist, result.expect_continue)


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ((), 0),
        (("Content-Length: 0",), 0),
        (("Content-Length: 5",), 5),
        (("Content-Length: 000005",), 5),
        (("Content-Length: 1000",), 1000),
        (("Transfer-Encoding: chunked",), CHUNKED),
        (("Transfer-Encoding: ChUnKeD",), CHUNKED),
        (("Transfer-Encoding: \tchunked ",), CHUNKED),
    ],
)
def test_lengths(lines: tuple[str, ...], length: int) -> None:
    assert framing(*lines) == (length, True, False)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Content-Length: 1001",), 413),
        (("Content-Length: 99999999999999999999",), 413),
        (("Content-Length: " + "9" * 5000,), 413),
        (("Content-Length: " + "0" * 5000 + "5",), 400),
        (("Content-Length: 5", "Transfer-Encoding: chunked"), 400),
        (("Transfer-Encoding: chunked", "Content-Length: 0"), 400),
        (("Transfer-Encoding: ",), 400),
        (("Transfer-Encoding: chunked, chunked",), 400),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
        (("Transfer-Encoding: chunked, identity",), 400),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: gzip"), 400),
        (("Transfer-Encoding: identity",), 400),
        (("Transfer-Encoding: xchunked",), 400),
        (("Transfer-Encoding: chunkedx",), 400),
        (("Transfer-Encoding: chunked;q=1",), 400),
        (('Transfer-Encoding: "chunked"',), 400),
        (("Transfer-Encoding: \xa0chunked",), 400),
        (("Transfer-Encoding: chunked,",), 400),
        (("Transfer-Encoding: gzip, chunked",), 501),
        (("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"), 501),
        (("Transfer-Encoding: identity, chunked",), 501),
        (("Transfer-Encoding: ,chunked",), 501),
    ],
)
def test_refusals(lines: tuple[str, ...], status: int) -> None:
    assert framing(*lines) == status


def test_no_limit() -> None:
    assert framing("Content-Length: 9999999999", max_body=None) == (9999999999, True, False)


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    assert framing("Transfer-Encoding: chunked", version="1.0") == 400


@pytest.mark.parametrize(
    ("version", "lines", "persist"),
    [
        ("1.1", (), True),
        ("1.1", ("Connection: keep-alive",), True),
        ("1.1", ("Connection: close",), False),
        ("1.1", ("Connection: CLOSE",), False),
        ("1.1", ("Connection: x, close",), False),
        ("1.1", ("Connection: keep-alive", "X: y", "Connection: close"), False),
        ("1.1", ("Connection: close, keep-alive",), False),
        ("1.1", ("Connection: upgrade",), True),
        ("1.1", ("Connection: closed",), True),
        ("1.1", ("Connection: ",), True),
        ("1.0", (), False),
        ("1.0", ("Connection: keep-alive",), True),
        ("1.0", ("Connection: Keep-Alive",), True),
        ("1.0", ("Connection: keep-alive, close",), False),
        ("1.0", ("Connection: x", "Connection: \tkeep-alive\t,y"), True),
    ],
)
def test_persistence(version: str, lines: tuple[str, ...], persist: bool) -> None:
    assert framing(*lines, version=version) == (0, persist, False)


@pytest.mark.parametrize(
    ("version", "lines", "outcome"),
    [
        ("1.1", ("Expect: 100-continue", "Content-Length: 5"), (5, True, True)),
        ("1.1", ("Expect: 100-Continue", "Transfer-Encoding: chunked"), (CHUNKED, True, True)),
        ("1.1", ("Expect: 100-continue", "Expect: 100-continue", "Content-Length: 5"), (5, True, True)),
        ("1.1", ("Expect: 100-continue",), (0, True, False)),
        ("1.1", ("Expect: 100-continue", "Content-Length: 0"), (0, True, False)),
        ("1.0", ("Expect: 100-continue", "Content-Length: 5"), (5, False, False)),
        ("1.0", ("Expect: 200-ok",), (0, False, False)),
        ("1.1", ("Expect: 200-ok",), 417),
        ("1.1", ("Expect: 100-continue, x", "Content-Length: 5"), 417),
        ("1.1", ("Expect: ",), 417),
        ("1.1", ("Expect: 100-continue", "Content-Length: 1001"), 413),
    ],
)  # fmt: skip
def test_expectations(version: str, lines: tuple[str, ...], outcome: object) -> None:
    assert framing(*lines, version=version) == outcome


def test_the_options_of_connection_are_one_list() -> None:
    assert connection_options("a, Close ,\tb") == (True, False)
    assert connection_options("keep-alive,close") == (True, True)
    assert connection_options("") == (False, False)


@pytest.mark.parametrize(
    ("method", "minor", "status", "length", "framing"),
    [
        ("GET", 1, 200, None, BodyFraming.CHUNKED),
        ("GET", 1, 200, 0, BodyFraming.LENGTH),
        ("GET", 1, 200, 5, BodyFraming.LENGTH),
        ("GET", 0, 200, None, BodyFraming.CLOSE),
        ("GET", 0, 200, 5, BodyFraming.LENGTH),
        ("HEAD", 1, 200, None, BodyFraming.NONE),
        ("HEAD", 0, 200, 5, BodyFraming.NONE),
        ("GET", 1, 204, None, BodyFraming.NONE),
        ("GET", 0, 304, 5, BodyFraming.NONE),
        ("GET", 1, 205, 0, BodyFraming.LENGTH),
        ("GET", 1, 500, None, BodyFraming.CHUNKED),
    ],
)
def test_responses(
    method: str, minor: int, status: int, length: int | None, framing: BodyFraming
) -> None:
    assert response_framing(method, minor, status, length) is framing
