"""What comes in to a worker: connections from its listeners, and those that siblings hand off.

Both are waited for with EPOLLEXCLUSIVE, so that one worker is woken and not all, and both only
while a thread that may call the application leads: who waits in the kernel can be taken by any
worker, and who was taken in can not.
"""

import errno
import heapq
import select
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from forkserve.net.listeners import Listener
from forkserve.ops.tally import NOT_TAKEN, TAKEN
from forkserve.worker.connection import Connection
from forkserve.worker.environs import Environs, Name
from forkserve.worker.handoff import HandoffQueue, Parcel
from forkserve.worker.preface import Connect
from forkserve.worker.service import Service
from forkserve.worker.state import FRESH, READABLE, State
from forkserve.wsgi.call import Environ

_NEVER = float("inf")

_PAUSE = 0.5
"""Seconds without accepting, when there is no descriptor for another connection."""

_COMPLAIN_EVERY = 10.0
"""Seconds between two lines in the log about that."""

# At the limit of connections, so many of those idle for longest are closed at once: finding them
# is a search through all.
_SHED = 16

# New connections accepted in one turn: one, so that an idle sibling takes the next; and for each
# millisecond that the turn before has lasted one more, up to this, so that a busy worker does not
# let newcomers wait for a turn each.
_ACCEPTED = 64

_QUEUED = 65535  # connections that can wait in a listener (listen(2)), or in the queue

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Keeper(Protocol):
    """The loop, as far as an admission needs it: ``connections`` by descriptor, how long its
    ``turn_lasted`` in seconds, and whether the worker is ``leaving``."""

    connections: dict[int, Connection]
    turn_lasted: float
    leaving: bool

    def watch(self, fd: int, call: Callable[[], object], events: int) -> None:
        """Call ``call`` when ``events`` happen at ``fd``."""

    def forget(self, fd: int) -> None:
        """Watch it no more."""

    def park(self, fd: int, connection: Connection) -> None:
        """Wait for what the connection's state says."""


class Admission:
    """Used by the thread that leads.

    ``room``   there is some for another connection, as far as is known
    ``again``  when to try again after there was none
    """

    def __init__(
        self,
        loop: Keeper,
        service: Service,
        listeners: Sequence[Listener],
        environs: Environs,
        worker_connections: int,
        connect: Connect,
        queue: HandoffQueue | None,
    ) -> None:
        self._loop = loop
        self._connect = connect
        self._service = service
        self._listeners = list(listeners)
        self._environs = environs
        self._queue = queue
        self._worker_connections = worker_connections
        self._watched: list[int] = []
        self.room = False
        self._complain_again = 0.0
        self.again = _NEVER

    # ---- when

    def open(self) -> None:
        """There is room, as far as is known. Raises OSError."""
        self.again = _NEVER
        self.room = True
        self.adjust()

    def close(self) -> None:
        """There is no room."""
        self.again = _NEVER
        self.room = False
        self.adjust()

    def adjust(self) -> None:
        """Wait for newcomers, or cease to: as there is room, and a thread for their requests."""
        on = self.room and self._service.lead.calls
        if on and not self._watched:
            for listener in self._listeners:
                self._watch(listener.socket.fileno(), self._acceptor(listener))
            if self._queue is not None:
                self._watch(self._queue.fileno(), self._take_one)
        elif not on and self._watched:
            for fd in self._watched:
                self._loop.forget(fd)
            self._watched.clear()
            if self.room:
                self._take_in(1)

    def look(self) -> None:
        """Wait anew: whoever the kernel has woken for those that wait will not come. (What is
        registered is looked at; what was registered before is not looked at again.)"""
        for fd in self._watched:
            self._loop.forget(fd)
        self._watched.clear()
        self.adjust()

    def _watch(self, fd: int, call: Callable[[], object]) -> None:
        self._loop.watch(fd, call, READABLE | select.EPOLLEXCLUSIVE)
        self._watched.append(fd)

    def _take_in(self, most: int) -> None:
        """Take what waits in each listener, and what siblings have handed off; serve none of it
        yet. At least one of each: the kernel has woken one worker for it, and that was perhaps this
        one, who hears of no more from now on. The others would sleep on."""
        self.take_handed_off(most)  # first: who leaves hands off what it accepts
        for listener in self._listeners:
            queued = most
            while queued and self._accept_one(listener, serve=False):
                queued -= 1

    def take_handed_off(self, most: int = _QUEUED) -> None:
        """Take what siblings have handed off; serve none of it yet."""
        while self._queue is not None and most and self._take_one(serve=False):
            most -= 1

    def end(self, *, serve_queued: bool) -> None:
        """Take in no more. ``serve_queued``: but what waits already, for nobody else will."""
        self.close()
        # Not served before all are accepted: under a steady load there is always another one.
        self._take_in(_QUEUED if serve_queued else 1)
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        self.again = _NEVER

    def let_go(self) -> None:
        """In a child that the application has forked: these are the worker's alone."""
        for listener in self._listeners:
            listener.close()
        if self._queue is not None:
            self._queue.close()

    # ---- what

    def _acceptor(self, listener: Listener) -> Callable[[], None]:
        def accept() -> None:
            count = 1 + min(int(self._loop.turn_lasted * 1000), _ACCEPTED - 1)
            while count and self._accept_one(listener):
                count -= 1

        return accept

    def _accept_one(self, listener: Listener, *, serve: bool = True) -> bool:
        """Accept one connection, and serve it if its request is there. False: there is none, or
        no room for it."""
        room = self._make_room()
        try:
            sock, peer = listener.socket.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            # Otherwise the connection failed before it was accepted (accept(2)): go on to the next.
            return error.errno not in _NO_ROOM or self._no_room(error.strerror or str(error))
        remote = ("", "") if listener.family == socket.AF_UNIX else (str(peer[0]), str(peer[1]))
        self.add(sock, self._environs.of(listener.name), remote, serve=serve)
        return room

    def add(
        self, sock: socket.socket, environ: Environ, remote: tuple[str, str], *, serve: bool = True
    ) -> None:
        """Take charge of an accepted connection. ``serve``: at once, if its request is there."""
        sock.setblocking(False)
        now = self._service.clock()
        try:
            connection = self._connect(self._service, sock, environ, remote, now)
        except OSError:
            return
        fd = connection.socket.fileno()
        self._loop.connections[fd] = connection
        if serve:
            connection.readable(now)
        self._loop.park(fd, connection)

    def _take_one(self, *, serve: bool = True) -> bool:
        """Go on with a connection that a sibling has handed off. False: there is none, or no room
        for it."""
        assert self._queue is not None
        room = self._make_room()
        spoiled, taken = self._queue.spoiled, self._queue.take()
        if self._queue.spoiled > spoiled:
            self._report_spoiled(self._queue.spoiled - spoiled)
        if taken is None:
            return self._queue.starved and self._no_room("Too many open files")
        sock, parcel = taken
        environ = self._environs.of(_listener_of(parcel), plain=True)
        self._service.tally.add(TAKEN)
        now = self._service.clock()
        connection = Connection(self._service, sock, environ, parcel.remote, now)
        self._loop.connections[sock.fileno()] = connection
        connection.resume(parcel, now, serve=serve)
        if self._loop.leaving:
            connection.retire(now)
        self._loop.park(sock.fileno(), connection)
        return room

    def _report_spoiled(self, count: int) -> None:
        self._service.tally.add(NOT_TAKEN, count)
        self._service.log.error(
            "of what was handed off %d could not be taken, and is closed: the last descriptor was "
            "just gone, or something else than a worker writes to the queue",
            count,
        )

    # ---- room

    def _make_room(self) -> bool:
        """False: there is none. (A loop that leaves makes no more: those that wait are its last.)

        It was this worker that was woken, and no other, so it takes the one that waits (as if it
        were below its limit), or an idle sibling would not know of it. Then it hears of no more.
        """
        loop = self._loop
        if len(loop.connections) < self._worker_connections or loop.leaving or self._shed():
            return True
        self.close()
        return False

    def _shed(self) -> bool:
        """Close connections to make room: those that were idle for longest, or else those that have
        never said anything for longest. False: there are none."""
        connections = self._loop.connections.values()
        idle = [item for item in connections if item.state is State.IDLE] or [
            item for item in connections if item.state in FRESH and not item.buffer
        ]
        for connection in heapq.nsmallest(_SHED, idle, key=lambda item: item.deadline):
            fd = connection.socket.fileno()
            connection.close()
            self._loop.park(fd, connection)
        return bool(idle)

    def _no_room(self, why: str) -> bool:
        """There is no descriptor, or no memory, for another connection. True: try again."""
        if self._shed():
            return True
        now = self._service.clock()
        self.close()
        self.again = now + _PAUSE
        if now >= self._complain_again:
            self._complain_again = now + _COMPLAIN_EVERY
            self._service.log.error(
                "no connection can be accepted: %s. %d are open; new ones wait in the kernel and "
                "are tried again every %g s. Raise the limit (ulimit -n, LimitNOFILE=), or lower "
                "`worker_connections`",
                why, len(self._loop.connections), _PAUSE,
            )  # fmt: skip
        return False


def _listener_of(parcel: Parcel) -> Name:
    """The listener that has accepted it."""
    host, _, port = parcel.listener.rpartition(" ")
    return host, port
