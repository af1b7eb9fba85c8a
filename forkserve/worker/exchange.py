"""One request and its response: the sink of ``run_app``, and the line in the access log.

It lives from the moment a request is accepted until the last octet of its response is handed to the
kernel, or given up. Only the owner of its connection may call it.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

from forkserve.errors import in_a_line, traceback_of
from forkserve.http.errors import InvalidResponse, ProtocolError
from forkserve.http.forwarded import FIELDS, Forwarded
from forkserve.http.framing import RequestFraming
from forkserve.http.head import Head, parse_head
from forkserve.http.request_start import SENT_AT
from forkserve.http.response import OwnLines, ResponseEncoder, early_hints
from forkserve.ops.access import Access
from forkserve.ops.statsd import OF_APPLICATION
from forkserve.worker.body import RequestBody
from forkserve.worker.identity import FIELD
from forkserve.worker.service import REVOKED, Service
from forkserve.worker.stream import FileFailed
from forkserve.wsgi.call import ABORTED, COMMITTED, FINISHED, NEW, STARTED, Sink
from forkserve.wsgi.file_wrapper import FileWrapper, Region
from forkserve.wsgi.input import BodyError, ClientDisconnected

# A block so long is sent behind the head, not copied to it: below, one copy is cheaper than a
# second system call.
_COPY = 65536

OWN_MODULES = (
    "forkserve.worker.",
    "forkserve.wsgi.",
    "forkserve.develop.",
    "forkserve.ops.own_paths",
)  # which no traceback begins with
_FROM_PROXIES = FIELDS | SENT_AT
_NO_BODY = RequestFraming(0, False)
_NO_ENVIRON: Mapping[str, object] = {}
FILE_DESCRIPTORS = 2  # that a file costs while it is sent: the application's, and a region's

_RETRY_AFTER = "5"
"""Seconds that a client is asked to wait before it tries again, when there was no room for it."""

CLIENT_CLOSED_REQUEST = 499
"""In the access log only, and nginx's: the client was gone before a status could be sent."""


class Carrier(Protocol):
    """A connection, as far as an exchange needs one."""

    service: Service
    remote: tuple[str, str]
    region: Region | None
    stalled: float

    @property
    def movable(self) -> bool:
        """Another worker goes on with it when this one leaves."""

    def transmit(self, octets: bytes, *, more: bool = False) -> None:
        """Send ``octets``. Raises ClientDisconnected."""

    def progress(self) -> None:
        """The call is not stuck."""

    def leave(self, octets: bytes, region: Region) -> None:
        """Leave ``octets``, and then those of ``region``, to the loop."""


class Exchange(Sink):
    """``environ``     what the application was given; {} if it was not called, or nobody asks
    ``forwarded``   what proxies say of the request, None if it has none of their fields
    ``dated``       its fields tell when a proxy had it
    ``request_id``  "" if nobody has asked for one yet
    ``queued``      seconds that it has waited for the application
    ``began``, ``called``, ``returned``: the times of its first octet, of the call, and of the end
                    of that; 0.0: it has not come to that
    ``aborted``     why the response is not complete, "" if it is
    """

    __slots__ = (
        "_carrier", "_service", "aborted", "began", "body", "called", "dated", "encoder", "environ",
        "forwarded", "head", "queued", "request_id", "returned",
    )  # fmt: skip

    def __init__(
        self,
        carrier: Carrier,
        head: Head,
        framing: RequestFraming,
        body: RequestBody | None,
        began: float,
    ) -> None:
        self.stage = NEW
        self._carrier = carrier
        self._service = carrier.service
        self.head = head
        self.body = body
        self.encoder = ResponseEncoder(head.method, head.minor, framing.persist)
        self.environ = _NO_ENVIRON
        self.began = began
        self.request_id = self.aborted = ""
        self.queued = self.called = self.returned = 0.0
        self.forwarded: Forwarded | None = None
        self.dated = False
        if not _FROM_PROXIES.isdisjoint(head.fields):
            self.dated = not SENT_AT.isdisjoint(head.fields)
            if not FIELDS.isdisjoint(head.fields):
                self.forwarded = self._service.forwarded(head.fields, carrier.remote[0])

    # ---- for the application

    def early_hints(self, headers: Sequence[tuple[str, str]]) -> None:
        """``wsgi.early_hints``: tell the client ahead what it will need (103, RFC 8297).

        Does nothing if it is too late, or for HTTP/1.0, which knows no interim responses. Raises
        InvalidResponse, ClientDisconnected.
        """
        octets = early_hints(headers)
        if octets and self.head.minor and (self.stage is NEW or self.stage is STARTED):
            self._raise_if_revoked()
            self._carrier.transmit(octets)
            self._carrier.progress()

    # ---- wsgi.call.Sink

    def start(self, status: str, headers: Sequence[tuple[str, str]]) -> None:
        """Take status and header. Raises InvalidResponse."""
        self.encoder.start(status, headers)
        if self._service.request_id_header and not _has_request_id(headers):
            self.encoder.add(f"X-Request-Id: {self.identify()}\r\n".encode("ascii"))

    def send_only(self, block: bytes) -> None:
        """Send the whole response. Raises ClientDisconnected."""
        encoder = self.encoder
        if len(block) <= _COPY:
            self._carrier.transmit(encoder.only(self._commit(), block))
            self.stage = FINISHED
            if not encoder.persist or encoder.body_octets != len(block):
                self._report_length()  # one that is too short has ended the connection
            return
        head, body = encoder.head(self._commit(), len(block)), encoder.block(block)
        self._carrier.transmit(head, more=bool(body))
        if body:
            self._carrier.transmit(body)
        self.finish()

    def send(self, block: bytes) -> None:
        """Send one block, with the head in front of the first one. Raises ClientDisconnected."""
        if self.stage is STARTED:
            octets = self.encoder.head(self._commit()) + self.encoder.block(block)
        else:
            octets = self.encoder.block(block)
            self._raise_if_revoked()
        if octets:
            self._carrier.transmit(octets)
            self._carrier.progress()
        if self.encoder.sated:
            self.finish()

    def send_file(self, wrapper: FileWrapper) -> bool:
        """Leave the file to the loop, if it is one that can be sent as it is."""
        encoder, service = self.encoder, self._service
        region = wrapper.region() if service.file_room >= FILE_DESCRIPTORS else None
        if region is None:
            return False
        head = encoder.head(self._commit(), region.length)
        region.length = encoder.part(region.length)
        self._carrier.leave(head, region)
        self.finish()
        return True

    def finish(self) -> None:
        """Send what ends the response, and report what was wrong with it."""
        end = self.encoder.end()
        if end:
            self._carrier.transmit(end)
        self.stage = FINISHED
        self._report_length()

    # ---- for the connection

    def send_error(self, status: int, detail: str) -> None:
        """Answer with a page of our own. ``detail`` is ours, not the client's."""
        phrase = HTTPStatus(status).phrase
        page = f"{status} {phrase}\n\n{detail}\n".encode("ascii")
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", _RETRY_AFTER))
        self.start(f"{status} {phrase}", headers)
        try:
            self.send_only(page)
        except ClientDisconnected as error:
            self.stage, self.aborted = ABORTED, str(error)

    def fail(self, error: BaseException) -> None:
        """The call raised. What the client is told depends on what it has already read."""
        log, line = self._service.log, self.head.line
        status, detail = 500, "The application failed."
        if isinstance(error, ClientDisconnected):
            self.give_up(str(error))
            return
        if isinstance(error, BodyError):
            status, detail = error.status, error.detail
        elif isinstance(error, InvalidResponse):
            log.error("the response to %.200r cannot be sent: %s", line, error, extra=self._mark)
        else:
            where = "after the response to" if self.stage is FINISHED else "in"
            what, trace = in_a_line(error), traceback_of(error, OWN_MODULES)
            log.error(
                "%s %.200r the application raised %s\n%s", where, line, what, trace,
                extra={**OF_APPLICATION, **self._mark},
            )  # fmt: skip
        if self.stage is COMMITTED:
            self.break_off()
        elif self.stage is not FINISHED:
            self.send_error(status, detail)

    def break_off(self) -> None:
        """The application failed in the middle, and nothing more of the body goes out.

        If the framing tells the client, the connection ends like any other, so that what is out
        arrives, and clients report a transfer that is not complete. A reset could destroy it; it
        is the only way left where the close is the end of the body.
        """
        self.aborted = "the application failed"
        self.encoder.persist = False
        self.stage = FINISHED if self.encoder.shows_its_end else ABORTED

    def give_up(self, why: str) -> None:
        """The client is gone. A response that is complete stays so: it may still be read."""
        if self.stage is not FINISHED:
            self.aborted = why
        if self.stage is NEW or self.stage is STARTED:
            self.encoder.code = CLIENT_CLOSED_REQUEST
        if self.stage is not FINISHED:
            self.stage = ABORTED

    def close_file(self, error: Exception | None = None) -> None:
        """A file that was left to the loop, if any, is sent or is given up because of ``error``."""
        region, self._carrier.region = self._carrier.region, None
        if region is None:
            return
        service, line = self._service, self.head.line
        if isinstance(error, FileFailed):
            service.log.error(
                "the response to %.200r is cut off: its file %s", line, error, extra=self._mark
            )
        self.encoder.body_octets -= region.length  # what is left of it
        service.file_room += FILE_DESCRIPTORS
        os.close(region.fd)
        service.closings.append((region.wrapper, line, self.request_id))

    def identify(self) -> str:
        """The id of the request, made now if it has none yet. "": they have none here."""
        if not self.request_id and self._service.ids is not None:
            self.request_id = self._service.ids.of(self.head.fields, self._carrier.remote[0])
        return self.request_id

    def take_over(self, other: "Exchange") -> None:
        """This one answers in place of ``other``, whose call is stuck."""
        self.request_id, self.queued, self.called = other.request_id, other.queued, other.called

    def access(self, now: float) -> Access:
        """What the access log is told, when it is over."""
        encoder, said = self.encoder, self.forwarded
        request_id = self.request_id or self.identify()
        environ, self.environ = self.environ, _NO_ENVIRON  # which holds `early_hints`, and so this
        if not environ:  # refused; what nobody may send is dropped here too
            drop = said.drop if said else ()
            environ = {key: text for key, text in self.head.fields.items() if key not in drop}
            if request_id:  # as the application would see it
                environ |= {FIELD: request_id, "forkserve.request_id": request_id}
            if self.queued:
                environ["forkserve.queue_seconds"] = self.queued
        called = writing = None
        if self.called:
            returned, stalled = self.returned or now, self._carrier.stalled
            called = max(0.0, returned - self.called - stalled)
            writing = now - returned + stalled
        return Access(
            remote=(said and said.address) or self._carrier.remote[0],
            status=encoder.code,
            octets=encoder.body_octets,
            seconds=now - self.began,
            line=self.head.line,
            environ=environ,
            headers=encoder.headers,
            request_id=request_id,
            queued=self.queued if self.called or self.queued else None,
            called=called,
            writing=writing,
            aborted=self.aborted,
        )

    @property
    def _mark(self) -> dict[str, str]:
        """By which a line in the error log can be found again in the access log."""
        return {"request_id": self.request_id}

    def _commit(self) -> OwnLines:
        """The status is final now, and whether the connection goes on. Returns the fields that the
        server adds."""
        encoder, service, body = self.encoder, self._service, self.body
        if body is not None:
            if not (body.finished or body.drainable):
                encoder.persist = False
            body.final_status_is_out()
        if not service.persist and not self._carrier.movable:
            encoder.persist = False
        if encoder.dropped:
            self._report_dropped(encoder.dropped)
        self.stage = COMMITTED
        if service.verdicts:
            self._raise_if_revoked()
        return service.own_lines(service.clock())

    def _raise_if_revoked(self) -> None:
        verdicts = self._service.verdicts
        if verdicts and verdicts.get(self) is REVOKED:
            raise ClientDisconnected("the server has given the call up")

    def _report_length(self) -> None:
        """Say so if the body is not as long as its Content-Length."""
        missing, excess = self.encoder.missing, self.encoder.excess
        if missing:
            self.aborted = "the body is shorter than its Content-Length"
            what = f"{_octets(missing)} shorter than its Content-Length: the connection is closed"
        elif excess:
            what = f"{_octets(excess)} longer than its Content-Length: the rest is cut off"
        else:
            return
        self._service.log.warning(
            "the response to %.200r is %s", self.head.line, what, extra=self._mark
        )

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


def refused(carrier: Carrier, head: Head | None, octets: bytes, began: float) -> Exchange:
    """The exchange of a request that is not accepted. Without a ``head``, ``octets`` tell what the
    log and the answer's framing need: all, if it is whole and has only waited; or else a line."""
    if head is None:
        with contextlib.suppress(ProtocolError):
            head = parse_head(octets, 0, carrier.service.limits)
    if head is None:
        line = octets.lstrip(b"\r\n")[:1024].partition(b"\n")[0].rstrip(b"\r").decode("latin-1")
        head = Head(line, line.partition(" ")[0], "", "", "", 1, {}, 0)
    return Exchange(carrier, head, _NO_BODY, None, began)


def _has_request_id(headers: Sequence[tuple[str, str]]) -> bool:
    """``headers`` are such that can be sent."""
    return any(name.lower() == "x-request-id" for name, _ in headers)


def _octets(count: int) -> str:
    return "1 octet" if count == 1 else f"{count} octets"
