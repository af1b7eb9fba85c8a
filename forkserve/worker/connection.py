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
from forkserve.http.framing import request_framing
from forkserve.http.head import parse_head
from forkserve.worker.body import RequestBody
from forkserve.worker.exchange import Exchange, refused
from forkserve.worker.service import Service
from forkserve.worker.state import FRESH, ROWS, UNCHANGED, State
from forkserve.worker.stream import RECV, RECV_HEAD, FileFailed, Stream
from forkserve.wsgi.call import ABORTED, Environ, run_app
from forkserve.wsgi.environ import apply_forwarded, request_environ
from forkserve.wsgi.input import ClientDisconnected

*_, HEAD, BODY, READY, RUNNING, FLUSH, IDLE, DRAIN, LINGER, CLOSED = State

# Seconds for a client to notice a response and stop sending, and for a drained body to arrive: from
# the last octets that it sent, and in all. (lingering_timeout and lingering_time of nginx.)
_LINGER = 5.0
_LINGER_IN_ALL = 30.0

_LAST_CHANCE = 1.0
"""Seconds in which a client of a retiring worker may still send a request that it had under way."""

# A head that comes in many small pieces is looked at when a line is complete, or after so much, and
# when it has grown by an eighth: or else each octet, or each line, would have all the octets before
# it parsed again. It is looked at in any case when it ends, also if that is not how a head ends.
_LOOK_AGAIN = 1024
_ENDS = (b"\n\r\n", b"\n\n")

_NEVER = float("inf")


class Connection(Stream):
    """One client's connection.

    ``state``, ``deadline``  what it is waited for, and until when (monotonic seconds)
    ``remote``               (address, port) of the client as text, ("", "") on a unix socket
    ``served``               requests so far
    ``watched``, ``wake_at`` the loop's own: the events that epoll waits for, and when the loop
                             looks at the deadline next
    """

    __slots__ = (
        "_base", "_began", "_looked_at", "deadline", "exchange", "remote", "served",
        "state", "wake_at", "watched",
    )  # fmt: skip

    def __init__(
        self,
        service: Service,
        sock: socket.socket,
        base: Environ,
        remote: tuple[str, str],
        now: float,
    ) -> None:
        """``base`` is the environ of the listener."""
        super().__init__(service, sock)
        self.remote = remote
        self.state = HEAD
        self.deadline = now + service.head_timeout
        self.served = 0
        self.exchange: Exchange | None = None
        self.watched = UNCHANGED
        self.wake_at = _NEVER
        self._base = base
        self._began = now
        self._looked_at = 0  # octets of an unfinished head, when it was last looked at

    # ---- called by the loop

    def readable(self, now: float) -> None:
        """There is something to read, or an end, or an error."""
        state = self.state
        try:
            octets = self.socket.recv(RECV_HEAD if state is IDLE or state is HEAD else RECV)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            # The client is gone, or will send no more. Whatever is incomplete now stays so.
            self.close()
        elif state is IDLE or (state is HEAD and not self.buffer):
            self._began = now
            self._parse(self.buffer + octets, now)  # it may hold the CR of an empty line
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
            self._abort(error)
            return
        self.deadline = self.take_by
        if self.unsent is None:
            assert self.exchange is not None
            self.exchange.close_file()
            self._after_response(now)

    def turn(self, now: float) -> None:
        """Serve the next request of a READY connection, as far as it is there."""
        self._began = now
        octets, self.buffer = self.buffer, b""
        self._parse(octets, now)

    def expire(self, now: float) -> None:
        """The deadline has passed, and there was nothing to read or to write."""
        row = ROWS[self.state]
        if self.state is FLUSH and self.keeps_up(now):
            # Too little is free for the kernel to call it writable, but the client does read.
            self.deadline = self.take_by
        elif row.status is not None and (self.buffer or self.exchange):
            self._refuse(ProtocolError(row.status, "the request did not arrive in time"), now)
        elif row.abrupt:
            self._abort()
        else:
            # A client that never sent anything gets no 408: browsers open connections ahead of
            # need, and would show it as the answer to the request that they send next.
            self.close()

    def retire(self, now: float) -> None:
        """The worker leaves: this connection ends after a request that is under way."""
        if self.state in (IDLE, LINGER) or (self.state in FRESH and not self.buffer):
            self.deadline = min(self.deadline, now + _LAST_CHANCE)

    def close(self) -> None:
        """Nothing more is to be done. The loop, which knows who else refers to it, closes the
        socket; what takes memory goes now."""
        self.state = CLOSED
        self.buffer = b""
        self.unsent = None
        self.hold(0)
        self._drop_exchange()

    # ---- from octets to the call

    def _more_of_head(self, octets: bytes, now: float) -> None:
        whole = self.buffer + octets
        behind = max(len(self.buffer) - 3, 0)
        grown = len(whole) - self._looked_at
        if any(whole.find(end, behind) >= 0 for end in _ENDS) or (
            grown * 8 >= self._looked_at and (b"\n" in octets or grown >= _LOOK_AGAIN)
        ):
            self._parse(whole, now)
        else:
            self.buffer = whole
            self._hold_head(now)

    def _parse(self, octets: bytes, now: float) -> None:
        """Take the head of a request from ``octets``, and go on with what its framing says."""
        service = self.service
        head = None
        try:
            head = parse_head(octets, 0, service.limits)
            if head is None:
                self._wait_for_head(octets, now)
                return
            framing = request_framing(head, service.max_body)
        except ProtocolError as error:
            self.exchange = refused(self, head, octets, self._began)
            self._refuse(error, now)
            return
        self.buffer = octets[head.end :]
        if framing.length == 0:
            self.exchange = Exchange(self, head, framing, None, self._began)
            self._call(now)
            return
        streamed = service.streams(head.path)
        body = RequestBody(framing, service, self, now, streamed=streamed)
        self.exchange = Exchange(self, head, framing, body, self._began)
        self.state = BODY
        self._collect(now)

    def _wait_for_head(self, octets: bytes, now: float) -> None:
        """The head is not complete."""
        begun = self.state is HEAD and self.buffer.strip(b"\r")
        # Empty lines in front of a request are ignored, and are no request that has begun.
        empty = not octets.strip(b"\r\n")
        self.buffer = octets[len(octets.rstrip(b"\r")) :] if empty else octets
        self._looked_at = len(self.buffer)
        if not empty and not begun:
            self.state = HEAD
            self.deadline = now + self.service.head_timeout
        elif self.state is READY:
            self.state = IDLE
            self.deadline = now + self.service.keep_alive
        self._hold_head(now)

    def _hold_head(self, now: float) -> None:
        """Keep what is there of a head, if there is room for it."""
        if not self.hold(len(self.buffer)) and self.state is HEAD:
            self._refuse(ProtocolError(503, "too many requests are incomplete"), now)

    def _collect(self, now: float) -> None:
        """Collect what is there of the body; when that is enough, call."""
        assert self.exchange is not None and self.exchange.body is not None
        body = self.exchange.body
        try:
            body.collect()
            enough = body.collected_enough
            if not enough and not self._hold_input():
                body.move_to_disk()
                self._hold_input()
                enough = body.collected_enough
        except ProtocolError as error:
            self._refuse(error, now)
        except ClientDisconnected:
            self.close()
        except OSError as error:
            self.service.log.error(
                "a body cannot be collected in `tmp_dir`: %s. The request %.200r is answered with "
                "507; make room, or set `tmp_dir`",
                error.strerror, self.exchange.head.line,
            )  # fmt: skip
            self._refuse(ProtocolError(507, "the request body cannot be stored"), now)
        else:
            if enough:
                self._call(now)
            else:
                self.deadline = body.deadline(now)

    def _hold_input(self) -> bool:
        """Count what is kept of the request and of the next one. False: it is too much."""
        body = None if self.exchange is None else self.exchange.body
        return self.hold(len(self.buffer) + (0 if body is None else body.in_memory))

    def _call(self, now: float) -> None:
        """Run the application. Its errors end here."""
        service, exchange = self.service, self.exchange
        assert exchange is not None
        self.state = RUNNING
        self.served += 1
        service.requests += 1
        head, body = exchange.head, exchange.body
        file = io.BytesIO() if body is None else body.open()
        environ = request_environ(self._base, head, file, self.remote, self.served)
        if exchange.forwarded is not None:
            apply_forwarded(environ, exchange.forwarded)
        if body is not None:
            body.describe(environ)
        environ["wsgi.early_hints"] = exchange.early_hints
        if service.access_log is not None:
            exchange.environ = environ
        service.row.begin(now + service.timeout, now, head.line)
        try:
            run_app(service.app, environ, exchange)
        except BaseException as error:
            if service.forked:
                raise  # a child that came back from the call: nothing here is its own
            exchange.fail(error)
        service.row.end()
        if body is not None:
            body.close_input()
        self._settle(exchange)

    # ---- from the call to the next request

    def _refuse(self, error: ProtocolError, now: float) -> None:
        """Answer with an error, and close. Nothing more of this connection is parsed."""
        if self.exchange is None:
            self.exchange = refused(self, None, self.buffer, self._began)
        self.buffer = b""
        self.exchange.encoder.persist = False
        self.exchange.send_error(error.status, error.detail)
        self._settle(self.exchange)

    def _settle(self, exchange: Exchange) -> None:
        """The response is complete, as far as the application is concerned."""
        now = self.service.clock()
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
        exchange, service = self.exchange, self.service
        assert exchange is not None
        if service.access_log is not None:
            service.access_log.write(exchange.access(now))
        body = exchange.body
        if not exchange.encoder.persist:
            self._linger(now)
        elif body is not None and not body.finished:
            self.state = DRAIN
            self.deadline = now + _LINGER
            self._drain(now)
        else:
            self._next_request(now)

    def _next_request(self, now: float) -> None:
        self._drop_exchange()
        if not self.buffer:
            if self.held:
                self.hold(0)
            self.state = IDLE
            # A worker that began to leave meanwhile has not announced it to this client.
            self.deadline = now + (
                self.service.keep_alive if self.service.persist else _LAST_CHANCE
            )
        elif self.hold(len(self.buffer)):
            self.state = READY
            self.deadline = _NEVER
        else:
            self._linger(now)  # the client sends it again on another (RFC 9112 section 9.3.2)

    def _drop_exchange(self) -> None:
        if self.exchange is not None and self.exchange.body is not None:
            self.exchange.body.discard()
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

    def _abort(self, error: Exception | None = None) -> None:
        """Close with a reset: the only way left to say that the response is not complete."""
        if self.exchange is not None:
            self.exchange.close_file(error)
            if self.service.access_log is not None:
                self.service.access_log.write(self.exchange.access(self.service.clock()))
        self.reset_at_close()
        self.close()
