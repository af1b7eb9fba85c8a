"""Who leads, and who calls: with real threads, and an application that waits until it is told."""

import io
import logging
import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks import crew_stress
from forkserve.master.generation import load_tls
from forkserve.net.address import InetAddress
from forkserve.net.fdpass import send_fd
from forkserve.net.listeners import open_listeners
from forkserve.ops import tally
from forkserve.ops.scoreboard import Scoreboard
from forkserve.proc.channel import Channel, Message
from forkserve.proc.signals import SignalQueue
from forkserve.proc.stacks import current_frames
from forkserve.settings import Settings
from forkserve.worker.crew import Crew
from forkserve.worker.environs import Environs
from forkserve.worker.handoff import HandoffQueue, Parcel
from forkserve.worker.lead import ALONE, CALM, Lead
from forkserve.worker.loop import Loop
from forkserve.worker.orders import Orders
from forkserve.worker.preface import connector
from forkserve.worker.service import Service
from forkserve.wsgi.environ import listener_environ
from tests.certificates import Certificates
from tests.worker.peer import GET, Lines, statuses

SLOW = b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"


class Site:
    """An application: /slow begins, and ends when ``go`` is set. What ran where is noted."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.threads: list[int] = []
        self.paths: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.threads.append(threading.get_ident())
        self.paths.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/slow":
            self.begun.release()
            assert self.go.wait(30)
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode() + b" " + environ["wsgi.input"].read()]


class Worker:
    """A crew that serves, in threads of this process."""

    def __init__(
        self, app: Any, board: Scoreboard, index: int, queue: HandoffQueue | None, **settings: Any
    ) -> None:
        values = Settings(app="t:a", **settings)
        self.row = row = board.row(index)
        row.take(values.threads)
        cells = row.cells()
        self.queue = queue
        self.lead = Lead(cells[0])
        self.log = Lines()
        self.logger = logger = logging.Logger("t")
        logger.addHandler(self.log)
        service = Service(app, values, self.lead, logger, None, time.monotonic, 10)
        service.tally = row.tally()
        tls = load_tls(values)
        (self.listener,) = open_listeners([InetAddress("127.0.0.1", 0)], 128)
        environs = Environs(
            lambda name, tls: {
                **listener_environ(io.StringIO(), name, software="t", slot=index, generation=1),
                "forkserve.deadline": service.set_deadline,
            },
            tls=tls is not None,
        )
        self.loop = Loop(
            service, [self.listener], environs, 1000, 1e9,
            connect=connector(values, tls), queue=queue, row=row,
        )  # fmt: skip
        self.master, channel = Channel.pair()
        self.signals = SignalQueue()
        service.announce = channel.send
        Orders(self.loop, channel, self.signals, lambda: None, lambda: None)
        crew = Crew(service, self.loop, cells, self._exit_functions)
        self.loop.begin()
        row.set_serving(True)
        self.main = threading.Thread(target=crew.serve, daemon=True)

    def _exit_functions(self) -> None:
        if threading.current_thread() is not self.main:
            # What comes next is the end of the process, as of a worker whose main thread is stuck.
            os.write(2, b"the main thread was taken for one that is stuck\n")
            os._exit(99)

    def connect(self, octets: bytes = b"") -> socket.socket:
        host, port = self.listener.name
        client = socket.create_connection((host, int(port)), timeout=30)
        client.sendall(octets)
        return client

    def heard(self) -> list[tuple[Message, str]]:
        """The next words to the master."""
        wait_until(lambda: bool(read_ready(self.master.fileno())))
        return self.master.receive() or []

    def rests(self) -> bool:
        """The main thread is in no call: it waits for the lead, or for something to do."""
        frame = current_frames().get(self.main.ident or 0)
        return frame is None or frame.f_code.co_name in ("_await_lead", "_next_events")

    def end(self) -> None:
        self.master.send(Message.STOP)
        self.main.join(30)
        assert not self.main.is_alive()


def read_ready(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0.01)[0])


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        threading.Event().wait(0.001)


@contextmanager
def workers(
    app: Any, count: int = 1, *, start: bool = True, **settings: Any
) -> Iterator[list[Worker]]:
    """``start``: at once, or as the test says."""
    board = Scoreboard(count)
    queue = HandoffQueue.make() if count > 1 else None
    crews = [Worker(app, board, index, queue, **settings) for index in range(count)]
    try:
        for crew in crews if start else ():
            crew.main.start()
        yield crews
    finally:
        if isinstance(app, Site):
            app.go.set()
        for crew in crews:
            # A call that was given up may still be on its way out, and its thread be the main one.
            wait_until(crew.rests)
            crew.end()


def answer(client: socket.socket) -> bytes:
    """The body of one response."""
    octets = b""
    while b"\r\n\r\n" not in octets:
        more = client.recv(65536)
        assert more, octets
        octets += more
    head, _, body = octets.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += client.recv(65536)
    return body


def ask(client: socket.socket, octets: bytes = GET) -> bytes:
    client.sendall(octets)
    return answer(client)


@pytest.mark.parametrize("lately", [float("inf"), -1.0], ids=["long calls before", "after a calm"])
def test_the_loop_goes_on_while_the_only_thread_is_in_a_call(
    lately: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forkserve.worker.crew.LATELY", lately)
    site = Site()
    with workers(site) as (worker,):
        idle = worker.connect()
        assert ask(idle) == b"/ "
        slow = worker.connect(SLOW)
        site.begun.acquire()
        # Errors need no thread that calls, nor does the end of a connection.
        idle.sendall(b"GET / HTTP/7\r\n\r\n")
        assert statuses(idle.recv(65536)) == [400]
        assert idle.recv(1) == b""
        site.go.set()
        assert answer(slow) == b"/slow "


def test_a_call_lasts_from_its_begin_whatever_progress_it_makes() -> None:
    """Or a stream would keep the loop from all others."""
    row = Scoreboard(1).row(0)
    row.take(1)
    (cell,) = row.cells()
    lead = Lead(cell)
    assert lead.call_lasts(7.0) == 0.0
    cell.begin(30.0, 7.0, "GET / HTTP/1.1")
    cell.extend(8.0)
    assert lead.call_lasts(8.5) == 1.5
    cell.end()
    assert lead.call_lasts(9.0) == 0.0


@pytest.mark.parametrize(
    ("lately", "between"),
    [(-1.0, CALM), (float("inf"), ALONE), (1e9, CALM)],
    ids=["calm", "long calls before", "from the start"],
)
def test_how_often_the_standby_looks(
    lately: float, between: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    monkeypatch.setattr("forkserve.worker.crew.LONG", 60.0)  # whatever a machine does meanwhile
    call_lasts = Lead.call_lasts

    def look(lead: Lead, now: float) -> float:
        looks.append(now)
        return call_lasts(lead, now)

    monkeypatch.setattr("forkserve.worker.crew.LATELY", lately)
    monkeypatch.setattr(Lead, "call_lasts", look)
    with workers(Site()) as (worker,), worker.connect() as client:
        wait_until(lambda: ask(client) == b"/ " and len(looks) >= 20)
    spaces = [after - before for before, after in pairwise(looks)]
    assert between <= median(spaces) < 3 * between, spaces


def test_after_long_calls_the_lead_is_taken_as_soon_as_one_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("forkserve.worker.crew.LONG", 60.0)  # no call is long
    site = Site()
    with workers(site, threads=2) as (worker,):
        other = worker.connect()
        worker.lead.haste = 1000
        assert ask(other) == b"/ "
        wait_until(lambda: worker.lead.awaited)
        slow = worker.connect(SLOW)
        assert site.begun.acquire(timeout=30)
        assert ask(other) == b"/ "
        site.go.set()
        assert answer(slow) == b"/slow "


def test_who_comes_during_a_call_is_served_after_it_in_the_main_thread() -> None:
    site = Site()
    with workers(site) as (worker,):
        clients = [worker.connect() for _ in range(10)]
        for client in clients:
            assert ask(client) == b"/ "
        slow = worker.connect(SLOW)
        site.begun.acquire()
        for client in clients:
            client.sendall(GET)
        post = worker.connect(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        site.go.set()
        assert [answer(client) for client in clients] == [b"/ "] * 10
        assert (answer(slow), answer(post)) == (b"/slow ", b"/p abc")
        assert set(site.threads) == {worker.main.ident}


def test_a_body_is_collected_during_a_call() -> None:
    site = Site()
    with workers(site) as (worker,):
        post = worker.connect()
        assert ask(post) == b"/ "
        slow = worker.connect(SLOW)
        site.begun.acquire()
        post.sendall(
            b"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert statuses(post.recv(65536)) == [100]
        post.sendall(b"abc")
        site.go.set()
        assert (answer(slow), answer(post)) == (b"/slow ", b"/p abc")


@pytest.mark.parametrize("threads", [2, 4])
def test_so_many_calls_run_at_once(threads: int) -> None:
    site = Site()
    with workers(site, threads=threads) as (worker,):
        slow = [worker.connect(SLOW) for _ in range(threads)]
        for _ in slow:
            assert site.begun.acquire(timeout=30)
        assert len(set(site.threads)) == threads
        late = worker.connect(GET)
        site.go.set()
        assert [answer(client) for client in slow] == [b"/slow "] * threads
        assert answer(late) == b"/ "


@pytest.mark.parametrize(("threads", "idle"), [(1, False), (2, True)])
def test_a_worker_is_idle_while_it_waits_and_could_call(threads: int, idle: bool) -> None:
    site = Site()
    with workers(site, threads=threads) as (worker,):
        mark = worker.row.idle_mark()
        wait_until(lambda: mark[0] == 1)
        slow = worker.connect(SLOW)
        assert site.begun.acquire(timeout=30)
        if idle:
            wait_until(lambda: mark[0] == 1)
        for _ in range(20):
            wait_until(lambda: worker.lead.turns % 2 == 1)  # it waits again, whoever leads
            assert mark[0] == idle
        site.go.set()
        assert answer(slow) == b"/slow "
        wait_until(lambda: mark[0] == 1)


def test_a_request_that_waits_too_long_for_a_thread_is_told() -> None:
    site = Site()
    with workers(site, queue_timeout=0.2) as (worker,):
        idle = worker.connect()
        assert ask(idle) == b"/ "
        slow = worker.connect(SLOW)
        site.begun.acquire()
        idle.sendall(GET)
        assert statuses(idle.recv(65536)) == [503]
        site.go.set()
        assert answer(slow) == b"/slow "


def test_a_worker_that_leaves_ends_with_its_last_call() -> None:
    """The thread of that call does not lead any more, and nothing else will ever happen."""
    site = Site()
    with workers(site) as (worker,):
        slow = worker.connect(b"GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        site.begun.acquire()
        worker.master.send(Message.STOP)
        wait_until(lambda: worker.loop.leaving)
        slow.shutdown(socket.SHUT_WR)
        site.go.set()
        assert answer(slow) == b"/slow "
        slow.close()
        worker.main.join(10)
        assert not worker.main.is_alive()


# ---- a stuck call


def test_a_stuck_call_is_given_up_and_what_it_says_later_goes_nowhere() -> None:
    site = Site()
    with workers(site, timeout=0.2, threads=2) as (worker,):
        idle = worker.connect()
        slow = worker.connect(SLOW)
        assert site.begun.acquire(timeout=30)
        assert statuses(slow.recv(65536)) == [504]
        assert slow.recv(1) == b""
        assert worker.heard() == [(Message.STUCK, "GET /slow HTTP/1.1")]
        (line,) = worker.log.lines
        assert "'GET /slow HTTP/1.1'" in line and "assert self.go.wait(30)" in line
        assert ask(idle) == b"/ "  # nobody else has noticed
        site.go.set()
        assert ask(idle) == b"/ "


def test_a_stuck_call_whose_response_has_begun_ends_with_a_reset() -> None:
    go = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        go.wait(30)
        yield b"last"

    with workers(app, timeout=0.2, threads=2) as (worker,):
        client = worker.connect(GET)
        wait_until(lambda: b"first" in client.recv(65536, socket.MSG_PEEK))
        assert worker.heard()[0][0] is Message.STUCK
        client.recv(65536)
        with pytest.raises(ConnectionResetError):
            client.recv(65536)
        go.set()


def test_a_call_that_makes_progress_is_not_stuck() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "6")])
        for number in range(6):
            threading.Event().wait(0.25)
            yield b"%d" % number

    with workers(app, timeout=1.0) as (worker,):
        assert ask(worker.connect()) == b"012345"


def test_a_call_can_ask_for_more_time_up_to_a_limit() -> None:
    granted: list[float] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        granted.append(environ["forkserve.deadline"](100))
        threading.Event().wait(1.0)
        start_response("200 OK", [])
        return [b"done"]

    with workers(app, timeout=0.5, max_timeout=20.0) as (worker,):
        assert ask(worker.connect()) == b"done"
    assert granted == [20.0]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_deadline_is_a_span_of_time(seconds: float) -> None:
    raised: list[Exception] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        with pytest.raises(ValueError, match="a number of seconds above 0") as caught:
            environ["forkserve.deadline"](seconds)
        raised.append(caught.value)
        start_response("200 OK", [])
        return [b""]

    with workers(app) as (worker,):
        ask(worker.connect())
    assert raised


def test_a_call_that_ends_while_it_is_given_up_does_so_once() -> None:
    site = Site()
    ended = threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        answers = site(environ, start_response)
        ended.set()
        return answers

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            site.go.set()
            assert ended.wait(30)
            threading.Event().wait(0.05)

    with workers(app, timeout=0.2, threads=2) as (worker,):
        worker.logger.addHandler(Reader())
        slow = worker.connect(SLOW)
        assert statuses(slow.recv(65536)) == [504]
        assert slow.recv(1) == b""
        assert ask(worker.connect()) == b"/ "


def test_a_call_that_is_stuck_behind_its_response_does_not_take_that_back() -> None:
    go = threading.Event()

    class Blocks(list[bytes]):
        def close(self) -> None:
            assert go.wait(30)

    def app(environ: Any, start_response: Any) -> Blocks:
        start_response("200 OK", [("Content-Length", "10")])
        return Blocks([b"hello", b"world"])

    with workers(app, timeout=0.2, threads=2) as (worker,):
        client = worker.connect(GET)
        assert answer(client) == b"helloworld"
        assert worker.heard() == [(Message.STUCK, "GET / HTTP/1.1")]
        client.sendall(b"GET / HTTP/7\r\n\r\n")  # it goes on
        assert statuses(client.recv(65536)) == [400]
        go.set()


def test_a_call_can_ask_for_less_time() -> None:
    go = threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        time.sleep(0.05)  # the lead is lost
        environ["forkserve.deadline"](0.2)
        assert go.wait(30)
        return []

    with workers(app, timeout=60.0) as (worker,):
        client = worker.connect(GET)
        assert statuses(client.recv(65536)) == [504]
        go.set()


# ---- the close of a file


class Download:
    """An application that sends a file, whose ``close`` ends when ``go`` is set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun = threading.Event()
        self.go = threading.Event()
        self.over = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/slow":
            start_response("200 OK", [])
            return [b"fast"]
        start_response("200 OK", [("Content-Length", "5")])
        file = io.FileIO(self.path)
        vars(file)["close"] = partial(self.close, file)
        return environ["wsgi.file_wrapper"](file)

    def close(self, file: io.FileIO) -> None:
        self.begun.set()
        assert self.go.wait(30)
        io.FileIO.close(file)
        self.over = True


@pytest.fixture
def download(tmp_path: Path) -> Download:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    return Download(path)


def test_a_close_of_a_file_that_hangs_is_a_stuck_call(download: Download) -> None:
    with workers(download, timeout=0.2, threads=2) as (worker,):
        client = worker.connect()
        assert ask(client, SLOW) == b"12345"
        assert worker.heard() == [(Message.STUCK, "GET /slow HTTP/1.1")]
        assert ask(client) == b"fast"
        download.go.set()


def test_a_worker_leaves_when_its_files_are_closed(download: Download) -> None:
    with workers(download) as (worker,):
        client = worker.connect()
        assert ask(client, SLOW) == b"12345"
        assert download.begun.wait(30)
        worker.master.send(Message.STOP)
        client.close()
        worker.main.join(0.1)
        assert worker.main.is_alive()
        download.go.set()
        worker.main.join(30)
        assert download.over


# ---- siblings


def test_while_one_worker_is_in_a_call_another_serves_its_connections() -> None:
    site = Site()
    with workers(site, 2) as (busy, idle):
        client, half = busy.connect(), busy.connect(b"GET / HT")
        assert ask(client) == b"/ "
        slow = busy.connect(SLOW)
        site.begun.acquire()
        assert ask(client) == b"/ "  # on the same connection
        assert ask(half, b"TP/1.1\r\nHost: h\r\n\r\n") == b"/ "
        assert set(site.threads) == {busy.main.ident, idle.main.ident}
        for _ in range(100):
            assert ask(client) == b"/ "
        site.go.set()
        assert answer(slow) == b"/slow "


POST = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabcdef"


@pytest.mark.parametrize("cut", [None, -6, -3, 5])
def test_a_short_body_is_no_reason_to_wait(cut: int | None) -> None:
    """It may come with its head or behind it, and with the next request."""
    site = Site()
    with workers(site, 2) as (busy, idle):
        client = busy.connect()
        assert ask(client) == b"/ "
        slow = busy.connect(SLOW)
        site.begun.acquire()
        if cut is None:
            client.sendall(POST + GET)
        else:
            client.sendall(POST[:cut])
            wait_until(lambda: any(it.buffer or it.exchange for it in held(busy)))
            client.sendall(POST[cut:] + GET)
        octets = b""
        while octets.count(b"HTTP/1.1 200") < 2 or not octets.endswith(b"/ "):
            octets += client.recv(65536)
        assert b"\r\n\r\n/p abcdefHTTP/1.1 200 " in octets
        assert site.paths.count("/p") == 1
        wait_until(lambda: len(held(idle)) == 1)
        site.go.set()
        assert answer(slow) == b"/slow "


def held(worker: Worker) -> list[Any]:
    """Connections that it is not calling for."""
    return [it for it in list(worker.loop.connections.values()) if it.state.name != "RUNNING"]


def test_who_was_handed_off_and_nobody_came_is_told_at_the_deadline() -> None:
    site = Site()
    with workers(site, 2, queue_timeout=0.3) as crews:
        client, later = crews[0].connect(), crews[0].connect()
        assert (ask(client), ask(later)) == (b"/ ", b"/ ")
        slow = [crew.connect(SLOW) for crew in crews]
        for _ in slow:
            assert site.begun.acquire(timeout=30)
        client.sendall(GET)
        assert statuses(client.recv(65536)) == [503]
        later.sendall(GET)
        site.go.set()
        assert [answer(it) for it in (*slow, later)] == [b"/slow ", b"/slow ", b"/ "]


def test_a_retiring_worker_closes_no_connection() -> None:
    site = Site()
    with workers(site, 2) as (old, new):
        idle = [old.connect() for _ in range(50)]
        for client in idle:
            assert ask(client) == b"/ "
        fresh, half = old.connect(), old.connect(b"GET / HTTP/1.1\r\nHo")
        slow = old.connect(SLOW)
        site.begun.acquire()
        old.master.send(Message.RETIRE)
        for client in idle:
            assert ask(client) == b"/ "
        assert (ask(fresh), ask(half, b"st: h\r\n\r\n")) == (b"/ ", b"/ ")
        site.go.set()
        assert answer(slow) == b"/slow "
        assert ask(slow) == b"/ "
        old.main.join(30)
        assert not old.main.is_alive()
        assert len(new.loop.connections) == 53


def test_nobody_is_handed_to_a_worker_that_is_gone() -> None:
    site = Site()
    with workers(site, 2) as (old, new):
        client = old.connect()
        assert ask(client) == b"/ "
        new.end()
        old.master.send(Message.RETIRE)
        # It has its last chance here.
        assert ask(client) == b"/ "
        assert client.recv(1) == b""


def test_who_woke_a_worker_that_then_is_in_a_call_is_served_by_another() -> None:
    site = Site()
    with workers(site, 2, start=False) as (busy, idle):
        idle.main.start()
        # Both wait when it looks for the first time; of the second no other worker is told.
        slow, client = busy.connect(SLOW), busy.connect(GET)
        busy.main.start()
        assert answer(client) == b"/ "
        site.go.set()
        assert answer(slow) == b"/slow "


def test_who_woke_a_worker_that_is_told_to_retire_is_served_by_another() -> None:
    site = Site()
    with workers(site, 2, start=False) as (old, new):
        new.main.start()
        old.master.send(Message.RETIRE)
        client = old.connect(GET)
        old.main.start()
        assert answer(client) == b"/ "
        assert site.threads == [new.main.ident]
        assert ask(client) == b"/ "


def test_who_was_handed_off_to_a_worker_that_then_is_in_a_call_goes_on_at_once() -> None:
    """The standby takes it in as it takes the lead, and nothing else may happen there for long."""
    with workers(Site(), 2, start=False) as (busy, idle):
        client, server = socket.socketpair()
        assert busy.queue is not None
        assert busy.queue.give(server, Parcel(("192.0.2.1", "4711"), "h 80", 1, 1e9, GET))
        server.close()
        idle.row.idle_mark()[0] = 1
        busy.lead.set_calls(False)
        busy.loop.run(until=lambda: True)
        assert not busy.loop.connections
        busy.lead.set_calls(True)
        idle.main.start()
        assert answer(client) == b"/ "
        busy.main.start()


def test_all_that_siblings_have_handed_off_is_served_before_the_end() -> None:
    site = Site()
    queue = HandoffQueue.make()
    assert queue is not None
    worker = Worker(site, Scoreboard(1), 0, queue)
    worker.master.send(Message.STOP)
    clients = []
    for _ in range(3):
        client, server = socket.socketpair()
        assert queue.give(server, Parcel(("192.0.2.1", "4711"), "h 80", 1, 1e9, SLOW))
        server.close()
        clients.append(client)
    worker.main.start()
    # The first call outlasts its lead; the order that it came with must have been carried out.
    assert site.begun.acquire(timeout=30)
    threading.Event().wait(0.02)
    site.go.set()
    assert [answer(client) for client in clients] == [b"/slow "] * 3
    worker.main.join(30)
    assert not worker.main.is_alive()
    queue.close()


def test_workers_that_retire_at_the_same_moment_leave_nobody_in_the_queue() -> None:
    site = Site()
    for _ in range(20):
        with workers(site, 2) as crews:
            clients = [crew.connect() for crew in crews for _ in range(20)]
            for client in clients:
                assert ask(client) == b"/ "
            for crew in crews:
                crew.master.send(Message.RETIRE)
            for client in clients:
                assert ask(client) == b"/ "
                client.close()


def test_what_the_queue_does_not_take_is_served_here_and_counted() -> None:
    site = Site()
    board, queue = Scoreboard(2), HandoffQueue.make()
    assert queue is not None
    sibling = board.row(1)  # idle, for all that is known
    sibling.take(1)
    sibling.set_serving(True)
    worker = Worker(site, board, 0, queue)
    worker.main.start()
    client, wrong = worker.connect(), worker.connect()
    assert (ask(client), ask(wrong)) == (b"/ ", b"/ ")
    slow = worker.connect(SLOW)
    site.begun.acquire()
    wrong.sendall(b"GET / HTTP/7\r\n\r\n")
    assert statuses(wrong.recv(65536)) == [400]  # who answers takes nothing in
    others = [socket.socketpair() for _ in range(2)]
    with socket.socket(fileno=os.dup(queue.fds()[1])) as giving:
        giving.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        send_fd(giving, b"rubbish", others[0][1].fileno())
    while queue.give(others[1][1], Parcel(("", ""), "h 80", 1, 1e9, b"")):
        pass
    client.sendall(GET)
    wait_until(lambda: board.tally(0).read()[tally.NOT_GIVEN] > 0)
    assert [
        line for line in worker.log.lines if "stays in this worker" in line and "EAGAIN" in line
    ]
    site.go.set()
    assert (answer(slow), answer(client)) == (b"/slow ", b"/ ")
    wait_until(lambda: board.tally(0).read()[tally.NOT_TAKEN] == 1)
    assert [line for line in worker.log.lines if "handed off 1 could not be taken" in line]
    for pair in others:
        for end in pair:
            end.close()
    worker.end()
    queue.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_clients_of_tls_are_served_where_they_are(certificates: Certificates) -> None:
    site = Site()
    context = ssl.create_default_context(cafile=certificates.pem("ca"))
    with workers(site, 2, **certificates.settings()) as (busy, _):
        clients = [
            context.wrap_socket(busy.connect(), server_hostname="127.0.0.1") for _ in range(3)
        ]
        for client in clients:
            assert ask(client) == b"/ "
        slow, waiting, idle = clients
        slow.sendall(SLOW)
        site.begun.acquire()
        waiting.sendall(GET)
        busy.master.send(Message.RETIRE)
        idle.sendall(b"GET / HTTP/7\r\n\r\n")
        assert statuses(idle.recv(65536)) == [400]
        site.go.set()
        assert (answer(slow), answer(waiting)) == (b"/slow ", b"/ ")
        assert set(site.threads) == {busy.main.ident}


# ---- all at once


@pytest.mark.parametrize("threads", [1, 4])
def test_nothing_is_lost_in_two_workers_under_stress_and_reloads(threads: int) -> None:
    assert crew_stress.run(threads, 2000, 24, seed=threads, reloads=2) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_requests_of_mixed_length_over_every_change_of_the_lead(threads: int) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        number = int(environ["PATH_INFO"][1:])
        if number % 7 == 0:
            time.sleep(0.003)
        elif number % 5 == 0:
            end = time.monotonic() + 0.0025
            while time.monotonic() < end:
                pass
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    right: list[int] = []

    def client_of(worker: Worker, first: int) -> None:
        client = worker.connect()
        for number in range(first, first + 200):
            if ask(client, b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number) == b"/%d" % number:
                right.append(number)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with workers(app, 2, threads=threads) as crews:
            clients = [
                threading.Thread(
                    target=client_of, args=(crews[number % 2], 1000 * number), daemon=True
                )
                for number in range(12)
            ]
            for thread in clients:
                thread.start()
            for thread in clients:
                thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(right) == 12 * 200
