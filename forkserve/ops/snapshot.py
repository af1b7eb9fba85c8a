"""All that is known of the server at one moment, as plain values that are ready for JSON.

The numbers are the workers' own, from the scoreboard; who they are, how others have ended and what
became of reloads is the master's text there, which ``Record`` in master/record.py writes. Reading
disturbs nobody.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forkserve.ops import tally
from forkserve.ops.scoreboard import Call, Scoreboard
from forkserve.ops.tally import LATENCY_BOUNDS, STATES, Numbers
from forkserve.proc.memory import resident_memory

_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


def take_snapshot(board: Scoreboard, now: float) -> dict[str, Any]:
    """What there is to be seen, at ``now`` (monotonic seconds).

    ``server``   what the master says of itself, of its listeners, and of restarts and reloads;
                 ``vacant`` are the slots whose worker has ended, and that wait for another
    ``workers``  by slot; beside what the master says of them their numbers, and ``calls``: what
                 runs, with its age in seconds and whose it is
    ``totals``   the sums of the numbers that only grow, with those of workers that are gone

    Times are in seconds; ``latency`` and ``queue`` count requests by LATENCY_BOUNDS. ``requests``
    are those that are over. "none" in ``statuses`` are those that got none.
    """
    text, numbers = board.read(lambda text: [it["row"] for it in _parse(text)["workers"]])
    told = _parse(text)
    workers = [
        _worker(board, worker, own, now)
        for worker, own in zip(told["workers"], numbers, strict=False)
    ]
    server = dict(told["server"])
    if "since" in server:
        server["up_seconds"] = now - server.pop("since")
    if "vacant" in server:
        server["vacant"] = [
            {**slot, "due": max(0.0, slot["due"] - now)} for slot in server["vacant"]
        ]
    sums = [sum(column) for column in zip(*numbers, strict=True)]
    return {"server": server, "workers": workers, "totals": _counters(sums)}


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The latency below which ``share`` of the requests were, as seconds: within its bucket as if
    they were spread evenly. None if there were none; the last bound for what is above it."""
    wanted = share * sum(counts)
    if not wanted:
        return None
    below, least = 0, 0.0
    for count, most in zip(counts, LATENCY_BOUNDS, strict=False):
        if below + count >= wanted:
            return least + (most - least) * (wanted - below) / count
        below, least = below + count, most
    return least


def _parse(text: bytes) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = json.loads(text) if text else {"server": {}, "workers": []}
    return parsed


def _worker(
    board: Scoreboard, told: Mapping[str, Any], numbers: Numbers, now: float
) -> dict[str, Any]:
    row = board.row(told["row"])
    return {
        "slot": told["slot"],
        "pid": told["pid"],
        "generation": told["generation"],
        "state": told["state"],
        "age": now - told["since"],
        "restarts": told["restarts"],
        "last_end": told["last_end"],
        "rss": resident_memory(told["pid"]) or 0,
        "threads": len(row.cells()),
        "connections": dict(zip(STATES[:-1], numbers[tally.CONNECTIONS :], strict=False)),
        "calls": _calls(row.calls(), now),
        **_counters(numbers),
    }


def _calls(calls: Iterable[Call], now: float) -> list[dict[str, Any]]:
    """The longest first. ``left``: seconds until it is stuck, None if it has no limit."""
    return [
        {
            "request": call.request,
            "client": call.client,
            "seconds": max(0.0, now - call.start),  # it may have begun since the clock was read
            "left": call.deadline - now if math.isfinite(call.deadline) else None,
        }
        for call in sorted(calls, key=lambda call: call.start)
    ]


def _counters(numbers: Numbers) -> dict[str, Any]:
    statuses = dict(zip(_CLASSES, numbers[tally.STATUSES :], strict=False))
    return {
        "requests": sum(statuses.values()),
        "statuses": statuses,
        "errors": {"4xx": statuses["4xx"], "5xx": statuses["5xx"], "none": statuses["none"]},
        "aborted": numbers[tally.ABORTED],
        "octets_in": numbers[tally.RECEIVED],
        "octets_out": numbers[tally.SENT],
        "busy_seconds": numbers[tally.BUSY],
        "queue_seconds": numbers[tally.QUEUED],
        "latency_seconds": numbers[tally.LASTED],
        "given": numbers[tally.GIVEN],
        "taken": numbers[tally.TAKEN],
        "not_given": numbers[tally.NOT_GIVEN],
        "not_taken": numbers[tally.NOT_TAKEN],
        "latency": list(numbers[tally.LATENCY : tally.LATENCY + tally.BUCKETS]),
        "queue": list(numbers[tally.QUEUE : tally.QUEUE + tally.BUCKETS]),
    }
