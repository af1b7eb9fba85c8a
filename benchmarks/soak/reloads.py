"""Rows: reloads, recycling, scaling and upgrades. Workers come and go; clients do not notice."""

import os
import re
import signal
from pathlib import Path
from random import Random

from benchmarks.soak.rig import CODE, MIX, Run, pause, ready_pids, row
from benchmarks.soak.tally import Verdict
from tests.command.harness import Server, descriptors, wait_for_death


def pss(pid: int) -> int:
    """KiB (proc_pid_smaps(5))."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0])


def added_latency(run: Run, verdict: Verdict, bound: float, quick: float) -> None:
    """What the event adds to the slowest request, over the median of the time before it."""
    calm, storm = verdict.phases["calm"]["busy"], verdict.phases["storm"]["busy"]
    run.told("p99 before, ms", calm.p99)
    run.told("longest before, ms", calm.longest)
    run.told("p99, ms", storm.p99)
    added = storm.longest - calm.p50
    run.at_most("added latency, ms", added, bound, quick=quick, needs="crew")


def _reloads(run: Run, boot: float, times: int, bound: float, quick: float) -> None:
    run.write(f"import time\ntime.sleep({boot})\n{CODE}")
    server = run.server("-w", "4")
    server.reload(2)
    before, weight = descriptors(server.pid), pss(server.pid)
    crowd = run.crowd(server, MIX)
    pause(run.count(5, 1))
    crowd.phase("calm")
    pause(run.count(20, 2))
    crowd.phase("storm")
    for generation in range(3, 3 + times):
        server.reload(generation)
        crowd.go_on(20)
    verdict = crowd.stop()
    run.told("reloads", times)
    run.nothing_lost(verdict)
    added_latency(run, verdict, bound, quick)
    server.wait_for("has left", count=4 * (times + 1))
    run.at_most("descriptors more", len(descriptors(server.pid)) - len(before), 0)
    run.at_most("PSS of the master grows, %", 100 * pss(server.pid) / weight - 100, 10, quick=30)


@row("hup", "HUP, application boots at once")
def hup(run: Run) -> None:
    _reloads(run, 0.0, run.count(100, 4), 50, 500)


@row("hup-slow-boot", "HUP, application boots in 2 s")
def hup_slow_boot(run: Run) -> None:
    _reloads(run, 0.2 if run.quick else 2.0, run.count(100, 2), 250, 700)


BROKEN = (
    ("shop.py", "def application(:\n"),
    ("shop.py", "import not_installed\n"),
    ("f.toml", 'app = "shop"\nworkers = "many"\n'),
    ("f.toml", 'app = "shop"\nno_such_setting = 1\n'),
    ("shop.py", "import os\nos._exit(9)\n"),
)
SOUND = {"shop.py": CODE, "f.toml": 'app = "shop"\nworkers = 4\n'}


@row("hup-broken", "HUP, broken application or settings")
def hup_broken(run: Run) -> None:
    run.expected.append("reload refused")
    run.write(SOUND["f.toml"], "f.toml")
    server = run.server("-w", "4", "-c", "f.toml")
    crowd = run.crowd(server, MIX)
    crowd.go_on(100)
    before = server.workers()
    times = run.count(10, 5)
    for number in range(times):
        name, text = BROKEN[number % len(BROKEN)]
        run.write(text, name)
        server.signal("HUP")
        server.wait_for("reload refused", count=number + 1)
        run.write(SOUND[name], name)
        crowd.go_on(50)
    run.at_most("workers replaced", len(set(before) ^ set(server.workers())), 0)
    refused = server.log.count("reload refused")
    run.at_most("log entries for a reload", refused / times, 1)
    # Nothing was replaced, so nothing may be closed either, whatever the server can do.
    run.nothing_lost(crowd.stop(), closed="")
    server.reload(2)
    run.told("reloads refused", times)


@row("abandoned", "a worker dies while a reload stands abandoned", needs="preload")
def abandoned(run: Run) -> None:
    run.expected += ["reload refused", "died: SIGKILL"]
    server = run.server("-w", "2", "--preload")
    run.write("import not_installed\n")
    server.signal("HUP")
    server.wait_for("reload refused")
    times = run.count(20, 3)
    for number in range(times):
        os.kill(ready_pids(server)[0], signal.SIGKILL)
        server.wait_for("died: SIGKILL", count=number + 1)
        server.wait_for("is ready", count=3 + number)
    crowd = run.crowd(server, {"busy": 4, "idle": 4})
    crowd.go_on(200)
    run.told("workers killed", times)
    run.nothing_lost(crowd.stop(), closed="")


def capacity(server: Server, workers: int) -> tuple[int, int]:
    """Least and most workers that were ready at once, from the log, since all were."""
    ready, least, most = 0, workers, workers
    for line in server.lines:
        if "is ready" in line:
            ready += 1
        elif "has left" in line:
            ready -= 1
            least = min(least, ready)
        most = max(most, ready)
    return least, most


def _recycling(run: Run, server: Server, requests: int) -> None:
    crowd = run.crowd(server, {**MIX, "flat out": 2})
    crowd.right(requests)
    verdict = crowd.stop()
    run.nothing_lost(verdict)
    run.told("workers replaced", server.log.count("has left"))
    least, most = capacity(server, 4)
    run.at_least("workers ready", least, 4)
    # Those that still finish their last requests are among them.
    run.told("workers ready or leaving, most", most)
    run.at_least("workers replaced at all", server.log.count("has left"), 4, quick=1)


@row("max-requests", "``--max-requests`` and its jitter")
def max_requests(run: Run) -> None:
    each = str(run.count(2000, 300))
    server = run.server("-w", "4", "--max-requests", each, "--max-requests-jitter", "200")
    _recycling(run, server, run.count(200_000, 5000))


@row("max-lifetime", "``--max-lifetime``", needs="max_lifetime")
def max_lifetime(run: Run) -> None:
    server = run.server("-w", "4", "--max-lifetime", "1")
    _recycling(run, server, run.count(200_000, 15_000))


@row("max-rss", "``--max-rss``", needs="max_rss")
def max_rss(run: Run) -> None:
    server = run.server("-w", "4", "--max-rss", "64M", env={"SOAK_LEAK": "40000"})
    _recycling(run, server, run.count(200_000, 8000))


@row("ttin-ttou", "TTIN, TTOU, mixed")
def ttin_ttou(run: Run) -> None:
    server = run.server("-w", "4")
    crowd = run.crowd(server, MIX)
    crowd.go_on(100)
    random, wanted, times = Random(4), 4, run.count(100, 10)
    grown = 0
    for number in range(times):
        more = wanted <= 3 or (wanted < 6 and random.random() < 0.5)
        wanted += 1 if more else -1
        grown += more
        server.signal("TTIN" if more else "TTOU")
        server.wait_for(r"from \d+ to \d+ workers", count=number + 1)
        server.wait_for("is ready", count=4 + grown)
        crowd.go_on(50)
    run.told("signals", times)
    run.nothing_lost(crowd.stop())


@row("adaptive", "``--workers 2:8``", needs="adaptive, hand-off")
def adaptive(run: Run) -> None:
    """It grows while calls are slow and many, and shrinks when they are over."""
    server = run.server("--workers", "2:8")
    crowd = run.crowd(server, {"busy": 2, "half second": 8, "idle": 20})
    server.wait_for("is ready", count=6)
    most = len(server.workers())
    busy = crowd.stop()
    run.nothing_lost(busy)
    run.at_least("workers under load", most, 5)
    if not run.quick:  # it waits for half a minute of quiet time before each step
        quiet = run.crowd(server, {"busy": 1, "idle": 20})
        pause(80.0)
        run.at_most("workers after 80 s of quiet", len(server.workers()), most - 2)
        run.nothing_lost(quiet.stop())


@row("usr2", "USR2: another master takes over", needs="upgrade")
def usr2(run: Run) -> None:
    file = run.directory / "pid"
    server = run.server("-w", "4", "--pid", str(file))
    crowd = run.crowd(server, MIX)
    crowd.go_on(200)
    crowd.phase("storm")
    times = run.count(20, 2)
    before = 0
    for number in range(times):
        old = int(file.read_text())
        os.kill(old, signal.SIGUSR2)
        assert wait_for_death(old), "the old master stays"
        new = int(file.read_text())
        assert new != old
        crowd.go_on(50)
        if number == 0:
            before = len(descriptors(new))
    last = int(file.read_text())
    run.told("upgrades", times)
    run.nothing_lost(crowd.stop())
    run.at_most("descriptors more", len(descriptors(last)) - before, 0)
    os.kill(last, signal.SIGTERM)
    assert wait_for_death(last), "the last master stays"
