"""The body of one request, from the connection's octets to ``wsgi.input``.

So much of it as `buffer_body` says is collected by the loop before the application is called, so
that a slow client costs a descriptor and no worker: in memory up to 64 KiB, then in an unlinked
file. What is longer is received by the application's own reads.

A client that waits for a 100 (Continue) gets it from the loop if the body is short, because a
client that then sends nothing must not hold a worker; and if it is long, at the application's first
read, so that the application can refuse it before it is sent.
"""

import contextlib
import io
from typing import IO, BinaryIO, Protocol, cast

from forkserve.http.body import decoder_for
from forkserve.http.errors import ProtocolError
from forkserve.http.framing import CHUNKED, RequestFraming
from forkserve.worker.service import Service
from forkserve.wsgi.input import BodyError, body_file

_IN_MEMORY = 65536
_PIECES = 64  # a body that comes octet by octet may not take its weight in objects

# Octets a second below which a body is as good as stopped, or one octet in each `body_timeout`
# would keep it going for ever. (mod_reqtimeout of Apache has the same default.)
_MIN_RATE = 500

# An unread rest up to this size is read and thrown away, so that the connection can go on: less
# work than a new connection.
_DRAINED = 65536


class Source(Protocol):
    """A connection, as its body sees it. ``buffer``: octets received and not yet taken."""

    buffer: bytes

    def receive(self, deadline: float) -> bytes:
        """Wait for more octets. Raises ClientDisconnected, or BodyError(408)."""

    def transmit(self, octets: bytes) -> None:
        """Send an interim response."""


class RequestBody:
    """Owned by its connection; ``_receive`` is called by the application's reads.

    ``received``: octets of content so far.
    """

    __slots__ = (
        "_began", "_chunked", "_decoder", "_error", "_file", "_pieces", "_service", "_source",
        "_to_give", "_wants_continue", "_withheld", "received",
    )  # fmt: skip

    def __init__(
        self, framing: RequestFraming, service: Service, source: Source, now: float
    ) -> None:
        self._decoder = decoder_for(framing, service.limits, service.max_body)
        self._chunked = framing.length == CHUNKED
        # The client sends it after a 100 (Continue), or perhaps never; and may still be given one.
        self._withheld = self._wants_continue = framing.expect_continue
        self._source = source
        self._service = service
        self._began = now
        self._pieces: list[bytes] = []  # of what is in memory
        self._file: IO[bytes] | None = None
        self._to_give = False  # what was collected is still to be given to a reader
        self._error: OSError | None = None
        self.received = 0

    @property
    def finished(self) -> bool:
        """Every octet of it has been taken from the connection."""
        return self._decoder.finished

    @property
    def decoded_length(self) -> int | None:
        """The length of a chunked body, if all of it is collected."""
        return self.received if self._chunked and self.finished else None

    @property
    def drainable(self) -> bool:
        """What is left of it is known to be short, and on its way."""
        remaining = self._decoder.remaining
        coming = self._error is None and not self._withheld
        return coming and remaining is not None and remaining <= _DRAINED

    @property
    def collected_enough(self) -> bool:
        """It is complete, or what is left is for the application to receive."""
        if self._decoder.finished or self._withheld:
            return True
        no_room = self._file is None and self.received > _IN_MEMORY
        return no_room or self.received >= self._service.buffer_body

    def deadline(self, now: float) -> float:
        """When more of it must have come."""
        pause = self._service.body_timeout
        return min(now + pause, self._began + pause + self.received / _MIN_RATE)

    def collect(self) -> None:
        """Take what is there of it from the source's buffer, and keep it.

        Raises ProtocolError, and OSError if the disk does not take it.
        """
        if self._wants_continue and self._is_short():
            self._ask_for_it()
        pieces = self._pieces
        self._take(pieces)
        if self.received > _IN_MEMORY and (self._file or self._service.spools > 0):
            if self._file is None:
                import tempfile  # takes a while and some memory, for a few workers only

                self._file = tempfile.TemporaryFile(dir=self._service.tmp_dir)  # noqa: SIM115
                self._service.spools -= 1
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
            self._to_give = True
            return cast(BinaryIO, body_file(self._receive))
        if self._file is not None:
            return cast(BinaryIO, self._file)
        return io.BytesIO(b"".join(self._pieces))

    def final_status_is_out(self) -> None:
        """From now on a 100 (Continue) would stand in the middle of the response."""
        self._wants_continue = False

    def close_input(self) -> None:
        """The call is over. Whoever still holds ``wsgi.input`` reads no more from here: the
        connection's next octets are those of the next request."""
        self._error = OSError("wsgi.input was read after the call of the application was over")

    def discard(self) -> None:
        """The response is over too: free what was collected."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # closing tries once more what a full disk refused
                self._file.close()
            self._file = None
            self._service.spools += 1
        self._pieces.clear()

    def _is_short(self) -> bool:
        """Short enough to be collected whole, as far as is known."""
        remaining = self._decoder.remaining
        return remaining is None or remaining <= self._service.buffer_body

    def _ask_for_it(self) -> None:
        """Send the 100 (Continue) that the client waits for."""
        self._wants_continue = self._withheld = False
        self._source.transmit(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._began = self._service.clock()

    def _take(self, into: list[bytes]) -> None:
        buffer, count = self._source.buffer, len(into)
        taken = self._decoder.decode(buffer, 0, into)
        self._source.buffer = buffer[taken:]
        self.received += sum(map(len, into[count:]))

    def _receive(self) -> bytes:
        """More content for the application: what was collected, then what arrives."""
        if self._error is not None:
            raise self._error
        if self._to_give and (content := self._give_collected()):
            return content
        pieces: list[bytes] = []
        try:
            while not self._decoder.finished:
                self._take(pieces)
                if pieces:
                    return b"".join(pieces)
                if self._decoder.finished:
                    break
                if self._wants_continue:
                    self._ask_for_it()
                deadline = self.deadline(self._service.clock())
                self._source.buffer += self._source.receive(deadline)
        except ProtocolError as error:
            self._error = BodyError(error.status, error.detail)
            raise self._error from None
        except OSError as error:
            self._error = error
            raise
        return b""

    def _give_collected(self) -> bytes:
        """What was collected before the call; b"" when all is given."""
        if self._file is None:
            content = b"".join(self._pieces)
            self._pieces.clear()
        else:
            content = self._file.read(_IN_MEMORY)
        self._to_give = bool(content)
        return content
