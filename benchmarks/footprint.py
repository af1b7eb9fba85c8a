"""How soon a server answers, and what four idle workers weigh.

The weight is PSS (proc_pid_smaps(5)): pages that several processes share count once.
"""

import http.client
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.servers import Running, Server, descendants

_RUNS = 11
_WORKERS = 4


def measure(servers: list[Server]) -> dict[str, Any]:
    """For each server: milliseconds to the first answer (median), MiB of workers and of all."""
    results: dict[str, Any] = {}
    for server in servers:
        times: list[float] = []
        weight: dict[str, float] = {}
        try:
            for _ in range(_RUNS):
                running = Running(server, None, _WORKERS)
                try:
                    times.append(first_answer(running))
                    if len(times) == _RUNS:
                        weight = weigh(running)
                finally:
                    running.stop()
        except (LookupError, TimeoutError):
            continue
        results[server.name] = {"first_answer_ms": round(statistics.median(times) * 1000), **weight}
    return results


def first_answer(running: Running) -> float:
    """Seconds from the command to the first answer."""
    while time.perf_counter() - running.began < 20:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
        try:
            connection.request("GET", "/hello")
            if connection.getresponse().read() == b"Hello, world!\n":
                return time.perf_counter() - running.began
        except (OSError, http.client.HTTPException):
            time.sleep(0.001)
        finally:
            connection.close()
    raise TimeoutError(f"{running.server.name} does not answer")


def weigh(running: Running) -> dict[str, float]:
    """PSS in MiB: of the workers together, and of everything."""
    time.sleep(1.0)  # for the last worker to be ready
    master = running.process.pid
    below = descendants(master)
    workers = sum(pss(pid) for pid in below)
    return {
        "workers_pss_mib": round(workers / 1024, 1),
        "all_pss_mib": round((workers + pss(master)) / 1024, 1),
    }


def pss(pid: int) -> int:
    """In KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def table(results: dict[str, Any]) -> str:
    lines = [f"{'4 workers':18}{'first answer':>14}{'workers PSS':>14}{'all PSS':>12}"]
    for name, item in results.items():
        lines.append(
            f"{name:18}{item['first_answer_ms']:>11} ms{item['workers_pss_mib']:>10} MiB"
            f"{item['all_pss_mib']:>8} MiB"
        )
    return "\n".join(lines)
