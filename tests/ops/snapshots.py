"""Snapshots of a scoreboard, as ``ops.snapshot`` takes them, for what reads them."""

from typing import Any

from forkserve.ops.tally import BUCKETS, LATENCY_BOUNDS


def counted(**by_bound: int) -> list[int]:
    """The counts of a histogram: _0_01=4 are four below 10 ms."""
    counts = [0] * BUCKETS
    for name, count in by_bound.items():
        counts[LATENCY_BOUNDS.index(float(name[1:].replace("_", ".")))] = count
    return counts


COUNTERS: dict[str, Any] = {
    "requests": 7, "statuses": {"none": 0, "1xx": 0, "2xx": 6, "3xx": 0, "4xx": 1, "5xx": 0},
    "errors": {"4xx": 1, "5xx": 0, "none": 0}, "aborted": 0, "octets_in": 10, "octets_out": 20,
    "busy_seconds": 1.5, "queue_seconds": 0.5, "latency_seconds": 2.5, "given": 1, "taken": 2,
    "not_given": 3, "not_taken": 4,
    "latency": counted(_0_01=4, _0_1=2, _1_0=1), "queue": counted(_0_01=7),
}  # fmt: skip


def worker(slot: int = 0, **members: Any) -> dict[str, Any]:
    return COUNTERS | {
        "slot": slot, "pid": 100 + slot, "generation": 1, "state": "serving", "age": 5.0,
        "restarts": 0, "last_end": "", "rss": 1 << 20, "threads": 1,
        "connections": {"ready": 0, "idle": 2, "running": 0}, "calls": [],
    } | members  # fmt: skip


def listener(waiting: int = 0, backlog: int = 2048) -> dict[str, Any]:
    return {"address": "http://127.0.0.1:8000", "waiting": waiting, "backlog": backlog}


def snapshot(
    *workers: dict[str, Any], totals: dict[str, Any] | None = None, **server: Any
) -> dict[str, Any]:
    """Of one worker, if none are named."""
    each = list(workers) or [worker()]
    return {
        "server": {
            "pid": 99, "version": "0.1.0", "app": "shop:app", "name": "shop:app", "state": "up",
            "reload": "none", "generation": 1, "up_seconds": 60.0, "wanted": len(each), "least": 1,
            "most": 1, "reloads": 0, "reloads_refused": 0, "restarts": {"died": 2},
            "vacant": [], "listeners": [listener()],
        } | server,
        "workers": each,
        "totals": COUNTERS | (totals or {}),
    }  # fmt: skip
