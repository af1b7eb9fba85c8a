"""What is counted of a worker, as numbers on its row of the scoreboard.

The thread that leads counts in plain lists, and writes them down when some time has passed: to
write each number where others see it took an eighth of the time of a small request. Read by
anybody, at any time, without a lock. A number there is of 8 octets, aligned, so it is read and
written in one piece; two that belong together may be a request apart.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

WRITE_EVERY = 0.1
"""Seconds after which a change is written down at the latest."""

LATENCY_BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Seconds: the upper bounds of the buckets of both histograms. One more is for what is above."""

STATES = (
    "proxy", "handshake", "handshake_flush", "head", "body", "ready", "running", "flush", "idle",
    "drain", "linger", "closed",
)  # fmt: skip
"""What connections are waited for (worker/state.py, in its order); nobody counts the last."""

_FIRST = LATENCY_BOUNDS[0]
BUCKETS = len(LATENCY_BOUNDS) + 1

# Where each number stands. Statuses by their first digit: 0 is a request that was killed, or whose
# client was gone before a status could be sent.
(
    ABORTED, STATUSES, RECEIVED, SENT, GIVEN, TAKEN, NOT_GIVEN, NOT_TAKEN, LATENCY, QUEUE,
    CONNECTIONS, _COUNTS,
) = accumulate((0, 1, 6, 1, 1, 1, 1, 1, 1, BUCKETS, BUCKETS, len(STATES)))  # fmt: skip
# And behind them, in seconds:
BUSY, QUEUED, LASTED = range(_COUNTS, _COUNTS + 3)

_FORMAT = struct.Struct(f"@{_COUNTS}q3d")
SIZE = _FORMAT.size
_NOTHING = bytes(SIZE)

Numbers = list[float]
"""As they stand on the scoreboard; most are integers."""


class Tally:
    """Those of one worker.

    ``changed``  some number is not yet written down
    """

    # What each request changes stands apart from ``counts``: it is quicker there.
    __slots__ = (
        "_at_once", "_busy", "_lasted", "_memory", "_queued", "_quick", "_received", "_sent",
        "changed", "counts",
    )  # fmt: skip

    def __init__(self, memory: "memoryview | None" = None) -> None:
        """``memory``: SIZE octets of the scoreboard; without, nobody sees what is counted."""
        self._memory = memoryview(bytearray(SIZE)) if memory is None else memory
        self.counts = [0] * _COUNTS
        self._quick = self._at_once = 0  # 200, in the first bucket; in the first of the queue
        self._received = self._sent = 0
        self._busy = self._queued = self._lasted = 0.0
        self.changed = False

    def over(
        self, status: int, lasted: float, busy: float, queued: float, received: int, sent: int
    ) -> None:
        """A request is over. Times are in seconds; ``received`` and ``sent`` count octets.

        (Each request pays: of the quick ones it is known without a search where they belong.)
        """
        if lasted <= _FIRST and status == 200:
            self._quick += 1
        else:
            self.counts[STATUSES + (status // 100 if status < 600 else 0)] += 1
            self.counts[LATENCY + bisect_left(LATENCY_BOUNDS, lasted)] += 1
        self._received += received
        self._sent += sent
        self._busy += busy
        self._lasted += lasted
        if queued:
            self._queued += queued
            if queued <= _FIRST:
                self._at_once += 1
            else:
                self.counts[QUEUE + bisect_left(LATENCY_BOUNDS, queued)] += 1
        self.changed = True

    def add(self, place: int, count: int = 1) -> None:
        """Count something else, at ``place``."""
        self.counts[place] += count
        self.changed = True

    def move(self, before: int, after: int) -> None:
        """A connection is in another state (its index in STATES)."""
        self.counts[CONNECTIONS + before] -= 1
        self.counts[CONNECTIONS + after] += 1
        self.changed = True

    def write(self) -> None:
        """Let others see it."""
        self.changed = False
        self._settle()
        _FORMAT.pack_into(self._memory, 0, *self.counts, self._busy, self._queued, self._lasted)

    def _settle(self) -> None:
        """Bring what stood apart to where it belongs."""
        counts = self.counts
        counts[STATUSES + 2] += self._quick
        counts[LATENCY] += self._quick
        counts[QUEUE] += self._at_once
        counts[RECEIVED] += self._received
        counts[SENT] += self._sent
        self._quick = self._at_once = self._received = self._sent = 0

    # ---- for those who look, and for the master

    def read(self) -> Numbers:
        """All numbers, as they were written last."""
        return list(_FORMAT.unpack_from(self._memory))

    def killed(self, durations: Iterable[float]) -> None:
        """The worker is gone, in calls that had lasted so long (seconds). For the master."""
        *counts, self._busy, self._queued, self._lasted = self.read()
        self.counts = [int(count) for count in counts]
        for seconds in durations:
            self.over(0, seconds, seconds, 0.0, 0, 0)
            self.add(ABORTED)
        self.write()

    def fold_into(self, other: "Tally") -> None:
        """The worker is gone: what it has counted is the ``other``'s. For the master."""
        own, others = self.read(), other.read()
        own[CONNECTIONS:_COUNTS] = [0] * len(STATES)
        sums = [mine + theirs for mine, theirs in zip(own, others, strict=True)]
        _FORMAT.pack_into(other._memory, 0, *sums)
        self._memory[:] = _NOTHING
