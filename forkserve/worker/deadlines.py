"""When to look at the deadlines of connections: a heap, in which nothing is ever moved.

A deadline moves on with each request. Its entry stays where it is, is looked at when its time has
come, and then comes back later: so a request costs no work here.
"""

import heapq
from collections.abc import Iterator

from forkserve.worker.lead import InCall
from forkserve.worker.state import State

_NEVER = float("inf")
_CLOSED = State.CLOSED


class Deadlines:
    """Of all connections of a loop. Times are monotonic seconds.

    ``first``: when to look next, inf for never
    """

    def __init__(self) -> None:
        self.first = _NEVER
        self._entries: list[tuple[float, int, InCall]] = []
        self._serial = 0
        self._stale = 0

    def __len__(self) -> int:
        """Entries, useless ones included."""
        return len(self._entries)

    def watch(self, connection: InCall) -> None:
        """Look at its deadline when that has come, if not before."""
        if connection.deadline >= connection.wake_at:
            return
        self.forget(connection)
        connection.wake_at = connection.deadline
        self._serial += 1
        heapq.heappush(self._entries, (connection.deadline, self._serial, connection))
        self.first = self._entries[0][0]

    def forget(self, connection: InCall) -> None:
        """Its entry, if there is one, has become useless. When most are, they are thrown out."""
        if connection.wake_at == _NEVER:
            return
        connection.wake_at = _NEVER
        self._stale += 1
        if self._stale > 64 and self._stale > len(self._entries) // 2:
            self._stale = 0
            self._entries = [
                entry
                for entry in self._entries
                if entry[2].state is not _CLOSED and entry[0] == entry[2].wake_at
            ]
            heapq.heapify(self._entries)

    def passed(self, now: float) -> Iterator[InCall]:
        """Those whose deadline has passed. Each is to be given another, or closed, at once."""
        while self._entries and self._entries[0][0] <= now:
            when, _, connection = heapq.heappop(self._entries)
            if connection.state is _CLOSED or when != connection.wake_at:
                self._stale = max(0, self._stale - 1)
                continue
            connection.wake_at = _NEVER
            if connection.deadline <= now:
                yield connection
            else:
                self.watch(connection)
        self.first = self._entries[0][0] if self._entries else _NEVER
