"""Workers that die: what the logs say, how soon they are replaced, and what it costs.

SOAK=1 in the environment runs the full times.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.command.harness import PLAIN, Server, wait_for_death
from tests.command.test_master import cpu_seconds, select_nothing

Start = Callable[..., Server]
SOAK = bool(os.environ.get("SOAK"))


def test_a_request_whose_worker_is_killed_has_its_line_in_the_access_log(
    start: Start, tmp_path: Path
) -> None:
    access = tmp_path / "access"
    form = '%(h)s %(l)s %(u)s "%(r)s" %(m)s %(U)s %(q)s %(H)s %(s)s %(b)s %(T)s "%(a)s" %(p)s'
    server = start(
        "--access-logfile", str(access), "--access-logformat", form, "plain",
        errors=("died: SIGKILL",),
    )  # fmt: skip
    with server.connect() as client:
        client.send(b"GET /sleep?60 HTTP/1.1\r\nHost: h\r\nUser-Agent: x\r\n\r\n")
        server.wait_for("^sleeping")
        (victim,) = server.workers()
        os.kill(victim, signal.SIGKILL)
        assert client.rest() == b""
    server.wait_for("died: SIGKILL")
    server.wait_for("is ready", count=2)
    assert server.get() == (200, b"hello")
    assert server.stop() == 0
    killed, other = access.read_text().splitlines()
    assert killed == (
        f'- - - "GET /sleep?60 HTTP/1.1" GET /sleep 60 HTTP/1.1 000 - 0 "-" <{victim}>'
    )
    assert '"GET / HTTP/1.1"' in other


@pytest.mark.parametrize("app", ["plain", "stuck_in_c"])
def test_so_has_each_request_that_ends_its_worker(start: Start, tmp_path: Path, app: str) -> None:
    access = tmp_path / "access"
    server = start(
        "-t", "0.5", "--access-logfile", str(access), app,
        errors=("died:", "longer than `timeout`"),
    )  # fmt: skip
    with server.connect() as client:
        client.send(b"GET /exit HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.rest() == b""
    server.wait_for("is ready", count=2)
    assert server.stop() == 0
    (line,) = access.read_text().splitlines()
    assert line.endswith('"GET /exit HTTP/1.1" 000 - "-" "-"')


def test_a_stuck_call_that_was_answered_has_one_line(start: Start, tmp_path: Path) -> None:
    access = tmp_path / "access"
    server = start(
        "-t", "0.5", "--access-logfile", str(access), "plain", errors=("longer than `timeout`",)
    )
    with server.connect() as client:
        client.send(b"GET /spin HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response().status == 504
    server.wait_for("has left")
    assert server.stop() == 0
    (line,) = access.read_text().splitlines()
    assert '"GET /spin HTTP/1.1" 504 ' in line


def test_a_worker_that_does_not_answer_is_replaced(start: Start) -> None:
    """It is in no call, of which the scoreboard would tell."""
    server = start("-w", "1", "--timeout", "1", "plain", errors=("has not answered",))
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.response().status == 200
    server.wait_for(rf"\(pid {worker}\) is in no request, and has not answered for .* `timeout`")
    assert wait_for_death(worker)


def test_a_killed_worker_is_replaced_within_half_a_second(start: Start) -> None:
    server = start("plain", errors=("died: SIGKILL",))
    took = []
    for count in range(2, 7):
        select_nothing(1.6)  # one that dies young is replaced after a pause
        (victim,) = server.workers()
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        assert server.get() == (200, b"hello")
        took.append(time.monotonic() - began)
        server.wait_for("is ready", count=count)
    assert sorted(took)[2] < 0.5, took


HOG = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_RTTIME, (5_000_000, 5_000_000))  # and SIGKILL ends it
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
print("busy", flush=True)
while True:
    pass
"""


@contextmanager
def no_time_on(cpu: int) -> Iterator[None]:
    """Ordinary processes on this processor do not run meanwhile (for most of a second)."""
    command = [sys.executable, "-c", HOG, str(cpu)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as hog:
        try:
            assert hog.stdout is not None
            if not hog.stdout.readline():
                pytest.skip("needs the right to SCHED_FIFO")
            yield
        finally:
            hog.kill()


def test_whom_a_dead_worker_was_woken_for_is_served_by_a_sibling(start: Start, app: Path) -> None:
    """The kernel wakes one worker for a newcomer, and does not take that back when it dies. What is
    on the disk does not boot, so that no successor comes to look."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("needs two processors")
    server = start("-w", "2", "shop", cwd=app, errors=("died: SIGKILL", "could not boot"))
    server.wait_for("is ready", count=2)
    (app / "shop.py").write_text("broken(")
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpus[0]})
    try:
        for victim, other in (server.workers(), server.workers()[::-1]):
            os.sched_setaffinity(victim, {cpus[1]})
            os.sched_setaffinity(other, {cpus[0]})
            with no_time_on(cpus[1]):
                client = server.connect()
                client.send(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
                woken = not select.select([client.socket], [], [], 0.2)[0]
                if woken:
                    os.kill(victim, signal.SIGKILL)
            with client:
                assert client.response().status == 200
            if woken:
                return
    finally:
        os.sched_setaffinity(0, here)
    raise AssertionError("the kernel has woken neither of the two")


SICK = """
import fcntl, os, threading
LOCK = open("lock", "w")
try:
    fcntl.flock(LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    pass  # another has it: this one is healthy
else:
    threading.Timer(0.05, os._exit, (1,)).start()
"""


def test_a_crash_loop_costs_little_and_touches_nobody_else(start: Start, app: Path) -> None:
    """At most 7 forks of its slot in 10 s, then one in 30 s: forkserve/master/roster.py.

    Not so for a worker that dies in a request, or is killed from outside: its slot waits for 2 s at
    most, because with 30 s a few requests that kill workers kept a whole server down for minutes
    (see test_requests_that_kill_workers_are_over_soon).
    """
    (app / "shop.py").write_text(PLAIN + SICK)
    seconds = 100.0 if SOAK else 6.0
    server = start("-w", "2", "shop", cwd=app, errors=("died: exit status 1",))
    began = time.monotonic()
    server.wait_for("is ready", count=2)
    sick = int(server.wait_for(r"worker (\d+) gen 1 \(pid \d+\) died")[0][1])
    ready = server.wait_for(r"worker (\d+) gen 1 \(pid (\d+)\) is ready")
    (well,) = [int(found[2]) for found in ready if int(found[1]) != sick]
    cpu = cpu_seconds_of_family(server.pid)
    select_nothing(seconds)
    deaths = len(server.wait_for("died: exit status 1"))
    cpu = cpu_seconds_of_family(server.pid) - cpu
    assert deaths <= (10 if SOAK else 5)
    assert cpu / (time.monotonic() - began) < 0.05
    assert well in server.workers()
    assert server.get() == (200, b"hello")


def cpu_seconds_of_family(pid: int) -> float:
    """Of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = sum(map(int, fields[13:15])) / os.sysconf("SC_CLK_TCK")
    return cpu_seconds(pid) + children
