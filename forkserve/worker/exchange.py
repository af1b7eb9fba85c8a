"""One request and its response: the sink of ``run_app``, and the line in the access log.

It lives from the moment a request is accepted until the last octet of its response is handed to the
kernel, or given up. Only the owner of its connection may call it.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from forkserve.http.errors import InvalidResponse
from forkserve.http.framing import RequestFraming
from forkserve.http.head import Head
from forkserve.http.response import ResponseEncoder
from forkserve.ops.access import Access
from forkserve.worker.body import RequestBody
from forkserve.wsgi.call import Sink

if TYPE_CHECKING:
    from forkserve.worker.connection import Connection

# A block so long is sent behind the head, not copied to it: below, one copy is cheaper than a
# second system call.
_COPY = 65536

CLIENT_CLOSED_REQUEST = 499
"""In the access log only, and nginx's: the client was gone before a status could be sent."""


class Exchange(Sink):
    """``finished``: the application has given its last block, and it is out or waits to be.
    ``aborted``: the client cannot be given the rest. ``now``: when it last sent something."""

    __slots__ = (
        "_connection", "_service", "aborted", "began", "body", "encoder", "environ", "finished",
        "head", "now",
    )  # fmt: skip

    def __init__(
        self,
        connection: "Connection",
        head: Head,
        framing: RequestFraming,
        body: RequestBody | None,
        began: float,
    ) -> None:
        self._connection = connection
        self._service = connection.service
        self.head = head
        self.body = body
        self.encoder = ResponseEncoder(head.method, head.minor, framing.persist)
        self.environ: Mapping[str, object] = {}
        self.committed = self.started = self.wrote = False
        self.finished = self.aborted = False
        self.began = self.now = began

    # ---- wsgi.call.Sink

    def start(self, status: str, headers: Sequence[tuple[str, str]]) -> None:
        """Take status and header. Raises InvalidResponse."""
        self.encoder.start(status, headers)

    def send_only(self, block: bytes) -> None:
        """Send the whole response. Raises ClientDisconnected."""
        if len(block) <= _COPY:
            encoder = self.encoder
            self._connection.transmit(encoder.only(self._commit(), block))
            self.finished = True
            if encoder.body_octets != len(block):
                self._report_length()
        else:
            head = self.encoder.head(self._commit(), len(block))
            self._connection.transmit(head, more=True)
            self._connection.transmit(self.encoder.block(block))
            self.finish()

    def send(self, block: bytes) -> None:
        """Send one block, with the head in front of the first one. Raises ClientDisconnected."""
        if self.finished or self.aborted:
            raise InvalidResponse("write was called after the response was over")
        if self.committed:
            data = self.encoder.block(block)
        else:
            data = self.encoder.head(self._commit()) + self.encoder.block(block)
        if data:
            self._connection.transmit(data)
            self.progress()

    def finish(self) -> None:
        """Send what ends the response, and report what was wrong with it."""
        end = self.encoder.end()
        if end:
            self._connection.transmit(end)
        self.now = self._service.clock()
        self.finished = True
        self._report_length()

    # ---- for the connection

    def progress(self) -> None:
        """The running call is not stuck: it has sent or received something."""
        service = self._service
        self.now = now = service.clock()
        service.row.extend(now + service.timeout)

    def send_error(self, status: int, detail: str) -> None:
        """Answer with a page of our own. ``detail`` is ours, not the client's."""
        phrase = HTTPStatus(status).phrase
        page = f"{status} {phrase}\n\n{detail}\n".encode("ascii")
        self.encoder.start(f"{status} {phrase}", [("Content-Type", "text/plain; charset=utf-8")])
        self.send_only(page)

    def access(self, now: float) -> Access:
        """What the access log is told, when it is over."""
        head, encoder = self.head, self.encoder
        return Access(
            remote=self._connection.remote[0],
            status=encoder.code if self.committed else CLIENT_CLOSED_REQUEST,
            octets=encoder.body_octets,
            seconds=now - self.began,
            line=head.line,
            environ=self.environ,
            headers=encoder.headers,
        )

    def _commit(self) -> bytes:
        """The status is final now, and whether the connection goes on. Returns the Date line."""
        encoder, service, body = self.encoder, self._service, self.body
        if not service.persist or (body and not (body.finished or body.drainable)):
            encoder.persist = False
        if encoder.dropped:
            self._report_dropped(encoder.dropped)
        self.committed = True
        self.now = now = service.clock()
        return service.date_line(now)

    def _report_length(self) -> None:
        """Say so if the body is not as long as its Content-Length."""
        missing, excess = self.encoder.missing, self.encoder.excess
        if missing:
            what = f"{missing} octets shorter than its Content-Length: the connection is closed"
        elif excess:
            what = f"{excess} octets longer than its Content-Length: they are cut off"
        else:
            return
        self._service.log.warning("the response to %.200r is %s", self.head.line, what)

    def _report_dropped(self, names: list[str]) -> None:
        """Once a process for each field: the application will do it again every time."""
        for name in names:
            if name.lower() not in self._service.dropped_fields:
                self._service.dropped_fields.add(name.lower())
                self._service.log.warning(
                    "the application sends the hop-by-hop field %s (first in the response to "
                    "%.200r), which only the server can know; it is dropped, now and later",
                    name, self.head.line,
                )  # fmt: skip
