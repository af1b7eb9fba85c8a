"""The loop of a worker: one epoll, every connection, no call but the application's that takes time.

It accepts, wakes connections whose events or deadlines have come, and parks them again according to
their state. A connection that stays open costs one entry in epoll and one in a table. A request
that comes in one piece and is answered in one costs two system calls.

Used by the thread that leads (``worker.lead``), and in the middle of a call of the application by
nobody: there another thread may go on where this one stands.
"""

import os
import select
from collections import deque
from collections.abc import Callable, Sequence

from forkserve.net.listeners import Listener
from forkserve.ops.scoreboard import Row
from forkserve.ops.tally import WRITE_EVERY
from forkserve.proc.channel import Message
from forkserve.worker.admission import Admission
from forkserve.worker.closing import Closing, close_files
from forkserve.worker.connection import Connection
from forkserve.worker.deadlines import Deadlines
from forkserve.worker.environs import Environs
from forkserve.worker.handoff import HandoffQueue
from forkserve.worker.lead import LONG, InCall
from forkserve.worker.preface import Connect
from forkserve.worker.service import Service
from forkserve.worker.sharing import AGAIN, Sharing
from forkserve.worker.state import READABLE, ROWS, UNCHANGED, WRITABLE, State

_EVENTS = 256  # taken from the kernel at once, unless there are deadlines to look at
_NEVER = float("inf")

_MOST = 0.05
"""Seconds for which brief calls are made in one turn, of those that were waiting and of those that
come: then the others are heard, deadlines are looked at, and orders of the master."""

_BODY, _FLUSH, _READY, _IDLE = State.BODY, State.FLUSH, State.READY, State.IDLE
_RUNNING, _CLOSED = State.RUNNING, State.CLOSED


class Loop:
    """``run`` returns when the worker has nothing more to do; ``due`` is when it has to wake up."""

    def __init__(
        self,
        service: Service,
        listeners: Sequence[Listener],
        environs: Environs,
        worker_connections: int,
        due_after: float,
        *,
        connect: Connect = Connection,
        queue: HandoffQueue | None = None,
        row: Row | None = None,
    ) -> None:
        """``due_after``: the number of requests after which the worker asks to be replaced.

        ``connect``: makes a connection of an accepted socket; OSError if it is gone already.
        ``queue``, ``row``: how connections come from siblings and go to them; without, they stay.
        """
        self._service = service
        self._lead = service.lead
        self._due_after = due_after
        self._epoll = select.epoll()
        self.connections: dict[int, Connection] = {}  # by descriptor
        self._others: dict[int, Callable[[], object]] = {}  # by descriptor: what to call
        self._deadlines = Deadlines()
        self._ready: deque[Connection] = deque()
        self._calls: list[InCall] = []  # in threads that do not lead any more
        self.admission = Admission(
            self, service, listeners, environs, worker_connections, connect, queue
        )
        self._sharing = Sharing(queue, row, environs) if queue is not None and row else None
        self._idle = memoryview(bytearray(1)) if row is None else row.idle_mark()
        self._turn_began = self.turn_lasted = self._led_since = 0.0
        self.due = self._share_again = self._write_at = _NEVER
        self.leaving = self.quitting = self._heard_all = False
        self._wakeup = wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lead.wake = lambda: os.eventfd_write(wakeup, 1)
        self.watch(wakeup, self._on_wakeup)

    # ---- for the worker's main

    def begin(self) -> None:
        """Take in connections from now on. Raises OSError."""
        self._turn_began = self._service.clock()
        self.admission.open()

    def watch_call(self) -> None:
        """The lead was taken in the middle of a call: from now on its deadline is the loop's."""
        call, self._lead.in_call = self._lead.in_call, None
        if call is not None:
            self._calls.append(call)
        self._look_at_calls()

    def _look_at_calls(self) -> None:
        """Their threads move their deadlines, also to an earlier time."""
        self._calls = [call for call in self._calls if call.state is _RUNNING]
        for call in self._calls:
            call.deadline = call.cell.deadline or _NEVER
            call.count()
            self._deadlines.watch(call)

    def _on_wakeup(self) -> None:
        os.eventfd_read(self._wakeup)
        self._look_at_calls()

    @property
    def over(self) -> bool:
        """The worker was told to leave, and the last connection is closed; or to leave at once."""
        return self.quitting or (self.leaving and not self.connections and not self._closes())

    @property
    def helped(self) -> bool:
        """A sibling is free for a request. For any thread."""
        return self._sharing is not None and self._sharing.helped

    def _closes(self) -> bool:
        """A file that was sent is being closed, or will be."""
        return bool(self._service.closings and self._lead.calls) or any(
            isinstance(call, Closing) and call.state is _RUNNING for call in self._calls
        )

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Serve until it is over, or ``until`` says so. Raises Lost. For the thread that leads."""
        self._led_since = self._turn_began = self._service.clock()
        self.admission.adjust()
        if self._ready:
            self._serve_ready()  # first those that wait: there may always be somebody new
        while not ((self.leaving or self.quitting) and self.over):
            if until is not None and until():
                return
            self.once()
        self._service.tally.write()

    def once(self, *, wait: bool = True) -> None:
        """Wait for something to do, and do it. Raises Lost. (Each request pays.)"""
        service, connections, lead = self._service, self.connections, self._lead
        events = self._next_events(wait=wait)
        due, began, until = self.due, self._turn_began, self._turn_began + _MOST
        for fd, _ in events:
            connection = connections.get(fd)
            if connection is None:
                if fd in self._others:
                    self._others[fd]()
                continue
            state, now = connection.state, service.clock()
            if now > until:
                lead.inline_from = _NEVER
            if state is _IDLE:
                connection.readable(now)
                # The usual case: idle again, and parked already.
                if (
                    connection.state is _IDLE
                    and connection.wake_at <= connection.deadline
                    and self.admission.room
                ):
                    continue
            elif state is _READY or state is _RUNNING:
                self._turn_away(fd, connection)
                continue
            else:
                (connection.writable if state is _FLUSH else connection.readable)(now)
            self.park(fd, connection)
        if self._ready:
            self._serve_ready()
        if service.closings and lead.calls:
            close_files(service)
        if began >= due and self._heard_all:
            # By the time of the poll: others may have sent what is waited for during a long call.
            self._check_deadlines(began)
        if service.requests >= self._due_after:
            self._due_after = _NEVER
            service.announce(Message.DUE, str(service.requests))

    def _next_events(self, *, wait: bool) -> list[tuple[int, int]]:
        """What epoll tells next; with ``wait`` False, or with something to do, at once."""
        service, lead = self._service, self._lead
        if lead.returned:
            self._settle_returned()
            wait = False  # it may have been the last
        now = service.clock()
        self.turn_lasted = now - self._turn_began
        if service.tally.changed and self._write_at == _NEVER:
            self._write_at = now + WRITE_EVERY
        self.due = due = min(
            self._deadlines.first, self.admission.again, self._share_again, self._write_at
        )
        timeout = None if due == _NEVER else max(0.0, due - now)
        if not wait or (lead.calls and (self._ready or service.closings)):
            timeout = 0.0
        # Who is late is told after all were heard: under a load there always is somebody to hear.
        most = _EVENTS if now < due else len(self.connections) + len(self._others) + 1
        lead.turns += 1
        self._idle[0] = lead.calls and timeout != 0.0
        events = self._epoll.poll(timeout, most)
        self._idle[0] = 0
        lead.turns += 1
        if lead.alert:
            lead.rouse()
        self._heard_all = len(events) < most
        self._turn_began = began = service.clock()
        service.lag, service.woke = now - service.woke, began if lead.calls else service.woke
        return events

    def let_go(self) -> None:
        """In a child that the application has forked: close what is the worker's alone, or clients
        would not see that their connection is closed, and the port would stay in use."""
        self._service.forked = True
        self._epoll.close()
        os.close(self._wakeup)
        for connection in self.connections.values():
            connection.socket.close()
        self.admission.let_go()

    # ---- for the admission

    def watch(self, fd: int, call: Callable[[], object], events: int = READABLE) -> None:
        """Call ``call`` whenever ``fd`` is readable."""
        self._others[fd] = call
        self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Watch it no more."""
        del self._others[fd]
        self._epoll.unregister(fd)

    # ---- connections

    def park(self, fd: int, connection: Connection) -> None:
        """Wait for what the connection's state says."""
        state = connection.state
        if not self.admission.room and not self.leaving and (state is _IDLE or state is _CLOSED):
            self.admission.again = 0.0  # there is room again, or can be made
        if self._service.gives and state is not _CLOSED and self._give(fd, connection):
            return
        if state is _CLOSED:
            self._forget(fd, connection)
            return
        connection.count()
        if state is _READY:
            self._queue_up(connection)
        events = ROWS[state].events
        if state is _BODY and connection.unsent is not None:
            events |= WRITABLE  # for the 100 (Continue), without which no body may ever come
        if events not in (UNCHANGED, connection.watched):
            if connection.watched == UNCHANGED:
                self._epoll.register(fd, events)
            else:
                self._epoll.modify(fd, events)
            connection.watched = events
        self._deadlines.watch(connection)

    def _forget(self, fd: int, connection: Connection) -> None:
        del self.connections[fd]
        connection.count()
        if connection.watched != UNCHANGED:
            # Closing is not enough: a process that the application has started may hold it too.
            self._epoll.unregister(fd)
        connection.socket.close()
        self._deadlines.forget(connection)

    def _turn_away(self, fd: int, connection: Connection) -> None:
        """It has something to say, out of its turn. If that may last, it is not heard until then:
        epoll would report it again and again."""
        if connection.watched == UNCHANGED or (connection.state is _READY and self._lead.calls):
            return
        self._epoll.unregister(fd)
        connection.watched = UNCHANGED

    def _settle_returned(self) -> None:
        """Go on with those whose calls have ended in threads that did not lead."""
        while self._lead.returned:
            call = self._lead.returned.popleft()
            call.returned()
            if isinstance(call, Connection):
                self.park(call.socket.fileno(), call)

    def _queue_up(self, connection: Connection) -> None:
        """Who comes last is the last, but one that was handed off may have waited the longest."""
        longer = self._ready and connection.arrived < self._ready[0].arrived
        (self._ready.appendleft if longer else self._ready.append)(connection)

    def _serve_ready(self) -> None:
        """One request of each connection that waits for its turn: none starves the others."""
        service, lead = self._service, self._lead
        if not lead.calls:
            self._relieve()
            return
        if self.turn_lasted >= LONG and len(self._ready) > 1 and self.helped:
            self._relieve()
        long = service.clock() + LONG
        for _ in range(len(self._ready)):
            connection = self._ready.popleft()
            if connection.state is _READY:
                lead.inline_from = 0.0
                connection.turn(service.clock())
                self.park(connection.socket.fileno(), connection)
                now = service.clock()
                # Others are to be heard, brief calls or not, or can be given what is left.
                most = _MOST if now >= lead.inline_from else LONG
                if now >= long and (now >= long + most or self.helped):
                    lead.inline_from = _NEVER  # nobody overtakes what is left
                    break

    # ---- hand-off

    def _relieve(self) -> None:
        """Let siblings have what waits for a thread here, but for what a free one does next."""
        if self._sharing is None or self.leaving:
            return  # who leaves alone keeps them, and else gives all that it can
        now, free = self._service.clock(), self._lead.calls
        waiting = [item for item in self._ready if item.state is _READY]
        busy = 0.0 if free else now - self._led_since
        for connection in self._sharing.relieve(waiting[1:] if free else waiting, now, busy):
            self._let_move(connection.socket.fileno(), connection)
        self._ready = deque(item for item in waiting if item.state is _READY)
        again = self._sharing.again(() if free else self._ready, now)
        self._share_again = min(self._share_again, again)

    def _give(self, fd: int, connection: Connection) -> bool:
        """This worker retires: let a sibling have the connection, if it is between requests."""
        assert self._sharing is not None
        if not connection.portable:
            return False  # or not yet: it is parked again when its request is over
        if not self._sharing.give(connection):
            self._share_again = self._service.clock() + AGAIN  # there is no room in the queue
            return False
        self._let_move(fd, connection)
        # Last: who withdraws later than this sees that there is nobody else, and what was given.
        if not self._sharing.possible:
            self._keep_all()
        return True

    def _keep_all(self) -> None:
        """Who was to go on is gone, and what is in the queue is for nobody else."""
        self._service.gives = False
        self.admission.take_handed_off()
        self._give_all()

    def _give_all(self) -> None:
        """This worker leaves: let siblings have what can be given; the others come to their end."""
        service, now = self._service, self._service.clock()
        for fd, connection in list(self.connections.items()):
            connection.retire(now)
            if service.gives and self._give(fd, connection):
                continue
            self._deadlines.watch(connection)

    def _let_move(self, fd: int, connection: Connection) -> None:
        """It is another worker's now: forget it without a word to the client."""
        connection.close()
        self._forget(fd, connection)

    # ---- deadlines

    def _check_deadlines(self, now: float) -> None:
        for waiting in self._deadlines.passed(now):
            waiting.expire(now)
            if isinstance(waiting, Connection):
                self.park(waiting.socket.fileno(), waiting)
            else:
                self._deadlines.watch(waiting)
        if now >= self.admission.again:
            self.admission.open()
        if now >= self._write_at:
            self._write_at = _NEVER
            self._service.tally.write()
        if now >= self._share_again and self._sharing is not None:
            self._share_again = _NEVER
            if self.leaving:
                self._give_all()
            elif self._sharing.recalls(now) and not self._lead.calls:
                self.admission.take_handed_off()  # nobody has come, so they are answered here
            self._share_again = min(self._share_again, self._sharing.again(self._ready, now))

    # ---- orders

    def retire(self) -> None:
        """Others go on: finish what was begun, let them have the rest, and leave."""
        self._leave(others=True)

    def stop(self) -> None:
        """Nobody goes on: finish what was begun, and what waits in the kernel, and leave."""
        self._leave(others=False)

    def _leave(self, *, others: bool) -> None:
        self.leaving = True
        self._service.persist = False
        self._idle = memoryview(bytearray(1))  # it takes nothing more, and so is idle for nobody
        if self._sharing is not None:
            self._sharing.withdraw()  # then it looks: of two that leave at once one sees nobody
        self._service.gives = others and self._sharing is not None and self._sharing.possible
        self.admission.end(serve_queued=not others)
        if not self._service.gives:
            self.admission.take_handed_off()
        self._give_all()
