"""The encoder of a response: status, header and blocks in, octets out (RFC 9112 sections 4 and 6).

One ``ResponseEncoder`` a response. It refuses what must not reach the wire, decides the framing
with ``response_framing``, and knows when the body ends too soon or too late.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from forkserve.http import grammar
from forkserve.http.errors import InvalidResponse
from forkserve.http.framing import BodyFraming, connection_options, response_framing

_SERVER_LINE = b"Server: forkserve\r\n"

OwnLines: TypeAlias = tuple[bytes, bytes, bytes, bytes]
_SERVER, _DATE = 1, 2


def own_lines(date: bytes, *, server: bool) -> OwnLines:
    """What the server adds to a head, for each answer to what of it the application has sent
    itself: nothing, Server, Date, both. ``date`` is the Date line, ``server``: there is the other.
    """
    server_line = _SERVER_LINE if server else b""
    return (server_line + date, date, server_line, b"")


# Header fields that repeat from response to response: encoded, or for Content-Length the number.
# As in head.py: bounded, short, and nothing that is a secret or different each time.
_KNOWN_FIELDS = 1024
_KNOWN_FIELD_OCTETS = 256
_known: dict[tuple[str, str], bytes | int] = {}
_NEVER_KNOWN = frozenset(("set-cookie", "location", "etag", "last-modified", "content-range"))

# RFC 9110 section 7.6.1 and PEP 3333 ("Other HTTP Features"): these are the server's to send.
_HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    "transfer-encoding upgrade".split()
)

_NONE, _LENGTH, _CHUNKED, _CLOSE = BodyFraming


class ResponseEncoder:
    """Encodes one response to a request of ``method`` and HTTP/1.``minor``.

    ``persist``     whether the connection can go on afterwards; False from the start if the
                    client does not want it, and set to False by what the response turns out to be
    ``code``        the status code, 0 before ``start``
    ``headers``     what the application gave to ``start``
    ``dropped``     names of the application's fields that are the server's to send
    ``body_octets`` octets of content encoded so far
    ``excess``      octets that the application gave beyond its Content-Length; they are cut
    """

    __slots__ = (
        "_framing", "_length", "_lines", "_method", "_minor", "_theirs",
        "body_octets", "code", "dropped", "excess", "headers", "persist",
    )  # fmt: skip

    def __init__(self, method: str, minor: int, persist: bool) -> None:
        self._method = method
        self._minor = minor
        self.persist = persist
        self.code = 0
        self.headers: Sequence[tuple[str, str]] = ()
        self.dropped: list[str] | None = None
        self.body_octets = 0
        self.excess = 0

    def start(self, status: str, headers: Sequence[tuple[str, str]]) -> None:
        """Take the status ("200 OK") and the header, in place of any taken before.

        Raises InvalidResponse; the encoder is then as before a first ``start``.
        """
        self.code = 0
        self._length: int | None = None
        self._theirs = 0  # which of Server and Date the application sends itself
        if not isinstance(status, str):
            raise InvalidResponse(f"the status is not a string: {status!r}")
        code, status_line = _status_line(status)
        lines = [status_line]
        known = _known.get
        for pair in headers:
            try:
                line = known(pair)
            except TypeError:  # a list where a tuple should be: wrong, common, and harmless
                line = None
            if line is None:
                line = self._field(pair)
            if isinstance(line, bytes):
                lines.append(line)
            elif self._length is None:
                self._length = line
            elif self._length != line:
                raise InvalidResponse(f"Content-Length is both {self._length} and {line}")
        self._lines = lines
        self.headers = headers
        self.code = code

    @property
    def status(self) -> str:
        """As it was taken, "200 OK"; "" before."""
        lines = getattr(self, "_lines", None)
        return lines[0][9:-2].decode("latin-1") if lines else ""

    def add(self, line: bytes) -> None:
        """One more field line, of the server's own, behind those that ``start`` has taken."""
        self._lines.append(line)

    def head(self, own: OwnLines, length: int | None = None) -> bytes:
        """The octets of the head. ``length``: of the whole body, if the server knows it.

        From here on the status cannot change.
        """
        return b"".join(self._head(own, length))

    def only(self, own: OwnLines, block: bytes) -> bytes:
        """The octets of a whole response whose body is ``block``."""
        lines = self._head(own, len(block))
        if self._framing is _LENGTH and self._length == len(block):
            self.body_octets = self._length
            lines.append(block)
        else:
            lines += (self.block(block), self.end())
        return b"".join(lines)

    def _head(self, own: OwnLines, length: int | None) -> list[bytes]:
        code, method = self.code, self._method
        if self._length is not None:
            if length is not None and length < self._length:
                # Known before it is too late to say so; after HEAD it does not matter.
                self.persist = self.persist and (method == "HEAD" or code in (204, 304))
            length = self._length
        elif not length and (method == "HEAD" or code == 304):
            # It would be the length of another response (RFC 9110 section 8.6): what the
            # application left out there is not known to be 0.
            length = None
        if code == 205:
            length = 0  # RFC 9110 section 15.3.6: no content, and framed like any other
        self._length = length
        self._framing = framing = response_framing(method, self._minor, code, length)
        lines = self._lines
        if length is not None and code != 204:
            lines.append(b"Content-Length: %d\r\n" % length)
        elif framing is _CHUNKED:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        elif framing is _CLOSE:
            self.persist = False
        if not self.persist:
            lines.append(b"Connection: close\r\n")
        elif not self._minor:
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(own[self._theirs])
        lines.append(b"\r\n")
        return lines

    def block(self, block: bytes) -> bytes:
        """The octets of one non-empty block of the body: one chunk, if chunked."""
        framing = self._framing
        if framing is _CHUNKED:
            self.body_octets += len(block)
            return b"%x\r\n%b\r\n" % (len(block), block)
        if framing is _NONE:
            return b""
        if framing is _LENGTH:
            assert self._length is not None
            room = self._length - self.body_octets
            if len(block) > room:
                self.excess += len(block) - room
                block = block[:room]
        self.body_octets += len(block)
        return block

    def part(self, octets: int) -> int:
        """As ``block``, for a part of the body that is sent by somebody else: how many of so many
        ``octets`` go out. Not for chunks: the length of the body is known."""
        if self._framing is _NONE:
            return 0
        room = min(octets, self.missing)
        self.excess += octets - room
        self.body_octets += room
        return room

    def end(self) -> bytes:
        """The octets behind the last block, if the application is done without an error."""
        if self._framing is _CHUNKED:
            return b"0\r\n\r\n"
        if self.missing:
            self.persist = False
        return b""

    @property
    def sated(self) -> bool:
        """Nothing more of the body can go out, whatever the application still gives."""
        return self._framing is _NONE or self.excess > 0

    @property
    def shows_its_end(self) -> bool:
        """A client that is given no more than this sees that it is not all (RFC 9112 section 8)."""
        return self._framing is _CHUNKED or self.missing > 0

    @property
    def missing(self) -> int:
        """Octets that the application still owes to its Content-Length."""
        if self._framing is not _LENGTH or self._length is None:
            return 0
        return self._length - self.body_octets

    def _field(self, pair: tuple[str, str]) -> bytes | int:
        """Check and encode one field; the number of a Content-Length. Raises InvalidResponse."""
        name, value, lower = _checked(pair)
        line: bytes | int
        if lower == "content-length":
            if not grammar.is_digits(value) or len(value) > 19:
                raise InvalidResponse(f"Content-Length is not a number: {value!r}")
            line = int(value)
        elif lower == "connection" and connection_options(value)[0]:
            # "close" is honoured: not legal in WSGI, but applications rely on it.
            self.persist = False
            return b""
        elif lower in _HOP_BY_HOP:
            self.dropped = [*(self.dropped or ()), name]
            return b""
        else:
            line = _field_line(name, value)
            if lower == "date":
                self._theirs |= _DATE
                return line
            if lower == "server":
                self._theirs |= _SERVER
                return line
        if lower not in _NEVER_KNOWN and len(value) <= _KNOWN_FIELD_OCTETS:
            if len(_known) >= _KNOWN_FIELDS:
                _known.clear()
            _known[(name, value)] = line
        return line


def early_hints(headers: Sequence[tuple[str, str]]) -> bytes:
    """The octets of a 103 with these fields (RFC 8297), b"" if none of them may be in one.

    Raises InvalidResponse for what no response may hold.
    """
    lines = [b"HTTP/1.1 103 Early Hints\r\n"]
    for pair in headers:
        name, value, lower = _checked(pair)
        # RFC 9110 section 8.6: no Content-Length in an interim response.
        if lower not in _HOP_BY_HOP and lower != "content-length":
            lines.append(_field_line(name, value))
    return b"".join((*lines, b"\r\n")) if len(lines) > 1 else b""


def _checked(pair: tuple[str, str]) -> tuple[str, str, str]:
    """(name, value, name in small letters) of a field that may be sent. Raises InvalidResponse."""
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise InvalidResponse(f"a header is not a pair of name and value: {pair!r}")
    name, value = pair
    if not (isinstance(name, str) and isinstance(value, str)):
        raise InvalidResponse(f"a header is not a pair of strings: {pair!r}")
    lower = _lower_name(name)
    if not (value.isascii() and value.isprintable()):
        _check_value(name, value)
    return name, value, lower


def _field_line(name: str, value: str) -> bytes:
    # Joined, not formatted: a subclass of str (an Enum) can show itself as what was not checked.
    return "".join((name, ": ", value, "\r\n")).encode("latin-1")


@lru_cache(maxsize=256)
def _status_line(status: str) -> tuple[int, bytes]:
    """(code, status line) of "200 OK". Raises InvalidResponse."""
    if not grammar.status(status):
        raise InvalidResponse(f"the status is not like '200 OK': {status!r}")
    return int(status[:3]), "".join(("HTTP/1.1 ", status, "\r\n")).encode("latin-1")


@lru_cache(maxsize=512)
def _lower_name(name: str) -> str:
    if not grammar.is_token(name):
        raise InvalidResponse(f"a header has a name that is not allowed: {name!r}")
    return name.lower()


def _check_value(name: str, value: str) -> None:
    if grammar.control_in_field(value):
        raise InvalidResponse(f"the header {name} holds a control character: {value!r}")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidResponse(f"the header {name} is not latin-1: {value!r}") from None
