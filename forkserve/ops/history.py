"""The last five minutes, second by second, for the charts of the status page. Pure.

A point is what became of the counters between two snapshots. It is kept in memory, in a ring: what
is older is somebody else's matter (Prometheus).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from forkserve.ops.snapshot import percentile

SECONDS = 300
"""How many points are kept, one a second."""

_Snapshot = Mapping[str, Any]


class History:
    """Used by one thread at a time. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._points: deque[dict[str, Any]] = deque(maxlen=SECONDS)
        self._last: tuple[_Snapshot, float] | None = None
        self._number = 0

    def add(self, snapshot: _Snapshot, now: float) -> None:
        """Take in what has happened since the last one. The first is only a beginning, and one that
        does not know the server (the master was writing) is none."""
        if not snapshot["server"]:
            return
        if self._last is not None and now > self._last[1]:
            before, then = self._last
            self._number += 1
            self._points.append(self._point(before, snapshot, now - then, now))
        self._last = (snapshot, now)

    def since(self, number: int, now: float) -> list[dict[str, Any]]:
        """The points after ``number``, oldest first, each with its ``age`` in seconds."""
        return [
            {**point, "age": round(now - point["at"], 2)}
            for point in self._points
            if point["number"] > number
        ]

    def _point(
        self, before: _Snapshot, after: _Snapshot, seconds: float, now: float
    ) -> dict[str, Any]:
        old, new = before["totals"], after["totals"]
        latency = difference(new["latency"], old["latency"])
        workers = after["workers"]
        return {
            "number": self._number,
            "at": now,
            "rate": _rate(new["requests"] - old["requests"], seconds),
            "failed": _rate(new["errors"]["5xx"] - old["errors"]["5xx"], seconds),
            "p50": _round(percentile(latency, 0.5)),
            "p99": _round(percentile(latency, 0.99)),
            "waiting": sum(item["waiting"] for item in after["server"]["listeners"]),
            "ready": sum(worker["connections"]["ready"] for worker in workers),
            "rss": sum(worker["rss"] for worker in workers),
            "busy": _busy(before["workers"], workers, seconds),
            "mark": _mark(before["server"], after["server"]),
        }


def difference(after: Sequence[int], before: Sequence[int]) -> list[int]:
    """What was counted in between; all, if they were counted anew since."""
    steps = [new - old for new, old in zip(after, before, strict=False)]
    return list(after) if any(step < 0 for step in steps) else steps


def _rate(count: int, seconds: float) -> float:
    return round(max(0, count) / seconds, 2)


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _busy(
    before: Sequence[_Snapshot], after: Sequence[_Snapshot], seconds: float
) -> dict[str, float]:
    """slot -> the share of the time of its threads in which calls ran there.

    A call counts when it is over, so those that still run are added. In a reload two workers of one
    slot live side by side, and the busier one is shown.
    """
    known = {worker["pid"]: worker["busy_seconds"] for worker in before}
    shares: dict[str, float] = {}
    for worker in after:
        threads = worker["threads"] or 1
        spent = worker["busy_seconds"] - known.get(worker["pid"], 0.0)
        ended = min(max(0.0, spent), seconds * threads)
        running = sum(min(call["seconds"], seconds) for call in worker["calls"])
        share = min(1.0, (ended + running) / seconds / threads)
        slot = str(worker["slot"])
        shares[slot] = max(shares.get(slot, 0.0), round(share, 2))
    return shares


def _mark(before: _Snapshot, after: _Snapshot) -> str:
    """What happened to the server as a whole: "reload 3", "refused", ""."""
    if after["generation"] != before["generation"]:
        return f"reload {after['generation']}"
    if after["reloads_refused"] > before["reloads_refused"]:
        return "refused"
    return ""
