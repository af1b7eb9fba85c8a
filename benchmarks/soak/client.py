"""One client connection: sends its population's requests one by one, and judges what comes back.

No request is ever sent twice: what a connection's end takes with it is lost, and counted so.
"""

import errno
import socket
from random import Random
from typing import TYPE_CHECKING

from benchmarks.soak.answer import Answer, Malformed
from benchmarks.soak.populations import Population, Request

if TYPE_CHECKING:
    from benchmarks.soak.crowd import Crowd

_RETRY = 0.02
"""Seconds until one who was refused tries again."""


class Client:
    """One of a population. Used by the crowd's loop only.

    ``request`` is the one under way or due, None between two. ``until`` is when something is to be
    done: the next request or piece begins, or the patience is over.
    """

    def __init__(self, crowd: "Crowd", name: str, population: Population, random: Random) -> None:
        self.name = name
        self._crowd = crowd
        self._population = population
        self._random = random
        self._sock: socket.socket | None = None
        self._connected = False
        self._request: Request | None = None
        self._number = 0
        self._next_piece = 0
        self._unsent = b""
        self._answer = Answer()
        self._due = 0.0  # when the last piece of the request was sent, or the request was due
        self._first = 0.0  # when the answer began, 0.0 before
        self._serial = 0  # of the last timer; those before it mean nothing any more

    # ---- called by the crowd

    def begin(self, now: float) -> None:
        """Open the connection, and send the first request."""
        self._ask(now)

    def timer(self, serial: int, now: float) -> None:
        """A timer has come to its end; whatever happened since has set another."""
        if serial != self._serial:
            return
        if self._request is None:
            if self._crowd.stopping:
                return
            if ended := self._ended_meanwhile():
                self._end(now, ended)
            else:
                self._ask(now)
        elif self._sock is None:
            self._connect(now)
        elif not self._connected:
            self._end(now, "timeout")
        elif self._next_piece < len(self._request.pieces):
            self._send(now)
        else:
            self._end(now, "timeout")

    def event(self, writable: bool, now: float) -> None:
        """The socket is readable, or writable."""
        assert self._sock is not None
        if not self._connected:
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._on_connected(error, now)
            return
        if writable and self._unsent:
            self._flush(now)
            return
        try:
            octets = self._sock.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            self._end(now, "reset" if self._under_way else "idle_reset")
            return
        if not octets:
            if self._under_way and self._answer.ends_with_connection:
                self._judge(now)
            else:
                self._end(now, "fin" if self._under_way else "idle_fin")
        elif not self._under_way:
            self._end(now, "wrong_status")  # an answer that nobody asked for
        else:
            self._read(octets, now)

    def stop(self) -> None:
        """Send no further request. One under way goes on."""
        if self._request is None or not self._under_way:
            self._leave()

    # ---- sending

    @property
    def _under_way(self) -> bool:
        """Some of a request is out, and its answer is not in."""
        return self._request is not None and self._connected and self._next_piece > 0

    def _ask(self, now: float) -> None:
        self._number = self._crowd.new_number()
        self._request = self._population.make(self._number, self._random)
        self._next_piece = 0
        self._due, self._first = now, 0.0
        if self._sock is None:
            self._connect(now)
        else:
            self._send(now)

    def _ended_meanwhile(self) -> str:
        """How the connection ended since the last answer, "" if it has not. The end may have come
        after the loop last heard of anything; clients that people use look, too, before they send
        a request on a connection that was idle (urllib3, Go's net/http)."""
        if self._sock is None:
            return ""
        try:
            return "" if self._sock.recv(1, socket.MSG_PEEK) else "idle_fin"
        except BlockingIOError:
            return ""
        except OSError:
            return "idle_reset"

    def _connect(self, now: float) -> None:
        sock = self._sock = socket.socket(socket.AF_INET)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connected = False
        error = sock.connect_ex(self._crowd.address)
        self._crowd.register(sock, self, writable=error == errno.EINPROGRESS)
        if error == errno.EINPROGRESS:
            self._set_timer(now + self._crowd.patience)
        else:
            self._on_connected(error, now)

    def _on_connected(self, error: int, now: float) -> None:
        if error:
            self._crowd.count(self, "refused", self._number)
            self._drop()
            if self._crowd.stopping or self._crowd.gives_up:
                self._leave()
            else:
                self._set_timer(now + _RETRY)
            return
        assert self._sock is not None
        self._connected = True
        self._crowd.modify(self._sock, writable=False)
        self._send(now)

    def _send(self, now: float) -> None:
        """Send the next piece, and wait for what comes then."""
        assert self._request is not None
        pieces = self._request.pieces
        self._unsent = pieces[self._next_piece][1]
        self._next_piece += 1
        if self._next_piece == len(pieces):
            if len(pieces) > 1:
                self._due = now
            self._crowd.sent_at(self._number, now)
            self._set_timer(now + self._crowd.patience)
        else:
            self._set_timer(now + pieces[self._next_piece][0])
        self._flush(now)

    def _flush(self, now: float) -> None:
        assert self._sock is not None
        waited = len(self._unsent)
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(now, "reset")
            return
        self._unsent = self._unsent[sent:]
        if self._unsent or sent < waited:
            self._crowd.modify(self._sock, writable=True)
        elif self._crowd.is_writing(self._sock):
            self._crowd.modify(self._sock, writable=False)

    # ---- judging

    def _read(self, octets: bytes, now: float) -> None:
        if not self._first:
            self._first = now
        try:
            whole = self._answer.feed(octets)
        except Malformed:
            self._end(now, "wrong_body")
            return
        if whole:
            self._judge(now)

    def _judge(self, now: float) -> None:
        """The answer is there."""
        assert self._request is not None
        answer, request = self._answer, self._request
        early = self._next_piece < len(request.pieces)
        if answer.status != 200 or early:
            self._end(now, "wrong_status")
            return
        if answer.body != request.body or answer.surplus:
            self._end(now, "wrong_body")
            return
        self._crowd.answered(self, self._number, self._first - self._due, now)
        self._request = None
        if answer.closes:
            if not self._population.once:
                self._crowd.count(self, "announced", 0)
            self._drop()
        self._answer = Answer()
        if self._crowd.stopping:
            self._leave()
            return
        low, high = self._population.pause
        if self._crowd.gives_up and self._sock is None:
            self._ask(now)  # whether there is anybody left
        elif high:
            self._set_timer(now + self._random.uniform(low, high))
        else:
            self._ask(now)

    def _end(self, now: float, how: str) -> None:
        """The connection is over, and with it a request under way."""
        self._crowd.count(self, how, self._number)
        self._drop()
        self._request = None
        self._answer = Answer()
        if self._crowd.stopping:
            self._leave()
        elif self._crowd.gives_up:
            self._set_timer(now)
        else:
            self._set_timer(now + self._random.uniform(*self._population.pause))

    # ---- the connection

    def _drop(self) -> None:
        if self._sock is not None:
            self._crowd.unregister(self._sock)
            self._sock.close()
        self._sock = None
        self._connected = False
        self._unsent = b""

    def _leave(self) -> None:
        self._serial += 1
        self._drop()
        self._request = None
        self._crowd.has_left(self)

    def _set_timer(self, when: float) -> None:
        self._serial += 1
        self._crowd.call_at(when, self, self._serial)
