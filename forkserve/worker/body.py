"""The body of one request, from the connection's octets to the application's reads.

So much of it as `buffer_body` says, a chunked one to its end, is collected by the loop before the
application is called, so that a slow client costs a descriptor and no worker: in memory up to 64
KiB, then in an unlinked file. What is longer, and all of it on a path of `stream_path`, is received
by the application's own reads: of ``wsgi.input``, or of ``chunked_read``. Both take from one
decoder, and each goes on where the other has come to; the sizes of the chunks are kept for that,
also of what is collected.

A client that waits for a 100 (Continue) gets it from the loop if the body is short, because a
client that then sends nothing must not hold a worker; and else at the application's first read, so
that the application can refuse it before it is sent.
"""

import contextlib
import io
from typing import IO, BinaryIO, Protocol, cast

from forkserve.http.body import ChunkedDecoder, decoder_for
from forkserve.http.errors import ProtocolError
from forkserve.http.framing import RequestFraming
from forkserve.worker.service import Service
from forkserve.wsgi.call import Environ
from forkserve.wsgi.chunked import ChunkReader, ChunkSizes
from forkserve.wsgi.input import BodyError, BodyFile, ClientDisconnected

_IN_MEMORY = 65536
_PIECES = 64  # a body that comes octet by octet may not take its weight in objects
_NO_SIZES = ChunkSizes()

# An unread rest up to this size is read and thrown away, so that the connection can go on: less
# work than a new connection.
_DRAINED = 65536


class Source(Protocol):
    """A connection, as its body sees it. ``buffer``: octets received and not yet taken."""

    buffer: bytes

    def receive(self, deadline: float) -> bytes:
        """Wait for more octets. Raises ClientDisconnected, or BodyError(408)."""

    def receive_now(self) -> bytes:
        """What is there, b"" if nothing is. Raises ClientDisconnected."""

    def transmit(self, octets: bytes) -> None:
        """Send an interim response."""


class RequestBody(ChunkReader):
    """Owned by its connection; the application's reads come back to it.

    ``received``  octets of content so far
    """

    __slots__ = (
        "_asked", "_at", "_chunked", "_decoder", "_due", "_earned_for", "_error", "_file", "_given",
        "_input", "_on_disk", "_over", "_pieces", "_ready", "_service", "_sizes", "_source",
        "_streamed", "_wants_continue", "_whole", "_withheld", "received",
    )  # fmt: skip

    def __init__(
        self,
        framing: RequestFraming,
        service: Service,
        source: Source,
        now: float,
        *,
        streamed: bool = False,
    ) -> None:
        """``streamed``: it is not collected, and comes as slowly as it comes."""
        self._decoder = decoder_for(framing, service.limits, service.max_body)
        self._chunked = self._decoder if isinstance(self._decoder, ChunkedDecoder) else None
        self._sizes = _NO_SIZES  # until somebody asks
        # The client sends it after a 100 (Continue), or perhaps never; and may still be given one.
        self._withheld = self._wants_continue = framing.expect_continue
        self._asked = False  # it was given one
        self._streamed = streamed
        self._source = source
        self._service = service
        self._due = now + service.body_timeout
        self._earned_for = 0  # octets that were taken into account in it
        self._pieces: list[bytes] = []  # of what is in memory
        self._file: IO[bytes] | None = None
        self._on_disk = 0  # octets of content in the file, without those that a reader was given
        self._ready, self._at = b"", 0  # what is given next, and how much of that is given
        self._given = 0  # octets of content that a reader was given
        self._whole: IO[bytes] | None = None  # wsgi.input, if all was collected,
        self._input: BodyFile | None = None  # and if not
        self._error: OSError | None = None  # that a read raises behind what is at hand,
        self._over: OSError | None = None  # and before that
        self.chunk_timeout = service.chunk_timeout
        self.received = 0

    @property
    def finished(self) -> bool:
        """Every octet of it has been taken from the connection."""
        return self._decoder.finished

    @property
    def drainable(self) -> bool:
        """What is left of it is known to be short, and on its way."""
        remaining = self._decoder.remaining
        coming = self._error is None and not self._withheld
        return coming and remaining is not None and remaining <= _DRAINED

    @property
    def in_memory(self) -> int:
        """Octets that it takes, its file apart."""
        return len(self._sizes) + self.received - self._given - self._on_disk

    @property
    def collected_enough(self) -> bool:
        """It is complete, or what is left is for the application to receive."""
        if self._decoder.finished or self._withheld or self._streamed:
            return True
        service = self._service
        no_room = self._file is None and (
            self.received > _IN_MEMORY or (service.input_room < 0 and service.file_room <= 0)
        )
        return no_room or (self.received >= service.buffer_body and not self._is_collected_whole())

    def deadline(self, now: float) -> float:
        """When more of it must have come."""
        pause, rate = self._service.body_timeout, self._service.body_min_rate
        if rate is None or self._streamed:
            return now + pause
        # What came earns time, but no more than a pause: a burst is no leave to drip for hours.
        earned = (self.received - self._earned_for) / rate
        self._due, self._earned_for = min(now + pause, self._due + earned), self.received
        return self._due

    # ---- for the connection

    def collect(self) -> None:
        """Take what is there of it from the source's buffer, and keep it.

        Raises ProtocolError, and OSError if the disk does not take it.
        """
        if self._streamed:
            return
        if self._wants_continue and self._is_collected_whole():
            self._ask_for_it()
        pieces = self._pieces
        self._take(pieces)
        if self._file is not None or self.received > _IN_MEMORY:
            self.move_to_disk()
        elif len(pieces) > _PIECES:
            pieces[:] = [b"".join(pieces)]

    def move_to_disk(self) -> None:
        """Put what is in memory of it into its file, if there is room for one. Raises OSError."""
        if self._file is None:
            if self._service.file_room <= 0:
                return
            import tempfile  # takes a while and some memory, for a few workers only

            self._file = tempfile.TemporaryFile(dir=self._service.tmp_dir)  # noqa: SIM115
            self._service.file_room -= 1
        self._file.writelines(self._pieces)
        self._file.flush()  # here, where a full disk can be answered
        self._on_disk += sum(map(len, self._pieces))
        self._pieces.clear()

    def put_back(self) -> bytes | None:
        """What was taken of it, as it came, to stand in front of what the source has; None if that
        cannot be done. Whoever parses the request again will not notice."""
        as_it_came = self._chunked is None or self._streamed
        if not as_it_came or self._asked or self._file is not None:
            return None
        return b"".join(self._pieces)

    def drain(self) -> None:
        """Take what is there of it, and throw it away. Raises ProtocolError."""
        self._take([])

    def open(self) -> BinaryIO:
        """The call begins. Returns ``wsgi.input``: an ordinary file if all of it is collected, else
        one that receives."""
        self._service.running.chunks = self
        if self._file is not None:
            self._file.seek(0)
        if self._streamed or not self.finished:
            self._decode()
            self._input = BodyFile(self._give_or_receive)
            return cast(BinaryIO, self._input)
        self._whole = self._file or io.BytesIO(b"".join(self._pieces))
        self._pieces.clear()
        return cast(BinaryIO, self._whole)

    def describe(self, environ: Environ) -> None:
        """Say in the environ of its request what it is, and how it can be read. It is open."""
        if self._chunked is not None and self._whole is not None:
            # RFC 9112 section 7.1.3: decoded, the message has a length and no transfer coding. So
            # every framework can read it, also those that know no chunked requests.
            environ["CONTENT_LENGTH"] = str(self.received)
            del environ["HTTP_TRANSFER_ENCODING"]
        environ["forkserve.chunked_read"] = self.chunked_read
        environ["forkserve.chunked_read_nb"] = self.chunked_read_nb

    def final_status_is_out(self) -> None:
        """From now on a 100 (Continue) would stand in the middle of the response."""
        self._wants_continue = False

    def close_input(self) -> None:
        """The call is over. Whoever still holds ``wsgi.input`` reads no more from here: the
        connection's next octets are those of the next request."""
        self._service.running.chunks = None
        self._over = OSError("wsgi.input was read after the call of the application was over")

    def discard(self) -> None:
        """The response is over too: free what was collected."""
        if self._file is not None:
            # Closing tries once more what a full disk refused; or the application has detached it.
            with contextlib.suppress(OSError, ValueError):
                self._file.close()
            self._file = None
            self._service.file_room += 1
        elif self._whole is not None:
            with contextlib.suppress(BufferError):  # the application looks at it through a view
                self._whole.close()
        self._pieces.clear()
        self._ready = b""

    def _is_collected_whole(self) -> bool:
        """Nothing of it is left for the application to receive, if there is room for it."""
        remaining, most = self._decoder.remaining, self._service.buffer_body
        if remaining is None:
            # However long: many frameworks read nothing of a body without a CONTENT_LENGTH, and
            # answer 200 as if it had been empty.
            return most > 0
        return self.received + remaining <= most

    # ---- for the application

    def next_chunk(self) -> bytes | None:
        """The next chunk if all of it is at hand, else None; b"" at the end. Raises OSError."""
        if self._over is not None:
            raise self._over
        if self._whole is not None:
            octets = self._next_length(self._whole.tell())
            return self._whole.read(octets or 0)
        if self._input is not None and (ahead := self._input.take_back()):
            self._ready, self._at = ahead + self._ready[self._at :], 0
            self._given -= len(ahead)
        octets = self._next_length(self._given)
        if octets is not None:
            return self._give(octets)
        if self._error is not None:
            raise self._error
        return b"" if self._decoder.finished else None

    def receive_chunk(self, timeout: float) -> bool:
        """Receive some more, within ``timeout`` seconds; if that is 0, False says that there is
        nothing. Raises OSError; after BodyError(408) it can be called again."""
        self._sizes.forget_passed()
        return self._receive(timeout)

    def _next_length(self, position: int) -> int | None:
        """Octets of the chunk that begins, or goes on, at ``position``; None if it is not there.

        A body with a length has no chunks: then it is what is there. Raises BodyError.
        """
        if self._chunked is None:
            return min(max(self.received - position, 0), _IN_MEMORY) or None
        if self._chunked.sizes:
            self._keep_sizes(self._chunked)
        end = self._sizes.end_of(position)
        if end is None:
            return None
        if end - position > self._service.chunk_limit:
            raise BodyError(413, "a chunk of the request is longer than `chunked_input_limit`")
        # Behind the content stands a CRLF: only then was its size the right one.
        there = end < self.received or (end == self.received and not self._chunked.unclosed)
        return end - position if there else None

    def _give_or_receive(self) -> bytes:
        """More content for wsgi.input: what is at hand, or else what arrives; b"" at the end."""
        if self._over is not None:
            raise self._over
        while self._given == self.received:
            if self._error is not None:
                raise self._error
            if self._chunked is not None:
                # All that was given has been read by now.
                self._chunked.sizes.clear()
                self._own_sizes().restart(self._given, self._chunked.to_come)
            if self._decoder.finished:
                return b""
            try:
                self._receive(None)
            except OSError as error:
                self._error = error
                raise
        return self._give(min(self.received - self._given, _IN_MEMORY))

    def _give(self, octets: int) -> bytes:
        """So much of the content, which is at hand."""
        if len(self._ready) - self._at < octets:
            parts = [self._ready[self._at :]] if self._at < len(self._ready) else []
            if self._on_disk and self._file is not None:
                block = self._file.read(max(octets, _IN_MEMORY))
                self._on_disk -= len(block)
                parts.append(block)
            if not self._on_disk:
                parts += self._pieces
                self._pieces.clear()
            self._ready, self._at = b"".join(parts), 0
        end = self._at + octets
        content = self._ready[self._at : end]
        self._at = end
        if end == len(self._ready):
            self._ready, self._at = b"", 0
        self._given += octets
        return content

    # ---- from the connection

    def _receive(self, timeout: float | None) -> bool:
        """Wait for more of it; None is for as long as any body may take. Raises OSError."""
        if self._wants_continue:
            self._ask_for_it()
        source = self._source
        try:
            if timeout == 0:
                octets = source.receive_now()
            else:
                now = self._service.clock()
                octets = source.receive(self.deadline(now) if timeout is None else now + timeout)
        except ClientDisconnected as error:
            self._error = error
            raise
        source.buffer += octets
        self._decode()
        return bool(octets)

    def _decode(self) -> None:
        """Take what is there, for the application. What is wrong is told after what is right."""
        new: list[bytes] = []
        try:
            self._take(new)
        except ProtocolError as error:
            self._error = BodyError(error.status, error.detail)
        if new:
            pieces = self._pieces
            pieces.append(b"".join(new))
            # A chunk can come octet by octet, and should neither take its weight in objects nor be
            # copied for each.
            while len(pieces) > 1 and len(pieces[-2]) <= len(pieces[-1]):
                last = pieces.pop()
                pieces[-1] += last

    def _ask_for_it(self) -> None:
        """Send the 100 (Continue) that the client waits for."""
        self._wants_continue = self._withheld = False
        self._asked = True
        self._source.transmit(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._due = self._service.clock() + self._service.body_timeout

    def _take(self, into: list[bytes]) -> None:
        buffer, count = self._source.buffer, len(into)
        try:
            taken = self._decoder.decode(buffer, 0, into)
            self._source.buffer = buffer[taken:]
        finally:
            self.received += sum(map(len, into[count:]))
            if self._chunked is not None and len(self._chunked.sizes) > _PIECES:
                self._keep_sizes(self._chunked)

    def _own_sizes(self) -> ChunkSizes:
        if self._sizes is _NO_SIZES:
            self._sizes = ChunkSizes()
        return self._sizes

    def _keep_sizes(self, chunked: ChunkedDecoder) -> None:
        """Few are left with the decoder until somebody asks: usually nobody does."""
        self._own_sizes().extend(chunked.sizes)
        chunked.sizes.clear()
