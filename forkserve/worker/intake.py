"""From octets to a request: the head, its framing, and the body as far as it is collected.

Slow clients are met here: each waits under a deadline of its own, and what is kept of all of them
together is counted.
"""

import socket
from abc import abstractmethod

from forkserve.http.errors import ProtocolError
from forkserve.http.framing import CHUNKED, request_framing
from forkserve.http.head import parse_head
from forkserve.http.proxy_protocol import is_proxy_header
from forkserve.worker.body import RequestBody
from forkserve.worker.exchange import Exchange, refused
from forkserve.worker.handoff import MAX_OCTETS
from forkserve.worker.queueing import WAITED, is_gone, waited_in_kernel
from forkserve.worker.service import Service
from forkserve.worker.state import PLACES, UNCHANGED, State
from forkserve.worker.stream import Stream
from forkserve.wsgi.call import Environ
from forkserve.wsgi.input import ClientDisconnected

# A head that comes in many small pieces is looked at when a line is complete, or after so much, and
# when it has grown by an eighth: or else each octet, or each line, would have all the octets before
# it parsed again. It is looked at in any case when it ends, also if that is not how a head ends.
_LOOK_AGAIN = 1024
_ENDS = (b"\n\r\n", b"\n\n")

_NO_ROOM = "too many requests are incomplete"

# What the sizes of its chunks may take of a body that is on disk, when there is no room: a client
# can send a chunk an octet, without end.
_SIZES_KEPT = 16384

_NEVER = float("inf")

HEAD, BODY, READY, IDLE = State.HEAD, State.BODY, State.READY, State.IDLE


class Intake(Stream):
    """The half of a connection that takes requests in; ``Connection`` is the other.

    ``state``, ``deadline``  what it is waited for, and until when (monotonic seconds)
    ``remote``               (address, port) of the client as text, ("", "") on a unix socket
    ``served``               requests so far
    ``arrived``              when the request at hand began to wait for its turn; 0.0: it did not
    ``base``                 the environ of the listener
    ``watched``, ``wake_at`` the loop's own: the events that epoll waits for, and when the loop
                             looks at the deadline next
    ``counted``              as which state the connection is counted for those who look
    """

    __slots__ = (
        "_began", "_head", "_looked_at", "arrived", "base", "counted", "deadline", "exchange",
        "remote", "served", "state", "wake_at", "watched",
    )  # fmt: skip

    def __init__(
        self,
        service: Service,
        sock: socket.socket,
        base: Environ,
        remote: tuple[str, str],
        now: float,
    ) -> None:
        super().__init__(service, sock)
        self.remote = remote
        self.state = HEAD
        self.counted = State.CLOSED
        self.deadline = now + service.head_timeout
        self.served = 0
        self.exchange: Exchange | None = None
        self.base = base
        self.watched = UNCHANGED
        self.wake_at = _NEVER
        self._began = now
        self.arrived = 0.0
        self._head = b""  # as it came, of a short request with a body, until that is over
        self._looked_at = 0  # octets of an unfinished head, when it was last looked at

    def count(self) -> None:
        """Count it among those of its state, if that is another. For the loop."""
        if self.counted is not self.state:
            self.service.tally.move(PLACES[self.counted], PLACES[self.state])
            self.counted = self.state

    # ---- for the other half to do

    @abstractmethod
    def close(self) -> None:
        """Nothing more is to be done."""

    @abstractmethod
    def _call(self, now: float) -> None:
        """Run the application. The thread that leads may."""

    @abstractmethod
    def _refuse(self, error: ProtocolError, now: float) -> None:
        """Answer with an error, and close."""

    @abstractmethod
    def _abort(self, error: Exception | None = None, why: str = "") -> None:
        """Close with a reset."""

    # ---- the head

    def _more_of_head(self, octets: bytes, now: float) -> None:
        whole = self.buffer + octets
        behind = max(len(self.buffer) - 3, 0)
        grown = len(whole) - self._looked_at
        if any(whole.find(end, behind) >= 0 for end in _ENDS) or (
            grown * 8 >= self._looked_at and (b"\n" in octets or grown >= _LOOK_AGAIN)
        ):
            self._parse(whole, now, now >= self.service.lead.inline_from)
        else:
            self.buffer = whole
            self._hold_head(now)

    def _parse(self, octets: bytes, now: float, inline: bool) -> None:
        """Take the head of a request from ``octets``, and go on with what its framing says.

        ``inline``: the application is called at once, for a request without a body.
        """
        service = self.service
        head = None
        try:
            head = parse_head(octets, 0, service.limits)
            if head is None:
                self._wait_for_head(octets, now)
                return
            framing = request_framing(head, service.max_body)
        except ProtocolError as error:
            if head is None and is_proxy_header(octets):
                service.refuse_proxy_header(self.remote[0])
            self.exchange = refused(self, head, octets, self._began)
            self._refuse(error, now)
            return
        self.buffer = octets[head.end :]
        if framing.length == 0:
            if not inline:
                self._wait_for_turn(octets, now)
                return
            self.exchange = Exchange(self, head, framing, None, self._began)
            self._call(now)
            return
        streamed = service.streams(head.path)
        coded, size = framing.length == CHUNKED, head.end + max(framing.length, 0)
        self._head = octets[: head.end] if size <= MAX_OCTETS and (streamed or not coded) else b""
        body = RequestBody(framing, service, self, now, streamed=streamed)
        self.exchange = Exchange(self, head, framing, body, self._began)
        self.state = BODY
        self._collect(now)

    def _wait_for_head(self, octets: bytes, now: float) -> None:
        """The head is not complete."""
        if self.arrived:  # as if it were: but it begins only now
            self._began, self.arrived = now, 0.0
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
            self._refuse(ProtocolError(503, _NO_ROOM), now)

    # ---- the body

    def _collect(self, now: float) -> None:
        """Collect what is there of the body; when that is enough, call."""
        assert self.exchange is not None and self.exchange.body is not None
        body = self.exchange.body
        try:
            body.collect()
            enough = body.collected_enough
            if not enough and not self._hold_input():
                self._head = b""  # rather than the body
                if not self._hold_input():
                    body.move_to_disk()
                held = self._hold_input()
                enough = body.collected_enough
                if not (held or enough) and body.in_memory > _SIZES_KEPT:
                    raise ProtocolError(503, _NO_ROOM)
        except ProtocolError as error:
            self._refuse(error, now)
        except ClientDisconnected:
            self.close()
        except OSError as error:
            self.service.body_not_stored(error, self.exchange.head.line)
            self._refuse(ProtocolError(507, "the request body cannot be stored"), now)
        else:
            if not enough:
                self.arrived = 0.0
                self.deadline = body.deadline(now)
            elif now >= self.service.lead.inline_from:
                self._call(now)
            else:
                self._put_back()
                self._wait_for_turn(self.buffer, now)

    def _ask_again(self) -> None:
        """Send what is left of the 100 (Continue)."""
        try:
            self.send_unsent()
        except ClientDisconnected:
            self.close()

    def _put_back(self) -> None:
        """Be as if nothing of a short request were parsed: who serves it, perhaps another worker,
        parses it again."""
        assert self.exchange is not None and self.exchange.body is not None
        body = self.exchange.body.put_back() if self._head else None
        if body is None or len(self._head) + len(body) + len(self.buffer) > MAX_OCTETS:
            return
        self.buffer = self._head + body + self.buffer
        self.exchange.body.discard()
        self.exchange, self._head = None, b""

    def _wait_for_turn(self, octets: bytes, now: float) -> None:
        """The request is there, and no thread to call the application, or calls are not brief.

        ``octets``: of it, unless it is parsed; who serves it, perhaps another worker, does so.
        """
        self.state, self.buffer = READY, octets
        if not self.arrived:
            self.arrived = now - self._waited_unheard()
        self.deadline = self.arrived + self.service.queue_timeout
        self._hold_input()

    def _waited_unheard(self) -> float:
        """Seconds that the request has been in the kernel, if the loop did not look for long."""
        lag = self.service.lag
        return min(waited_in_kernel(self.socket), lag) if lag >= WAITED else 0.0

    def _waited_in_vain(self, exchange: Exchange, now: float) -> bool:
        """The request is not for the application any more: it has waited too long, or its client is
        gone. Asked of one that may have waited, or whose fields tell when a proxy had it."""
        service, queued = self.service, exchange.queued
        if exchange.dated:
            came = max(0.0, min(self.arrived or service.woke, now) - self._began)
            queued = max(queued, service.waited(exchange.head.fields, self.remote[0], came))
        late = queued >= WAITED or service.lag >= WAITED
        if not self.arrived:
            queued = max(queued, self._waited_unheard())
        exchange.queued = queued
        self.arrived = 0.0
        if queued > service.queue_timeout:
            self._refuse(ProtocolError(503, "the request has waited too long"), now)
        elif late and is_gone(self.socket, queued):
            exchange.give_up("the client was gone before its turn")
            self._abort()
        else:
            return False
        return True

    def _hold_input(self) -> bool:
        """Count what is kept of the request and of the next one. False: it is too much."""
        body = None if self.exchange is None else self.exchange.body
        kept = 0 if body is None else len(self._head) + body.in_memory
        return self.hold(len(self.buffer) + kept)
