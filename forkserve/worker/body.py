"""The body of one request, from the connection's octets to ``wsgi.input``.

Up to `buffer_body` it is collected by the loop before the application is called, so that a slow
client costs a descriptor and no worker: in memory up to 64 KiB, then in an unlinked file. What is
longer, and what the client holds back until it is asked (Expect: 100-continue), is received by the
application's own reads.
"""

import io
from typing import IO, BinaryIO, Protocol, cast

from forkserve.http.body import decoder_for
from forkserve.http.errors import ProtocolError
from forkserve.http.framing import CHUNKED, RequestFraming
from forkserve.worker.service import Service
from forkserve.wsgi.input import BodyError, ClientDisconnected, body_file

_IN_MEMORY = 65536
_PIECES = 64  # a body that comes octet by octet may not take its weight in objects

# An unread rest up to this size is read and thrown away, so that the connection can go on: less
# work than a new connection. Unicorn, waitress and nginx draw the line between 16 and 64 KiB.
DRAINED = 65536


class Source(Protocol):
    """A connection, as its body sees it. ``buffer``: octets received and not yet taken."""

    buffer: bytes

    def receive(self) -> bytes:
        """Wait for more octets. Raises ClientDisconnected, or BodyError(408)."""

    def transmit(self, data: bytes) -> None:
        """Send an interim response."""


class RequestBody:
    """Owned by its connection; ``_receive`` is called by the application's reads."""

    __slots__ = (
        "_chunked", "_decoder", "_error", "_expects_continue", "_file", "_pieces", "_source",
        "_tmp_dir", "collected",
    )  # fmt: skip

    def __init__(self, framing: RequestFraming, service: Service, source: Source) -> None:
        self._decoder = decoder_for(framing, service.limits, service.max_body)
        self._chunked = framing.length == CHUNKED
        self._expects_continue = framing.expect_continue
        self._source = source
        self._tmp_dir = service.tmp_dir
        self._pieces: list[bytes] = []  # of what is in memory
        self._file: IO[bytes] | None = None
        self._error: OSError | None = None
        self.collected = 0

    @property
    def finished(self) -> bool:
        """Every octet of it has been taken from the connection."""
        return self._decoder.finished

    @property
    def decoded_length(self) -> int | None:
        """The length of a chunked body, if all of it is collected."""
        return self.collected if self._chunked and self.finished else None

    @property
    def drainable(self) -> bool:
        """What is left of it is known to be short, and on its way."""
        remaining = getattr(self._decoder, "remaining", None)
        return (
            self._error is None
            and not self._expects_continue
            and remaining is not None
            and remaining <= DRAINED
        )

    def collect(self) -> None:
        """Take what is there of it from the source's buffer, and keep it.

        Raises ProtocolError, and OSError if the disk does not take it.
        """
        pieces = self._pieces
        count = len(pieces)
        self._take(pieces)
        self.collected += sum(map(len, pieces[count:]))
        if self.collected > _IN_MEMORY:
            if self._file is None:
                import tempfile  # 3 ms and half a MiB, for a few workers only

                self._file = tempfile.TemporaryFile(dir=self._tmp_dir)  # noqa: SIM115 - see discard
            self._file.writelines(pieces)
            self._file.flush()  # here, where a full disk can be answered
            pieces.clear()
        elif len(pieces) > _PIECES:
            pieces[:] = [b"".join(pieces)]

    def drain(self) -> None:
        """Take what is there of it, and throw it away. Raises ProtocolError."""
        self._take([])

    def open(self) -> BinaryIO:
        """``wsgi.input``: an ordinary file if all of it is collected, else one that receives."""
        if self._file is not None:
            self._file.seek(0)
        if not self.finished:
            return cast(BinaryIO, body_file(self._receive))
        if self._file is not None:
            return cast(BinaryIO, self._file)
        return io.BytesIO(b"".join(self._pieces))

    def discard(self) -> None:
        """The response is over. Whoever still holds ``wsgi.input`` reads no more from here: the
        connection's next octets are those of the next request."""
        self._error = self._error or ClientDisconnected("the response to this request is over")
        if self._file is not None:
            self._file.close()

    def _take(self, into: list[bytes]) -> None:
        buffer = self._source.buffer
        taken = self._decoder.decode(buffer, 0, into)
        self._source.buffer = buffer[taken:]

    def _receive(self) -> bytes:
        """More content for the application: what was collected, then what arrives."""
        if self._error is not None:
            raise self._error
        if self.collected and (content := self._give_collected()):
            return content
        pieces: list[bytes] = []
        try:
            while not self._decoder.finished:
                self._take(pieces)
                if pieces:
                    return b"".join(pieces)
                if self._decoder.finished:
                    break
                if self._expects_continue:
                    self._expects_continue = False
                    self._source.transmit(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._source.buffer += self._source.receive()
        except ProtocolError as error:
            self._error = BodyError(error.status, error.detail)
            raise self._error from None
        except OSError as error:
            self._error = error
            raise
        return b""

    def _give_collected(self) -> bytes:
        """What was collected before the body turned out too long; b"" when all is given."""
        if self._file is None:
            content = b"".join(self._pieces)
            self._pieces.clear()
        else:
            content = self._file.read(_IN_MEMORY)
        if not content:
            self.collected = 0
        return content


def is_collectable(framing: RequestFraming, buffer_body: int) -> bool:
    """Whether the loop begins to collect this body; a chunked one may turn out too long."""
    if framing.expect_continue:
        return False
    return framing.length == CHUNKED or framing.length <= buffer_body
