"""Rows: many clients of few workers. Nobody waits for another's call, and no worker is idle while
there is work."""

import re
import struct
import time
from array import array
from itertools import pairwise
from pathlib import Path

from benchmarks import crew_stress
from benchmarks.scenarios import SCENARIOS
from benchmarks.side_by_side import compare
from benchmarks.soak.rig import Run, pause, row
from benchmarks.uncrewed import crewed_and_not


def _tail(run: Run, slow: int, p99: float, longest: float | None, *arguments: str) -> None:
    """Fast requests while ``slow`` half-second calls are always running."""
    server = run.server(*arguments)
    crowd = run.crowd(server, {"busy": 8, "half second": slow})
    crowd.right(run.count(2000, 200), "busy")
    crowd.phase("measured")
    crowd.right(run.count(100_000, 3000), "busy")
    verdict = crowd.stop()
    run.nothing_lost(verdict)
    busy = verdict.phases["measured"]["busy"]
    run.told("p50, ms", busy.p50)
    run.at_most("p99, ms", busy.p99, p99, quick=20 * p99)
    if longest is None:
        run.told("longest, ms", busy.longest)
    else:
        run.at_most("longest, ms", busy.longest, longest, quick=450)


@row("tail-workers", "4 workers of one thread, 2 half-second calls always running", needs="crew")
def tail_workers(run: Run) -> None:
    _tail(run, 2, 5, 50, "-w", "4")


@row("tail-threads", "1 worker of 4 threads, 3 half-second calls always running", needs="threads")
def tail_threads(run: Run) -> None:
    _tail(run, 3, 20, 50, "--threads", "4")


_CALL = struct.Struct("=QIdd")  # as the application writes it


def idle_while_others_wait(
    calls: list[tuple[int, int, float, float]], sent: "array[float]"
) -> float:
    """Longest time, in seconds, for which a request waited while a worker had no call.

    ``calls``: (id, pid, begin, end); ``sent``: by id, when the request was out.
    """
    busy: dict[int, list[tuple[float, float]]] = {}
    for _, pid, began, ended in sorted(calls, key=lambda call: call[2]):
        busy.setdefault(pid, []).append((began, ended))
    gaps = [
        (before[1], after[0])
        for spans in busy.values()
        for before, after in pairwise(spans)
        if after[0] - before[1] > 0.001
    ]
    # A worker that is never called has been idle all the time; one that starts late, until then.
    first, last = min(call[2] for call in calls), max(call[3] for call in calls)
    gaps += [(first, spans[0][0]) for spans in busy.values()]
    gaps += [(spans[-1][1], last) for spans in busy.values()]
    waits = [(sent[number], began) for number, _, began, _ in calls if began - sent[number] > 0.001]
    waits.sort()
    longest = 0.0
    for gap_began, gap_ended in gaps:
        if gap_ended - gap_began <= longest:
            continue
        for sent_at, began in waits:
            if sent_at >= gap_ended:
                break
            longest = max(longest, min(began, gap_ended) - max(sent_at, gap_began))
    return longest


def _sharing(run: Run, workers: int) -> None:
    """32 persistent connections, opened at once; each call sleeps for 2 ms.

    Ideal would be if a worker went from call to call. How long they take is what they take here:
    with the application's note, and with what a sleep takes longer.
    """
    server = run.server("-w", str(workers))
    path = run.directory / "sent"
    crowd = run.crowd(server, {"sharing": 32}, "--sent", str(path))
    crowd.right(run.count(10_000, 1000) * workers)
    verdict = crowd.stop()
    run.nothing_lost(verdict)
    sent: array[float] = array("d")
    sent.frombytes(path.read_bytes())
    server.stop()  # then all is told
    calls = list(_CALL.iter_unpack(run.notes.with_name(f"{run.notes.name}.calls").read_bytes()))
    durations = sorted(ended - began for *_, began, ended in calls)
    lasted = max(call[3] for call in calls) - min(call[2] for call in calls)
    ideal = workers / durations[len(durations) // 2]
    run.told("requests a second", len(calls) / lasted)
    run.told("workers that served", len({pid for _, pid, *_ in calls}))
    run.at_least(
        "share of the ideal", len(calls) / lasted / ideal, 0.9, quick=0.6, needs="hand-off"
    )
    if len({pid for _, pid, *_ in calls}) < workers:
        idle = lasted  # one was never called
    else:
        idle = idle_while_others_wait(calls, sent)
    name = "a worker idle while a request waits, ms"
    run.at_most(name, 1000 * idle, 20, quick=200, needs="hand-off")


@row("sharing-2", "32 persistent connections at once, 2 workers, calls of 2 ms")
def sharing_2(run: Run) -> None:
    _sharing(run, 2)


@row("sharing-4", "32 persistent connections at once, 4 workers, calls of 2 ms")
def sharing_4(run: Run) -> None:
    _sharing(run, 4)


@row("crew-cost", "``hello`` on one worker, with its crew and without", needs="wrk")
def crew_cost(run: Run) -> None:
    """What the lead costs where no call is long. Both at once on one processor."""
    (hello,) = (item for item in SCENARIOS if item.name == "hello")
    with crewed_and_not() as servers:
        found = compare(servers, hello, run.count(30, 2), run.count(3, 1), 16)
    run.told("requests, times those without", found.requests.median)
    share = 1 / found.processor_time.median
    run.at_least("throughput, times that without", share, 0.95, quick=0.8)


@row("stress", "every kind of request, over every change of the lead, the workers and their number")
def stress(run: Run) -> None:
    """In the development mode of Python, with threads that switch every 10 us."""
    for threads in (1, 4):
        requests = run.count(250_000, 900)
        faults = crew_stress.run(threads, requests, 24, seed=threads, reloads=run.count(20, 2))
        run.told(f"requests, {threads} threads", requests)
        run.at_most(f"faults, {threads} threads", len(faults), 0)
        run.tables += faults[:1]


def context_switches(pid: int) -> int:
    """Voluntary ones, of all threads."""
    total = 0
    for path in Path(f"/proc/{pid}/task").iterdir():
        text = (path / "status").read_text()
        total += int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[0])
    return total


@row("idle", "nothing, with 20 connections open")
def idle(run: Run) -> None:
    server = run.server("-w", "2")
    clients = [server.connect() for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(f"GET /fast?{number} HTTP/1.1\r\nHost: soak\r\n\r\n".encode())
        assert client.response().status == 200
    pids = (server.pid, *server.workers())
    pause(1.0)  # what was counted is written down a moment after the last request
    before = {pid: context_switches(pid) for pid in pids}
    began = time.monotonic()
    pause(run.count(10, 3))
    seconds = time.monotonic() - began
    most = max(context_switches(pid) - before[pid] for pid in pids)
    for client in clients:
        client.socket.close()
    run.at_most("times that a process wakes in a second", most / seconds, 1)
