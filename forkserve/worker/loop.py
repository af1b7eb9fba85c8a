"""The loop of a worker: one epoll, every connection, no call but the application's that takes time.

It accepts, wakes connections whose events or deadlines have come, and parks them again according to
their state. A connection that stays open costs one entry in epoll and one in a table. A request
that comes in one piece and is answered in one costs two system calls.

Used by the main thread of the worker only.
"""

import errno
import heapq
import logging
import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence

from forkserve.net.listeners import Listener
from forkserve.proc.channel import Channel, Message
from forkserve.proc.signals import SignalQueue
from forkserve.worker.connection import Connection
from forkserve.worker.preface import Connect
from forkserve.worker.service import Service
from forkserve.worker.state import FRESH, READABLE, ROWS, UNCHANGED, State
from forkserve.wsgi.call import Environ

_EVENTS = 256  # taken from the kernel at once; the deadlines of the others wait for the next time
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

_QUEUED = 65535  # connections that can wait in a listener (listen(2))

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_FLUSH, _READY, _IDLE, _CLOSED = State.FLUSH, State.READY, State.IDLE, State.CLOSED


class Loop:
    """``run`` returns when the worker has nothing more to do."""

    def __init__(
        self,
        service: Service,
        listeners: Sequence[tuple[Listener, Environ]],
        worker_connections: int,
        due_after: float,
        connect: Connect = Connection,
    ) -> None:
        """``listeners``: each with the environ that its requests have in common.

        ``due_after``: the number of requests after which the worker asks to be replaced.
        ``connect``: makes a connection of an accepted socket; OSError if it is gone already.
        """
        self._connect = connect
        self._service = service
        self._log: logging.Logger = service.log
        self._listeners = list(listeners)
        self._worker_connections = worker_connections
        self._due_after = due_after
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}  # by descriptor
        self._others: dict[int, Callable[[], None]] = {}  # by descriptor: what its readiness calls
        self._checks: list[tuple[float, int, Connection]] = []  # heap: when to look at a deadline
        self._check_serial = 0
        self._stale_checks = 0
        self._ready: deque[Connection] = deque()
        self._accepting = False
        self._accept_again = _NEVER
        self._complain_again = 0.0
        self._turn_began = self._turn_lasted = 0.0
        self._leaving = False
        self._quitting = False
        self._reopen_logs: Callable[[], None] = lambda: None
        self._announce_due: Callable[[], None] = lambda: None
        self._announce_leaving: Callable[[], None] = lambda: None

    # ---- for the worker's main

    def listen_to(
        self, channel: Channel, signals: SignalQueue, reopen_logs: Callable[[], None]
    ) -> None:
        """Take orders from the master, and from who sends signals to this process."""
        self._reopen_logs = reopen_logs
        self._announce_due = lambda: channel.send(Message.DUE)
        self._announce_leaving = lambda: channel.send(Message.LEAVING)
        self.watch(channel.fileno(), lambda: self._obey(channel))
        self.watch(signals.fileno(), lambda: self._on_signals(signals))

    def watch(self, fd: int, call: Callable[[], None]) -> None:
        """Call ``call`` whenever ``fd`` is readable."""
        self._others[fd] = call
        self._epoll.register(fd, READABLE)

    def begin(self) -> None:
        """Accept connections from now on. Raises OSError."""
        self._turn_began = self._service.clock()
        self._accept(True)

    def run(self) -> None:
        """Serve until told to leave, and until the last connection is closed."""
        while not self._quitting and (self._connections or not self._leaving):
            self.once(self._timeout(self._service.clock()))

    def once(self, timeout: float | None) -> None:
        """Wait for at most ``timeout`` seconds, and do what is to be done."""
        clock, connections = self._service.clock, self._connections
        self._turn_lasted = clock() - self._turn_began
        events = self._epoll.poll(timeout, _EVENTS)
        self._turn_began = began = clock()
        for fd, _ in events:
            connection = connections.get(fd)
            if connection is None:
                if fd in self._others:
                    self._others[fd]()
                continue
            state = connection.state
            if state is _READY:
                continue
            if state is _FLUSH:
                connection.writable(clock())
            else:
                connection.readable(clock())
            # The usual case, idle again and parked already, is sorted out here.
            if (
                connection.state is not _IDLE
                or connection.watched != READABLE
                or connection.wake_at > connection.deadline
                or not self._accepting
            ):
                self._park(fd, connection)
        if self._ready:
            self._serve_ready()
        if len(events) < _EVENTS:
            # Not later than the time of the poll: who is late by it had nothing to be read then.
            # During a call that has just taken long, others may have sent what is waited for.
            self._check_deadlines(began)
        if self._service.requests >= self._due_after:
            self._due_after = _NEVER
            self._announce_due()

    def let_go(self) -> None:
        """In a child that the application has forked: close what is the worker's alone, or clients
        would not see that their connection is closed, and the port would stay in use."""
        self._service.forked = True
        self._epoll.close()
        for connection in self._connections.values():
            connection.socket.close()
        for listener, _ in self._listeners:
            listener.close()

    # ---- connections

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
        self._connections[fd] = connection
        if serve:
            connection.readable(now)
        self._park(fd, connection)

    def _park(self, fd: int, connection: Connection) -> None:
        """Wait for what the connection's state says."""
        state = connection.state
        if not self._accepting and not self._leaving and (state is _IDLE or state is _CLOSED):
            self._accept_again = 0.0  # there is room again, or can be made
        if state is _CLOSED:
            self._forget(fd, connection)
            return
        if state is _READY:
            self._ready.append(connection)
        events = ROWS[state].events
        if events not in (UNCHANGED, connection.watched):
            if connection.watched == UNCHANGED:
                self._epoll.register(fd, events)
            else:
                self._epoll.modify(fd, events)
            connection.watched = events
        if connection.deadline < connection.wake_at:
            self._check_at(connection.deadline, connection)

    def _forget(self, fd: int, connection: Connection) -> None:
        del self._connections[fd]
        if connection.watched != UNCHANGED:
            # Closing is not enough: while a process that the application has started holds the
            # socket too, epoll would report it for ever.
            self._epoll.unregister(fd)
        connection.socket.close()
        if connection.wake_at < _NEVER:
            self._count_stale()

    def _serve_ready(self) -> None:
        """One request of each connection that has sent ahead: none starves the others."""
        for _ in range(len(self._ready)):
            connection = self._ready.popleft()
            if connection.state is _READY:
                fd = connection.socket.fileno()
                connection.turn(self._service.clock())
                self._park(fd, connection)

    # ---- deadlines

    def _check_at(self, when: float, connection: Connection) -> None:
        # A deadline that moves on is not moved in the heap: the entry is looked at when its time
        # has come, and then again later. So a request costs no work here.
        if connection.wake_at < _NEVER:
            self._count_stale()
        connection.wake_at = when
        self._check_serial += 1
        heapq.heappush(self._checks, (when, self._check_serial, connection))

    def _count_stale(self) -> None:
        """An entry of the heap has become useless. When most are, they are thrown out."""
        self._stale_checks += 1
        if self._stale_checks > 64 and self._stale_checks > len(self._checks) // 2:
            self._stale_checks = 0
            self._checks = [
                check
                for check in self._checks
                if check[2].state is not _CLOSED and check[0] == check[2].wake_at
            ]
            heapq.heapify(self._checks)

    def _check_deadlines(self, now: float) -> None:
        while self._checks and self._checks[0][0] <= now:
            when, _, connection = heapq.heappop(self._checks)
            if connection.state is _CLOSED or when != connection.wake_at:
                self._stale_checks = max(0, self._stale_checks - 1)
                continue
            connection.wake_at = _NEVER
            if connection.deadline <= now:
                fd = connection.socket.fileno()
                connection.expire(now)
                self._park(fd, connection)
            elif connection.deadline < _NEVER:
                self._check_at(connection.deadline, connection)
        if now >= self._accept_again:
            self._accept(True)

    def _timeout(self, now: float) -> float | None:
        if self._ready:
            return 0.0
        when = min(self._checks[0][0] if self._checks else _NEVER, self._accept_again)
        return None if when == _NEVER else max(0.0, when - now)

    # ---- accepting

    def _accept(self, on: bool) -> None:
        """Begin, or cease, to wait for new connections."""
        self._accept_again = _NEVER
        if on == self._accepting:
            return
        self._accepting = on
        for listener, environ in self._listeners:
            fd = listener.socket.fileno()
            if on:
                self._others[fd] = self._acceptor(listener, environ)
                # Exclusive: a new connection wakes one worker, not all.
                self._epoll.register(fd, READABLE | select.EPOLLEXCLUSIVE)
            else:
                del self._others[fd]
                self._epoll.unregister(fd)

    def _acceptor(self, listener: Listener, environ: Environ) -> Callable[[], None]:
        def accept() -> None:
            count = 1 + min(int(self._turn_lasted * 1000), _ACCEPTED - 1)
            while count and self._accept_one(listener, environ):
                count -= 1

        return accept

    def _accept_one(self, listener: Listener, environ: Environ, *, serve: bool = True) -> bool:
        """Accept one connection, and serve it if its request is there. False: there is none, or
        no room for it. (A loop that leaves makes no more room: those that wait are its last.)"""
        full = len(self._connections) >= self._worker_connections
        full = full and not self._leaving and not self._shed()
        if full:
            # It was this worker that was woken, and no other, so it takes this one (as if it were
            # below its limit), or an idle sibling would not know of it. Then it hears of no more.
            self._accept(False)
        try:
            sock, peer = listener.socket.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            # Otherwise the connection failed before it was accepted (accept(2)): go on to the next.
            return error.errno not in _NO_ROOM or self._no_room(error)
        remote = ("", "") if listener.family == socket.AF_UNIX else (str(peer[0]), str(peer[1]))
        self.add(sock, environ, remote, serve=serve)
        return not full

    def _shed(self) -> bool:
        """Close connections to make room: those that were idle for longest, or else those that have
        never said anything for longest. False: there are none."""
        connections = self._connections.values()
        idle = [item for item in connections if item.state is _IDLE] or [
            item for item in connections if item.state in FRESH and not item.buffer
        ]
        for connection in heapq.nsmallest(_SHED, idle, key=lambda item: item.deadline):
            fd = connection.socket.fileno()
            connection.close()
            self._park(fd, connection)
        return bool(idle)

    def _no_room(self, error: OSError) -> bool:
        """There is no descriptor, or no memory, for another connection. True: try again."""
        if self._shed():
            return True
        now = self._service.clock()
        self._accept(False)
        self._accept_again = now + _PAUSE
        if now >= self._complain_again:
            self._complain_again = now + _COMPLAIN_EVERY
            self._log.error(
                "no connection can be accepted: %s. %d are open; new ones wait in the kernel and "
                "are tried again every %g s. Raise the limit (ulimit -n, LimitNOFILE=), or lower "
                "`worker_connections`",
                error.strerror, len(self._connections), _PAUSE,
            )  # fmt: skip
        return False

    # ---- orders

    def _obey(self, channel: Channel) -> None:
        messages = channel.receive()
        if messages is None:
            # The master is gone, and nobody would collect or replace this process.
            self._quitting = True
            return
        for message, _ in messages:
            if message is Message.RETIRE:
                self.leave(serve_queued=False)
            elif message is Message.STOP:
                self.leave(serve_queued=True)
            elif message is Message.QUIT:
                self._quitting = True
            elif message is Message.REOPEN:
                self._reopen_logs()

    def _on_signals(self, signals: SignalQueue) -> None:
        """A service manager may signal the workers along with the master."""
        for number in signals.take():
            if number == signal.SIGTERM:
                self._announce_leaving()
                self.leave(serve_queued=True)
            elif number in (signal.SIGINT, signal.SIGQUIT):
                self._quitting = True
            elif number == signal.SIGUSR1:
                self._reopen_logs()

    def leave(self, *, serve_queued: bool) -> None:
        """Accept no more, finish what was begun. ``serve_queued``: accept what has already
        connected, because no other worker will."""
        self._leaving = True
        self._service.persist = False
        self._accept(False)
        for listener, environ in self._listeners:
            # Not served before all are accepted: under a steady load there is always another one.
            queued = _QUEUED if serve_queued else 0
            while queued and self._accept_one(listener, environ, serve=False):
                queued -= 1
            listener.close()
        self._listeners = []
        self._accept_again = _NEVER
        now = self._service.clock()
        for fd, connection in list(self._connections.items()):
            connection.retire(now)
            self._park(fd, connection)
