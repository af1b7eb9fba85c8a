"""One client: what it is waited for, until when, and all that is read from it or written to it.

The loop calls ``readable``, ``writable``, ``turn`` and ``expire``, and then looks at ``state`` and
``deadline``; a connection knows no epoll. Only its owner may call it: the loop, or the call of the
application that the loop runs.

    HEAD ─> BODY ─> RUNNING ─> FLUSH ─> IDLE ─> HEAD    a request as it goes, and the next one
                                 ├────> READY           the next request is in hand already
                                 ├────> DRAIN ─> IDLE   an unread rest of the body is on its way
                                 └────> LINGER          the last response is out
"""

import io
import socket

from forkserve.http.errors import ProtocolError
from forkserve.ops.tally import ABORTED as ABORTED_REQUESTS
from forkserve.worker.exchange import FILE_DESCRIPTORS, Exchange, refused
from forkserve.worker.handoff import MAX_OCTETS, Parcel
from forkserve.worker.identity import FIELD
from forkserve.worker.intake import Intake
from forkserve.worker.lead import BRIEF, Lost, overdue
from forkserve.worker.queueing import WAITED
from forkserve.worker.service import OVER, REVOKED
from forkserve.worker.state import FRESH, ROWS, State
from forkserve.worker.stream import RECV, RECV_HEAD, FileFailed
from forkserve.wsgi.call import ABORTED, FINISHED, NEW, STARTED
from forkserve.wsgi.environ import apply_forwarded, request_environ
from forkserve.wsgi.input import ClientDisconnected

*_, HEAD, BODY, READY, RUNNING, FLUSH, IDLE, DRAIN, LINGER, CLOSED = State

# Seconds for a client to notice a response and stop sending, and for a drained body to arrive: from
# the last octets that it sent, and in all. (lingering_timeout and lingering_time of nginx.)
_LINGER = 5.0
_LINGER_IN_ALL = 30.0

_LAST_CHANCE = 1.0
"""Seconds in which a client of a retiring worker may still send a request that it had under way."""

_LOOK = 0.001
"""Seconds at least for a connection that was on its way until its deadline: what it waits for may
be there, and nobody has looked."""

_MOVABLE = (HEAD, READY, IDLE)  # to another worker
_NEVER = float("inf")


class Connection(Intake):
    """One client's connection."""

    __slots__ = ()

    # ---- called by the loop

    def readable(self, now: float) -> None:
        """There is something to read, or an end, or an error."""
        state = self.state
        try:
            octets = self.socket.recv(RECV_HEAD if state is IDLE or state is HEAD else RECV)
        except BlockingIOError:
            if state is BODY and self.unsent is not None:
                self._ask_again()
            return
        except OSError:
            octets = b""
        self.received += len(octets)
        if not octets:
            # The client is gone, or will send no more. Whatever is incomplete now stays so.
            self.close()
        elif state is IDLE or (state is HEAD and not self.buffer):
            self._began = now
            octets = self.buffer + octets  # it may hold the CR of an empty line
            lead = self.service.lead
            inline = now >= lead.inline_from
            if inline or not lead.calls:
                self._parse(octets, now, inline)
            else:
                self._wait_for_turn(octets, now)
        elif state is HEAD:
            self._more_of_head(octets, now)
        elif state is BODY:
            self.buffer += octets
            self._collect(now)
        elif state is DRAIN:
            self.buffer += octets
            self._drain(now)
        elif state is LINGER:
            self.deadline = min(now + self._linger_for(), self._began + _LINGER_IN_ALL)

    def writable(self, now: float) -> None:
        """The client takes more of the response."""
        try:
            self.send_unsent()
        except (ClientDisconnected, FileFailed) as error:
            self._abort(error, str(error))
            return
        self.deadline = self.take_by
        if self.unsent is None:
            assert self.exchange is not None
            self.exchange.close_file()
            self._after_response(now)

    def turn(self, now: float) -> None:
        """Serve the next request of a READY connection, as far as it is there."""
        if self.exchange is not None:
            self._call(now)
            return
        octets, self.buffer = self.buffer, b""
        self._parse(octets, now, now >= self.service.lead.inline_from)

    def returned(self) -> None:
        """The call is over, in a thread that did not lead any more."""
        assert self.exchange is not None
        self.service.verdicts.pop(self.exchange, None)
        self._settle(self.exchange)

    def expire(self, now: float) -> None:
        """The deadline has passed, and there was nothing to read or to write."""
        row = ROWS[self.state]
        if self.state is RUNNING:
            if overdue(self.cell, now) and self.service.decide(self.exchange, REVOKED):
                self._revoke(now)
            else:
                self.deadline = self.cell.deadline or _NEVER
        elif self.state is FLUSH and self.keeps_up(now):
            # Too little is free for the kernel to call it writable, but the client does read.
            self.deadline = self.take_by
        elif row.status is not None and (self.buffer or self.exchange):
            self._refuse(ProtocolError(row.status, row.detail), now)
        elif row.abrupt:
            self._abort(why="the client did not take the response in time")
        else:
            # A client that never sent anything gets no 408: browsers open connections ahead of
            # need, and would show it as the answer to the request that they send next.
            self.close()

    @property
    def portable(self) -> bool:
        """It is between two requests, and all that there is of it goes into a parcel."""
        return (
            self.state in _MOVABLE
            and self.exchange is None
            and type(self.socket) is socket.socket
            and len(self.buffer) <= MAX_OCTETS
        )

    def parcel(self, listener: str) -> Parcel:
        """What another worker needs to go on with it. It is portable."""
        return Parcel(self.remote, listener, self.served, self.deadline, self.buffer)

    def resume(self, parcel: Parcel, now: float, *, serve: bool = True) -> None:
        """Go on with what another worker has begun. ``serve``: at once, if its request is there."""
        self.served = parcel.served
        self.deadline = max(parcel.deadline, now + _LOOK)
        if parcel.octets:
            self.buffer = parcel.octets
            # If there is a whole request in it, that has waited for its turn, with this deadline.
            self.arrived = self._began = min(now, parcel.deadline - self.service.queue_timeout)
            if serve or not self.service.lead.calls:
                self._parse(parcel.octets, now, now >= self.service.lead.inline_from)
            else:
                self.state = READY
        elif parcel.served:
            self.state = IDLE
        if serve and not parcel.octets:
            self.readable(now)

    def retire(self, now: float) -> None:
        """The worker leaves: this connection ends after a request that is under way, unless another
        worker goes on with it."""
        if self.state is LINGER or (
            not self.movable and (self.state is IDLE or (self.state in FRESH and not self.buffer))
        ):
            self.deadline = min(self.deadline, now + _LAST_CHANCE)

    def close(self) -> None:
        """Nothing more is to be done. The loop, which knows who else refers to it, closes the
        socket; what takes memory goes now."""
        self.state = CLOSED
        self.buffer = b""
        self.unsent = None
        self.hold(0)
        self._drop_exchange()

    # ---- the call

    def _call(self, now: float) -> None:
        """Run the application. Its errors end here."""
        service, exchange = self.service, self.exchange
        assert exchange is not None
        since = self.arrived or service.woke
        exchange.queued = queued = now - since if now > since else 0.0
        asked = queued >= WAITED or service.lag >= WAITED or exchange.dated
        if asked and self._waited_in_vain(exchange, now):
            return
        self.arrived = self.stalled = 0.0
        self.state = RUNNING
        exchange.called = now
        self.deadline = now + service.timeout
        self.served += 1
        service.requests += 1
        if now >= service.tell_at:
            service.tell_busy(now)
        head, body = exchange.head, exchange.body
        file = io.BytesIO() if body is None else body.open()
        environ = request_environ(self.base, head, file, self.remote, self.served)
        said = exchange.forwarded
        if said is not None:
            apply_forwarded(environ, said)
        if body is not None:
            body.describe(environ)
        environ["wsgi.early_hints"] = exchange.early_hints
        environ["forkserve.queue_seconds"] = exchange.queued
        ids = service.ids
        if ids is not None:
            request_id = ids.of(head.fields, self.remote[0]) if FIELD in head.fields else ids.make()
            exchange.request_id = environ["forkserve.request_id"] = environ[FIELD] = request_id
        if service.access_log is not None:
            exchange.environ = environ
        run = service.run  # looked up as an attribute: as a method it is slower
        lead = service.lead
        offer = lead.offer
        self.cell = cell = lead.cell
        lead.in_call = self
        client = self.remote[0] if said is None else said.address or self.remote[0]
        cell.begin(service.timeout, now, head.line, client)
        if lead.awaited:
            lead.rouse()
        offer.append(None)
        try:
            run(service.app, environ, exchange)
        except BaseException as error:
            if service.forked:
                raise
            exchange.fail(error)
        if service.forked:
            service.end_child()
        cell.end()
        if body is not None:
            body.close_input()
        try:
            offer.pop()
        except IndexError:
            lead.judge(service.clock() - now)
            raise Lost(self if service.decide(exchange, OVER) else None) from None
        self._settle(exchange)

    def _revoke(self, now: float) -> None:
        """The call is stuck. Answer in its place, if nothing of its answer is out; whatever it says
        later goes nowhere."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.body is not None:
            exchange.body.close_input()
        # Here first the verdict and then the stage, there (where the stage moves) the other way
        # round: so they cannot both answer.
        if exchange.stage in (NEW, STARTED):
            self.exchange = refused(self, exchange.head, b"", self._began)
            self.exchange.take_over(exchange)
            self._refuse(ProtocolError(504, "the application did not answer in time"), now)
        elif exchange.stage is FINISHED:
            self._settle(exchange)  # it is stuck in what it does after its response
        else:
            self._abort(why="the application made no progress for `timeout`")
        # Last: it takes a while, in which the call could go on.
        self.service.report_stuck(self.cell, exchange.head.line, exchange.request_id)
        self.cell.end()

    # ---- from the call to the next request

    def _refuse(self, error: ProtocolError, now: float) -> None:
        """Answer with an error, and close. Nothing more of this connection is parsed."""
        if self.exchange is None:
            self.exchange = refused(self, None, self.buffer, self._began)
        if self.arrived:
            self.exchange.queued = now - self.arrived
        self.buffer = b""
        self.exchange.encoder.persist = False
        self.exchange.send_error(error.status, error.detail)
        self._settle(self.exchange)

    def _settle(self, exchange: Exchange) -> None:
        """The response is complete, as far as the application is concerned."""
        exchange.returned = now = self.service.clock()
        if self.region is not None:
            self.service.file_room -= FILE_DESCRIPTORS
        if exchange.stage is ABORTED:
            self._abort()
        elif self.unsent is not None:
            self.state = FLUSH
            if not self._hold_input():
                self.buffer = b""  # the client sends it again on another connection
                exchange.encoder.persist = False
                if exchange.body is not None:
                    exchange.body.discard()
                self.hold(0)
            self.writable(now)
        else:
            self._after_response(now)

    def _after_response(self, now: float) -> None:
        """Every octet of the response is with the kernel."""
        exchange = self.exchange
        assert exchange is not None
        self._account(exchange, now)
        body = exchange.body
        if not exchange.encoder.persist:
            self._linger(now)
        elif body is not None and not body.finished:
            self.state = DRAIN
            self.deadline = now + _LINGER
            self._drain(now)
        else:
            self._next_request(now)

    def _account(self, exchange: Exchange, now: float) -> None:
        """The request is over."""
        service = self.service
        busy = exchange.returned - exchange.called if exchange.called else 0.0
        if busy >= BRIEF and service.lead.in_call is self:
            service.lead.note(service.requests, exchange.returned + busy)
        service.tally.over(
            exchange.encoder.code, now - exchange.began, busy, exchange.queued,
            self.received, self.sent,
        )  # fmt: skip
        if exchange.aborted:
            service.tally.add(ABORTED_REQUESTS)
        self.received = self.sent = 0
        if service.access_log is not None:
            service.access_log.write(exchange.access(now))

    def _next_request(self, now: float) -> None:
        self._drop_exchange()
        if not self.buffer:
            if self.held:
                self.hold(0)
            self.state = IDLE
            # A worker that began to leave meanwhile has not announced it to this client.
            self.deadline = now + (
                self.service.keep_alive if self.service.persist or self.movable else _LAST_CHANCE
            )
        elif self.hold(len(self.buffer)):
            self.state = READY
            self.arrived = self._began = now
            self.deadline = now + self.service.queue_timeout
        else:
            self._linger(now)  # the client sends it again on another (RFC 9112 section 9.3.2)

    def _drop_exchange(self) -> None:
        if self.exchange is not None and self.exchange.body is not None:
            self.exchange.body.discard()
            self._head = b""
        self.exchange = None

    def _drain(self, now: float) -> None:
        """Throw away what is there of an unread body."""
        assert self.exchange is not None and self.exchange.body is not None
        try:
            self.exchange.body.drain()
        except ProtocolError:
            # The response is out, so there is nobody to tell.
            self.close()
            return
        if self.exchange.body.finished:
            self._next_request(now)

    def _linger(self, now: float) -> None:
        """Close for sending, and wait for the client to close (RFC 9112 section 9.6).

        A close with octets of the client unread would reset the connection, and the reset can
        destroy the response before the client has read it.
        """
        self._drop_exchange()
        self.buffer = b""
        self.hold(0)
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.state = LINGER
        self._began = now
        self.deadline = now + self._linger_for()
        self.readable(now)

    def _linger_for(self) -> float:
        return _LINGER if self.service.persist else _LAST_CHANCE

    def _abort(self, error: Exception | None = None, why: str = "") -> None:
        """Close with a reset: the only way left to say that the response is not complete."""
        if self.exchange is not None:
            exchange, now = self.exchange, self.service.clock()
            exchange.aborted = exchange.aborted or why
            exchange.returned = exchange.returned or now
            exchange.close_file(error)
            self._account(exchange, now)
        self.reset_at_close()
        self.close()
