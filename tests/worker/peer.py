"""A client and the connection that serves it, over a socketpair, with a clock of our own."""

import io
import logging
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from forkserve.master.generation import load_tls
from forkserve.ops.access import Access, AccessLog
from forkserve.ops.logs import LogFile
from forkserve.ops.scoreboard import Scoreboard
from forkserve.settings import Settings
from forkserve.worker.closing import close_files
from forkserve.worker.lead import Lead
from forkserve.worker.preface import connector
from forkserve.worker.service import Service
from forkserve.worker.state import State
from forkserve.wsgi.environ import listener_environ

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
App = Callable[..., Iterable[bytes]]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(record.getMessage())


class Accesses(AccessLog):
    """An access log that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(LogFile("-", 1), "common")
        self.seen: list[Access] = []

    def write(self, access: Access) -> None:
        self.seen.append(access)


class Peer:
    """A client, and the connection that serves it."""

    def __init__(
        self,
        app: App,
        *,
        ends: tuple[socket.socket, socket.socket] | None = None,
        file_room: int = 10,
        remote: tuple[str, str] = ("192.0.2.1", "4711"),
        **settings: Any,
    ) -> None:
        """``ends``: the client's and the server's, if they are to be special; ``remote``: where
        the client comes from, ("", "") for one of a unix socket."""
        self.clock = Clock()
        self.log = Lines()
        self.accesses = Accesses()
        logger = logging.Logger("test")
        logger.addHandler(self.log)
        row = Scoreboard(1).row(0)
        row.take(1)
        (self.cell,) = row.cells()
        values = Settings(app="test:app", **settings)
        context = load_tls(values)
        self.service = Service(
            app,
            values,
            Lead(self.cell),
            logger,
            self.accesses,
            self.clock,
            file_room,
        )
        self.service.running.cell = self.cell
        self.socket, server = ends or socket.socketpair()
        self.socket.setblocking(False)
        server.setblocking(False)
        base = listener_environ(
            io.StringIO(), ("127.0.0.1", "8000"), software="test", slot=0, generation=1,
            tls=context is not None,
        )  # fmt: skip
        connect = connector(values, context)
        self.connection = connect(self.service, server, base, remote, self.clock.now)

    @property
    def state(self) -> State:
        return self.connection.state

    def send(self, octets: bytes, *, run: bool = True) -> None:
        self.socket.sendall(octets)
        if run:
            self.run()

    def step(self) -> None:
        """What the loop does once."""
        if self.state is State.READY:
            self.connection.turn(self.clock.now)
        elif self.state is State.FLUSH:
            self.connection.writable(self.clock.now)
        elif self.state is not State.CLOSED:
            self.connection.readable(self.clock.now)
        close_files(self.service)
        if self.state is State.CLOSED:
            self.connection.socket.close()

    def run(self) -> None:
        """What the loop does, until there is nothing more to do without waiting."""
        for _ in range(1000):
            before = (self.state, len(self.connection.buffer), self.connection.served)
            self.step()
            if before == (self.state, len(self.connection.buffer), self.connection.served):
                return

    def run_to(self, state: State) -> None:
        """The same over TCP, where octets take their time."""
        while self.state is not state:
            select.select([self.connection.socket], [], [])
            self.step()

    def wait(self, seconds: float) -> None:
        """Let time pass; the deadline is kept if it is reached."""
        self.clock.now += seconds
        if self.connection.deadline <= self.clock.now and self.state is not State.CLOSED:
            self.connection.expire(self.clock.now)
            close_files(self.service)
            self.run()

    def close(self) -> None:
        """The client is gone."""
        self.socket.close()
        self.run()

    def read(self) -> bytes:
        """Everything that was sent so far."""
        octets = b""
        try:
            while more := self.socket.recv(1 << 20):
                octets += more
        except BlockingIOError:
            pass
        except ConnectionResetError:
            octets += b"<reset>"
        return octets

    def read_to_the_end(self) -> bytes:
        """Everything until the connection is closed, however long that takes."""
        self.socket.setblocking(True)
        return self.read()

    def body(self) -> bytes:
        return self.read().partition(b"\r\n\r\n")[2]

    def statuses(self) -> list[int]:
        return statuses(self.read())


def statuses(octets: bytes) -> list[int]:
    return [int(part[:3]) for part in octets.split(b"HTTP/1.1 ")[1:]]


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [environ["REQUEST_METHOD"].encode(), b" ", environ["PATH_INFO"].encode("latin-1"), b" ",
            environ.get("CONTENT_LENGTH", "-").encode(), b" ", body]  # fmt: skip


def whole(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode() + b"=" + body]


def streaming(blocks: Iterable[bytes], headers: Any = ()) -> App:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", list(headers))
        yield from blocks

    return app


def tcp_pair(receive: int, send: int) -> tuple[socket.socket, socket.socket]:
    """A client and its server on the loopback; the one's buffer for receiving, the other's for
    sending, are of about these sizes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send)
    return client, server
