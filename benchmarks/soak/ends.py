"""Rows: the ways in which a worker, a call, or a master ends."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from random import Random

from benchmarks.soak.crowd import NOTE
from benchmarks.soak.rig import CODE, MIX, ROOT, Run, pause, ready_pids, row
from tests.command.harness import COMMAND, Client, children, clean_environ, wait_for_death


def ask(client: Client, number: int, route: str = "fast", argument: str = "") -> None:
    client.send(f"GET /{route}?{number}&{argument} HTTP/1.1\r\nHost: soak\r\n\r\n".encode())


def answered(client: Client) -> bool:
    """Whether a right answer comes, and not the end of the connection."""
    try:
        response = client.response()
    except OSError:
        return False
    return response.status == 200


# ---- TERM


@row("term-queued", "TERM with 100 requests queued")
def term_queued(run: Run) -> None:
    """One runs, half of the others wait on connections that are accepted, half on new ones."""
    lost, statuses, slowest = 0, 0, 0.0
    trials = run.count(50, 5)
    for trial in range(trials):
        gate = run.directory / f"gate.{trial}"
        os.mkfifo(gate)
        server = run.server()
        older = [server.connect() for _ in range(50)]
        for number, client in enumerate(older):
            ask(client, 1000 + number)
            assert answered(client)
        running = server.connect()
        ask(running, 1, "wait", str(gate))
        server.wait_for("^waiting")
        newer = [server.connect() for _ in range(50)]
        for number, client in enumerate((*older, *newer)):
            ask(client, 2000 + number)
        server.signal("TERM")
        server.wait_for("TERM: stopping")
        began = time.monotonic()
        gate.write_text("")
        for client in (running, *older, *newer):
            lost += not answered(client)
            client.socket.close()
        statuses += server.wait() != 0
        slowest = max(slowest, time.monotonic() - began)
    run.told("trials", trials)
    run.told("requests", 101 * trials)
    run.at_most("lost", lost, 0)
    run.at_most("wrong exit statuses", statuses, 0)
    run.at_most("longest until it was gone, s", slowest, 2, quick=10)


@row("term-load", "TERM under load, new connections all the time")
def term_load(run: Run) -> None:
    trials = run.count(50, 2)
    lost, requests, resets, closed = 0, 0, 0, 0
    for _ in range(trials):
        server = run.server("-w", "2")
        crowd = run.crowd(server, {"once": 8, "busy": 4, "idle": 10}, "--gives-up")
        crowd.right(run.count(500, 100))
        server.signal("TERM")
        verdict = crowd.leave()
        total = verdict.all()
        lost += total.lost
        resets += total.reset
        requests += total.right
        closed += total.idle_reset
        assert server.wait() == 0
        crowd.process.wait()
        if total.lost:
            run.tables.append(verdict.table())
        run.notes.write_bytes(b"")
    run.told("trials", trials)
    run.told("requests", requests)
    run.at_most("lost", lost, 0, needs="last reset")
    run.at_most("of these reset", resets, 0, needs="last reset")
    run.at_most("idle connections reset", closed, 0)


@row("restart", "restart under load, the listener is the service manager's")
def restart(run: Run) -> None:
    """Connections end, as each answer announces; but nobody is refused, and nothing is lost."""
    times = run.count(20, 1)
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        server = run.server("-w", "2", listener=listener)
        crowd = run.crowd(server, {"busy": 4, "once": 4, "uploading": 2, "chunked": 2})
        for _ in range(times):
            crowd.go_on(200)
            assert server.stop() == 0
            server = run.server("-w", "2", listener=listener)
        crowd.go_on(200)
        run.told("restarts", times)
        run.nothing_lost(crowd.stop(), closed=None)


def _leftovers(pids: set[int], seconds: float) -> int:
    return sum(not wait_for_death(pid, seconds) for pid in pids)


@row("term-any-time", "TERM during the start, a reload, an upgrade")
def term_any_time(run: Run) -> None:
    random, trials = Random(7), run.count(100, 9)
    orphans, tracebacks, slowest = 0, 0, 0.0
    for trial in range(trials):
        name = ("", "HUP", "USR2")[trial % 3]
        written = run.directory / f"term-{trial}.log"
        with written.open("w") as errors:
            process = subprocess.Popen(
                [COMMAND, "-w", "2", "-b", "127.0.0.1:0", "--log-level", "debug", "shop"],
                env={**clean_environ(), "SOAK_NOTES": str(run.notes), "PYTHONPATH": str(ROOT)},
                cwd=run.directory, stderr=errors,
            )  # fmt: skip
        while name and written.read_text().count("is ready") < 2:
            pause(0.005)
        if name:
            process.send_signal(getattr(signal, f"SIG{name}"))
        pause(random.uniform(0.0, 0.3))
        pids = set(children(process.pid))
        began = time.monotonic()
        process.terminate()
        process.wait(30)
        slowest = max(slowest, time.monotonic() - began)
        log = written.read_text()
        # If the upgrade was done by then, the service is another master's, which has heard nothing.
        heir = re.search(
            rf"pid (\d+)\] USR2: this process takes the place of process {process.pid}", log
        )
        if heir is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(heir[1]), signal.SIGTERM)
            _leftovers({int(heir[1])}, 3.0)  # it begins to stop only now
        pids |= {int(pid) for pid in re.findall(r"\(?pid (\d+)\)?", log)}
        orphans += _leftovers(pids, 1.0)
        tracebacks += "Traceback" in log
    run.told("trials", trials)
    run.at_most("orphans", orphans, 0)
    run.at_most("tracebacks", tracebacks, 0)
    run.at_most("longest until it was gone, s", slowest, 3, quick=10)


# ---- SIGKILL


@row("kill-worker", "SIGKILL of a worker")
def kill_worker(run: Run) -> None:
    run.expected.append("died: SIGKILL")
    access = run.directory / "access"
    server = run.server("-w", "4", "--access-logfile", str(access))
    gate = run.directory / "gate"
    os.mkfifo(gate)
    crowd = run.crowd(server, {"busy": 4, "uploading": 2, "idle": 20})
    kills, slowest, reset = run.count(30, 2), 0.0, 0
    for number in range(kills):
        pause(1.6)  # whoever dies younger may be in a crash loop: its slot is filled later
        with server.connect() as client:
            ask(client, 10**9 + number, "wait", str(gate))
            server.wait_for("^waiting", count=number + 1)
            victim = noted_by(run, 10**9 + number)
            ready = server.log.count("is ready")
            began = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            server.wait_for("is ready", count=ready + 1)
            slowest = max(slowest, time.monotonic() - began)
            reset += not answered(client)
    verdict = crowd.stop()
    run.tables.append(verdict.table())
    total = verdict.all()
    run.told("workers killed", kills)
    run.told("requests", total.right)
    run.at_most("running requests lost", reset, kills)
    # Whoever sends at that moment into a connection of the dead worker: the kernel's to refuse.
    run.told("other requests lost", total.lost)
    run.at_most("other requests lost that ran", total.lost - verdict.vanished, 0)
    run.told("connections closed", total.closed)
    run.at_most("refused", total.refused, 0)
    run.at_most("seen twice", verdict.twice, 0)
    run.at_most("longest until replaced, ms", 1000 * slowest, 500, quick=2000)
    needs = "access lines of the killed"
    lines = len(re.findall(r'"GET /wait\?', access.read_text()))
    run.at_least("access lines of those lost, share", lines / kills, 1, needs=needs)


def noted_by(run: Run, number: int) -> int:
    """The worker that has noted this request, as soon as it has."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        for note, pid in NOTE.iter_unpack(run.notes.read_bytes()):
            if note == number:
                return int(pid)
        pause(0.01)
    raise AssertionError(f"nobody has noted {number}")


@row("kill-master", "SIGKILL of the master, workers stopped and stuck")
def kill_master(run: Run) -> None:
    trials, slowest, orphans = run.count(20, 2), 0.0, 0
    for trial in range(trials):
        server = run.server("-w", "4")
        workers = server.workers()
        # One after the other: of two that connect at once, one worker may take both.
        spinning = server.connect()
        ask(spinning, 2 * trial + 1, "spin")
        busy = [noted_by(run, 2 * trial + 1)]
        holding = server.connect()
        ask(holding, 2 * trial + 2, "hold")
        busy.append(noted_by(run, 2 * trial + 2))
        os.kill(next(pid for pid in workers if pid not in busy), signal.SIGSTOP)
        began = time.monotonic()
        server.process.kill()
        orphans += _leftovers(set(workers), 5.0)
        slowest = max(slowest, time.monotonic() - began)
        server.wait()
        spinning.socket.close()
        holding.socket.close()
    run.told("trials", trials)
    run.at_most("orphans", orphans, 0)
    run.at_most("longest until all were gone, s", slowest, 1, quick=3)


@row("stop-master", "SIGSTOP of the master for 3 s, SIGCONT")
def stop_master(run: Run) -> None:
    server = run.server("-w", "4", "--timeout", "1")
    crowd = run.crowd(server, MIX)
    crowd.go_on(100)
    before = server.workers()
    times = run.count(5, 1)
    for _ in range(times):
        server.signal("STOP")
        pause(3.0)
        server.signal("CONT")
        crowd.go_on(100)
        pause(0.5)
    run.told("times", times)
    run.at_most("workers replaced", len(set(before) ^ set(server.workers())), 0)
    run.nothing_lost(crowd.stop(), closed="")


@row("crash-loop", "a worker that cannot live")
def crash_loop(run: Run) -> None:
    """Slot 0 dies again and again, as soon as it serves; slot 1 is not touched."""
    run.expected += ["died:", "could not boot"]
    server = run.server("-w", "2")
    workers = ready_pids(server)
    run.write("import os\nos._exit(9)\n")
    seconds, deaths = run.count(40, 10), list[float]()
    began, before = time.monotonic(), cpu_seconds(server.pid)

    def watch(until: float) -> None:
        while (now := time.monotonic() - began) < until:
            count = len(re.findall(r"could not boot|died:", server.log))
            deaths.extend([now] * (count - len(deaths)))
            pause(0.1)

    os.kill(workers[0], signal.SIGKILL)
    with server.connect() as client:
        ask(client, 1)
        run.at_least("served meanwhile", answered(client), 1)
    watch(seconds)
    used = cpu_seconds(server.pid) - before
    watch(run.count(100, 10))
    run.at_most("forks in 10 s", sum(death < 10.0 for death in deaths), 7)
    run.at_least("seconds between the last two", deaths[-1] - deaths[-2], 29.9, quick=1.9)
    run.at_most("processor of master and dead, %", 100 * used / seconds, 5, quick=20)
    run.at_least("the healthy worker is there", workers[1] in server.workers(), 1)
    run.write(CODE)
    server.reload(2)


def cpu_seconds(pid: int) -> float:
    """Of a process and its children that have ended, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


# ---- stuck calls


def _stuck(run: Run, route: str, argument: str = "", *, gil: bool = False) -> None:
    """One worker, which also holds 10 idle connections."""
    run.expected.append("longer than `timeout`")
    trials, slowest, told, spared = run.count(10, 1), 0.0, 0, 0
    for trial in range(trials):
        server = run.server("--timeout", "1")
        others = [server.connect() for _ in range(10)]
        for number, other in enumerate(others):
            ask(other, 100 * trial + number)
            assert answered(other)
        with server.connect() as client:
            began = time.monotonic()
            ask(client, 100 * trial + 50, route, argument)
            end = b""
            with contextlib.suppress(OSError):  # a reset says less than a 504
                end = client.rest()
            slowest = max(slowest, time.monotonic() - began)
            told += end.startswith(b"HTTP/1.1 504 ")
        server.wait_for(rf"'GET /{route}\?")
        server.wait_for(rf'File ".*application.py", line \d+,? in {route}')
        server.wait_for("is ready", count=2)
        for number, other in enumerate(others):
            with contextlib.suppress(OSError):
                ask(other, 100 * trial + 60 + number)
                spared += answered(other)
            other.socket.close()
    run.told("trials", trials)
    run.at_most("longest until the client knew, s", slowest, 2, quick=4)
    if not gil:
        run.at_least("answered with 504, share", told / trials, 1, needs="crew")
        run.at_least("other clients served, share", spared / trials / 10, 1, needs="crew, hand-off")


@row("stuck-loop", "a call stuck in a loop of Python")
def stuck_loop(run: Run) -> None:
    _stuck(run, "spin")


@row("stuck-sleep", "a call stuck in ``time.sleep``")
def stuck_sleep(run: Run) -> None:
    _stuck(run, "slow", "600")


@row("stuck-recv", "a call stuck in ``recv``")
def stuck_recv(run: Run) -> None:
    _stuck(run, "receive")


@row("stuck-gil", "a call stuck in C code that holds the GIL")
def stuck_gil(run: Run) -> None:
    _stuck(run, "hold", gil=True)


# ---- signals


@row("storm", "25 HUPs at 0 to 25 ms, mixed signals, then TERM")
def storm(run: Run) -> None:
    names = ("HUP", "USR1", "TTIN", "TTOU", "CHLD", "HUP")
    server = run.server("-w", "2")
    crowd = run.crowd(server, {"busy": 2, "idle": 10})
    for number in range(25):
        server.signal("HUP")
        pause(number / 1000)
    run.write("import os\nos.environ['SOAK_LAST'] = '1'\n" + CODE)
    crowd.go_on(100)
    for number in range(run.count(1000, 300)):
        server.signal(names[number % len(names)])
    server.signal("HUP")
    serves = "generation (\\d+) serves"
    settled = server.wait_for(serves, count=1)
    while True:  # until no further reload is under way
        crowd.go_on(200)
        now = server.wait_for(serves, count=1)
        if len(now) == len(settled):
            break
        settled = now
    run.told("reloads", len(settled))
    run.nothing_lost(crowd.stop())
    newest = int(settled[-1][1])
    generations = {
        int(found[1])
        for pid in server.workers()
        if (found := re.search(r" gen (\d+)", Path(f"/proc/{pid}/cmdline").read_text()))
    }
    run.at_most("workers of older generations", len(generations - {newest}), 0)
    began = time.monotonic()
    run.at_most("exit status", server.stop(), 0)
    run.at_most("until it was gone, s", time.monotonic() - began, 2, quick=10)
