"""Decoders of request bodies (RFC 9112 sections 6.3 and 7.1).

A decoder takes the octets at hand, appends the content to a list, and says how far it came; the
caller keeps the rest and shows it again with more behind it. What it leaves is never more than one
unfinished line. Nothing past the end of the body is taken: that is the next request.
"""

from enum import Enum
from functools import lru_cache
from typing import Protocol

from forkserve.http import grammar
from forkserve.http.errors import ProtocolError
from forkserve.http.framing import CHUNKED, RequestFraming
from forkserve.http.head import Limits, field_line

# A chunk line holds a size, and extensions that nobody reads. Sizes need 16 octets.
_CHUNK_LINE = 1024
_SHORT_LINE = 24  # below every limit on a line
# Octets of extensions in one body: a client who frames each octet with a comment makes the server
# work a thousand times for what it delivers (CVE-2024-21647, CVE-2023-39326).
_EXTENSIONS = 16384

_BARE_LF = "a line ends with a bare LF"

# Fields that RFC 9110 section 6.5.1 keeps out of trailers: of framing, routing, authentication,
# request modification and content. Taken for header fields, they would change the request.
_NOT_IN_TRAILERS = frozenset(
    "CONTENT_LENGTH CONTENT_TYPE HTTP_TRANSFER_ENCODING HTTP_HOST HTTP_CONNECTION HTTP_TE "
    "HTTP_TRAILER HTTP_UPGRADE HTTP_EXPECT HTTP_MAX_FORWARDS HTTP_CACHE_CONTROL HTTP_PRAGMA "
    "HTTP_RANGE HTTP_AUTHORIZATION HTTP_PROXY_AUTHORIZATION HTTP_COOKIE HTTP_CONTENT_ENCODING "
    "HTTP_CONTENT_RANGE HTTP_IF_MATCH HTTP_IF_NONE_MATCH HTTP_IF_MODIFIED_SINCE "
    "HTTP_IF_UNMODIFIED_SINCE HTTP_IF_RANGE HTTP_FORWARDED HTTP_X_FORWARDED_FOR "
    "HTTP_X_FORWARDED_HOST HTTP_X_FORWARDED_PROTO HTTP_X_FORWARDED_PORT".split()
)


class Decoder(Protocol):
    """What both decoders are. ``remaining``: octets to come, None if that is not known."""

    finished: bool
    remaining: int | None

    def decode(self, octets: bytes, start: int, into: list[bytes]) -> int:
        """Decode what is there of ``octets[start:]``: append the content, in pieces, to ``into``,
        and return the index of the first octet that was not taken.

        Raises ProtocolError (400, 413, 431); the body, and the connection, cannot be read further.
        """


def decoder_for(framing: RequestFraming, limits: Limits, max_body: int | None) -> Decoder:
    """The decoder of the body that ``framing`` describes."""
    if framing.length == CHUNKED:
        return ChunkedDecoder(limits, max_body)
    return LengthDecoder(framing.length)


class LengthDecoder:
    """A body of Content-Length octets."""

    __slots__ = ("finished", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining: int | None = length
        self.finished = length == 0

    def decode(self, octets: bytes, start: int, into: list[bytes]) -> int:
        assert self.remaining is not None
        content = octets[start : start + self.remaining]
        if content:
            into.append(content)
        self.remaining -= len(content)
        self.finished = self.remaining == 0
        return start + len(content)


class _Part(Enum):
    """What the next octet of a chunked body is part of."""

    SIZE = "a chunk line"
    CONTENT = "the content of a chunk"
    CONTENT_END = "the CRLF behind the content"
    TRAILER = "the trailer section"


_SIZE, _CONTENT, _CONTENT_END, _TRAILER = _Part


class ChunkedDecoder:
    """A body in the chunked transfer coding: chunks, a last chunk, a trailer section.

    Trailer fields are checked and dropped: WSGI has no place for them.

    ``sizes``  of the chunks that began, in their order; for the caller to take away. The content,
               put together, is divided by them.
    """

    __slots__ = (
        "_allowance", "_extensions", "_left", "_limits", "_next", "_trailers", "finished",
        "remaining", "sizes",
    )  # fmt: skip

    def __init__(self, limits: Limits, max_body: int | None) -> None:
        self._limits = limits
        self._allowance = max_body
        self._next = _SIZE
        self._left = 0  # octets of content in the chunk
        self._extensions = 0  # octets of chunk extensions so far
        self._trailers = (0, 0)  # fields, octets
        self.finished = False
        self.remaining: int | None = None
        self.sizes: list[int] = []

    @property
    def to_come(self) -> int:
        """Octets of content that are to come of the chunk that has begun."""
        return self._left

    @property
    def unclosed(self) -> bool:
        """All content of the chunk is there, and what must stand behind it is not."""
        return self._next is _CONTENT_END

    def decode(self, octets: bytes, start: int, into: list[bytes]) -> int:
        while not self.finished:
            if self._next is _CONTENT:
                content = octets[start : start + self._left]
                if not content:
                    break
                into.append(content)
                start += len(content)
                self._left -= len(content)
                if self._left == 0:
                    self._next = _CONTENT_END
            elif self._next is _CONTENT_END:
                if not octets.startswith(b"\r\n", start):
                    if octets[start : start + 2] in (b"", b"\r"):
                        break
                    raise ProtocolError(400, "a chunk does not end where its size says")
                start += 2
                self._next = _SIZE
            else:
                # The usual line is short, and there; a method call each would be noticed.
                end = octets.find(b"\r\n", start, start + _SHORT_LINE)
                if end < 0 and (end := self._line_end(octets, start)) < 0:
                    break
                line, start = octets[start:end], end + 2
                if self._next is _TRAILER:
                    self._trailer_line(line)
                elif size := self._chunk_line(line):
                    # The usual case, all of a chunk is there, takes no further turns.
                    self.sizes.append(size)
                    stop = start + size
                    if octets[stop : stop + 2] == b"\r\n":
                        into.append(octets[start:stop])
                        start = stop + 2
                    else:
                        self._left = size
                        self._next = _CONTENT
                else:
                    self._next = _TRAILER
        return start

    def _line_end(self, octets: bytes, start: int) -> int:
        """The index of the CRLF of the line at ``start``, -1 if it is yet to come."""
        if self._next is _SIZE:
            size, status, what = _CHUNK_LINE, 400, "a chunk line is longer than the limit"
        else:
            size, status, what = self._limits.field_size, 431, "a trailer is longer than the limit"
        end = octets.find(b"\r\n", start, start + size + 2)
        if end < 0:
            if b"\n" in octets[start : start + size + 1]:
                raise ProtocolError(400, _BARE_LF)
            if len(octets) - start > size + 1:
                raise ProtocolError(status, what)
        return end

    def _chunk_line(self, line: bytes) -> int:
        """The size of the chunk that ``line`` announces."""
        size, extensions = _short_chunk_line(line) if len(line) <= 8 else _parse_chunk_line(line)
        if extensions:
            self._extensions += extensions
            if self._extensions > _EXTENSIONS:
                raise ProtocolError(400, "there are more chunk extensions than the limit")
        if self._allowance is not None:
            if size > self._allowance:
                raise ProtocolError(413, "the body is longer than the limit")
            self._allowance -= size
        return size

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self.finished = True
            return
        fields, octets = self._trailers
        self._trailers = fields, octets = fields + 1, octets + len(line) + 2
        if fields > self._limits.fields or octets > self._limits.head:
            raise ProtocolError(431, "there are more trailers than the limit")
        field = field_line(line.decode("latin-1"))
        if field is not None and field[0] in _NOT_IN_TRAILERS:
            raise ProtocolError(400, "a trailer that must be a header field")


def _parse_chunk_line(line: bytes) -> tuple[int, int]:
    """(size, octets of extensions) of a chunk line. Raises ProtocolError(400)."""
    match = grammar.chunk_line(line)
    if match is None:
        raise ProtocolError(400, _BARE_LF if b"\n" in line else "a chunk line is malformed")
    return int(match[1], 16), len(match[2])


# A client sends chunks of few sizes.
_short_chunk_line = lru_cache(maxsize=256)(_parse_chunk_line)
