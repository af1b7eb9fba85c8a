"""The loop over socketpairs, with a clock of our own: fairness, deadlines, room, leaving."""

import io
import logging
import socket
from typing import Any

import pytest

from forkserve.net.address import InetAddress
from forkserve.net.listeners import open_listeners
from forkserve.ops.scoreboard import Scoreboard
from forkserve.proc.channel import Channel, Message
from forkserve.proc.signals import SignalQueue
from forkserve.settings import Settings
from forkserve.worker.loop import Loop
from forkserve.worker.service import Service
from forkserve.wsgi.environ import listener_environ
from tests.worker.test_connection import Clock, hello, statuses

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


class Worker:
    """A loop, and clients of it."""

    def __init__(
        self, app: Any = hello, *, connections: int = 100, due: float = 1e9, **settings: Any
    ):
        self.clock = Clock()
        self.service = Service(
            app,
            Settings(app="t:a", **settings),
            Scoreboard(1).row(0),
            logging.Logger("t"),
            None,
            self.clock,
        )
        self.environ = listener_environ(
            io.StringIO(), ("127.0.0.1", "80"), software="t", slot=0, generation=1
        )
        (self.listener,) = open_listeners([InetAddress("127.0.0.1", 0)], 128)
        self.loop = Loop(self.service, [(self.listener, self.environ)], connections, due)
        self.master, channel = Channel.pair()
        self.loop.listen_to(channel, SignalQueue(), lambda: None)

    def pair(self) -> socket.socket:
        """A connection that the loop has accepted already."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.loop.add(theirs, self.environ, ("192.0.2.1", "1"))
        return ours

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.loop.once(0)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.turn(2)


def read(sock: socket.socket) -> bytes:
    octets = b""
    try:
        while data := sock.recv(65536):
            octets += data
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
    (connection,) = worker.loop._connections.values()
    assert len(connection.buffer) <= 65536


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
    assert worker.loop._connections == {}
    assert worker.loop._timeout(worker.clock.now) is None  # nothing to wake for


def test_a_connection_in_use_is_not_closed_by_an_old_deadline() -> None:
    worker = Worker(keep_alive=10.0)
    client = worker.pair()
    for _ in range(20):
        client.send(GET)
        worker.turn()
        assert statuses(read(client)) == [200]
        worker.wait(9.0)
    assert len(worker.loop._checks) <= 2
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


def test_accepting() -> None:
    worker = Worker()
    worker.loop._accept(True)
    client = socket.create_connection((worker.listener.name[0], int(worker.listener.name[1])))
    client.send(GET)
    worker.turn(2)
    client.setblocking(False)
    assert statuses(read(client)) == [200]


def test_at_the_limit_the_longest_idle_connections_make_room() -> None:
    worker = Worker(connections=20)
    worker.loop._accept(True)
    address = (worker.listener.name[0], int(worker.listener.name[1]))
    clients = []
    for _ in range(20):
        client = socket.create_connection(address)
        client.send(GET)
        worker.turn(2)
        worker.wait(0.1)
        client.setblocking(False)
        assert statuses(read(client)) == [200]
        clients.append(client)
    extra = socket.create_connection(address)
    extra.send(GET)
    worker.turn(2)
    extra.setblocking(False)
    assert statuses(read(extra)) == [200]
    closed = [read(client) == b"<eof>" for client in clients]
    assert closed[0]
    assert not closed[-1]


def test_at_the_limit_without_an_idle_connection_accepting_waits() -> None:
    worker = Worker(connections=2)
    worker.loop._accept(True)
    address = (worker.listener.name[0], int(worker.listener.name[1]))
    first, second = worker.pair(), worker.pair()
    for client in (first, second):
        client.send(GET[:5])
    worker.turn()
    late = socket.create_connection(address)
    late.send(GET)
    late.setblocking(False)
    worker.turn(3)
    assert read(late) == b""
    first.close()
    worker.turn(3)
    assert statuses(read(late)) == [200]


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
    assert worker.loop._connections == {}
    worker.loop.run()  # returns: there is nothing left to do


def test_a_stopping_worker_serves_what_has_connected() -> None:
    worker = Worker()
    address = (worker.listener.name[0], int(worker.listener.name[1]))
    clients = [socket.create_connection(address) for _ in range(30)]
    for client in clients:
        client.send(GET)
        client.setblocking(False)
    worker.master.send(Message.STOP)
    worker.turn(3)
    for client in clients:
        assert read(client).endswith(b"hello<eof>")


@pytest.mark.parametrize("how", ["order", "master gone"])
def test_quitting(how: str) -> None:
    worker = Worker()
    worker.pair()
    if how == "order":
        worker.master.send(Message.QUIT)
    else:
        worker.master.close()
    worker.loop.run()


def test_a_worker_says_once_that_it_is_due() -> None:
    worker = Worker(due=3)
    client = worker.pair()
    for _ in range(6):
        client.send(GET)
        worker.turn()
    assert worker.master.receive() == [(Message.DUE, "")]
    assert statuses(read(client)) == [200] * 6
