"""The loop over socketpairs, with a clock of our own: fairness, deadlines, room, leaving."""

import contextlib
import io
import logging
import os
import signal
import socket
import ssl
import struct
import tracemalloc
from typing import Any

import pytest

from forkserve.master.generation import load_tls
from forkserve.net.address import InetAddress
from forkserve.net.listeners import open_listeners
from forkserve.ops import tally
from forkserve.ops.scoreboard import Scoreboard
from forkserve.proc.channel import Channel, Message
from forkserve.proc.signals import SignalQueue
from forkserve.settings import Settings
from forkserve.worker.connection import Connection
from forkserve.worker.environs import Environs
from forkserve.worker.handoff import HandoffQueue
from forkserve.worker.lead import ALONE, BRIEF, LONG, Lead, Lost
from forkserve.worker.loop import Loop
from forkserve.worker.orders import Orders
from forkserve.worker.preface import connector
from forkserve.worker.service import Service
from forkserve.worker.state import State
from forkserve.wsgi.environ import listener_environ
from tests.certificates import Certificates
from tests.worker.peer import GET, Clock, echo, hello, statuses
from tests.worker.siblings import PLAIN, Client


class Worker:
    """A loop, and clients of it."""

    def __init__(
        self,
        app: Any = hello,
        *,
        connections: int = 100,
        due: float = 1e9,
        signals: SignalQueue | None = None,
        queue: HandoffQueue | None = None,
        **settings: Any,
    ) -> None:
        """``queue``: with it there is a ``sibling``, the row of which can be written."""
        self.clock = Clock()
        values = Settings(app="t:a", **settings)
        board = Scoreboard(2)
        row, self.sibling = board.row(0), board.row(1)
        for each in (row, self.sibling):
            each.take(1)
            each.set_serving(True)
        (cell,) = row.cells()
        self.service = Service(
            app,
            values,
            Lead(cell),
            logging.Logger("t"),
            None,
            self.clock,
            10,
        )
        environs = Environs(
            lambda name, tls: listener_environ(
                io.StringIO(), name, software="t", slot=0, generation=1, tls=tls
            )
        )
        self.environ = environs.of(("127.0.0.1", "80"))
        (self.listener,) = open_listeners([InetAddress("127.0.0.1", 0)], 128)
        self.loop = Loop(
            self.service, [self.listener], environs, connections, due,
            connect=connector(values, load_tls(values)), queue=queue,
            row=None if queue is None else row,
        )  # fmt: skip
        self.master, channel = Channel.pair()
        self.service.announce = channel.send
        Orders(self.loop, channel, signals or SignalQueue(), lambda: None, lambda: None)

    def pair(self) -> socket.socket:
        """A connection that the loop has accepted already."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.loop.admission.add(theirs, self.environ, ("192.0.2.1", "1"))
        return ours

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.name
        return host, int(port)

    def connect(self, octets: bytes = b"") -> socket.socket:
        """A connection that waits to be accepted."""
        client = socket.create_connection(self.address)
        client.sendall(octets)
        client.setblocking(False)
        return client

    @property
    def held(self) -> list[Connection]:
        """The connections that the loop has."""
        return list(self.loop.connections.values())

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.loop.once(wait=False)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.turn(2)


def read(sock: socket.socket) -> bytes:
    octets = b""
    try:
        while more := sock.recv(65536):
            octets += more
    except BlockingIOError:
        return octets
    return octets + b"<eof>"


def test_requests_are_served() -> None:
    worker = Worker()
    clients = [worker.pair() for _ in range(20)]
    for _ in range(3):
        for client in clients:
            client.send(GET)
        worker.turn()
        assert [statuses(read(client)) for client in clients] == [[200]] * 20


def test_who_sends_ahead_starves_nobody() -> None:
    worker = Worker()
    greedy, modest = worker.pair(), worker.pair()
    greedy.send(GET * 500)
    worker.turn()
    served = len(statuses(read(greedy)))
    for _ in range(10):
        modest.send(GET)
        worker.turn()
        assert statuses(read(modest)) == [200]
        more = len(statuses(read(greedy)))
        assert more == 1  # one request a turn, as everybody
        served += more
    for _ in range(500):
        worker.turn()
        served += len(statuses(read(greedy)))
    assert served == 500


def long_calls(worker: Worker, seconds: float = 2 * LONG) -> Any:
    """An application with calls so long; by default, one is enough for a turn of the loop."""

    def app(environ: Any, start_response: Any) -> Any:
        worker.clock.now += seconds
        return hello(environ, start_response)

    return app


def answered(clients: list[socket.socket]) -> list[int]:
    """Which of them have an answer now."""
    return [number for number, client in enumerate(clients) if read(client)]


def test_who_waits_for_long_calls_is_served_in_the_order_of_coming() -> None:
    worker = Worker()
    worker.service.app = long_calls(worker)
    clients = [worker.pair() for _ in range(6)]
    for client in clients[:4]:
        client.send(GET)
    worker.turn()
    assert answered(clients) == [0, 1, 2]  # two until it knows, and who waited for the longest then
    clients[4].send(GET)
    worker.turn()
    assert answered(clients) == [3]
    clients[5].send(GET)
    clients[2].send(GET)
    worker.turn()
    assert answered(clients) == [4]
    clients[4].send(GET)
    for number in (5, 2, 4):
        worker.turn()
        assert answered(clients) == [number]


def test_calls_that_are_not_brief_are_made_in_order_as_many_as_a_turn_may_last() -> None:
    worker = Worker()
    worker.service.app = long_calls(worker, LONG / 2)
    clients = [worker.pair() for _ in range(10)]
    for client in clients[:8]:
        client.send(GET)
    worker.turn()
    assert answered(clients) == [0, 1, 2, 3, 4, 5]
    for client in clients[8:]:
        client.send(GET)
    worker.turn()
    assert answered(clients) == [6, 7, 8, 9]


def test_a_turn_of_brief_calls_has_an_end() -> None:
    """Deadlines, orders and the other events are not to wait for all of a great crowd."""
    worker = Worker()
    worker.service.app = long_calls(worker, 0.9 * BRIEF)
    clients = [worker.pair() for _ in range(256)]
    for client in clients:
        client.send(GET)
    began = worker.clock.now
    worker.turn()
    assert 0.05 < worker.clock.now - began < 0.11
    count = len(answered(clients))
    assert 0 < count < 256
    clients[0].send(GET)
    worker.turn()
    assert answered(clients) == [0, *range(count, 256)]


def test_who_comes_does_not_overtake_who_waits_and_cannot_be_given_away() -> None:
    queue = HandoffQueue.make()
    assert queue is not None
    worker = Worker(queue=queue)
    worker.service.app = long_calls(worker, BRIEF / 2)
    waiting = [worker.pair() for _ in range(20)]
    worker.service.lead.set_calls(False)
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 6000) for number in range(3))
    for client in waiting:
        client.send(GET[:-2] + fields + b"\r\n")
    worker.turn(2)  # it takes two reads
    worker.service.lead.set_calls(True)
    worker.sibling.idle_mark()[0] = 1
    worker.turn()
    assert 0 < len(answered(waiting)) < 20
    newcomer = worker.pair()
    newcomer.send(GET)
    worker.turn()
    assert answered(waiting) and not answered([newcomer])
    queue.close()


def test_long_calls_do_not_make_brief_ones_queue_up_for_ever() -> None:
    worker = Worker()
    worker.service.app = long_calls(worker)
    clients = [worker.pair() for _ in range(50)]
    for client in clients:
        client.send(GET)
    worker.turn()
    worker.service.app = long_calls(worker, BRIEF / 2)
    waiting = set(range(50)) - set(answered(clients))
    worker.turn()
    assert set(answered(clients)) == waiting
    assert not worker.loop._ready


def test_behind_one_call_that_is_not_brief_nobody_queues_up() -> None:
    """It was perhaps only without a processor for a while. Nor does anybody behind brief ones."""
    worker = Worker()
    lasting = [BRIEF / 2] * 9 + [2 * LONG] + [BRIEF / 2] * 40

    def app(environ: Any, start_response: Any) -> Any:
        worker.clock.now += lasting.pop(0)
        states.append({connection.state for connection in worker.held})
        return hello(environ, start_response)

    states: list[set[State]] = []
    worker.service.app = app
    clients = [worker.pair() for _ in range(50)]
    for client in clients:
        client.send(GET)
    worker.turn()
    assert answered(clients) == list(range(50))
    assert State.READY not in set().union(*states)


def test_a_call_that_has_lost_the_lead_is_no_reason_to_queue_up() -> None:
    """The loop has gone on meanwhile: nobody comes behind it."""
    worker = Worker()
    lead = worker.service.lead

    def outlast(environ: Any, start_response: Any) -> Any:
        worker.clock.now += 2 * ALONE
        assert lead.take()
        worker.loop.watch_call()
        return hello(environ, start_response)

    worker.service.app = outlast
    client = worker.pair()
    for _ in range(4):
        client.send(GET)
        with pytest.raises(Lost) as lost:
            worker.turn()
        assert lost.value.call is not None
        lead.returned.append(lost.value.call)
        worker.turn()
        assert statuses(read(client)) == [200]
    assert lead.inline_from == 0.0


def test_a_body_that_is_complete_waits_behind_long_calls_too() -> None:
    worker = Worker()
    worker.service.app = long_calls(worker)
    clients = [worker.pair() for _ in range(5)]
    clients[4].send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n")
    worker.turn()
    for client in clients[:4]:
        client.send(GET)
    worker.turn()
    assert answered(clients) == [0, 1, 2]
    clients[4].send(b"abc")
    worker.turn()
    assert answered(clients) == [3]
    worker.turn()
    assert answered(clients) == [4]


def test_newcomers_wait_behind_long_calls_too() -> None:
    """So they can be given to siblings, and nobody is served in a turn that has to end."""
    worker = Worker()
    worker.service.app = long_calls(worker)
    worker.loop.begin()
    clients = [worker.connect(GET) for _ in range(5)]
    worker.clock.now += 0.1  # the turn before was long: all are accepted in this one
    worker.turn()
    assert len(worker.held) == 5
    assert answered(clients) == [0, 1, 2]
    worker.turn()
    assert answered(clients) == [3]


def test_who_is_handed_off_waits_behind_long_calls_too_but_first_if_he_has_waited() -> None:
    queue = HandoffQueue.make()
    assert queue is not None
    worker = Worker(queue=queue)
    worker.service.app = long_calls(worker)
    worker.loop.begin()
    clients = [worker.pair() for _ in range(4)]
    for client in clients[:3]:
        client.send(GET)
    # The last of them, in the order in which they are read.
    parcel = PLAIN._replace(octets=GET, deadline=worker.clock.now + 1)  # it is 29 s old
    clients[3] = Client().given_to(queue, parcel).socket
    clients[3].setblocking(False)
    worker.turn()
    assert answered(clients) == [0, 1, 3]
    worker.turn()
    assert answered(clients) == [2]
    queue.close()


def test_what_waits_behind_long_calls_goes_to_an_idle_sibling() -> None:
    """All but what is served next here."""
    queue = HandoffQueue.make()
    assert queue is not None
    worker = Worker(queue=queue)
    worker.service.app = long_calls(worker)
    clients = [worker.pair() for _ in range(6)]
    for client in clients:
        client.send(GET)
    worker.turn()
    assert answered(clients) == [0, 1, 2]
    assert queue.take() is None
    worker.sibling.idle_mark()[0] = 1
    worker.turn()
    assert answered(clients) == [3]
    taken = queue.take()
    assert taken is not None and taken[1].octets == GET
    assert queue.take() is None  # one sibling, one request
    assert len(worker.held) == 5
    taken[0].close()
    worker.sibling.idle_mark()[0] = 0
    worker.turn()
    assert answered(clients[5:]) == [0]
    queue.close()


def test_a_million_octets_of_requests_are_not_all_read_ahead() -> None:
    worker = Worker()
    client = worker.pair()
    sent = 0
    for _ in range(100):
        try:
            sent += client.send(GET * 1000)
        except BlockingIOError:
            break
    worker.turn()
    (connection,) = worker.held
    assert len(connection.buffer) <= 65536
    answered = 0
    while answered < sent // len(GET):
        worker.turn()
        answered += len(statuses(read(client)))


def test_deadlines_are_kept_in_any_order() -> None:
    worker = Worker()
    silent, idle, half = worker.pair(), worker.pair(), worker.pair()
    idle.send(GET)
    worker.turn()
    worker.wait(5.0)
    half.send(GET[:10])
    worker.turn()
    assert statuses(read(idle)) == [200]
    worker.wait(5.1)
    assert read(silent) == b"<eof>"
    assert read(half) == b""
    worker.wait(5.0)
    assert statuses(read(half)) == [408]
    assert read(idle) == b""
    worker.wait(60.0)
    assert read(idle) == b"<eof>"
    half.close()
    worker.turn(2)
    assert worker.held == []
    worker.turn()
    worker.wait(tally.WRITE_EVERY)
    assert worker.loop.due == float("inf")  # nothing to wake for


def test_a_connection_in_use_is_not_closed_by_an_old_deadline() -> None:
    worker = Worker(keep_alive=10.0)
    client = worker.pair()
    for _ in range(20):
        client.send(GET)
        worker.turn()
        assert statuses(read(client)) == [200]
        worker.wait(9.0)
    assert len(worker.loop._deadlines) <= 2
    worker.wait(2.0)
    assert read(client) == b"<eof>"


def test_a_slow_reader_holds_nobody_up() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x" * (900_000 if environ["PATH_INFO"] == "/big" else 5)]

    worker = Worker(app)
    slow, quick = worker.pair(), worker.pair()
    slow.send(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
    worker.turn()
    for _ in range(5):
        quick.send(GET)
        worker.turn()
        assert statuses(read(quick)) == [200]
    received = b""
    while len(received) < 900_000:
        received += read(slow)
        worker.turn()
    slow.send(GET)
    worker.turn()
    assert statuses(read(slow)) == [200]


def test_a_connection_that_is_gone_costs_nothing_though_others_hold_its_socket() -> None:
    worker = Worker()
    client = worker.pair()
    (connection,) = worker.held
    held = os.dup(connection.socket.fileno())  # as a process that the application has started
    client.close()
    worker.turn()
    assert worker.held == []
    assert worker.loop._epoll.poll(0) == []
    os.close(held)


def test_what_has_arrived_during_a_long_call_is_not_late() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/long":
            idle.send(GET)
            half.send(GET[5:])
            worker.clock.now += 100.0
        return hello(environ, start_response)

    worker = Worker(app)
    idle, half, silent, busy = (worker.pair() for _ in range(4))
    idle.send(GET)
    half.send(GET[:5])
    worker.turn()
    assert statuses(read(idle)) == [200]
    busy.send(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
    worker.turn(2)
    assert [statuses(read(client)) for client in (idle, half, busy)] == [[200]] * 3
    assert read(silent) == b"<eof>"


def test_who_is_not_among_the_first_of_many_is_not_late() -> None:
    worker = Worker(connections=400)
    clients = [worker.pair() for _ in range(300)]
    for client in clients:
        client.send(GET[:5])
    worker.turn(2)
    for client in clients:
        client.send(GET[5:])
    worker.clock.now += 10.0
    worker.turn(2)
    assert [statuses(read(client)) for client in clients] == [[200]] * 300


def test_a_crowd_that_never_rests_is_no_reason_to_forget_deadlines() -> None:
    worker = Worker(connections=400, head_timeout=1.0)
    silent, half = worker.pair(), worker.pair()
    half.send(GET[:5])
    clients = [worker.pair() for _ in range(300)]
    for _ in range(10):
        for client in clients:
            client.send(GET)
        worker.clock.now += 0.25
        worker.turn()
    assert (read(silent), statuses(read(half))) == (b"<eof>", [408])
    worker.turn()
    assert [statuses(read(client)) for client in clients] == [[200] * 10] * 300


@pytest.mark.parametrize("octets", [b"", GET[:5], GET, GET + GET[:5]])
def test_the_deadlines_of_connections_that_are_gone_take_no_memory(octets: bytes) -> None:
    worker = Worker(keep_alive=5.0)
    stays = worker.pair()
    for _ in range(2000):
        client = worker.pair()
        client.send(octets)
        worker.turn()
        client.close()
        worker.turn()
        assert len(worker.loop._deadlines) < 200
    worker.wait(10.0)
    assert read(stays) == b"<eof>"
    assert worker.held == []
    assert worker.loop.due == float("inf")


def test_the_deadlines_of_requests_take_no_memory() -> None:
    worker = Worker()
    clients = [worker.pair() for _ in range(10)]
    for _ in range(500):
        for client in clients:
            client.send(GET[:5])
        worker.turn()
        for client in clients:
            client.send(GET[5:])
        worker.turn()
        assert [statuses(read(client)) for client in clients] == [[200]] * 10
        worker.clock.now += 0.5
        assert len(worker.loop._deadlines) < 200
    worker.wait(74.0)
    assert [read(client) for client in clients] == [b""] * 10
    worker.wait(1.0)
    assert [read(client) for client in clients] == [b"<eof>"] * 10


# ---- accepting


def test_accepting() -> None:
    worker = Worker()
    worker.loop.begin()
    client = worker.connect(GET)
    worker.turn()
    assert statuses(read(client)) == [200]


@pytest.mark.parametrize(("lasted", "accepted"), [(0.0, 1), (0.0042, 5), (5.0, 64)])
def test_a_turn_that_was_long_accepts_more(lasted: float, accepted: int) -> None:
    worker = Worker()
    worker.loop.begin()
    clients = [worker.connect() for _ in range(70)]
    worker.clock.now += lasted
    worker.turn()
    assert len(worker.held) == accepted
    worker.turn()
    assert len(worker.held) == accepted + 1
    del clients


def test_an_idle_connection_costs_less_than_1k() -> None:
    """As `worker_connections` says; its client is counted too. What the kernel holds is not."""
    worker = Worker(connections=1000)
    first = worker.pair()
    first.send(GET)
    worker.turn(2)  # what the first request of a process makes stays
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        clients = [worker.pair() for _ in range(200)]
        for client in clients:
            client.send(GET)
        worker.turn(2)
        assert [connection.state for connection in worker.held] == [State.IDLE] * 201
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(clients) < 1024
    first.close()


def test_at_the_limit_the_longest_idle_connections_make_room() -> None:
    worker = Worker(connections=20)
    worker.loop.begin()
    clients = []
    for _ in range(20):
        client = worker.connect(GET)
        worker.turn()
        worker.wait(0.1)
        assert statuses(read(client)) == [200]
        clients.append(client)
    extra = worker.connect(GET)
    worker.turn()
    assert statuses(read(extra)) == [200]
    assert [read(client) == b"<eof>" for client in clients] == [True] * 16 + [False] * 4


def test_at_the_limit_who_has_said_nothing_makes_room_if_nobody_is_idle() -> None:
    worker = Worker(connections=3)
    worker.loop.begin()
    half, *silent = worker.pair(), worker.pair(), worker.pair()
    half.send(GET[:5])
    worker.turn()
    late = worker.connect(GET)
    worker.turn(2)
    assert statuses(read(late)) == [200]
    assert [read(client) for client in silent] == [b"<eof>"] * 2
    half.send(GET[5:])
    worker.turn()
    assert statuses(read(half)) == [200]


def test_a_continue_that_finds_no_room_goes_out_when_there_is_some() -> None:
    worker = Worker(echo)
    client = worker.pair()
    (connection,) = worker.held
    with contextlib.suppress(BlockingIOError):
        while True:  # as if of an earlier response
            connection.socket.send(b"x" * 1000)
    with contextlib.suppress(BlockingIOError):
        while True:
            connection.socket.send(b"x")
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    worker.turn()
    assert read(client).strip(b"x") == b""
    worker.turn()
    assert read(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello")
    worker.turn()
    answer = read(client)
    assert (statuses(answer), b"\r\nhello\r\n" in answer) == ([200], True)


def over_tls(worker: Worker, client: socket.socket, certificates: Certificates) -> bytes:
    """What is answered to one request."""
    context = ssl.create_default_context(cafile=certificates.pem("ca"))
    tls = context.wrap_socket(client, server_hostname="localhost", do_handshake_on_connect=False)
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            worker.turn()
    tls.send(GET)
    worker.turn()
    return tls.recv(65536)


def test_silent_handshakes_hold_nobody_up_and_make_room(certificates: Certificates) -> None:
    worker = Worker(connections=20, **certificates.settings())
    worker.loop.begin()
    silent = [worker.connect() for _ in range(20)]
    worker.turn(21)
    assert len(worker.held) == 20
    assert statuses(over_tls(worker, worker.connect(), certificates)) == [200]
    worker.wait(9.9)
    open_yet = [client for client in silent if read(client) == b""]
    assert 0 < len(open_yet) < 20
    worker.wait(0.1)
    assert {read(client) for client in open_yet} == {b"<eof>"}


def test_clients_that_are_gone_before_their_handshake(certificates: Certificates) -> None:
    worker = Worker(**certificates.settings())
    worker.loop.begin()
    for octets, half_closed in ((b"", False), (b"\x16\x03\x01", False), (b"", True)):
        client = worker.connect(octets)
        if half_closed:
            client.shutdown(socket.SHUT_WR)  # the reset behind it is no error of the socket
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
        worker.turn(2)
        assert worker.held == []
    assert statuses(over_tls(worker, worker.connect(), certificates)) == [200]


@pytest.mark.parametrize("room", ["gone", "answered", "answered in turn"])
def test_at_the_limit_accepting_waits_for_room(room: str) -> None:
    worker = Worker(connections=2)
    worker.loop.begin()
    first, second = worker.pair(), worker.pair()
    for client in (first, second):
        client.send(GET[:5])
    worker.turn()
    # Of this one no sibling has heard, so it is not left waiting; then the listener is left alone.
    third = worker.connect(GET[:5])
    worker.turn()
    assert len(worker.held) == 3
    late = worker.connect(GET)
    worker.turn(3)
    assert read(late) == b""
    assert worker.loop._epoll.poll(0) == []  # the listener does not keep the loop awake
    third.close()
    worker.turn()
    assert read(late) == b""
    if room == "gone":
        first.close()
    else:
        first.send(GET[5:] + GET * (room == "answered in turn"))
    worker.turn(4)
    assert statuses(read(late)) == [200]
    second.send(GET[5:])
    worker.turn()
    assert statuses(read(second)) == [200]


# ---- leaving


def test_a_retiring_worker_serves_what_was_begun_and_leaves() -> None:
    worker = Worker()
    idle, half = worker.pair(), worker.pair()
    idle.send(GET)
    half.send(GET[:10])
    worker.turn()
    assert statuses(read(idle)) == [200]
    worker.master.send(Message.RETIRE)
    worker.turn()
    assert worker.listener.socket.fileno() == -1
    half.send(GET[10:])
    worker.turn()
    response = read(half)
    assert b"Connection: close" in response
    assert response.endswith(b"hello<eof>")
    half.close()
    worker.wait(1.0)
    assert read(idle) == b"<eof>"
    worker.turn()
    assert worker.held == []
    worker.loop.run()  # returns: there is nothing left to do


def test_a_stopping_worker_serves_what_has_connected() -> None:
    worker = Worker()
    clients = [worker.connect(GET) for _ in range(30)]
    worker.master.send(Message.STOP)
    worker.turn(3)
    for client in clients:
        assert read(client).endswith(b"hello<eof>")


def test_a_stopping_worker_that_is_full_serves_what_has_connected() -> None:
    worker = Worker(connections=2)
    halves = [worker.pair() for _ in range(2)]
    for half in halves:
        half.send(GET[:10])
    worker.turn()
    clients = [worker.connect(GET) for _ in range(30)]
    worker.loop.stop()
    worker.turn(3)
    for client in clients:
        assert read(client).endswith(b"hello<eof>")


def test_a_stopping_worker_does_not_wait_for_an_end_of_new_connections() -> None:
    refused = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        if len(clients) < 100:
            try:
                clients.append(worker.connect(GET))
            except ConnectionRefusedError:
                refused.append(1)
        return hello(environ, start_response)

    worker = Worker(app)
    clients = [worker.connect(GET) for _ in range(3)]
    worker.loop.stop()
    worker.turn(3)
    assert [read(client)[-10:] for client in clients] == [b"hello<eof>"] * 3
    assert refused == [1, 1, 1]


def test_a_signal_to_the_worker_itself_is_announced_and_obeyed() -> None:
    signals = SignalQueue()
    worker = Worker(signals=signals)
    worker.loop.begin()
    idle = worker.pair()
    idle.send(GET)
    worker.turn()
    assert statuses(read(idle)) == [200]
    before = signal.getsignal(signal.SIGTERM)
    try:
        signals.listen([signal.SIGTERM])
        signal.raise_signal(signal.SIGTERM)
        worker.turn()
    finally:
        signal.signal(signal.SIGTERM, before)
        signals.close()
    assert worker.master.receive() == [(Message.LEAVING, "")]
    with pytest.raises(ConnectionRefusedError):
        worker.connect()
    worker.wait(1.0)
    assert read(idle) == b"<eof>"
    worker.loop.run()  # returns: there is nothing left to do


def test_a_child_of_the_application_holds_no_connection_and_no_port() -> None:
    worker = Worker()
    worker.loop.begin()
    client = worker.pair()
    client.setblocking(True)
    ready, go_on = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        worker.loop.let_go()
        os.write(ready[1], b".")
        os.close(go_on[1])
        os.read(go_on[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        client.sendall(GET)
        worker.turn()
        assert statuses(client.recv(65536)) == [200]  # the parent still has it
        worker.loop.retire()
        worker.wait(1.0)
        assert client.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            worker.connect()
    finally:
        for fd in (*ready, *go_on):
            os.close(fd)
        os.waitpid(child, 0)


@pytest.mark.parametrize("how", ["order", "master gone"])
def test_quitting(how: str) -> None:
    worker = Worker()
    worker.pair()
    if how == "order":
        worker.master.send(Message.QUIT)
    else:
        worker.master.close()
    worker.loop.run()


def test_a_worker_says_that_it_is_there() -> None:
    worker = Worker()
    worker.master.send(Message.PING)
    worker.turn()
    assert worker.master.receive() == [(Message.PING, "")]


def test_a_worker_says_once_that_it_is_due() -> None:
    worker = Worker(due=3)
    client = worker.pair()
    for _ in range(6):
        client.send(GET)
        worker.turn()
    assert worker.master.receive() == [(Message.DUE, "3")]
    assert statuses(read(client)) == [200] * 6


# ---- what is counted for those who look


def connections(worker: Worker) -> dict[str, float]:
    worker.turn()
    worker.wait(tally.WRITE_EVERY)
    numbers = worker.service.tally.read()[tally.CONNECTIONS :]
    return {name: n for name, n in zip(tally.STATES[:-1], numbers, strict=False) if n}


def test_connections_are_counted_by_state_and_requests_when_they_are_over() -> None:
    worker = Worker()
    clients = [worker.pair() for _ in range(3)]
    assert connections(worker) == {"head": 3}
    clients[0].send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12")
    clients[1].send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    worker.turn(2)
    assert connections(worker) == {"head": 1, "body": 1, "idle": 1}
    answer = len(read(clients[1]))
    numbers = worker.service.tally.read()
    assert (numbers[tally.STATUSES + 2], numbers[tally.RECEIVED]) == (1, 27)
    assert numbers[tally.SENT] == answer
    clients[0].send(b"345GET / HT")
    worker.turn(2)
    assert connections(worker) == {"head": 2, "idle": 1}
    assert worker.service.tally.read()[tally.RECEIVED] == 27 + 49 + 11
    for client in clients:
        client.close()
    worker.turn(3)
    assert connections(worker) == {}
