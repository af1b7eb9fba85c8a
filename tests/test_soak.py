"""The clients that measure whether anything is lost: they find what a bad server does."""

import os
import socket
import struct
import sys
import threading
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from benchmarks.servers import Running, Server
from benchmarks.side_by_side import Ratio
from benchmarks.soak.answer import Answer, Malformed
from benchmarks.soak.client import Client
from benchmarks.soak.concurrency import idle_while_others_wait
from benchmarks.soak.crowd import NOTE
from benchmarks.soak.crowd import Crowd as Loop
from benchmarks.soak.populations import KINDS
from benchmarks.soak.rig import Crowd
from benchmarks.soak.tally import Verdict
from benchmarks.uncrewed import crewed_and_not

RESET = struct.pack("ii", 1, 0)
DONE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s"


class BadServer:
    """It does to request N what ``faults`` says for N, and answers all others as it should."""

    def __init__(self, notes: Path, faults: dict[int, str]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._notes = notes.open("ab", buffering=0)
        self._faults = faults
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        self._notes.close()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                while octets := sock.recv(65536):
                    number = int(octets.partition(b"?")[2].partition(b"&")[0])
                    if not self._answer(sock, number, self._faults.get(number, "")):
                        break

    def _answer(self, sock: socket.socket, number: int, fault: str) -> bool:
        """False: the connection is to be closed."""
        for _ in range({"unseen": 0, "twice": 2}.get(fault, 1)):
            self._notes.write(NOTE.pack(number, 1))
        body = b"slow %d" % number
        if fault == "fin":
            return False
        if fault == "half":
            sock.sendall(DONE % (len(body), b"", body[:-1]))
            return False
        if fault == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return False
        if fault == "status":
            sock.sendall((DONE % (len(body), b"", body)).replace(b"200 OK", b"503 Busy"))
            return False
        if fault == "body":
            body = b"slow %d" % (number + 10 ** len(str(number)))
        field = b"Connection: close\r\n" if fault == "announced" else b""
        sock.sendall(DONE % (len(body), field, body))
        return fault not in ("announced", "idle_fin", "body")


def verdict_of(tmp_path: Path, faults: dict[int, str], *, requests: int = 20) -> Verdict:
    notes = tmp_path / "notes"
    notes.touch()
    server = BadServer(notes, faults)
    crowd = Crowd(server.port, {"slow": 1}, notes)
    try:
        crowd.right(requests)
        return crowd.stop()
    finally:
        crowd.process.kill()
        crowd.process.communicate()
        server.close()


def test_a_good_server_has_a_clean_record(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, {})
    total = verdict.all()
    assert (total.lost, total.closed, total.refused, verdict.twice, verdict.unseen) == (0,) * 5
    assert total.right >= 20


@pytest.mark.parametrize(
    ("fault", "column", "lost", "closed"),
    [
        ("fin", "fin", 2, 2),
        ("half", "fin", 2, 2),
        ("reset", "reset", 2, 2),
        ("status", "wrong_status", 2, 0),
        ("body", "wrong_body", 2, 0),
        ("announced", "announced", 0, 2),
        ("idle_fin", "idle_fin", 0, 2),
    ],
)
def test_each_fault_is_counted_for_what_it_is(
    tmp_path: Path, fault: str, column: str, lost: int, closed: int
) -> None:
    verdict = verdict_of(tmp_path, {3: fault, 9: fault})
    total = verdict.all()
    assert (getattr(total, column), total.lost, total.closed) == (2, lost, closed), verdict.table()
    assert (verdict.twice, verdict.unseen, verdict.vanished) == (0, 0, 0)


class Unhurried(Loop):
    """Its timers are the test's."""

    def call_at(self, when: float, client: Client, serial: int) -> None:
        self.last = serial


@pytest.mark.parametrize("fault", ["fin", "reset"])
def test_an_end_that_came_before_a_request_takes_nothing_with_it(fault: str) -> None:
    """The client hears of it when it is about to send: it was idle, and nothing is lost."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        crowd = Unhurried(address, patience=20.0, gives_up=True)
        idle = Client(crowd, "idle", KINDS["idle"], Random(1))
        idle.begin(0.0)
        sock, _ = listener.accept()
        idle.event(True, 0.0)  # connected
        number = int(sock.recv(65536).partition(b"?")[2].partition(b" ")[0])
        body = b"fast %d" % number
        sock.sendall(DONE % (len(body), b"", body))
        idle.event(False, 1.0)
        if fault == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
        idle.timer(crowd.last, 4.0)  # the next request is due
        tally = crowd.tally("idle")
        assert (tally.right, tally.lost, getattr(tally, f"idle_{fault}")) == (1, 0, 1)
        idle.stop()


def test_what_the_application_saw_is_compared(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, {2: "twice", 5: "unseen", 6: "twice"})
    assert (verdict.twice, verdict.unseen, verdict.all().lost) == (2, 1, 0)


def test_who_is_refused_is_counted_and_tries_again(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.touch()
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))  # nobody listens
        crowd = Crowd(place.getsockname()[1], {"slow": 1, "idle": 1}, notes, "--gives-up")
        total = crowd.leave().all()
        crowd.process.communicate()
    assert (total.refused, total.right, total.lost) == (2, 0, 0)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


@pytest.mark.parametrize("octets", [CHUNKED, DONE % (5, b"", b"abcde")])
def test_an_answer_in_any_pieces(octets: bytes) -> None:
    for size in range(1, len(octets) + 1):
        answer = Answer()
        pieces = [octets[start : start + size] for start in range(0, len(octets), size)]
        wholes = [answer.feed(piece) for piece in pieces]
        assert Counter(wholes)[True] == 1
        assert wholes[-1]
        assert (answer.status, answer.body, answer.surplus) == (200, b"abcde", b"")


def test_what_is_no_answer() -> None:
    for octets in (b"HTTP/2 200\r\n\r\n", CHUNKED.replace(b"3\r\nabc\r\n", b"3\r\nabcd\r\n")):
        with pytest.raises(Malformed):
            Answer().feed(octets)


def test_time_that_a_worker_is_idle_while_a_request_waits() -> None:
    from array import array

    # (id, pid, begin, end): worker 7 runs all, though 8 is idle from 2 to 5 and request 3 waits
    # from 1 to 4 for 7.
    calls = [(1, 7, 0.0, 2.5), (2, 8, 0.0, 2.0), (3, 7, 4.0, 5.0), (4, 8, 5.0, 6.0)]
    assert idle_while_others_wait(calls, array("d", [0, 0, 0, 1, 5])) == 2.0
    assert idle_while_others_wait(calls, array("d", [0, 0, 0, 4, 5])) == 0.0


def test_what_the_crew_adds_is_known_where_it_stands() -> None:
    """Whoever moves a line of it has to say so in ``benchmarks.uncrewed``."""
    with crewed_and_not() as servers:
        assert [server.name for server in servers] == ["with its crew", "without a crew"]


@pytest.mark.parametrize(
    ("values", "ratio"), [([2.0], (2.0, 2.0, 2.0)), ([1.0, 2.0, 3.0, 4.0, 5.0], (2.0, 3.0, 4.0))]
)
def test_median_and_quartiles(values: list[float], ratio: tuple[float, ...]) -> None:
    assert Ratio.of(values) == ratio


FORKS_AT_THE_END = """
import os, signal, sys
def end(number, frame):
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pause()
signal.signal(signal.SIGTERM, end)
pipe = open(sys.argv[1], "w", buffering=1)
print("ready", file=pipe)
signal.pause()
"""


def test_a_server_that_is_measured_leaves_nobody(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    command = [sys.executable, "-c", FORKS_AT_THE_END, str(path)]
    running = Running(Server("one", "one", lambda port, workers: command), None)
    with path.open() as pipe:
        assert pipe.readline() == "ready\n"
        running.stop()
        assert pipe.read() == ""  # when nobody has the other end any more
