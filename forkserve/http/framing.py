"""Where a message ends, and whether its connection goes on (RFC 9112 sections 6.3 and 9.3).

One function each way. Both follow the steps of the RFC in the RFC's order; no other code decides
how long a body is.
"""

from enum import Enum
from functools import lru_cache

from forkserve.http.errors import ProtocolError
from forkserve.http.head import Head

CHUNKED = -1
"""In place of a length: the body is delimited by the chunked transfer coding."""

_LENGTH_DIGITS = 19  # of 2**63 - 1; a longer number of octets is no length anybody can send


class RequestFraming:
    """How the body of a request is delimited, and what else its head says about the connection.

    ``length``           octets of the body, or CHUNKED
    ``persist``          the client lets the connection go on after the response
    ``expect_continue``  the client waits for a 100 (Continue) before it sends the body
    """

    __slots__ = ("expect_continue", "length", "persist")

    def __init__(self, length: int, persist: bool, expect_continue: bool = False) -> None:
        self.length = length
        self.persist = persist
        self.expect_continue = expect_continue


_NO_BODY_PERSIST = RequestFraming(0, True)
_NO_BODY_CLOSE = RequestFraming(0, False)


def request_framing(head: Head, max_body: int | None) -> RequestFraming:
    """Decide the framing of the request behind ``head``.

    ``max_body`` is the most octets that a body may have, None for no limit.
    Raises ProtocolError (400, 413, 417, 501); the connection must then close.
    """
    fields = head.fields
    connection = fields.get("HTTP_CONNECTION")
    if connection is None:
        persist = head.minor > 0
    else:
        close, keep_alive = connection_options(connection)
        persist = not close and (head.minor > 0 or keep_alive)
    coding = fields.get("HTTP_TRANSFER_ENCODING")
    digits = fields.get("CONTENT_LENGTH")
    if coding is not None:
        length = _transfer_coding(head, coding)
    elif digits is not None:
        length = _content_length(digits, max_body)
    elif "HTTP_EXPECT" in fields:
        length = 0
    else:
        return _NO_BODY_PERSIST if persist else _NO_BODY_CLOSE
    expected = "HTTP_EXPECT" in fields and _expects_continue(head, fields["HTTP_EXPECT"])
    # RFC 9110 section 10.1.1: without content there is nothing to continue with.
    return RequestFraming(length, persist, expected and length != 0)


@lru_cache(maxsize=64)
def connection_options(value: str) -> tuple[bool, bool]:
    """Whether Connection (one list over all its lines) has "close", and "keep-alive"."""
    options = [option.strip(" \t").lower() for option in value.split(",")]
    return "close" in options, "keep-alive" in options


def _transfer_coding(head: Head, value: str) -> int:
    """RFC 9112 section 6.3, rules 3 and 4: a request has no coding but a single final chunked."""
    if head.minor == 0:
        raise ProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
    if "CONTENT_LENGTH" in head.fields:
        # Rule 3 lets Transfer-Encoding win, and calls the message an attempt at smuggling.
        raise ProtocolError(400, "both Transfer-Encoding and Content-Length")
    codings = [coding.strip(" \t").lower() for coding in value.split(",")]
    if codings == ["chunked"]:
        return CHUNKED
    if codings[-1] != "chunked" or "chunked" in codings[:-1]:
        raise ProtocolError(400, "Transfer-Encoding does not end in a single chunked")
    raise ProtocolError(501, "a transfer coding other than chunked")


def _content_length(digits: str, max_body: int | None) -> int:
    """RFC 9112 section 6.3, rules 5 and 6. The head made sure that these are digits."""
    padded, digits = digits, digits.lstrip("0") or "0"
    if len(padded) - len(digits) > _LENGTH_DIGITS:
        # Applications are given it as it is, and int() refuses what is too long.
        raise ProtocolError(400, "Content-Length has too many digits")
    if len(digits) > _LENGTH_DIGITS:
        raise ProtocolError(413, "the body is longer than the limit")
    length = int(digits)
    if max_body is not None and length > max_body:
        raise ProtocolError(413, "the body is longer than the limit")
    return length


def _expects_continue(head: Head, value: str) -> bool:
    """RFC 9110 section 10.1.1. Raises ProtocolError(417) for any other expectation."""
    if head.minor == 0:
        return False  # a server MUST ignore it in HTTP/1.0
    if any(item.strip(" \t").lower() != "100-continue" for item in value.split(",")):
        raise ProtocolError(417, "an expectation other than 100-continue")
    return True


class BodyFraming(Enum):
    """How the body of a response is delimited."""

    NONE = "no body, whatever the header says"
    LENGTH = "Content-Length"
    CHUNKED = "Transfer-Encoding: chunked"
    CLOSE = "the end of the connection"


_NONE, _LENGTH, _CHUNKED, _CLOSE = BodyFraming


def response_framing(method: str, minor: int, status: int, length: int | None) -> BodyFraming:
    """Decide the framing of a final response (RFC 9112 section 6.3, rules 1, 2, 6 and 8).

    ``method`` and ``minor`` are the request's; ``length`` is the body's, None if unknown.
    """
    if method == "HEAD" or status == 204 or status == 304:
        return _NONE
    if length is not None:
        return _LENGTH
    return _CHUNKED if minor else _CLOSE
