"""What a master answers to `status`, made up."""

from typing import Any

from forkserve.ops.tally import BUCKETS, STATES


def worker(slot: int, **members: Any) -> dict[str, Any]:
    return {
        "slot": slot, "pid": 4000 + slot, "generation": 2, "state": "serving", "age": 100.0,
        "restarts": 1, "last_end": "max_requests", "rss": 50 << 20, "threads": 2,
        "connections": {**dict.fromkeys(STATES[:-1], 0), "idle": 7, "running": 1},
        "calls": [], "requests": 1000, "errors": {"4xx": 3, "5xx": 1, "none": 0},
        "octets_in": 100_000, "octets_out": 5_000_000, "busy_seconds": 40.0, "queue_seconds": 0.5,
        "given": 2, "taken": 4, "not_given": 0, "not_taken": 0, "latency": histogram(1000), "queue": histogram(0),
        **members,
    }  # fmt: skip


def histogram(requests: int) -> list[int]:
    """All between 5 and 10 ms."""
    counts = [0] * BUCKETS
    counts[6] = requests
    return counts


def call(request: str, seconds: float, client: str = "192.0.2.7") -> dict[str, Any]:
    return {"request": request, "seconds": seconds, "client": client, "left": 30.0 - seconds}


def answer(*workers: dict[str, Any], **server: Any) -> dict[str, Any]:
    names = ("requests", "busy_seconds")
    totals: dict[str, Any] = {name: sum(it[name] for it in workers) for name in names}
    totals["errors"] = {key: sum(it["errors"][key] for it in workers) for key in ("4xx", "5xx")}
    totals["latency"] = [
        sum(column) for column in zip(*(it["latency"] for it in workers), strict=True)
    ]
    return {
        "ok": True,
        "server": {
            "version": "0.1.0", "pid": 3999, "app": "shop:application", "generation": 2,
            "state": "up", "reload": "none", "upgrade": "none", "refusal": "", "up_seconds": 7300.0,
            "wanted": len(workers), "least": len(workers), "most": len(workers),
            "serving": len(workers), "vacant": [],
            "listeners": [{"address": "http://127.0.0.1:8000", "waiting": 3, "backlog": 2048}],
            **server,
        },
        "workers": list(workers),
        "totals": totals,
    }  # fmt: skip
